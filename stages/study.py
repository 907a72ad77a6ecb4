"""study STUDY: time, memory and held-out accuracy at every point of a study, one device, one row per point and seed."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from rcig import planned, store
from rcig.data import real
from rcig.methods.base import support
from rcig.run import loop, studies
from rcig.run.distil import CHECKPOINTS, digest, returned_accuracy
from rcig.run.estimate import memory_mib, seconds_per_step
from rcig.run.settings import Study
from rcig.run.task import Source, make_task, source_of, typed
from stages.common import RESULTS, run
from stages.provenance import machine


def main(name: str) -> None:
    study, code = planned.read("study", name, Study)
    study = replace(study, base=typed(study.base))
    source = source_of(study.base, study.dataset, real.load_real(study.base.dataset, study.dataset))
    folder = CHECKPOINTS / f"study-{name}-{digest(code, real.fingerprint(study.base.dataset), study)}"
    measured = []
    for i, point in enumerate(study.points, 1):
        settings = replace(study.base.settings, **point)
        for seed in study.base.seeds:
            path, label = folder / f"{i}-{seed}.json", f"{name} {i}/{len(study.points)} seed {seed}"
            if not path.exists():
                task, checkpoint = (
                    make_task(source, replace(study.base, settings=settings), seed),
                    path.with_suffix(".npz"),
                )
                store.save_json(path, measure(task, source, study, checkpoint, label) | {"code": code})
            measured.append(point | json.loads(path.read_text()))
    studies.save(RESULTS / "study" / f"{name}.csv", name, study, measured)
    shutil.rmtree(folder)


def measure(task: loop.Task, source: Source, study: Study, checkpoint: Path, label: str) -> dict[str, Any]:
    """What one run costs and brings: the columns studies.MEASURED, but for code. Its step is compiled once."""
    state, step = loop.begin(task)
    memory = memory_mib(step.lower(0, state, task.method.feed(0)).compile())
    seconds = seconds_per_step(task, step, state, study.timing_steps)
    _, curve = loop.run(task, source.heldout_accuracy, checkpoint, label, step)
    table = pd.DataFrame(curve).assign(seed=task.seed)
    images, _ = support(task.start, study.base.mirror)
    accuracy = returned_accuracy(study.base, table).item()
    return {
        "seed": task.seed,
        "images": len(images),
        "seconds_per_step": seconds,
        "memory_mib": memory,
        "heldout_accuracy": accuracy,
        "seconds_total": float(table["seconds"].max()),
        "machine": machine(),
    }


if __name__ == "__main__":
    run(main)

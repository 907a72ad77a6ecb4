"""study STUDY: time, memory and held-out accuracy at every point of a study, one device, one row per point and seed."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from rcig import distill, params, rows, store
from rcig.distill import loop
from stages.common import RESULTS, machine, run
from stages.distilling import (
    CHECKPOINTS,
    Source,
    digest,
    load_source,
    make_task,
    memory_mb,
    provenance,
    returned_accuracy,
    seconds_per_step,
)


def main(name: str) -> None:
    settings = params.load()
    study = settings.study(name)
    source = load_source(settings, study.base)
    made = digest(provenance(study.base.dataset), source.dataset, study.base, study.grids, study.timing_steps)
    folder = CHECKPOINTS / f"study-{name}-{made}"
    points = study.points()
    measured = []
    for i, (point, experiment) in enumerate(points, 1):
        for seed in experiment.seeds:
            path, label = folder / f"{i}-{seed}.json", f"{name} {i}/{len(points)} seed {seed}"
            if not path.exists():
                task, checkpoint = make_task(source, experiment, seed), path.with_suffix(".npz")
                store.save_json(path, measure(task, source, study, checkpoint, label))
            measured.append(point | json.loads(path.read_text()))
    rows.save_study(RESULTS / "study" / f"{name}.csv", name, study, measured)
    shutil.rmtree(folder)


def measure(task: loop.Task, source: Source, study: params.Study, checkpoint: Path, label: str) -> dict[str, Any]:
    """What one run costs and brings: the columns rows.MEASURED. Its step is compiled once."""
    state, step = loop.begin(task)
    memory = memory_mb(step.lower(0, state, *loop.reader(task)(0)).compile())
    seconds = seconds_per_step(task, step, state, study.timing_steps)
    _, curve = loop.distill(task, source.heldout_accuracy, checkpoint, label, step)
    table = pd.DataFrame(curve).assign(seed=task.seed)
    images, _ = distill.support(task.start, params.mirrored(source.dataset, study.base))
    accuracy = returned_accuracy(study.base, table).item()
    values = task.seed, len(images), seconds, memory, accuracy, float(table["seconds"].max()), machine()
    return dict(zip(rows.MEASURED, values, strict=True))


if __name__ == "__main__":
    run(main)

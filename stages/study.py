"""study STUDY: time, memory and held-out accuracy at every point of a study, one device, one row per point and seed.

Example: python -m stages.study solver_steps
"""

import shutil
from dataclasses import replace

from rcig import planned, store
from rcig.data import real
from rcig.run import studies
from rcig.run.cost import cost
from rcig.run.distil import CHECKPOINTS, digest
from rcig.run.settings import Study
from rcig.run.task import make_task, source_of, typed
from stages.common import RESULTS, run
from stages.provenance import machine


def main(name: str) -> None:
    study, code = planned.read("study", name, Study)
    study = replace(study, base=typed(study.base))
    source = source_of(study.base, study.dataset, real.load_real(study.base.dataset, study.dataset))
    folder = CHECKPOINTS / f"study-{name}-{digest(code, real.fingerprint(study.base.dataset), study)}"
    measured = []
    for i, point in enumerate(study.points, 1):
        run_of_point = replace(study.base, settings=replace(study.base.settings, **point))
        for seed in study.base.seeds:
            path, label = folder / f"{i}-{seed}.json", f"{name} {i}/{len(study.points)} seed {seed}"
            if not path.exists():
                task = make_task(source, run_of_point, seed)
                found = cost(task, source, study, path.with_suffix(".npz"), label)
                store.save_json(path, found | {"machine": machine(), "code": code})
            measured.append(point | store.load_json(path))
    studies.save(RESULTS / "study" / f"{name}.csv", name, study, measured)
    shutil.rmtree(folder)


if __name__ == "__main__":
    run(main)

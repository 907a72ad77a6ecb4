"""What a run costs and what it brings, measured."""

from pathlib import Path
from typing import Any

import pandas as pd

from rcig.methods.base import support
from rcig.resources import planned
from rcig.run import estimate, loop
from rcig.run.distil import returned_accuracy
from rcig.run.settings import Study
from rcig.run.task import Source


def cost(task: loop.Task, source: Source, study: Study, checkpoint: Path, label: str) -> dict[str, Any]:
    """The columns of studies.MEASURED that a run decides. Its step is compiled once."""
    step, _ = estimate.check(task, label, source.validations)
    plan = planned(step.lower(0, loop.initial(task), task.method.feed(0)).compile())
    seconds = estimate.seconds_per_step(task, step, study.timing_steps)
    _, curve = loop.run(task, source.heldout_accuracy, checkpoint, label, step)
    table = pd.DataFrame(curve).assign(seed=task.seed)
    images, _ = support(task.start, study.base.mirror)
    return {
        "seed": task.seed,
        "images": len(images),
        "seconds_per_step": seconds,
        "memory_mib": plan / 2**20,
        "heldout_accuracy": returned_accuracy(study.base, table).item(),
        "seconds_total": float(table["seconds"].max()),
    }

"""What a run will take: its memory before anything is allocated, its time by a few steps."""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rcig import resources
from rcig.passes import shapes
from rcig.resources import Use
from rcig.run import loop

LONG = 100
"""steps of a run whose time is estimated"""
TIMED = 3
"""steps that an estimate rests on"""
UNTIMED = 2
"""The first steps are not timed: at automatic rates, solver adam searches for them in the first."""
CHANGE = "width, batch_size, images_per_class or, of networks in memory at once, networks, pool_size or window"


Validations = Callable[[Any], Sequence[jax.stages.Lowered]]
"""shapes of a result -> the programs of a look at it"""


def announce(task: loop.Task, checkpoint: Path, label: str, validations: Validations) -> loop.Step:
    """The step of a run, compiled, once it is sure that the run fits in memory. Raises TooLargeError where it does not.

    Says on standard error what a run takes that has no checkpoint yet; of a short one only its memory.
    """
    step, memory = check(task, label, validations)
    if not checkpoint.exists():
        words = resources.said(memory)
        if task.steps >= LONG:
            words = resources.words(task.steps, seconds_per_step(task, step, TIMED), "the validations", memory)
        print(f"{label}: {words}", file=sys.stderr, flush=True)
    return step


def check(task: loop.Task, label: str, validations: Validations) -> tuple[loop.Step, int]:
    """The step of a run, compiled, and the bytes that its process will hold at most.

    Raises TooLargeError where that much is not free.
    """
    step = loop.compiled_step(task)
    state = shapes(lambda: loop.initial(task))
    held, result = resources.size(state), shapes(task.method.result, state)
    start = Use(2 * held)  # as it is made and as it is kept
    resources.check(label, CHANGE, start)
    uses = [start, *(Use(held, program) for program in validations(result))]
    if task.steps:
        food = task.method.feed(0)
        # Steps are fed before those ahead of them are done, up to the first after the next look at the loss.
        ahead = loop.READ_EVERY * resources.size(food)
        uses.append(Use(ahead, step.lower(0, state, food)))
    return step, resources.check(label, CHANGE, *uses)


def seconds_per_step(task: loop.Task, step: loop.Step, timing_steps: int) -> float:
    """Median over the steps after the first UNTIMED, each waited for."""
    state, seconds = loop.initial(task), []
    for i in range(UNTIMED + timing_steps):
        food = task.method.feed(i)
        start = time.perf_counter()
        state, _ = jax.block_until_ready(step(i, state, food))
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[UNTIMED:]))

"""What a run will take: its memory by the compiler's plan, its time by a few steps."""

import time
from typing import Any

import jax
import numpy as np

from rcig.run import loop

TIMED = 3
"""steps that an estimate rests on"""
UNTIMED = 2
"""The first steps are not timed: at automatic rates, solver adam searches for them in the first."""


def estimate(task: loop.Task) -> tuple[str, loop.Step]:
    """What a run will take, in words, and its compiled step."""
    state, step = loop.begin(task)
    memory = memory_mib(step.lower(0, state, task.method.feed(0)).compile())
    seconds = seconds_per_step(task, step, state, TIMED)
    minutes = task.steps * seconds / 60
    return (
        f"{task.steps} steps of {seconds:.2g} s each, about {minutes:.0f} minutes and the validations;"
        f" {memory:.0f} MiB for a step",
        step,
    )


def memory_mib(compiled: jax.stages.Compiled) -> float:
    """MiB for the arguments, results and temporaries of a step: the compiler's plan, which is no measurement.

    It is the same on every machine of one backend, whatever else runs there.
    """
    plan: Any = compiled.memory_analysis()
    # The State that goes in shares its memory with the one that comes out.
    inputs = plan.argument_size_in_bytes - plan.alias_size_in_bytes
    return (plan.temp_size_in_bytes + inputs + plan.output_size_in_bytes) / 2**20


def seconds_per_step(task: loop.Task, step: loop.Step, state: Any, timing_steps: int) -> float:
    """Median over the steps after the first UNTIMED, each waited for."""
    seconds = []
    for i in range(UNTIMED + timing_steps):
        food = task.method.feed(i)
        start = time.perf_counter()
        state, _ = jax.block_until_ready(step(i, state, food))
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[UNTIMED:]))

"""The loop that runs any method: steps, held-out accuracy, progress, checkpoints.

Every random draw is a function of the seed and the step, so a run that was killed goes on from its last checkpoint and
ends with exactly the arrays of a run that was not.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from rcig import store
from rcig.errors import DivergedError, StoreError
from rcig.methods.base import Info, Method
from rcig.passes import everywhere

CHECKPOINT_SECONDS = 30.0
"""between checkpoints; one is written after the next look at the loss"""
READ_EVERY = 10
"""steps between looks at the loss: each look waits for the device"""

Row = dict[str, float | int | None]
"""one line of the training curve: step, seconds, held-out accuracy, and every scalar of the step's Info"""

Step = jax.stages.Wrapped
"""(step number, State, food) -> (State, Info); the State that goes in is used up"""


class Task(NamedTuple):
    """What to run, from where, for how long."""

    method: Method[Any, Any, Any]
    start: Any
    """what the method's init gets: of a distillation the initial set"""
    steps: int
    validate_every: int
    seed: int
    returned: str = "last"
    """or "best": the result with the highest held-out accuracy among those measured"""


class Progress(NamedTuple):
    """What a checkpoint holds."""

    step: int
    state: Any
    seconds: float
    """of distillation so far, without validation"""
    curve: list[Row]
    best: tuple[float, Any] | None = None
    """held-out accuracy and result of the best validation so far"""


def run(
    task: Task,
    heldout_accuracy: Callable[[Any], float],
    checkpoint: Path,
    label: str,
    step: Step | None = None,
    show: Callable[[int, Any, float], None] | None = None,
) -> tuple[Any, list[Row]]:
    """Run the task from its checkpoint, or from the start -> (result, training curve).

    `step` is that of `compiled_step` where the caller has it already; `show` is given step number, result and held-out
    accuracy whenever that is measured.
    Under a mesh (`jax.set_mesh`) all its devices share the work. In a process other than the first nothing is written.
    Progress goes to standard error where that is a terminal. Raises DivergedError on a loss that is not finite.
    """
    step = step or compiled_step(task)
    reached = restore(checkpoint, initial(task), task.method.result)
    reached = reached._replace(state=jax.jit(lambda state: state, out_shardings=everywhere())(reached.state))

    with tqdm(total=task.steps, initial=reached.step, desc=label, unit="step", disable=None, file=sys.stderr) as bar:
        for progress in _run(task, step, reached, checkpoint):
            if progress.step % task.validate_every == 0 or progress.step == task.steps:
                candidate = task.method.result(progress.state)
                accuracy = heldout_accuracy(candidate)
                progress.curve[-1]["heldout_accuracy"] = accuracy
                if show is not None:
                    show(progress.step, candidate, accuracy)
                if reached.best is None or accuracy > reached.best[0]:
                    # A copy, as the next step uses up the state that the candidate may be part of.
                    reached = reached._replace(best=(accuracy, jax.tree.map(np.array, candidate)))
            reached = progress._replace(best=reached.best)
            bar.set_postfix(_shown(progress.curve))
            bar.update(progress.step - bar.n)
            if (_is_due(checkpoint) or progress.step == task.steps) and jax.process_index() == 0:
                save(checkpoint, reached)
    if task.returned == "best" and reached.best is not None:
        return reached.best[1], reached.curve
    return task.method.result(reached.state), reached.curve


def initial(task: Task) -> Any:
    """The state before the first step of a run; compiled once for a method, however often it is asked for."""
    init_key, _ = jax.random.split(jax.random.key(task.seed))
    # The step uses up the state that it is given, and this one may share arrays with the start.
    return jax.jit(task.method.init)(init_key, jax.tree.map(jnp.copy, task.start))


def _run(task: Task, step: Step, progress: Progress, checkpoint: Path) -> Iterator[Progress]:
    """Progress every READ_EVERY steps, at validations and at the end, each with a finite loss."""
    start = time.perf_counter()
    infos: list[Info] = []
    state, seconds, curve = progress.state, progress.seconds, progress.curve
    if task.steps == 0:
        yield Progress(0, state, 0.0, [{"step": 0, "seconds": 0.0, "heldout_accuracy": None}])
    food = task.method.feed(progress.step) if progress.step < task.steps else None
    for i in range(progress.step, task.steps):
        state, info = step(i, state, food)
        food = task.method.feed(i + 1) if i + 1 < task.steps else None  # made while the device works
        infos.append(info)
        done = i + 1
        if done % READ_EVERY == 0 or done % task.validate_every == 0 or done == task.steps:
            terms = [{name: float(value) for name, value in info.items()} for info in jax.device_get(infos)]
            _check_finite(terms, done - len(terms), checkpoint)
            seconds += time.perf_counter() - start
            curve = [*curve, {"step": done, "seconds": seconds, "heldout_accuracy": None, **terms[-1]}]
            yield Progress(done, state, seconds, curve)
            infos, start = [], time.perf_counter()


def compiled_step(task: Task) -> Step:
    """The step of a run, compiled at its first call (or by `lower`), with the run's random key."""
    _, key = jax.random.split(jax.random.key(task.seed))

    def step(i: jax.Array, state: Any, food: Any) -> tuple[Any, Info]:
        # What networks compute at another precision they say themselves, see rcig.run.task.
        with jax.default_matmul_precision("float32"):
            return task.method.step(jax.random.fold_in(key, i), state, food)

    return jax.jit(step, donate_argnums=1, out_shardings=everywhere())


def _check_finite(terms: list[dict[str, float]], before: int, checkpoint: Path) -> None:
    for i, values in enumerate(terms):
        if not all(np.isfinite(value) for value in values.values()):
            shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
            kept = f"; the last good state is kept in {checkpoint}" if checkpoint.exists() else ""
            fix = "lower learning_rate or, for rcig and its family, raise l2_rate"
            raise DivergedError(f"step {before + i + 1} is not finite: {shown}; {fix}{kept}")


def _shown(curve: list[Row]) -> dict[str, str]:
    """The last loss and the last held-out accuracy, for the progress line."""
    latest = {name: value for row in curve for name, value in row.items() if value is not None}
    return {name: f"{latest[name]:.4f}" for name in ("loss", "heldout_accuracy") if name in latest}


def _is_due(checkpoint: Path) -> bool:
    return not checkpoint.exists() or time.time() - checkpoint.stat().st_mtime > CHECKPOINT_SECONDS


def save(checkpoint: Path, progress: Progress) -> None:
    accuracy, best = progress.best or (None, None)
    arrays = _numbered("leaf", progress.state) | _numbered("best", best)
    rest = {"step": progress.step, "seconds": progress.seconds, "curve": progress.curve, "best_accuracy": accuracy}
    store.save_arrays(checkpoint, arrays | {"progress": np.asarray(json.dumps(rest))})


def _numbered(name: str, tree: Any) -> dict[str, np.ndarray]:
    return {f"{name}{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}


def restore(checkpoint: Path, initial: Any, result: Callable[[Any], Any]) -> Progress:
    """The progress in a checkpoint, or none where there is no file. Raises StoreError where it is of another run."""
    if not checkpoint.exists():
        return Progress(0, initial, 0.0, [])
    fix = f"remove {checkpoint.parent} to start the run anew"
    arrays = store.load_arrays(checkpoint, fix)
    leaves, structure = jax.tree.flatten(initial)
    saved = [arrays.get(f"leaf{i}") for i in range(len(leaves))]
    expected = [(np.shape(leaf), np.dtype(leaf.dtype)) for leaf in leaves]
    if "progress" not in arrays or [None if a is None else (a.shape, a.dtype) for a in saved] != expected:
        raise StoreError(f"{checkpoint}: a checkpoint of other settings or another method; {fix}")
    rest = json.loads(str(arrays["progress"]))
    state = jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in saved])
    best = None
    if rest["best_accuracy"] is not None:
        shapes, structure = jax.tree.flatten(jax.eval_shape(result, initial))
        found = [jnp.asarray(arrays[f"best{i}"]) for i in range(len(shapes))]
        best = (rest["best_accuracy"], jax.tree.unflatten(structure, found))
    return Progress(rest["step"], state, rest["seconds"], rest["curve"], best)

"""The loop: resume after a real kill, batches, checkpoints of other runs, a loss that is not finite."""

import itertools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import short_run

from rcig import store
from rcig.data.splits import Split, whole
from rcig.errors import DivergedError, ParamsError, StoreError
from rcig.methods.base import Distilled, Method
from rcig.methods.feeds import Examples, batch_index, batches
from rcig.run import loop as loops
from stages import distill

START = Distilled(jnp.zeros((2, 2, 2, 1)), jnp.eye(2) - 0.5, jnp.zeros(()))


def sixteen() -> Any:
    """A feed of sixteen of forty images."""
    rng = np.random.default_rng(0)
    train = Split(rng.integers(0, 255, (40, 2, 2, 1)).astype(np.uint8), np.arange(40, dtype=np.int32) % 2)
    return batches(whole(train), lambda images: jnp.asarray(images, jnp.float32), 16, seed=3)


def drift(diverge_at: int = 10**9) -> Method[Any, Any, Distilled]:
    """A method that adds noise and the mean of the batch: enough to see every draw that enters a run."""

    def step(key: jax.Array, state: tuple[Distilled, jax.Array], examples: Examples) -> Any:
        batch = examples.batch(2)
        distilled, count = state
        noise = jax.random.normal(key, distilled.images.shape)
        moved = distilled._replace(images=distilled.images + noise + batch.images.mean() + batch.labels[:, 0].mean())
        loss = jnp.where(count + 1 >= diverge_at, jnp.nan, 1.0 / (count + 1))
        return (moved, count + 1), {"loss": loss}

    init = lambda key, distilled: (distilled, jnp.zeros((), jnp.int32))  # noqa: E731
    return Method(init, step, lambda state: state[0], sixteen())


def task(steps: int = 25, diverge_at: int = 10**9) -> loops.Task:
    return loops.Task(drift(diverge_at), START, steps, validate_every=8, seed=3)


def run(task: loops.Task, checkpoint: Path) -> tuple[Distilled, list[dict[str, Any]]]:
    return loops.run(task, lambda distilled: float(distilled.images.mean()), checkpoint, "test")


def restored(checkpoint: Path) -> loops.Progress:
    return loops.restore(checkpoint, drift().init(jax.random.key(0), START), drift().result)


def test_the_curve_has_every_validation_and_the_last_step(tmp_path: Path) -> None:
    _, curve = run(task(), tmp_path / "c.npz")
    assert [row["step"] for row in curve] == [8, 10, 16, 20, 24, 25]
    assert [row["step"] for row in curve if row["heldout_accuracy"] is not None] == [8, 16, 24, 25]
    assert curve[0]["loss"] == pytest.approx(1 / 8)


def test_a_run_that_was_stopped_anywhere_goes_on_to_the_same_arrays(tmp_path: Path) -> None:
    expected, curve = run(task(), tmp_path / "whole.npz")

    class Stop(Exception):
        pass

    for stop_after in (1, 2, 3):
        calls = 0

        def judge(distilled: Distilled, stop_after: int = stop_after) -> float:
            nonlocal calls
            calls += 1
            if calls > stop_after:
                raise Stop
            return float(distilled.images.mean())

        path = tmp_path / f"{stop_after}.npz"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loops, "CHECKPOINT_SECONDS", 0)
            with pytest.raises(Stop):
                loops.run(task(), judge, path, "test")
        assert restored(path).step >= 8
        found, resumed = run(task(), path)
        np.testing.assert_array_equal(found.images, expected.images)
        assert [(r["step"], r["loss"], r["heldout_accuracy"]) for r in resumed] == [
            (r["step"], r["loss"], r["heldout_accuracy"]) for r in curve
        ]


def test_the_best_set_is_returned_where_it_is_asked_for_also_after_a_stop(tmp_path: Path) -> None:
    scores = {8: 0.3, 16: 0.9, 24: 0.5, 25: 0.7}
    seen: list[Distilled] = []

    def judge(distilled: Distilled) -> float:
        seen.append(jax.tree.map(np.array, distilled))
        return list(scores.values())[len(seen) - 1]

    found, _ = loops.run(task()._replace(returned="best"), judge, tmp_path / "c.npz", "test")
    np.testing.assert_array_equal(found.images, seen[1].images)
    again, _ = loops.run(task()._replace(returned="best"), judge, tmp_path / "c.npz", "test")
    np.testing.assert_array_equal(again.images, found.images)
    last, _ = loops.run(task(), judge, tmp_path / "c.npz", "test")
    np.testing.assert_array_equal(last.images, seen[3].images)


def test_a_batch_that_devices_cannot_share_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Three:
        size = 3

    monkeypatch.setattr(jax.sharding, "get_mesh", Three)
    with pytest.raises(ParamsError, match="a batch of 16 images cannot be shared by 3 devices; give a multiple of 3"):
        sixteen()


def test_every_epoch_meets_every_example_once_in_a_new_order() -> None:
    epochs = [np.concatenate([batch_index(40, 10, 0, 4 * e + i) for i in range(4)]) for e in range(2)]
    assert all(sorted(epoch) == list(range(40)) for epoch in epochs)
    assert list(epochs[0]) != list(epochs[1])
    assert sorted(batch_index(5, 64, 0, 7)) == [0, 1, 2, 3, 4]


def test_a_loss_that_is_not_finite_stops_with_the_step_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    with pytest.raises(DivergedError, match=r"step 13 is not finite: loss nan; lower learning_rate") as error:
        run(task(diverge_at=13), path)
    assert "\n" not in str(error.value)
    kept = restored(path)
    assert 0 < kept.step < 13
    assert np.isfinite(kept.state[0].images).all()


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run" / "c.npz"
    run(task(), path)
    other = START._replace(images=jnp.zeros((3, 2, 2, 1)))
    with pytest.raises(StoreError, match=r"a checkpoint of other settings .* remove .*run to start"):
        loops.restore(path, (other, jnp.zeros((), jnp.int32)), lambda state: state[0])
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StoreError, match=r"not a whole \.npz file"):
        run(task(), path)


def test_the_step_is_compiled_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with jax.log_compiles(), caplog.at_level("WARNING"):
        run(task(steps=20), tmp_path / "c.npz")
    compiled = [record.getMessage() for record in caplog.records if record.getMessage().startswith("Compiling")]
    assert sum("jit(step)" in message for message in compiled) == 1


DRIVER = """
import sys
from rcig.run import loop
from stages import distill
loop.CHECKPOINT_SECONDS = 0
distill.main(sys.argv[1])
"""
NAME = "mnist_sample-ipc1-rcig"


def start(workspace: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", DRIVER, NAME], cwd=workspace)


@pytest.fixture
def workspace(tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the preprocessed sample and one short RCIG experiment of two seeds."""
    short_run(tmp_path, prepared, NAME, seeds=[0, 1], loop={"steps": 40, "batch_size": 32, "validate_every": 20})
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_with_the_arrays_of_one_that_is_not(workspace: Path) -> None:
    result = workspace / "artifacts" / "distilled" / f"{NAME}.npz"
    distill.main(NAME)
    expected = store.load(result, store.DISTILLED)
    result.unlink()
    assert not list((workspace / ".checkpoints").iterdir())

    seen = []
    for seed, step in ((0, 10), (0, 20), (1, 10)):
        process = start(workspace)
        while process.poll() is None and progress(workspace, seed) < step:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
        assert not result.exists()
        seen.append((progress(workspace, 0), progress(workspace, 1)))
    assert seen == sorted(seen)
    distill.main(NAME)
    found = store.load(result, store.DISTILLED)
    for name in store.DISTILLED.arrays:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def progress(workspace: Path, seed: int) -> int:
    """Steps in the checkpoint of a seed, 0 where there is none."""

    files = list(workspace.glob(f".checkpoints/*/{seed}.npz"))
    if not files:
        return 0
    return json.loads(str(store.load_arrays(files[0], "")["progress"]))["step"]


def test_the_first_state_is_compiled_once() -> None:
    traced, method = [], drift()

    def init(key: jax.Array, start: Distilled) -> Any:
        traced.append(key)
        return method.init(key, start)

    counted = task()._replace(method=method._replace(init=init))
    first, again = (loops.initial(counted) for _ in range(2))
    assert len(traced) == 1
    assert first[0].images is not again[0].images is not START.images


def test_batches_are_made_one_step_ahead_and_no_more_than_there_are_steps(tmp_path: Path) -> None:
    happened: list[tuple[str, int]] = []
    method, number = drift(), itertools.count()

    def feed(i: int) -> Any:
        happened.append(("batch", i))
        return method.feed(i)

    counted = task(steps=3)._replace(method=method._replace(feed=feed))
    compiled = loops.compiled_step(counted)

    def step(*arguments: Any) -> Any:
        happened.append(("step", next(number)))
        return compiled(*arguments)

    loops.run(counted, lambda distilled: 0.0, tmp_path / "c.npz", "test", step)  # type: ignore[arg-type]
    assert happened == [("batch", 0), ("step", 0), ("batch", 1), ("step", 1), ("batch", 2), ("step", 2)]

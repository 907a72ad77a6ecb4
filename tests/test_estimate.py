"""Memory and time said beforehand: against what the system measures, and refused where it is not there."""

import dataclasses
import json
import logging
import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from test_judging import SCHEDULE, WHERE, given
from tiny import SAMPLE, resolved

import rcig
from rcig import resources, whiten
from rcig.data.real import Real
from rcig.data.splits import Split, whole
from rcig.errors import TooLargeError
from rcig.judging import membership, networks
from rcig.resources import Use
from rcig.run import distil
from rcig.run.task import source_of

GIB = 2**30

MEASURE = """
import json, re, sys
from pathlib import Path
import numpy as np
import rcig
from rcig import api, train, whiten
from rcig.data.splits import Split, whole
from rcig.judging import evaluate, membership
from rcig.judging.subject import Judged, Subject
from rcig.run import validate

what, side, channels, settings = json.loads(sys.argv[1])
rng = np.random.default_rng(0)
images = rng.integers(0, 256, (3000, side, side, channels)).astype(np.uint8)
labels = np.arange(3000, dtype=np.int32) % 10
short = train.Schedule(20, train.adam(0.1), 1e-3, 256)
if what == "distil":
    validate.STEPS = 10
    rcig.distil(images, labels, **settings)
else:
    dataset = api.described(images, labels, {"whitening": "standard"})
    count, whitening = 10 * settings.pop("images_per_class"), whiten.fit(images, dataset.whitening)
    one = Subject(
        Judged("d", count // 10, (0,), dataset.mirror), dataset, whiten.on_device(whitening),
        rng.normal(size=(1, count, side, side, channels)).astype(np.float32),
        np.eye(10, dtype=np.float32)[labels[None, :count]],
        whole(Split(images, labels)), [], {"chunk": None, "boost": None, "method": "rcig"},
    )
    if what == "evaluate":
        evaluate.PROTOCOLS["loo2023"] = evaluate.PROTOCOLS["loo2023"]._replace(schedule=lambda count: short)
        evaluate.by_protocol(one, evaluate.Evaluate(**settings), "loo2023")
    else:
        membership.load_parts = lambda *_: (whole(Split(images, labels)), None, None)
        membership.attack(one, membership.Attack(**settings, measured_at=(5,), batch_size=256))
# Not getrusage: its maximum is that of the process that started this one, where that had more.
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 2**20)
"""
CG = {"solver": "cg", "cg_iterations": 2, "steps": 2}
PLAIN = {"dataset": {"whitening": "standard"}}
SETTINGS: dict[str, tuple[str, int, int, dict[str, Any]]] = {
    "random_real": ("distil", 28, 1, {"method": "random_real", "width": 32, "steps": 0}),
    "rcig of width 128, 30 networks": ("distil", 28, 1, CG | {"width": 128}),
    "rcig, 200 colour images": ("distil", 32, 3, CG | PLAIN | {"width": 32, "images_per_class": 20, "pool_size": 4}),
    "rcig, batches of 1024": (
        "distil",
        32,
        3,
        PLAIN | {"width": 32, "steps": 10, "pool_size": 4, "experiment": {"loop": {"batch_size": 1024}}},
    ),
    "rat_bptt": (
        "distil",
        28,
        1,
        {"method": "rat_bptt", "width": 32, "images_per_class": 2, "steps": 2, "window": 20, "inner_steps": 22},
    ),
    "evaluate": ("evaluate", 32, 3, {"width": 64, "images_per_class": 10, "networks": 3}),
    "attack": ("attack", 28, 1, {"width": 32, "images_per_class": 10, "networks": 2, "attacks": ["gradient_norm"]}),
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads what a process held at most from /proc")
@pytest.mark.parametrize("case", SETTINGS)
def test_the_memory_that_is_said_is_the_memory_that_is_taken(case: str) -> None:
    # Without a cache, so that compiling takes what it takes the first time.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, json.dumps(SETTINGS[case])], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (said,) = re.findall(r"([\d.]+) GiB of memory", done.stderr)
    print(f"{case}: said {said} GiB, took {done.stdout.strip()}")
    assert float(said) == pytest.approx(float(done.stdout), rel=0.3)


IMAGES = np.random.default_rng(0).integers(0, 256, (200, 28, 28, 1)).astype(np.uint8)
LABELS = np.arange(200) % 10


@pytest.mark.parametrize("method", ["rcig", "rat_bptt", "random_real"])
def test_an_absurd_width_is_refused_before_anything_is_allocated(method: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TooLargeError, match=r"^\w+ seed 0: needs about \d+\.\d GiB .* are free; lower width") as error:
        rcig.distil(IMAGES, LABELS, method=method, width=100_000, steps=0 if method == "random_real" else 2)
    assert "\n" not in str(error.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20, "KiB"


def test_judging_at_an_absurd_width_is_refused() -> None:
    with pytest.raises(TooLargeError, match=r"^2 networks conv of width 1000000: .*; lower width or networks$"):
        networks.build(given(), "conv", 1_000_000, SCHEDULE, 2)


def test_attacks_at_an_absurd_width_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "load_parts", lambda *_: (given().test, None, None))
    settings = membership.Attack(width=1_000_000, measured_at=(2,))
    with pytest.raises(TooLargeError, match=r"^membership inference, 5 networks conv of width 1000000: needs about"):
        membership.attack(given(), settings)


def test_a_look_that_would_take_more_than_is_free_is_refused_before_the_first_step(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    split = whole(Split(IMAGES, LABELS.astype(np.int32)))
    source = source_of(resolved().run, SAMPLE, Real(split, split, whiten.fit(IMAGES, "standard"), list("0123456789")))
    # The step of this method does nothing; the networks that measure its accuracy are all there is.
    run = dataclasses.replace(resolved(method="random_real", settings={}).run, width=4)
    monkeypatch.setattr(resources, "available", lambda: 2**20)
    monkeypatch.setattr(resources, "UNPLANNED", 0)
    with pytest.raises(TooLargeError, match=r"^x seed 0: needs about 0\.0 GiB more memory than it holds, 0\.0 GiB"):
        distil.distil(source, run, tmp_path, "x")
    assert not list(tmp_path.iterdir())


def double(size: int) -> jax.stages.Lowered:
    """A program of two arrays of so many bytes: its argument and its result."""
    return jax.jit(lambda x: 2 * x).lower(jax.ShapeDtypeStruct((size // 4,), np.float32))


def test_whitening_large_images_as_a_whole_is_refused() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 512, 512, 3)).astype(np.uint8)
    with pytest.raises(TooLargeError, match=r"^whitening zca: needs about 13824\.0 GiB .*; lower resolution, or take"):
        whiten.fit(images, "zca")
    assert whiten.fit(images, "standard").mean.shape == (3,)


def test_what_is_held_is_there_beside_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "UNPLANNED", 0)
    monkeypatch.setattr(resources, "available", lambda: 4 * GIB)
    monkeypatch.setattr(resources, "_held", lambda: 5 * GIB)
    assert resources.check("x", "y", Use(2 * GIB, double(GIB))) == 9 * GIB
    assert resources.check("x", "y", Use(2 * GIB), Use(0, double(GIB))) == 7 * GIB, "one after the other"
    with pytest.raises(TooLargeError, match=r"^x: needs about 4\.5 GiB .* holds, 4\.0 GiB are free; lower y$"):
        resources.check("x", "y", Use(5 * GIB // 2, double(GIB)))


def test_arguments_alone_may_be_too_large_to_compile_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "planned", lambda compiled: pytest.fail("it was compiled"))
    with pytest.raises(TooLargeError, match=r"needs about 1048576\.0 GiB"):
        resources.check("x", "y", Use(0, double(2**50)))


def test_an_accelerator_has_its_own_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    device = {"bytes_limit": 8 * GIB, "bytes_in_use": 3 * GIB, "peak_bytes_in_use": 4 * GIB}
    monkeypatch.setattr(resources, "_device", lambda: device)
    assert resources.available() == 5 * GIB
    assert resources.check("x", "y", Use(0, double(GIB))) == 5 * GIB
    assert resources.check("x", "y", Use(0)) == 4 * GIB, "as was there before"
    with pytest.raises(TooLargeError, match=r"needs about 6\.0 GiB"):
        resources.check("x", "y", Use(4 * GIB, double(GIB)))


STAT = "active_file 1073741824\ninactive_file 0\ntotal_active_file 1073741824\ntotal_inactive_file 1073741824\n"
GROUPS: dict[str, tuple[dict[str, str], str, float]] = {
    "none": ({}, "0::/\n", 9),
    "second version": (
        {"a/memory.max": f"{6 * GIB}", "a/memory.current": f"{4 * GIB}", "a/memory.stat": STAT},
        "0::/a\n",
        3,
    ),
    "no limit": ({"a/memory.max": "max"}, "0::/a\n", 9),
    "one above": (
        {
            "a/memory.max": f"{6 * GIB}",
            "a/memory.current": f"{4 * GIB}",
            "a/memory.stat": STAT,
            "a/b/memory.max": "max",
        },
        "0::/a/b\n",
        3,
    ),
    "a container, which sees its own group as the root": (
        {
            "memory/memory.limit_in_bytes": f"{6 * GIB}",
            "memory/memory.usage_in_bytes": f"{4 * GIB}",
            "memory/memory.stat": STAT,
        },
        "4:memory:/docker/x\n3:cpuset:/\n",
        4,
    ),
}


@pytest.mark.parametrize("case", GROUPS)
def test_a_control_group_may_leave_less_than_the_machine(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, table, free = GROUPS[case]
    files = {f"groups/{name}": text for name, text in files.items()}
    files |= {"proc/meminfo": f"MemTotal: 1 kB\nMemAvailable:   {9 * 2**20} kB\n", "proc/self/cgroup": table}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(resources, "PROC", tmp_path / "proc")
    monkeypatch.setattr(resources, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PHYS_PAGES": 16 * 2**18, "SC_PAGE_SIZE": 2**12}[name])
    assert resources.available() == free * GIB


def test_where_no_system_says_what_is_free_it_is_what_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "PROC", tmp_path)
    assert resources.available() == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def compilations(caplog: pytest.LogCaptureFixture, name: str) -> int:
    return sum(f"Finished XLA compilation of jit({name})" in record.getMessage() for record in caplog.records)


def test_what_was_compiled_to_be_looked_at_is_what_runs(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    with jax.log_compiles():
        trained = networks.build(given(), "conv", 5, SCHEDULE, 2)
        networks.measure(given(), trained, WHERE)
    assert [compilations(caplog, name) for name in ("begin_all", "advance", "forward")] == [1, 1, 1]
    said = capsys.readouterr().err
    assert re.search(r"^p, conv of width 5: 120 steps of \S+ s each, about 0 minutes and the tests; [\d.]+ GiB", said)
    assert said.count("steps of") == 1, "after the first piece, and no more"


def test_a_run_compiles_its_step_and_its_validation_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with jax.log_compiles():
        rcig.distil(IMAGES, LABELS, method="frepo", width=3, steps=1, pool_size=1)
    assert [compilations(caplog, name) for name in ("step", "begin_all", "advance", "forward")] == [1, 1, 1, 1]


def test_the_time_that_is_said_is_that_of_the_first_piece(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([100.0, 110.0])
    monkeypatch.setattr(resources.time, "perf_counter", lambda: next(clock))
    with resources.progress("x", 600, "the rest", 3 * GIB) as reached:
        for done in (5, 10, 600):
            reached(done)
    assert capsys.readouterr().err == "x: 600 steps of 2 s each, about 20 minutes and the rest; 3.0 GiB of memory\n"

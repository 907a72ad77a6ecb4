"""DVC workspaces of tests, and commands in them; no benchmark is prepared there."""

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = os.environ | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "DVC_NO_ANALYTICS": "1",
    "TFDS_DATA_DIR": str(ROOT / "nothing"),
    **{f"GIT_{who}_{what}": "test@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}
STUB = ROOT / "tests" / "stub"
yaml = YAML(typ="safe", pure=True)  # as rcig.plan reads numbers: 5e-4 is one


def run(workspace: Path, *command: str, stubbed: bool = False, fails: bool = False, **variables: str) -> str:
    """What a command prints that must succeed, or must fail.

    `stubbed`: all stages of the pipeline but `plan` compute nothing (see `stub/python`).
    """
    path = f"{STUB}{os.pathsep}" * stubbed + ENVIRONMENT["PATH"]
    environment = ENVIRONMENT | {"PATH": path} | variables
    done = subprocess.run(command, cwd=workspace, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr if fails else done.stdout


def ran(workspace: Path, *options: str, fails: bool = False) -> list[str]:
    """The stages that `dvc repro` runs now, stubbed."""
    log = workspace / "ran.txt"
    log.unlink(missing_ok=True)
    run(workspace, "dvc", "repro", *options, stubbed=True, fails=fails)
    return sorted(log.read_text().split()) if log.exists() else []


def copy_pipeline(workspace: Path) -> Path:
    """The project's code and pipeline in a folder of its own, which is made."""
    ignored = shutil.ignore_patterns("__pycache__")
    for part in ("rcig", "stages", "inputs"):
        shutil.copytree(ROOT / part, workspace / part, ignore=ignored)
    for part in ("dvc.yaml", ".dvcignore", ".gitignore", ".gitattributes"):
        shutil.copy(ROOT / part, workspace / part)
    return workspace


def read_settings() -> dict[str, Any]:
    """The project's params.yaml."""
    content: dict[str, Any] = yaml.load((ROOT / "params.yaml").read_text())
    return content


def sections(**given: Any) -> dict[str, Any]:
    """The sections of a params.yaml of the sample alone, empty but for those that are given."""
    settings = read_settings()
    datasets = {"mnist_sample": settings["shared"]["datasets"]["mnist_sample"]}
    empty = {
        name: {} for name in ("full_dataset", "experiments", "cross_arch", "attack", "score", "experts", "studies")
    }
    return {"sizes": settings["sizes"], "datasets": datasets} | empty | given


def save_settings(workspace: Path, settings: dict[str, Any]) -> None:
    with (workspace / "params.yaml").open("w") as file:
        YAML(typ="safe").dump(settings, file)


def documented(page: str, first: str) -> list[list[str]]:
    """The commands of the block of a page under docs/ that begins with this line, without their comments."""
    (block,) = [part for part in (ROOT / "docs" / page).read_text().split("```sh\n")[1:] if part.startswith(first)]
    return [shlex.split(line, comments=True) for line in block.partition("```")[0].splitlines()]


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that the first process of a run of tests makes, and the others wait for. It is not to be changed."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    complete = folder.with_suffix(".complete")
    with FileLock(folder.with_suffix(".lock")):
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            complete.touch()
    return folder


def until(reached: Callable[[], bool]) -> None:
    """Wait for something, a minute at most."""
    for _ in range(600):
        if reached():
            return
        time.sleep(0.1)
    raise AssertionError("not reached within a minute")

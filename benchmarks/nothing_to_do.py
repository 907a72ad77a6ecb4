"""Seconds of `dvc status` and of a `dvc repro` with nothing to do, and how many times those of DVC's start they are.

    python -m benchmarks.nothing_to_do

Of the clone that is the current folder, which has to be up to date. Median of three runs each.
"""

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.machine import run, seconds
from rcig import lock
from rcig.errors import Foreseen


def main() -> None:
    if stale := dvc("status", "--quiet"):
        raise Foreseen(f"`dvc status` says that something is to do (status {stale}); run `dvc pull` and `dvc repro`")
    stages = len(lock.at(Path()))
    start, status, repro = map(timed, ("--version", "status", "repro"))
    print(f"{stages} stages: dvc status {status:.1f} s, dvc repro {repro:.1f} s, the start of DVC {start:.1f} s")
    print(f"times the start of DVC: dvc status {status / start:.1f}, dvc repro {repro / start:.1f}")


def timed(command: str) -> float:
    return seconds(lambda: dvc(command), 3)


def dvc(*arguments: str) -> int:
    """The status with which a command of DVC ends, its words unseen."""
    environment = os.environ | {"DVC_NO_ANALYTICS": "1"}
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode


if __name__ == "__main__":
    run(main)

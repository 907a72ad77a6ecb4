"""What scripts do: commands of DVC and git, and copies."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from rcig.errors import Foreseen
from rcig.processes import call


def dvc(*arguments: str, folder: Path = Path(), fix: str) -> None:
    """Run DVC, its output seen, with this Python's environment first. Raises Foreseen with the usual fix if it fails.

    It waits while another command of DVC has its lock: else a stage that has run for hours is not recorded where
    another command takes more than three seconds at that moment.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "1"}
    command = ["dvc", "--wait-for-lock", *arguments]
    if call(command, folder, environment):
        raise Foreseen(f"`{' '.join(command)}` failed, see above; {fix}")


def git(*arguments: str) -> bytes:
    """What git prints. Raises Foreseen with git's own words if it fails."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, check=False)
    except OSError as error:
        raise Foreseen(f"git: {error.strerror}; install git") from None
    if done.returncode:
        raise Foreseen(f"`git {' '.join(arguments)}`: {' '.join(done.stderr.decode().split())}")
    return done.stdout


def copy(paths: Iterable[str], into: Path) -> None:
    """Copy files and folders of this folder, those that exist; what a folder has lost does not stay there."""
    for path in paths:
        if Path(path).is_dir():
            shutil.rmtree(into / path, ignore_errors=True)
            shutil.copytree(path, into / path, ignore=shutil.ignore_patterns("__pycache__"))
        elif Path(path).exists():
            (into / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, into / path)


class Sides(NamedTuple):
    """The contents of a file in conflict; None where it is not."""

    base: bytes | None
    ours: bytes | None
    theirs: bytes | None


def conflicts() -> dict[str, Sides]:
    """Path -> its contents, of every file that git holds in conflict."""
    blobs: dict[str, dict[str, str]] = {}
    for line in os.fsdecode(git("ls-files", "--unmerged", "-z")).split("\0")[:-1]:
        (_, blob, stage), path = line.split("\t")[0].split(), line.split("\t")[1]
        blobs.setdefault(path, {})[stage] = blob
    return {
        path: Sides(*(git("cat-file", "blob", of[stage]) if stage in of else None for stage in "123"))
        for path, of in blobs.items()
    }

"""One run at a time in a folder: who comes second is told who is there."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from rcig.errors import Foreseen

HELD = Path(".cache/running")
"""locked while something runs, and says what; the system releases the lock of a process that was killed"""
DVC = Path(".dvc/tmp/rwlock")
"""where DVC notes what reads and writes which files"""


class BusyError(Foreseen, RuntimeError):
    """Something else runs where only one thing can: what it is."""


@contextmanager
def alone(folder: Path, command: str) -> Iterator[None]:
    """Nobody runs the pipeline of that folder when the block begins, and nobody else by `alone` until it ends.

    Raises BusyError that says who does: the command, its process, and since when, which DVC does not note.
    """
    path = folder / HELD
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(path).acquire(timeout=0)
    except Timeout:
        raise _busy(_holder(path)) from None
    with held:
        for pid, running in _by_dvc(folder / DVC).items():
            raise _busy(f"`{running}` (process {pid})")
        path.write_text(f"`{command}` (process {os.getpid()}, since {datetime.now():%Y-%m-%d %H:%M:%S})")
        yield


def _holder(path: Path) -> str:
    """Who has the lock; nothing where that is not yet written in the place of who had it before."""
    who = path.read_text(errors="replace")
    pid = re.search(r"\(process (\d+), since [^)]*\)$", who)
    return who if pid and _lives(int(pid[1])) else ""


def _by_dvc(path: Path) -> dict[int, str]:
    """Process -> its command, of all that run a stage by DVC; none by a note of another kind, which DVC itself says."""
    try:
        noted = json.loads(path.read_bytes())
        readers = [info for infos in noted.get("read", {}).values() for info in infos]
        running = {int(info["pid"]): info["cmd"] for info in [*noted.get("write", {}).values(), *readers]}
    except (OSError, ValueError, RecursionError, AttributeError, KeyError, TypeError):
        return {}
    return {pid: command for pid, command in running.items() if _lives(pid)}


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it lives, and is another user's
        return True
    return True


def _busy(who: str) -> BusyError:
    return BusyError(
        f"{who or 'another command'} runs in this folder; wait for it or stop it. To run two things at once, give one a"
        " clone of its own, or run single stages by `dvc --wait-for-lock repro --single-item STAGE` (docs/at-once.md)"
    )

"""Processes that this one starts, and how it ends them when it is stopped."""

import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from rcig.entry import end

GRACE = 10.0
"""seconds that processes have to end in, when all is stopped"""


@contextmanager
def stoppable(stays: str) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the block, and this process, with one line that says what stays, and status 130."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        end(f"stopped; {stays}, and the same command goes on from there", 130)


def call(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> int:
    """Run a command to its end -> its status. What stops this process ends the command with all that it has started.

    They do not hear Ctrl-C themselves, so that none prints a traceback. To ignore it is what they inherit; a mask of
    signals would not do, as dash clears it. Of the main thread only.
    """
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN)
    started = subprocess.Popen(command, cwd=folder, env=environment)
    signal.signal(signal.SIGINT, heard)
    try:
        return started.wait()
    except KeyboardInterrupt:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # an impatient second one
        end_started()
        raise


def end_started() -> None:
    """End all processes that this one has started. They are halted first, as one may be about to start another."""
    running: set[psutil.Process] = set()
    while (found := set(psutil.Process().children(recursive=True))) != running:
        running = found
        for process in running:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
    for process in running:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
            process.resume()
    until = time.monotonic() + GRACE
    while (running := {process for process in running if _works(process)}) and time.monotonic() < until:
        time.sleep(0.05)
    for process in running:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _works(process: psutil.Process) -> bool:
    """Its status is left to whoever waits for it: to wait here would take it away, and a stopped stage seem made."""
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False

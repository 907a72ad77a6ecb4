"""How a process is stopped, and ends what it has started."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

STOPS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what schedulers send"""
GRACE = 10.0
"""seconds that processes have to end in, when all is stopped"""
AGAIN = 2.0
"""seconds after which a stop is said again that nobody has heard"""


@contextmanager
def stoppable(words: str) -> Iterator[None]:
    """STOPS end the block, and this process, with one line and status 130. Of the main thread only.

    They raise KeyboardInterrupt, and once more after AGAIN: Python discards what is raised while JAX's callback of the
    garbage collection runs.
    """
    with _handled(_stop, *STOPS, signal.SIGALRM):
        try:
            yield
        except KeyboardInterrupt:
            with _handled(signal.SIG_IGN, *STOPS, signal.SIGALRM):
                print(f"error: stopped; {words}", file=sys.stderr, flush=True)
                os._exit(130)  # as threads of JAX still compute, and crash where Python ends in order
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    signal.setitimer(signal.ITIMER_REAL, AGAIN)
    raise KeyboardInterrupt


@contextmanager
def _handled(handler: Callable[..., object] | signal.Handlers, *numbers: signal.Signals) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, one in before.items():
            signal.signal(number, one)


def call(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> int:
    """Run a command to its end -> its status. Of the main thread only.

    What it starts does not hear Ctrl-C itself, so that no stage prints a traceback: a shell ignores it for all of them.
    A mask of signals would not do, as dash clears it.
    """
    early: list[int] = []
    with ended_at_a_stop():
        with _handled(lambda number, _: early.append(number), *STOPS):
            deaf = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command]
            started = subprocess.Popen(deaf, cwd=folder, env=environment)
        if early:
            raise KeyboardInterrupt
        return started.wait()


@contextmanager
def ended_at_a_stop() -> Iterator[None]:
    """Whatever this process has started ends where KeyboardInterrupt ends the block."""
    try:
        yield
    except KeyboardInterrupt:
        with _handled(signal.SIG_IGN, *STOPS, signal.SIGALRM):  # an impatient second one
            end_started()
        raise


def end_started() -> None:
    """End all processes that this one has started. They are halted first, as one may be about to start another."""
    import psutil  # of the pipeline, which alone starts any

    def works(process: psutil.Process) -> bool:
        # Its status is left to whoever waits for it: to wait here would take it away, and a stopped stage seem made.
        with suppress(psutil.NoSuchProcess):
            return process.status() != psutil.STATUS_ZOMBIE
        return False

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
    while (running := {process for process in running if works(process)}) and time.monotonic() < until:
        time.sleep(0.05)
    for process in running:
        with suppress(psutil.NoSuchProcess):
            process.kill()

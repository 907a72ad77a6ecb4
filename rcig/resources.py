"""Memory and time, said before they are spent.

What a process will hold at most is what it holds now, as the system says, and what the compiler plans for the programs
that are yet to run. They are compiled for shapes, so nothing of that is allocated to know it. Pages of files that are
mapped are not counted: the system takes them back where it needs them.
"""

import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
from tqdm import tqdm

from rcig.errors import TooLargeError

PROC = Path("/proc")
GROUPS = Path("/sys/fs/cgroup")
GIB = 2**30
UNPLANNED = 150 * 2**20
"""bytes of a process on a CPU that small programs take, which are compiled when they are first called"""


class Use(NamedTuple):
    """What is in memory at one time."""

    held: int
    """bytes of arrays that are yet to come and are no arguments of the program"""
    program: jax.stages.Lowered | None = None
    """runs beside them; called later with such arguments, it is not compiled again"""


def check(what: str, change: str, *uses: Use) -> int:
    """Bytes that the process will hold at most, through uses that come one after the other.

    On an accelerator these are bytes of its own memory. Raises TooLargeError, which says what to lower (`change`),
    where a use takes more than is free; what is held and the arguments are looked at before anything is compiled.
    """
    refuse(what, change, max(use.held + _arguments(use) for use in uses), available())
    needed = max(use.held + _planned(use) for use in uses) + (0 if _device() else UNPLANNED)
    refuse(what, change, needed, available())  # anew, as compilers take memory too
    return max(_peak(), _held() + needed)


def words(steps: int, seconds: float, rest: str, memory: int) -> str:
    """What some steps of so many seconds take, and in bytes all that check has looked at; `rest` takes time as well."""
    minutes = steps * seconds / 60
    return f"{steps} steps of {seconds:.2g} s each, about {minutes:.0f} minutes and {rest}; {said(memory)}"


@contextmanager
def progress(what: str, steps: int, rest: str, memory: int) -> Iterator[Callable[..., None]]:
    """Gives a function of the steps that are done, and of what to show beside them, for a progress line.

    Its first call says what all will take. The line is shown where standard error is a terminal.
    """
    start, first = time.perf_counter(), True
    with tqdm(total=steps, desc=what, unit="step", disable=None, file=sys.stderr) as bar:

        def reached(done: int, **shown: str) -> None:
            nonlocal first
            if first:
                took = (time.perf_counter() - start) / done
                tqdm.write(f"{what}: {words(steps, took, rest, memory)}", file=sys.stderr)
            first = False
            bar.update(done - bar.n)
            bar.set_postfix(shown)

        yield reached


def said(memory: int) -> str:
    """Bytes, for people."""
    return f"{memory / GIB:.1f} GiB of memory"


def size(tree: Any) -> int:
    """Bytes of a PyTree of arrays or their shapes."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def planned(compiled: jax.stages.Compiled) -> int:
    """Bytes of arguments, results and temporaries on one device: the compiler's plan, which is no measurement.

    It is the same on every machine of one backend, whatever else runs there.
    """
    plan: Any = compiled.memory_analysis()
    # An argument that is given away shares its memory with a result.
    inputs = plan.argument_size_in_bytes - plan.alias_size_in_bytes
    return int(plan.temp_size_in_bytes + inputs + plan.output_size_in_bytes)


def refuse(what: str, change: str, needed: int, free: int) -> None:
    """Raise TooLargeError where so many bytes are needed more and fewer are free."""
    if needed > free:
        raise TooLargeError(
            f"{what}: needs about {needed / GIB:.1f} GiB more memory than it holds, {free / GIB:.1f} GiB are free;"
            f" lower {change}"
        )


def available() -> int:
    """Bytes that are free where arrays are: of the first device's own memory, else of the machine's."""
    statistics = _device()
    return int(statistics["bytes_limit"] - statistics["bytes_in_use"]) if statistics else on_host()


def on_host() -> int:
    """Bytes that the machine and the control groups of the process leave."""
    machine = _kib(PROC / "meminfo", "MemAvailable")
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(installed if machine is None else machine, *_groups(), installed)


def _arguments(use: Use) -> int:
    return 0 if use.program is None else size(use.program.args_info) * _copies()


def _planned(use: Use) -> int:
    return 0 if use.program is None else planned(use.program.compile()) * _copies()


def _copies() -> int:
    """Devices that share the memory of `available`."""
    return 1 if _device() else jax.local_device_count()


def _device() -> dict[str, int]:
    """What the first device says of its own memory; nothing where it has none."""
    return jax.local_devices()[0].memory_stats() or {}


def _held() -> int:
    return _device().get("bytes_in_use") or _kib(PROC / "self/status", "VmRSS") or 0


def _peak() -> int:
    return _device().get("peak_bytes_in_use") or _kib(PROC / "self/status", "VmHWM") or 0


def _kib(path: Path, name: str) -> int | None:
    """Bytes of the line NAME: … kB of a file that not every system has."""
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return None


def _groups() -> Iterator[int]:
    """Bytes left in every control group that the process belongs to, of both versions."""
    table = PROC / "self/cgroup"
    for line in table.read_text().splitlines() if table.exists() else []:
        _, controllers, name = line.split(":", 2)
        if not controllers:
            root, limit, usage, prefix = GROUPS, "memory.max", "memory.current", ""
        elif "memory" in controllers.split(","):
            root, limit, usage, prefix = GROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"
        else:
            continue
        lowest = root / name.strip("/")
        # A container may see its own group as the root, under another name.
        for group in (lowest, *lowest.parents)[: len(lowest.relative_to(root).parts) + 1]:
            if (group / limit).exists() and (most := (group / limit).read_text().strip()) != "max":
                counts = dict(row.split() for row in (group / "memory.stat").read_text().splitlines())
                cached = sum(int(counts[f"{prefix}{kind}_file"]) for kind in ("active", "inactive"))
                yield int(most) - int((group / usage).read_text()) + cached

"""What all stage scripts share: how they start, how they fail, where files lie, what they say of code and machine."""

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from rcig.errors import Foreseen

DISTILLED = Path("artifacts/distilled")
RESULTS = Path("results")
COMPILED = Path(".cache/jax")
"""compiled code, kept for the next time"""


def run(main: Callable[..., None]) -> None:
    """Call main with the command line's arguments. A foreseen error ends the process with one line and status 1."""
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(COMPILED.resolve() / platform.node()))
    try:
        main(*sys.argv[1:])
    except Foreseen as error:
        sys.exit(f"error: {error}")


def machine() -> str:
    """The machine in words: processor, cores, and JAX's devices."""
    import jax

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    device = jax.devices()[0]
    accelerator = "" if device.platform == "cpu" else f", {len(jax.devices())} × {device.device_kind}"
    count = len(os.sched_getaffinity(0))
    return f"{model}, {count} {'core' if count == 1 else 'cores'}{accelerator}"


def revision() -> str | None:
    """The commit that is checked out, marked where code or settings differ from it; None outside of a git repository.

    Results are no part of it: a run that is being recorded is rewriting them.
    """
    made_by = ["rcig", "stages", "params.yaml"]
    commands = (["git", "rev-parse", "--short=12", "HEAD"], ["git", "status", "--porcelain", "--", *made_by])
    try:
        commit, changes = (
            subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() for command in commands
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}-dirty" if changes else commit

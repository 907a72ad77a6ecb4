"""What all stage scripts share: how they start, how they fail, where files lie."""

import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

DATA = Path("artifacts/data")
DISTILLED = Path("artifacts/distilled")
RESULTS = Path("results")


def run(main: Callable[..., None]) -> None:
    """Call main with the command line's arguments. A foreseen error ends the process with one line and status 1."""
    try:
        main(*sys.argv[1:])
    except (ValueError, RuntimeError) as error:
        if not is_ours(error):
            raise
        sys.exit(f"error: {error}")


def is_ours(error: Exception) -> bool:
    """Whether the project raised the error on purpose, with a message for people."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    package = traceback.tb_frame.f_globals.get("__package__") if traceback is not None else None
    return (package or "").split(".")[0] in ("rcig", "stages")


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

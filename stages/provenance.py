"""What a result says of the machine and the revision that made it."""

import json
import os
import platform
import subprocess
from pathlib import Path

MADE_BY = ("rcig", "stages", "params.yaml")
PACK = Path("pack.json")
"""which the folder of a pack has, see rcig.packs"""


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
    """The commit that is checked out, marked where code or settings differ from it, or that a pack is of; else None.

    Results are no part of it: a run that is being recorded is rewriting them.
    """
    top = _git("rev-parse", "--show-toplevel")
    if top is None or Path(top) != Path.cwd():
        return str(json.loads(PACK.read_bytes())["commit"])[:12] if PACK.exists() else None
    commit, changes = _git("rev-parse", "--short=12", "HEAD"), _git("status", "--porcelain", "--", *MADE_BY)
    return f"{commit}-dirty" if changes else commit


def _git(*command: str) -> str | None:
    try:
        return subprocess.run(["git", *command], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None

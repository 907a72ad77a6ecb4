"""What clones share with packs, which run on machines without DVC: nothing is imported here that those may lack.

What came of a job is one file: a header with the entry of dvc.lock, then the outputs. rcig.jobs reads it.
"""

import hashlib
import importlib.metadata
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rcig.errors import Foreseen

HEADER, LARGEST = "job.json", 2**24
"""first member of the file, and how large it may be"""
PACKAGES = ("jax", "jaxlib", "numpy", "flax", "optax")
"""whose versions decide what a stage computes"""
BESIDE_OTHERS = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
"""environment of a stage that may share a GPU, most of whose memory JAX takes for itself otherwise"""


def versions() -> dict[str, str]:
    """Package -> its version in this environment."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def md5_of(file: Any) -> str:
    """The name that DVC gives to what an opened file contains."""
    return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def md5(path: Path) -> str | None:
    """The same of a file; None where there is none."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return md5_of(file)


def check_gpu(stage: str) -> None:
    """Raises Foreseen where JAX, as the stage will find it, has no GPU."""
    asked = [sys.executable, "-c", "import jax; print(jax.default_backend())"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    found = " ".join(done.stdout.split()) or " ".join(done.stderr.split()[-12:])
    if found != "gpu":
        raise Foreseen(
            f"{stage}: asks for a GPU, and JAX on {os.uname().nodename} has: {found}; install JAX for its GPU there, or"
            " set gpus: 0 under resources in params.yaml"
        )


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a member with that content."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def write(file: Path, root: Path, stage: str, commit: str, entry: Mapping[str, Any], seconds: float, log: str) -> None:
    """Write what a stage at a commit has made in the folder `root`, whole or not at all."""
    header = {
        "stage": stage,
        "commit": commit,
        "entry": entry,
        "seconds": seconds,
        "machine": os.uname().nodename,
        "versions": versions(),
        "log": log[-LARGEST // 4 :],
    }
    from rcig import store  # NumPy takes a moment, and every command of DVC asks for digests

    with store.atomic_file(file) as into, tarfile.open(fileobj=into, mode="w", dereference=True) as archive:
        add(archive, HEADER, json.dumps(header).encode())
        for out in entry["outs"]:
            archive.add(root / out["path"], out["path"], recursive=False)

"""PyTorch is no part of the environment: it is that of another Python of the machine, where there is one."""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

CANDIDATES = (sys.executable, "python3", "/usr/bin/python3", "/usr/local/bin/python3")


@cache
def python_with_torch() -> str | None:
    """A Python that imports torch and numpy; None where there is none."""
    for candidate in filter(None, map(shutil.which, CANDIDATES)):
        command = [candidate, "-c", "import torch, numpy; torch.zeros(1).numpy()"]
        if subprocess.run(command, env=_environment(), capture_output=True, check=False).returncode == 0:
            return candidate
    return None


def in_torch(*arguments: str | Path, fails: bool = False, path: Path | None = None) -> str:
    """What a Python with PyTorch prints that is called with these arguments, or says where it must fail with status 1.

    `path`: a folder whose modules it may import. Skips the test where no Python has PyTorch.
    """
    python = python_with_torch()
    if python is None:
        pytest.skip("no Python of this machine has PyTorch")
    environment = _environment() | ({} if path is None else {"PYTHONPATH": str(path)})
    done = subprocess.run([python, *arguments], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == fails, done.stdout + done.stderr
    return done.stderr if fails else done.stdout


def _environment() -> dict[str, str]:
    """That of a stranger: nothing of this project can be imported."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}

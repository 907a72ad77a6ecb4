"""Files that PyTorch itself has written, by whatever Python of the machine has it."""

import functools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PYTHONS = (sys.executable, "/usr/bin/python3")


@functools.cache
def python() -> str:
    """A Python that has PyTorch; the test is skipped where none has."""
    for one in PYTHONS:
        if Path(one).exists() and not subprocess.run([one, "-c", "import torch"], capture_output=True).returncode:
            return one
    pytest.skip("no Python of this machine has PyTorch; install python3-torch")


def write(folder: Path, code: str, **arrays: np.ndarray) -> None:
    """Run that code in `folder`, with torch, numpy as np, and these arrays as tensors."""
    np.savez(folder / "given.npz", **arrays)
    lines = ["import numpy as np, torch", "given = np.load('given.npz')"]
    lines += [f"{name} = torch.from_numpy(given['{name}'])" for name in arrays]
    done = subprocess.run([python(), "-c", "\n".join([*lines, code])], cwd=folder, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    (folder / "given.npz").unlink()

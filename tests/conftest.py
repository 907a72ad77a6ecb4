import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

# Tests compile much and compute little. Set before JAX starts, and inherited by the stages that tests run.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import jax
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def tfds_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared real datasets: where TFDS_DATA_DIR says, or unpacked from the copies that lie beside the repository."""
    if "TFDS_DATA_DIR" in os.environ:
        return Path(os.environ["TFDS_DATA_DIR"])
    unpack = ROOT.parent / "shared" / "data" / "unpack.py"
    if not unpack.exists():
        pytest.skip("no real datasets: TFDS_DATA_DIR is not set and ../shared/data is not there")
    folder = tmp_path_factory.mktemp("tfds")
    subprocess.run([sys.executable, unpack, folder], check=True, capture_output=True)
    return folder

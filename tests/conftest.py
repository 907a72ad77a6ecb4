import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

# Tests compile much and compute little, so compiled code is kept for the next time, and the compiler does not try hard.
# Set before JAX starts, and inherited by the stages that tests run.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1 --xla_cpu_use_fusion_emitters=false")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).resolve().parents[1] / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.05")

import jax
import pytest
from filelock import FileLock

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
    # One folder for all processes of the run: the first unpacks, the others wait.
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "tfds"
    with FileLock(f"{folder}.lock"):
        if not (folder / "complete").exists():
            subprocess.run([sys.executable, unpack, folder], check=True, capture_output=True)
            (folder / "complete").touch()
    return folder

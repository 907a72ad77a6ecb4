import os
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
def tfds_dir() -> Path:
    """Prepared real datasets: TFDS_DATA_DIR, or else what is unpacked from ../shared/data, once per machine."""
    if "TFDS_DATA_DIR" in os.environ:
        return Path(os.environ["TFDS_DATA_DIR"])
    pytest.skip("real datasets are read where TFDS_DATA_DIR names a folder that holds them")

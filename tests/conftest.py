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

import shutil

import heads
import jax
import pytest
from workspaces import ENVIRONMENT, ROOT, once, save_settings, sections


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
    return once(tmp_path_factory, "tfds", lambda folder: _unpack(unpack, folder))


def _unpack(script: Path, folder: Path) -> None:
    subprocess.run([sys.executable, script, folder], check=True, capture_output=True)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `artifacts` with the preprocessed sample, as the stage leaves it: to be copied."""
    return once(tmp_path_factory, "prepared", _preprocess) / "artifacts"


def _preprocess(folder: Path) -> None:
    from stages import plan, preprocess  # which most tests do not need

    folder.mkdir()
    save_settings(folder, sections())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        plan.main()
        preprocess.main("mnist_sample")


@pytest.fixture(scope="session")
def made_head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(tmp_path_factory, "head", heads.make)


@pytest.fixture
def head_workspace(made_head: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """See `heads`."""
    copied = tmp_path / "head"
    shutil.copytree(made_head, copied, symlinks=True)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return copied

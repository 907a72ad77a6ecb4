"""The study stage: what it measures, and that a run that was killed goes on where it was."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT
from ruamel.yaml import YAML

from rcig import params, rows

DRIVER = """
import sys
from rcig.distill import loop
from stages import study
loop.CHECKPOINT_SECONDS = 0
study.main(sys.argv[1])
"""
NAME = "solver_steps"
GRIDS = [
    {"solver": ["adam"], "inner_steps": [2], "inverse_steps": [0, 3]},
    {"solver": ["cg"], "cg_iterations": [3]},
]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A folder with the preprocessed sample and one small study of two seeds."""
    yaml = YAML(typ="safe")
    settings = yaml.load((ROOT / "params.yaml").read_text())
    study = settings["shared"]["studies"][NAME]
    base = study["base"] | {"width": 2, "seeds": [0, 1]}
    base["loop"] = base["loop"] | {"steps": 20, "batch_size": 32, "validate_every": 20}
    study = study | {"base": base, "grids": GRIDS, "timing_steps": 2}
    with (tmp_path / "params.yaml").open("w") as file:
        yaml.dump(
            {"datasets": settings["datasets"], "full_dataset": {}, "experiments": {}, "studies": {NAME: study}}, file
        )
    for part in ("rcig", "stages"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-m", "stages.preprocess", "mnist_sample"], cwd=tmp_path, check=True)
    return tmp_path


def start(workspace: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", DRIVER, NAME], cwd=workspace)


@pytest.mark.slow
def test_a_study_that_is_killed_goes_on_where_it_was_and_ends_with_the_same_sets(workspace: Path) -> None:
    result = workspace / "results" / "study" / f"{NAME}.csv"
    study = params.load(workspace / "params.yaml").study(NAME)
    assert start(workspace).wait() == 0
    expected = rows.read_study(result, study)
    assert list(expected["seed"]) == [0, 1] * 3
    assert list(expected["solver"]) == ["adam"] * 4 + ["cg"] * 2
    assert (expected["images"] == 10).all()
    assert (expected.groupby(study.varied, dropna=False)["memory_mb"].nunique() == 1).all()
    assert (expected[["memory_mb", "seconds_per_step", "seconds_total"]] > 0).all(axis=None)
    assert expected["heldout_accuracy"].between(0, 1).all()
    assert not list((workspace / ".checkpoints").iterdir())
    result.unlink()

    # Killed in the first run, and in the second when the first is done.
    for made in ("1-0.npz", "1-1.npz"):
        process = start(workspace)
        while process.poll() is None and not list(workspace.glob(f".checkpoints/*/{made}")):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the study ended before it could be killed"
        assert not result.exists()
    (done,) = workspace.glob(".checkpoints/*/1-0.json")
    kept = json.loads(done.read_text())
    assert start(workspace).wait() == 0
    found = rows.read_study(result, study)
    assert found["seconds_per_step"][0] == kept["seconds_per_step"], "what was measured is not measured again"
    same = [name for name in expected if not name.startswith("seconds")]
    pd.testing.assert_frame_equal(found[same], expected[same], check_exact=True)

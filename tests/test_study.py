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
from workspaces import copy_pipeline, read_settings, save_settings, sections

from rcig import plan
from rcig.run import studies
from rcig.run.settings import Study
from stages import plan as stage_plan
from stages import study as stage_study

DRIVER = """
import sys
from rcig.run import loop
from stages import study
loop.CHECKPOINT_SECONDS = 0
study.main(sys.argv[1])
"""
NAME = "solver_steps"
GRIDS = [{"solver": ["cg"], "inner_steps": [2], "inverse_steps": [3], "cg_iterations": [2]}]


@pytest.fixture
def workspace(tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the preprocessed sample and one small study of two seeds, planned."""
    workspace = copy_pipeline(tmp_path / "workspace")
    shutil.copytree(prepared, workspace / "artifacts")
    study = read_settings()["shared"]["studies"][NAME]
    base = study["base"] | {"width": 2, "seeds": [0, 1], "loop": {"steps": 20, "batch_size": 32, "validate_every": 20}}
    study |= {"base": base, "grids": GRIDS, "timing_steps": 2}
    save_settings(workspace, sections(studies={NAME: study}))
    monkeypatch.chdir(workspace)
    stage_plan.main()
    return workspace


def start(workspace: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", DRIVER, NAME], cwd=workspace)


def read(workspace: Path) -> tuple[pd.DataFrame, Study]:
    params, _ = plan.read(workspace / "params.yaml")
    study = plan.study_of(params, NAME)
    return studies.read(workspace / "results" / "study" / f"{NAME}.csv", study), study


@pytest.mark.slow
def test_a_study_that_is_killed_goes_on_where_it_was_and_ends_with_the_same_sets(workspace: Path) -> None:
    stage_study.main(NAME)
    expected, study = read(workspace)
    assert list(expected["seed"]) == [0, 1]
    assert list(expected["solver"]) == ["cg"] * 2
    assert (expected["images"] == 10).all()
    assert (expected.groupby(list(study.varied), dropna=False)["memory_mib"].nunique() == 1).all()
    assert (expected[["memory_mib", "seconds_per_step", "seconds_total"]] > 0).all(axis=None)
    assert expected["heldout_accuracy"].between(0, 1).all()
    entry = json.loads((workspace / "plan.json").read_text())["stages"]["study"][NAME]
    assert set(expected["code"]) == {entry["code"]}
    assert not list((workspace / ".checkpoints").iterdir())
    result = workspace / "results" / "study" / f"{NAME}.csv"
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
    stage_study.main(NAME)
    found, _ = read(workspace)
    assert found["seconds_per_step"][0] == kept["seconds_per_step"], "what was measured is not measured again"
    same = [name for name in expected if not name.startswith("seconds")]
    pd.testing.assert_frame_equal(found[same], expected[same], check_exact=True)

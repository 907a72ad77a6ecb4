"""A `dvc repro` that is killed in the middle of a stage, after a changed setting: what the reader then has."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_pipeline import RCIG, clone, stubbed  # noqa: F401
from workspaces import ENVIRONMENT, STUB, ran, run, save_settings, yaml

from rcig import lock, planned

RESULTS = [f"results/evaluate/{RCIG}{end}" for end in (".csv", ".json", "-predictions.npz")]
HANGING = f"""#!/bin/sh
# Stands in for `python`: evaluate starts and never ends.
if [ "$2" = stages.evaluate ]; then touch started; exec sleep 600; fi
exec "{STUB}/python" "$@"
"""


def kill_in_evaluate(workspace: Path, tmp_path: Path) -> None:
    """Run the pipeline, and kill it and its stage once `evaluate` has started."""
    (tmp_path / "hanging").mkdir()
    python = tmp_path / "hanging" / "python"
    python.write_text(HANGING)
    python.chmod(0o755)
    path = f"{python.parent}{os.pathsep}{ENVIRONMENT['PATH']}"
    with subprocess.Popen(
        ["dvc", "repro", "-q"], cwd=workspace, env=ENVIRONMENT | {"PATH": path}, start_new_session=True
    ) as process:
        while not (workspace / "started").exists():
            assert process.poll() is None, "ended without evaluate"
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_old_rows_stay_and_no_report_takes_them_for_new_ones(clone: Path, tmp_path: Path) -> None:  # noqa: F811
    settings = yaml.load((clone / "params.yaml").read_text())
    settings["experiments"][RCIG]["evaluate"] = {"networks": 7}
    save_settings(clone, settings)
    before = {name: (clone / name).read_bytes() for name in RESULTS}
    kill_in_evaluate(clone, tmp_path)
    assert {name: (clone / name).read_bytes() for name in RESULTS} == before

    said = run(clone, sys.executable, "-m", "stages.report", fails=True)
    assert said.startswith("error: results: ")
    assert f"evaluate@{RCIG}" in said
    assert said.count("\n") == 1
    assert f"evaluate@{RCIG}" in run(clone, "dvc", "status")

    assert {f"evaluate@{RCIG}", "report"} <= set(ran(clone))
    assert all((clone / name).read_bytes() != before[name] for name in RESULTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(clone)
        assert lock.outdated(planned.load()) == []


def test_what_no_lock_knows_is_not_outdated(tmp_path: Path) -> None:
    plan = {"stages": {"evaluate": {"a": {"code": "1", "settings": {}}}, "report": {"code": "2", "settings": {}}}}
    assert lock.outdated(plan, tmp_path) == []
    (tmp_path / "dvc.lock").write_text(lock.written({}))
    assert lock.outdated(plan, tmp_path) == []
    (tmp_path / "dvc.lock").write_text("{<<<<<<< a conflict")
    assert lock.outdated(plan, tmp_path) == []


def test_rows_of_another_set_or_without_an_entry_are_outdated(tmp_path: Path) -> None:
    one = {"code": "1", "settings": {}}
    plan = {"stages": {stage: {"a": one} for stage in ("distill", "evaluate", "score")} | {"report": {"code": "2"}}}

    def entry(stage: str, deps: dict[str, str], outs: dict[str, str]) -> lock.Entry:
        sides = {"deps": deps, "outs": outs}
        return {"params": {f"plan/{stage}.json": {f"stages.{stage}.a": one}}} | {
            side: [{"path": path, "md5": md5} for path, md5 in of.items()] for side, of in sides.items()
        }

    def outdated(**entries: lock.Entry) -> list[str]:
        (tmp_path / "dvc.lock").write_text(lock.written({f"{stage}@a": of for stage, of in entries.items()}))
        return lock.outdated(plan, tmp_path)

    made = entry("distill", {"pinned": "p", "none": "n"}, {"set": "new"})
    taken, old = (entry("evaluate", {"set": md5}, {"rows": "r"}) for md5 in ("new", "old"))
    assert outdated(distill=made, evaluate=taken) == []
    assert outdated(distill=made, evaluate=old) == ["evaluate@a"]
    assert outdated(distill=made) == ["evaluate@a"]
    assert outdated(evaluate=taken) == ["distill@a"]
    scored = entry("distill", {"artifacts/scores/a.npz": "s"}, {"set": "new"})
    assert "score@a" in outdated(distill=scored, evaluate=taken)
    (tmp_path / "pinned.dvc").write_text("outs: [{path: pinned, md5: other}]")
    assert outdated(distill=made, evaluate=taken) == ["distill@a"]

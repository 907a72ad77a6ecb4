"""The study that is committed and stored, as someone meets it who cloned the repository and has nothing else."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from ruamel.yaml import YAML
from test_pipeline import ENVIRONMENT, EXPERIMENT_STAGES, RCIG

yaml = YAML()
STORE_BYTES = 40e6
STUB = '''
"""In the place of python: writes the outputs of a stage at once, and its name into ran.txt."""
import sys
from pathlib import Path

from ruamel.yaml import YAML

CONTENT = {".json": '{"heldout_accuracy": 0.25}', ".csv": "step,heldout_accuracy\\n10,0.25\\n"}
stage = "@".join([sys.argv[2].removeprefix("stages."), *sys.argv[3:]])
for out in YAML(typ="safe").load(Path("dvc.lock"))["stages"][stage]["outs"]:
    path = Path(out["path"]) / ("" if Path(out["path"]).suffix else "index.html")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(CONTENT.get(path.suffix, "changed"))
with open("ran.txt", "a") as file:
    file.write(f"{stage}\\n")
'''


def run(clone: Path, *command: str, stubbed: bool = False) -> str:
    """What a command prints that must succeed, where no dataset is prepared. `stubbed`: stages compute nothing."""
    path = f"{clone.parent}{os.pathsep}{ENVIRONMENT['PATH']}" if stubbed else ENVIRONMENT["PATH"]
    environment = ENVIRONMENT | {"PATH": path, "TFDS_DATA_DIR": str(clone.parent)}
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ran(clone: Path) -> list[str]:
    """The stages that run now, stubbed."""
    (clone / "ran.txt").unlink(missing_ok=True)
    run(clone, "dvc", "repro", "--allow-missing", stubbed=True)
    return sorted((clone / "ran.txt").read_text().split()) if (clone / "ran.txt").exists() else []


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed state, pulled from the bundled remote."""
    folder = tmp_path_factory.mktemp("published") / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    python = folder.parent / "python"
    (folder.parent / "stub.py").write_text(STUB)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{folder.parent}/stub.py" "$@"\n')
    python.chmod(0o755)
    run(folder, "dvc", "pull")
    return folder


@pytest.mark.slow
def test_every_set_is_stored_and_nothing_runs_again(clone: Path) -> None:
    experiments = yaml.load((clone / "params.yaml").read_text())["experiments"]
    assert {path.stem for path in (clone / "artifacts" / "distilled").iterdir()} == set(experiments)
    assert ran(clone) == []
    stored = sum(path.stat().st_size for path in (clone / "store").rglob("*") if path.is_file())
    assert stored < STORE_BYTES


@pytest.mark.slow
def test_the_example_of_the_readme_reads_digits_with_a_pulled_set(clone: Path) -> None:
    (example,) = re.findall(r"```python\n(import jax\n.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    accuracy = float(run(clone, sys.executable, "-c", example).strip().removesuffix("%"))
    assert 75 < accuracy < 100


@pytest.mark.slow
def test_a_changed_learning_rate_runs_one_chain_and_shows_its_effect(clone: Path) -> None:
    settings = yaml.load((clone / "params.yaml").read_text())
    settings["experiments"][RCIG]["settings"]["learning_rate"] = 0.01
    with (clone / "params.yaml").open("w") as file:
        yaml.dump(settings, file)
    run(clone, "dvc", "repro", "-q", "preprocess@mnist_sample", "--force")
    assert ran(clone) == sorted([*(f"{stage}@{RCIG}" for stage in EXPERIMENT_STAGES), "report"])

    (changed,) = [line for line in run(clone, "dvc", "metrics", "diff").splitlines() if "heldout_accuracy" in line]
    assert RCIG in changed
    assert "0.25" in changed
    run(clone, "dvc", "plots", "diff", "-o", "plots", "HEAD")
    assert RCIG in (clone / "plots" / "index.html").read_text()

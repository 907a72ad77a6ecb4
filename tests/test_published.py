"""The study that is committed and stored, as someone meets it who cloned the repository and has nothing else."""

import json
import re
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from ruamel.yaml import YAML
from test_pipeline import OF_ALL, RCIG, of
from workspaces import ran, run

yaml = YAML()
STORE_BYTES = 60e6


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The committed state, pulled from the bundled remote."""
    folder = tmp_path / "clone"
    run(tmp_path, "git", "clone", "-q", str(ROOT), str(folder))
    run(folder, "dvc", "pull")
    return folder


@pytest.mark.slow
def test_every_set_is_stored_and_nothing_runs_again(clone: Path) -> None:
    experiments = json.loads((clone / "plan.json").read_text())["stages"]["distill"]
    assert {path.stem for path in (clone / "artifacts" / "distilled").iterdir()} == set(experiments)
    assert ran(clone, "--allow-missing") == []
    stored = sum(path.stat().st_size for path in (clone / "store").rglob("*") if path.is_file())
    assert stored < STORE_BYTES


@pytest.mark.slow
def test_the_example_of_the_docs_reads_digits_with_a_pulled_set(clone: Path) -> None:
    text = (ROOT / "docs" / "use-a-set.md").read_text()
    (example,) = re.findall(r"```python\n(import jax\nimport rcig\n.*?)```", text, re.DOTALL)
    accuracy = float(run(clone, sys.executable, "-c", example).strip().removesuffix("%"))
    assert 75 < accuracy < 100


@pytest.mark.slow
def test_a_changed_learning_rate_runs_one_chain_and_shows_its_effect(clone: Path) -> None:
    settings = yaml.load((clone / "params.yaml").read_text())
    settings["shared"]["digits"][RCIG]["settings"] = {"learning_rate": 0.01}
    with (clone / "params.yaml").open("w") as file:
        yaml.dump(settings, file)
    run(clone, "dvc", "repro", "preprocess@mnist_sample")
    assert ran(clone, "--allow-missing") == sorted([*of((*OF_ALL, "cross_arch", "attack"), RCIG), "report"])

    metrics = f"results/evaluate/{RCIG}.json"
    changed = json.loads(run(clone, "dvc", "metrics", "diff", "--json"))
    assert changed.keys() == {metrics}
    committed = json.loads(run(clone, "git", "show", f"HEAD:{metrics}"))
    stubbed = json.loads((clone / metrics).read_text())
    assert changed[metrics]["accuracy.loo2023"]["old"] == committed["accuracy"]["loo2023"]
    assert changed[metrics]["heldout_accuracy"]["new"] == stubbed["heldout_accuracy"]
    run(clone, "dvc", "plots", "diff", "-o", "plots", "HEAD")
    assert RCIG in (clone / "plots" / "index.html").read_text()

"""dvc.yaml: its code deps, what re-runs after which change, and the whole pipeline on a small scale."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import ROOT
from ruamel.yaml import YAML
from workspaces import ran, run

from rcig import store

yaml = YAML()
RCIG, RANDOM = "mnist_sample-ipc1-rcig", "mnist_sample-ipc1-random_real"
STUDY = "subset"
EXPERIMENT_STAGES = ["attack", "cross_arch", "distill", "evaluate", "picture"]
STAGES = ["preprocess", "describe", "full_dataset", *EXPERIMENT_STAGES, "study", "report"]


def imports(stage: str) -> set[str]:
    """The project's files that importing the stage's script loads."""
    code = (
        "import json, sys, importlib; importlib.import_module(sys.argv[1]);"
        "print(json.dumps([m.__file__ for n, m in sys.modules.items() if n.split('.')[0] in ('rcig', 'stages')]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, f"stages.{stage}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {str(Path(file).relative_to(ROOT)) for file in json.loads(done.stdout)}


@pytest.mark.parametrize("stage", STAGES)
def test_listed_code_deps_are_what_the_script_imports(stage: str) -> None:
    entry = yaml.load((ROOT / "dvc.yaml").read_text())["stages"][stage]
    listed = [dep for dep in entry.get("do", entry)["deps"] if dep.startswith(("rcig", "stages"))]
    # The packages' own __init__ files hold a version and a sentence, and params.py hands on values that DVC tracks; a
    # change there must not re-run anything.
    used = imports(stage) - {"rcig/__init__.py", "stages/__init__.py", "rcig/params.py"}
    missing = {file for file in used if not any(file == dep or file.startswith(f"{dep}/") for dep in listed)}
    unused = {dep for dep in listed if not any(file == dep or file.startswith(f"{dep}/") for file in used)}
    assert not missing, "imported but not listed in dvc.yaml"
    assert not unused, "listed in dvc.yaml but not imported"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The pipeline in a repository of its own, computations stubbed: two datasets, three experiments, a study."""
    workspace = tmp_path / "clone"
    workspace.mkdir()
    for part in ("rcig", "stages"):
        shutil.copytree(ROOT / part, workspace / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("dvc.yaml", "params.yaml", ".dvcignore", ".gitignore", ".gitattributes"):
        shutil.copy(ROOT / part, workspace / part)

    settings = yaml.load((workspace / "params.yaml").read_text())
    shared, experiments = settings["shared"]["datasets"], settings["experiments"]
    chosen = {name: experiments[name] for name in (RCIG, RANDOM)}
    chosen["mnist-ipc1-rcig"] = dict(experiments[RCIG]) | {"dataset": "mnist"}
    datasets = {name: shared[name] for name in ("mnist_sample", "mnist")}
    studies = {STUDY: settings["shared"]["studies"][STUDY]}
    full = {"mnist": settings["shared"]["full_dataset"]["mnist"]}
    sections = {"datasets": datasets, "full_dataset": full, "experiments": chosen, "studies": studies}
    save(workspace, json.loads(json.dumps(sections)))

    subprocess.run(["git", "init", "-q"], cwd=workspace, check=True)
    run(workspace, "dvc", "init", "-q")
    shutil.copy(ROOT / ".dvc" / "config", workspace / ".dvc" / "config")
    assert ran(workspace) == sorted(
        [f"{stage}@{name}" for stage in ("preprocess", "describe") for name in datasets]
        + [f"{stage}@{name}" for stage in EXPERIMENT_STAGES for name in chosen]
        + ["full_dataset@mnist", f"study@{STUDY}", "report"]
    )
    return workspace


def save(workspace: Path, settings: dict[str, Any]) -> None:
    with (workspace / "params.yaml").open("w") as file:
        yaml.dump(settings, file)


@pytest.mark.slow
def test_only_what_a_change_touches_runs_again(clone: Path) -> None:
    assert ran(clone) == []

    text = (clone / "params.yaml").read_text()
    (clone / "params.yaml").write_text("# a comment\n\n" + text.replace("\n", "   \n"))
    assert ran(clone) == [], "white space and comments run nothing"

    settings = yaml.load(text)
    settings["experiments"][RCIG]["settings"]["learning_rate"] = 0.01
    save(clone, settings)
    assert ran(clone) == sorted([*(f"{stage}@{RCIG}" for stage in EXPERIMENT_STAGES), "report"])

    settings["experiments"][RCIG]["evaluate"]["networks"] = 4
    save(clone, settings)
    assert ran(clone) == [f"evaluate@{RCIG}", "report"], "a protocol's setting does not distil again"

    settings["datasets"]["mnist"]["l2_rate"] = 1e-3
    save(clone, settings)
    assert ran(clone) == sorted(
        [*(f"{stage}@mnist-ipc1-rcig" for stage in EXPERIMENT_STAGES), "full_dataset@mnist", "report"]
    )

    settings["studies"][STUDY]["grids"][0]["subset"] = [10, 20]
    save(clone, settings)
    assert ran(clone) == ["report", f"study@{STUDY}"]

    code = clone / "rcig" / "attacks.py"
    code.write_text(code.read_text() + "\n# changed\n")
    assert ran(clone) == [*sorted(f"attack@{name}" for name in settings["experiments"]), "report"]


@pytest.mark.slow
def test_what_is_pushed_to_the_bundled_remote_a_clone_pulls_without_running_anything(clone: Path) -> None:
    run(clone, "dvc", "push", "-q")
    run(clone, "git", "add", "-A", "--", ":!ran.txt")
    run(clone, "git", "commit", "-q", "-m", "results")
    other = clone.parent / "other"
    run(clone, "git", "clone", "-q", ".", str(other))
    assert not (other / "artifacts" / "distilled" / f"{RCIG}.npz").exists()
    run(other, "dvc", "pull")
    assert (other / "artifacts" / "distilled" / f"{RCIG}.npz").exists()
    assert not (other / "artifacts" / "data").exists(), "raw arrays stay where they are made"
    assert ran(other, "--allow-missing") == []


@pytest.mark.slow
def test_the_whole_pipeline_leaves_a_report_and_runs_once(tmp_path: Path) -> None:
    for part in ("rcig", "stages"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / part, tmp_path / part)
    settings = yaml.load((ROOT / "params.yaml").read_text())
    experiment = settings["experiments"][RCIG]
    experiment |= {
        "width": 4,
        "seeds": [0, 1],
        "loop": dict(experiment["loop"]) | {"steps": 30, "batch_size": 64, "validate_every": 20},
        "chunk": 1000,
        "evaluate": dict(experiment["evaluate"])
        | {"protocols": ["loo2023", "loo2023_hard"], "width": 4, "measurements": 2},
    }
    experiment["cross_arch"] |= {"widths": {"conv": 4, "conv_bn": 4}, "steps": 20, "learning_rates": [1e-9, 1e-2]}
    experiment["attack"] |= {"width": 4, "networks": 1, "measured_at": [10, 20], "shadow_networks": 4}
    experiment["attack"]["attacks"].append("likelihood_ratio")
    study = settings["shared"]["studies"][STUDY]
    study["base"] |= {"images_per_class": 1, "width": 2, "loop": dict(study["base"]["loop"]) | {"steps": 4}}
    study |= {"grids": [{"subset": [5, "all"]}], "timing_steps": 1}
    full = settings["full_dataset"]["mnist_sample"] | {"width": 4, "steps": 20}
    # The other family, boosted, with a part of it judged, at what a basis would store.
    unrolled = settings["shared"]["experiments"]["mnist-ipc1-rat_bptt-compact"]
    boosted = dict(experiment) | {"method": "rat_bptt", "images_per_class": 2, "seeds": [0], "chunk": "all"}
    boosted |= {"boost": {"block": 1, "mobility": 0}, "attack": dict(experiment["attack"]) | {"trained_on": []}}
    boosted |= {"settings": dict(unrolled["settings"]) | {"inner_steps": 4, "window": 2}}
    boosted |= {"loop": dict(experiment["loop"]) | {"steps": 20}}
    boosted |= {"evaluate": dict(experiment["evaluate"]) | {"protocols": ["loo2023"], "subsets": [1]}}
    boosted["cross_arch"] = dict(experiment["cross_arch"]) | {"widths": {}}
    settings = {
        "datasets": {"mnist_sample": settings["datasets"]["mnist_sample"]},
        "full_dataset": {"mnist_sample": full},
        "experiments": {RCIG: experiment, "boosted": boosted},
        "studies": {STUDY: study},
    }
    save(tmp_path, settings)
    run(tmp_path, "dvc", "init", "--no-scm", "-q")
    run(tmp_path, "dvc", "repro")
    table = pd.read_csv(tmp_path / "reports" / "results.csv")
    assert set(table[table.experiment == "boosted"].method) == {"rat_bptt+boost", "rat_bptt+boost+subset"}
    summary = json.loads((tmp_path / "results" / "distill" / "boosted" / "summary.json").read_text())
    assert (summary["steps"], summary["numbers"]) == (40, 20 * 784 + 200)
    assert (tmp_path / "reports" / "figures" / "parts-mnist_sample-rat_bptt-loo2023-4.png").exists()
    assert (tmp_path / "reports" / "figures" / "gradients-mnist_sample-ipc1.png").exists()
    accuracy = table[(table.protocol == "loo2023") & (table.experiment == RCIG)]
    networks = {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert set(zip(accuracy.seed, accuracy.network, strict=True)) == networks
    assert set(accuracy.step) == {500, 1000}
    assert table.value.between(0, 1).all()
    assert set(table[table.method == "full_dataset"].network) == {0, 1}
    assert set(table[table.protocol == "cross_architecture"].architecture) == {"conv", "conv_bn"}
    assert set(table[table.metric == "learning_rate"].value) == {1e-2}, "one that learns nothing is not chosen"
    attacked = table[table.protocol.str.startswith("membership_inference/")]
    assert set(attacked.protocol.str.removeprefix("membership_inference/")) == set(experiment["attack"]["trained_on"])
    for attack in experiment["attack"]["attacks"]:
        assert set(attacked[attacked.metric == f"auc/{attack}"].step) == ({10, 20} if attack == "threshold" else {20})
    assert (tmp_path / "reports" / "figures" / f"attacks-{RCIG}.png").exists()
    assert "2 of 2" in (tmp_path / "reports" / "tables" / "hardness.md").read_text()
    assert (tmp_path / "reports" / "figures" / f"study-{STUDY}.png").exists()
    assert (tmp_path / "reports" / "index.html").read_text().count("data:image/webp;base64,") >= 2
    assert "up to date" in run(tmp_path, "dvc", "repro")

    hardness = yaml.load(run(tmp_path, sys.executable, "-m", "stages.score", RCIG))["hardness"]
    experiment["hardness"] = dict(hardness) | {"strength": 1}
    save(tmp_path, settings)
    run(tmp_path, "dvc", "repro", f"distill@{RCIG}")
    scores = store.load(tmp_path / hardness["scores"], store.SCORES)
    assert scores["networks"] == 4
    assert len(scores["missed"]) == 4000
    assert 0 < scores["missed"].mean() < 4


BAD_RUNS = {
    "a setting that cannot be": (
        ["distill", RCIG],
        ["experiments", RCIG, "settings", "learning_rate"],
        -1,
        f"params.yaml: experiments.{RCIG}.settings: expected learning_rate to be positive, got -1.0",
    ),
    "settings that do not fit the data": (
        ["preprocess", "mnist_sample"],
        ["datasets", "mnist_sample", "resolution"],
        30,
        "datasets.mnist_sample in params.yaml says images (30, 30, 1) and 10 classes, the data has (28, 28, 1) and 10;"
        " correct params.yaml",
    ),
    "data that is not there yet": (
        ["distill", RCIG],
        ["experiments", RCIG, "width"],
        8,
        "artifacts/data/mnist_sample/train.npz: no such file; run `dvc repro` to make it, or `dvc pull` to fetch it",
    ),
}


@pytest.mark.parametrize("case", BAD_RUNS)
def test_a_bad_run_ends_with_one_line_and_leaves_nothing(tmp_path: Path, case: str) -> None:
    arguments, keys, value, message = BAD_RUNS[case]
    settings = yaml.load((ROOT / "params.yaml").read_text())
    section = settings
    for key in keys[:-1]:
        section = section[key]
    section[keys[-1]] = value
    save(tmp_path, settings)
    done = subprocess.run(
        [sys.executable, "-m", f"stages.{arguments[0]}", *arguments[1:]],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip() == f"error: {message}"
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]

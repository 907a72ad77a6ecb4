"""dvc.yaml: what runs again after which change, that dvc.lock says what made a result, and the whole of it, small."""

import ast
import copy
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from workspaces import ROOT, STUB, copy_pipeline, once, ran, read_settings, run, save_settings, sections, yaml

from rcig import fingerprint, sets, store

RCIG, RANDOM, STUDY = "mnist_sample-ipc1-rcig", "mnist_sample-ipc1-random_real", "backward_images"
OTHER, UNROLLED = "mnist-ipc1-rcig", "mnist_sample-ipc1-rat_bptt"
OF_ALL = ("distill", "picture", "evaluate")
"""stages of every experiment; `cross_arch`, `attack` and `score` are of those that params.yaml names there"""
Settings = dict[str, Any]


def of(stages: tuple[str, ...] | str, *names: str) -> list[str]:
    """Members of stages, as dvc.yaml calls them."""
    return [f"{stage}@{name}" for stage in ((stages,) if isinstance(stages, str) else stages) for name in names]


@pytest.fixture(scope="session")
def stubbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline in a repository of its own that has run, computations stubbed. Not to be changed."""
    return once(tmp_path_factory, "stubbed", make_stubbed)


def make_stubbed(workspace: Path) -> None:
    """Two datasets, four experiments by three files of methods, and a study."""
    copy_pipeline(workspace)
    settings = read_settings()
    shared, digits = settings["shared"], settings["shared"]["digits"]
    experiments = {
        RCIG: digits[RCIG],
        RANDOM: digits[RANDOM],
        OTHER: digits[RCIG] | {"dataset": "mnist"},
        UNROLLED: digits[RCIG] | {"method": "rat_bptt"},
    }
    datasets = ("mnist_sample", "mnist")
    save_settings(
        workspace,
        {
            "sizes": settings["sizes"],
            "datasets": {name: shared["datasets"][name] for name in datasets},
            "full_dataset": {"mnist": shared["full_dataset"]["mnist"]},
            "experiments": experiments,
            "cross_arch": {name: experiments[name] for name in (RCIG, OTHER)},
            "attack": {RCIG: experiments[RCIG]},
            "score": {RCIG: experiments[RCIG]},
            "experts": {"few": {"dataset": "mnist_sample", "width": 16, "trajectories": 2, "epochs": 5}},
            "studies": {STUDY: shared["studies"][STUDY]},
        },
    )
    subprocess.run(["git", "init", "-q"], cwd=workspace, check=True)
    run(workspace, "dvc", "init", "-q")
    shutil.copy(ROOT / ".dvc" / "config", workspace / ".dvc" / "config")
    assert ran(workspace) == sorted(
        [
            "plan",
            *of(("preprocess", "describe"), *datasets),
            *of("full_dataset", "mnist"),
            *of(OF_ALL, *experiments),
            *of("cross_arch", RCIG, OTHER),
            *of(("attack", "score"), RCIG),
            *of("experts", "few"),
            *of("study", STUDY),
            "report",
        ]
    )
    assert ran(workspace) == [], "nothing has changed"


@pytest.fixture
def clone(stubbed: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(stubbed, tmp_path / "clone"))


def replaced(path: Path, pattern: str, replacement: str) -> None:
    """Replace what must be found in a file once."""
    text, count = re.subn(pattern, replacement, path.read_text())
    assert count == 1, f"{path.name} has no line as {pattern}"
    path.write_text(text)


def only_looks(clone: Path) -> None:
    """Comments and white space in params.yaml; in every module layout, comments, docstrings and the words of errors."""
    settings = (clone / "params.yaml").read_text()
    (clone / "params.yaml").write_text("# a comment\n\n" + settings.replace("\n", "   \n"))
    for path in [*clone.glob("rcig/**/*.py"), *clone.glob("stages/*.py")]:
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                # A script's first words are how it is called.
                node.value.value = node.value.value.partition(":")[0] + ": said anew."
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                node.exc.args, node.exc.keywords = [ast.Constant("said anew")], []
        path.write_text(f"# a comment\n{ast.unparse(tree)}\n")


def a_new_method(clone: Path) -> None:
    (clone / "rcig" / "methods" / "another.py").write_text((clone / "rcig" / "methods" / "random_real.py").read_text())
    replaced(clone / "rcig" / "methods" / "registry.py", r'( +"stored": "stored",\n)', r'\1    "another": "another",\n')


def a_new_section(clone: Path) -> None:
    sections = clone / "rcig" / "report" / "sections"
    (sections / "another.py").write_text((sections / "times.py").read_text())


def a_default_of_a_method(clone: Path) -> None:
    replaced(clone / "rcig" / "methods" / "implicit.py", r"(pool_age: .*) = 100\n", r"\1 = 99\n")


def a_line_of_another_method_and_of_the_attacks(clone: Path) -> None:
    replaced(clone / "rcig" / "methods" / "unrolled.py", r"EPS_ROOT = 1e-16", "EPS_ROOT = 1e-15")
    replaced(clone / "rcig" / "judging" / "attacks.py", r"_NEIGHBOURS = 50", "_NEIGHBOURS = 51")


def a_line_of_how_networks_are_tested(clone: Path) -> None:
    replaced(clone / "rcig" / "judging" / "networks.py", r"LOOKS = 20", "LOOKS = 21")


def settings_of_four(clone: Path) -> None:
    """Of one experiment what it is made by, of another how it is judged, of a dataset, of a study."""
    settings = yaml.load((clone / "params.yaml").read_text())
    settings["experiments"][UNROLLED]["settings"] = {"learning_rate": 0.01}
    settings["experiments"][RANDOM]["evaluate"] = settings["experiments"][RANDOM]["evaluate"] | {"networks": 4}
    settings["datasets"]["mnist"]["l2_rate"] = 1e-3
    settings["studies"][STUDY]["grids"][0]["backward_images"] = [10, 20]
    save_settings(clone, settings)


def what_is_held_out_of_a_dataset(clone: Path) -> None:
    settings = yaml.load((clone / "params.yaml").read_text())
    settings["datasets"]["mnist_sample"]["held_out"] = 0.2
    save_settings(clone, settings)


CHANGES: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "what has no meaning": (only_looks, []),
    "a further method": (a_new_method, []),
    "a further section": (a_new_section, ["report"]),
    "a default": (
        a_default_of_a_method,
        [
            *of(OF_ALL, RCIG, OTHER),
            *of("cross_arch", RCIG, OTHER),
            *of(("attack", "score"), RCIG),
            *of("study", STUDY),
            "report",
        ],
    ),
    "two lines": (
        a_line_of_another_method_and_of_the_attacks,
        [*of(OF_ALL, UNROLLED), *of("attack", RCIG), "report"],
    ),
    "a test": (
        a_line_of_how_networks_are_tested,
        [
            *of("evaluate", RCIG, RANDOM, OTHER, UNROLLED),
            *of("cross_arch", RCIG, OTHER),
            *of("score", RCIG),
            "report",
        ],
    ),
    "settings": (
        settings_of_four,
        [
            *of(OF_ALL, UNROLLED),
            *of("evaluate", RANDOM),
            *of(("describe", "full_dataset"), "mnist"),
            *of((*OF_ALL, "cross_arch"), OTHER),
            *of("study", STUDY),
            "report",
        ],
    ),
    "held out": (
        what_is_held_out_of_a_dataset,
        [
            *of("describe", "mnist_sample"),
            *of(OF_ALL, RCIG, RANDOM, UNROLLED),
            *of(("cross_arch", "attack", "score"), RCIG),
            *of("experts", "few"),
            *of("study", STUDY),
            "report",
        ],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", CHANGES)
def test_only_what_a_change_touches_runs_again(clone: Path, what: str) -> None:
    change, touched = CHANGES[what]
    change(clone)
    assert ran(clone) == sorted(["plan", *touched])


@pytest.mark.slow
def test_a_typo_is_found_before_anything_runs(clone: Path) -> None:
    settings = yaml.load((clone / "params.yaml").read_text())
    settings["experiments"][RANDOM]["evaluate"]["netwroks"] = 4
    settings["experiments"][RCIG]["width"] = 3
    save_settings(clone, settings)
    plan = (clone / "plan.json").read_bytes()
    said = run(clone, "dvc", "repro", stubbed=True, fails=True)
    assert (clone / "ran.txt").read_text().split()[-1] == "plan"
    assert (clone / "plan.json").read_bytes() == plan, "the plan before stays"
    (line,) = [line for line in said.splitlines() if "netwroks" in line]
    where = f"params.yaml: experiments.{RANDOM}.evaluate.netwroks"
    assert line.removeprefix("error: ").startswith(f"{where}: unknown key 'netwroks'; known: measurements, networks")
    assert "Traceback" not in said


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


RECORDS = {
    "describe": "results/data/{}.json",
    "full_dataset": "results/full_dataset/{}.csv",
    "distill": "results/distill/{}/summary.json",
    "evaluate": "results/evaluate/{}.json results/evaluate/{}.csv",
    "cross_arch": "results/cross_arch/{}.csv",
    "attack": "results/attack/{}.csv",
    "study": "results/study/{}.csv",
}
"""Where results say by what code they were made; arrays, pictures and the report do not."""
UNMARKED = {"plan", "preprocess", "picture", "score", "experts", "report"}


def codes(path: Path) -> set[str]:
    """Every code that a file of results names."""
    if path.suffix == ".json":
        return {json.loads(path.read_text())["code"]}
    return set(pd.read_csv(path, dtype=str, keep_default_na=False)["code"])


def check_the_lock(workspace: Path) -> None:
    """Every result that names its code names that of its entry in dvc.lock; all that is planned is there as planned."""
    lock, plan = yaml.load((workspace / "dvc.lock").read_text()), json.loads((workspace / "plan.json").read_text())
    locked = {}
    for member, entry in lock["stages"].items():
        stage, _, name = member.partition("@")
        assert stage in RECORDS.keys() | UNMARKED
        if stage != "plan":
            ((key, locked[member]),) = entry["params"][f"plan/{stage}.json"].items()
            assert key == f"stages.{stage}.{name}".removesuffix(".")
        for pattern in RECORDS.get(stage, "").split():
            assert codes(workspace / pattern.format(name)) == {locked[member]["code"]}, member
    stages = plan["stages"]
    planned = {"report": stages.pop("report")}
    planned |= {f"{stage}@{name}": entry for stage, members in stages.items() for name, entry in members.items()}
    missing = planned.keys() - locked.keys()
    assert not missing, "planned, but never run"
    assert {member: locked[member] for member in planned} == planned


def test_every_stored_result_was_made_by_the_code_of_its_entry_in_the_lock() -> None:
    check_the_lock(ROOT)


MEAN = '''
"""The mean of every class's images: a method for a test."""

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp

from rcig.fields import FRACTION
from rcig.methods.base import Distilled, Info, Member, Method, Setup
from rcig.methods.feeds import Examples, real_batches


@dataclass(frozen=True)
class Settings:
    rate: Annotated[float, FRACTION] = 0.1
    """share of a batch in the running mean"""


MEMBERS = {"class_mean": Member()}


def make(settings: Settings, setup: Setup) -> Method[Distilled, Examples, Distilled]:
    def step(key: jax.Array, state: Distilled, examples: Examples) -> tuple[Distilled, Info]:
        of_class = jax.nn.one_hot(examples.labels, setup.classes)
        count = of_class.sum(0)[:, None, None, None]
        mean = jnp.einsum("bc,bhwd->chwd", of_class, examples.images) / jnp.maximum(count, 1)
        change = jnp.where(count > 0, mean - state.images, 0)
        return state._replace(images=state.images + settings.rate * change), {"loss": jnp.mean(change**2)}

    return Method(lambda key, start: start, step, lambda state: state, real_batches(setup))
'''


def small(settings: Settings) -> Settings:
    """The demo at a size that tests can wait for, with all that the pipeline can do."""
    shared, digits = settings["shared"], settings["shared"]["digits"]
    size = settings["sizes"]["demo"]
    size |= {"width": 4, "loop": {"steps": 20, "batch_size": 64, "validate_every": 20}}
    size["evaluate"] = {"protocols": ["inner_adam"], "width": 4, "networks": 2}
    size["cross_arch"] |= {"widths": {"conv": 4, "conv_bn": 4}, "steps": 20, "learning_rates": [1e-9, 1e-2]}
    size["attack"] |= {"width": 4, "networks": 1, "measured_at": [10, 20], "shadow_networks": 4}
    size["attack"]["attacks"] = [*size["attack"]["attacks"], "likelihood_ratio"]
    one = copy.deepcopy(shared["demo"])
    rcig = one | {
        "method": "rcig",
        "seeds": [0, 1],
        "chunk": 1000,
        "loop": {"steps": 30},
        "evaluate": {"protocols": ["loo2023", "loo2023_hard"], "measurements": 2},
    }
    # The other family, boosted, with a part of it judged; and one that draws by how hard images are for the first.
    boosted = one | {
        "method": "rat_bptt",
        "images_per_class": 2,
        "boost": {"block": 1, "mobility": 0},
        "settings": {"architecture": "conv", "inner_steps": 4, "window": 2},
        "evaluate": {"parts": [1]},
    }
    hard = one | {"method": "rcig", "hardness": {"strength": 1}, "needs": f"artifacts/scores/{RCIG}.npz"}
    study = copy.deepcopy(shared["studies"][STUDY])
    study["base"] = rcig | {"seeds": [0], "chunk": None, "width": 2, "loop": {"steps": 4}, "settings": {"solver": "cg"}}
    return {
        "sizes": {"demo": size},
        "datasets": {"mnist_sample": shared["datasets"]["mnist_sample"]},
        "full_dataset": {"mnist_sample": shared["full_dataset"]["mnist_sample"] | {"width": 4, "steps": 20}},
        "experiments": {RCIG: rcig, RANDOM: one | digits[RANDOM] | {"evaluate": {}}, "boosted": boosted, "hard": hard},
        "cross_arch": {RCIG: rcig},
        "attack": {RCIG: rcig},
        "score": {RCIG: rcig},
        "experts": {"few": {"dataset": "mnist_sample", "width": 4, "trajectories": 1, "epochs": 2}},
        "studies": {STUDY: study | {"grids": [{"backward_images": [5, None]}], "timing_steps": 1}},
    }


@pytest.mark.slow
def test_the_whole_pipeline_leaves_a_report_and_runs_once(tmp_path: Path) -> None:
    workspace, loaded = copy_pipeline(tmp_path / "workspace"), tmp_path / "loaded"
    loaded.mkdir()
    settings = small(read_settings())
    save_settings(workspace, settings)
    run(workspace, "dvc", "init", "--no-scm", "-q")
    run(workspace, "dvc", "repro", LOADED=str(loaded), PYTHONPATH=str(STUB / "loaded"))
    check_the_report(workspace, settings)
    check_what_was_loaded(workspace, loaded)
    check_the_lock(workspace)
    scores = store.load(workspace / "artifacts" / "scores" / f"{RCIG}.npz", store.SCORES)
    assert scores["networks"] == 4
    assert len(scores["missed"]) == 4000
    assert 0 < scores["missed"].mean() < 4
    assert "up to date" in run(workspace, "dvc", "repro")
    check_that_a_method_is_one_file(workspace, settings)


def check_the_report(workspace: Path, settings: Settings) -> None:
    reports = workspace / "reports"
    table = pd.read_csv(reports / "results.csv")
    assert set(table[table.experiment == "boosted"].method) == {"rat_bptt+boost", "rat_bptt+boost+part"}
    summary = json.loads((workspace / "results" / "distill" / "boosted" / "summary.json").read_text())
    assert (summary["steps"], summary["stored_floats"]) == (40, 20 * 784 + 200)
    assert (reports / "figures" / "parts-mnist_sample-rat_bptt-inner_adam-4.png").exists()
    assert (reports / "figures" / "gradients-mnist_sample-ipc1-norm.png").exists()
    assert set(table[table.experiment == "hard"].method) == {"rcig+hardness"}
    accuracy = table[(table.protocol == "loo2023") & (table.experiment == RCIG)]
    networks = {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert set(zip(accuracy.seed, accuracy.network, strict=True)) == networks
    assert set(accuracy.step) == {500, 1000}
    assert table.value.between(0, 1).all()
    assert set(table[table.method == "full_dataset"].network) == {0, 1}
    assert set(table[table.protocol == "cross_architecture"].architecture) == {"conv", "conv_bn"}
    assert set(table[table.metric == "learning_rate"].value) == {1e-2}, "one that learns nothing is not chosen"
    attack = settings["sizes"]["demo"]["attack"]
    attacked = table[table.protocol.str.startswith("membership_inference/")]
    trained_on = {"real_members", "real_subset", "distilled"}
    assert set(attacked.protocol.str.removeprefix("membership_inference/")) == trained_on
    for name in attack["attacks"]:
        assert set(attacked[attacked.metric == f"auc/{name}"].step) == ({10, 20} if name == "threshold" else {20})
    assert (reports / "figures" / f"attacks-{RCIG}-threshold.png").exists()
    assert "2 of 2" in (reports / "tables" / "hardness.md").read_text()
    assert (reports / "figures" / f"study-{STUDY}-seconds_per_step.png").exists()
    assert (reports / "index.html").read_text().count("data:image/webp;base64,") >= 2


def check_what_was_loaded(workspace: Path, loaded: Path) -> None:
    """What a real run of a stage has loaded of the project is in the closure that its entry's code is of."""
    stages = json.loads((workspace / "plan.json").read_text())["stages"]
    entries = {
        f"{stage}@{name}": entry for stage in stages if stage != "report" for name, entry in stages[stage].items()
    }
    entries["report"] = stages["report"]
    assert {path.stem for path in loaded.iterdir()} == {*entries, "plan"}
    for name, entry in entries.items():
        closure = {str(path) for path in fingerprint.closure(entry["modules"], workspace).values()}
        used = {str(workspace / file) for file in json.loads((loaded / f"{name}.json").read_text())}
        assert f"{workspace}/stages/{name.split('@')[0]}.py" in used
        assert used <= closure, name


def check_that_a_method_is_one_file(workspace: Path, settings: Settings) -> None:
    """With a line in the registry: it is distilled, judged and reported, and all else stays as it is."""
    (workspace / "rcig" / "methods" / "class_mean.py").write_text(MEAN)
    registry = workspace / "rcig" / "methods" / "registry.py"
    replaced(registry, r'( +"stored": "stored",\n)', r'\1    "class_mean": "class_mean",\n')
    one = copy.deepcopy(settings["experiments"]["hard"]) | {"method": "class_mean", "needs": "inputs/none"}
    del one["hardness"]
    settings["experiments"]["mean"] = one
    save_settings(workspace, settings)
    run(workspace, "dvc", "repro", "-q", "plan")
    stale = json.loads(run(workspace, "dvc", "status", "--json"))
    assert stale.keys() == {*of(OF_ALL, "mean"), "report"}
    run(workspace, "dvc", "repro", "-q")
    table = pd.read_csv(workspace / "reports" / "results.csv")
    assert set(table[table.experiment == "mean"].method) == {"class_mean"}
    assert "class_mean" in (workspace / "reports" / "index.html").read_text()
    assert json.loads(run(workspace, "dvc", "status", "--json")) == {}
    check_the_lock(workspace)
    found = sets.load("mean", workspace)
    data = store.load(workspace / "artifacts" / "data" / "mnist_sample" / "train.npz", store.SPLIT)
    means = np.stack([data["images"][data["labels"] == label].mean(0) for label in range(10)])
    assert np.abs(found.pixels - means).mean() < 15, "after twenty steps nearer to the means than any image is"


BAD_RUNS: dict[str, tuple[list[str], list[str], Any, str]] = {
    "a setting that cannot be": (
        ["plan"],
        ["experiments", RCIG, "settings"],
        {"learning_rate": -1},
        f"params.yaml: experiments.{RCIG}.settings.learning_rate: expected learning_rate to be positive, got -1.0",
    ),
    "a resolution that it has not": (
        ["plan"],
        ["datasets", "mnist_sample", "resolution"],
        30,
        "params.yaml: datasets.mnist_sample.resolution: mnist_sample has 28, got 30; correct it",
    ),
    "data that is not there yet": (
        ["distill", RCIG],
        ["experiments", RCIG, "width"],
        8,
        "artifacts/data/mnist_sample/train.npz: no such file; run `dvc repro` to make it, or `dvc pull` to fetch it",
    ),
    "a plan that is not there yet": (
        ["distill", RCIG],
        ["experiments", RCIG, "width"],
        8,
        "plan.json: no such file; run `dvc repro plan`, from the folder that holds params.yaml",
    ),
}


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow if "data" in case else ()) for case in BAD_RUNS]
)
def test_a_bad_run_ends_with_one_line_and_leaves_nothing(tmp_path: Path, case: str) -> None:
    arguments, keys, value, message = BAD_RUNS[case]
    settings = sections(experiments={RCIG: read_settings()["shared"]["digits"][RCIG]})
    section = settings
    for key in keys[:-1]:
        section = section[key]
    section[keys[-1]] = value
    save_settings(tmp_path, settings)
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs" / "none").touch()
    if "plan" not in case and arguments != ["plan"]:
        run(tmp_path, sys.executable, "-m", "stages.plan", PYTHONPATH=str(ROOT))
    before = sorted(tmp_path.rglob("*"))
    command = [sys.executable, "-m", f"stages.{arguments[0]}", *arguments[1:]]
    said = run(tmp_path, *command, fails=True, PYTHONPATH=str(ROOT))
    assert said.strip() == f"error: {message}"
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("path", sorted((ROOT / "stages").glob("*.py")), ids=lambda path: path.stem)
def test_a_stage_is_a_short_script(path: Path) -> None:
    assert sum(bool(line.strip()) for line in path.read_text().splitlines()) <= 60


def test_the_library_does_not_know_the_stages() -> None:
    for path in (ROOT / "rcig").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not any(name.split(".")[0] == "stages" for name in names), path


@pytest.mark.slow
def test_images_of_your_own_are_what_their_stage_depends_on(clone: Path) -> None:
    picture = clone / "inputs" / "leaves" / "ash" / "1.png"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"an image")
    settings = yaml.load((clone / "params.yaml").read_text())
    own = {"source": "folder", "path": "inputs/leaves", "test_fraction": 0.2}
    settings["datasets"]["leaves"] = settings["datasets"]["mnist_sample"] | own
    save_settings(clone, settings)
    assert ran(clone) == sorted(["plan", *of(("preprocess", "describe"), "leaves"), "report"])
    (dep,) = yaml.load((clone / "dvc.lock").read_text())["stages"]["preprocess@leaves"]["deps"]
    assert (dep["path"], dep["nfiles"]) == ("inputs/leaves", 1)
    assert dep["md5"].endswith(".dir")
    picture.write_bytes(b"another")
    assert ran(clone) == of("preprocess", "leaves"), "the stub makes the same of it, so that nothing follows"
    assert ran(clone) == []
    shutil.rmtree(clone / "inputs" / "leaves")
    assert ran(clone, "--allow-missing") == [], "where results are, images need not be"

"""What people get wrong on the command line: one line that says what, a status, and no file that is new or another.

The scripts run in this process, as starting JAX a hundred times takes minutes; a few run as people start them.
"""

import hashlib
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from workspaces import ENVIRONMENT, ROOT, copy_pipeline, read_settings, run, save_settings, sections

import stages.plan
from rcig import planned
from rcig.errors import Foreseen
from stages import common, demo

RCIG, RANDOM, STUDY = "mnist_sample-ipc1-rcig", "mnist_sample-ipc1-random_real", "backward_images"
SCRIPTS = sorted(path.stem for path in (ROOT / "stages").glob("*.py") if "run(main)" in path.read_text())
OF_EXPERIMENT = ("attack", "cross_arch", "distill", "evaluate", "picture", "score")
OF_DATASET = ("describe", "full_dataset", "preprocess")
LONG = "a" * 300
NAMES = ["a;touch X", "$(touch X)", "../../out", "a b", "a@b", "a.b", "a'b", "é", "", LONG, "_a"]
"""that no command and no path should meet"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Path:
    """A folder with the project's code, the sample, two experiments and their plan. Not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    for part in ("rcig", "stages", "inputs"):
        (folder / part).symlink_to(ROOT / part)
    shutil.copytree(prepared, folder / "artifacts")
    save_settings(folder, good())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        stages.plan.main()
    return folder


def good() -> dict[str, Any]:
    shared = read_settings()["shared"]
    experiments = {name: shared["digits"][name] for name in (RCIG, RANDOM)}
    judged = {section: {RCIG: experiments[RCIG]} for section in ("cross_arch", "attack", "score")}
    full, studies = {"mnist_sample": shared["full_dataset"]["mnist_sample"]}, {STUDY: shared["studies"][STUDY]}
    settings = sections(experiments=experiments, full_dataset=full, studies=studies, **judged)
    return json.loads(json.dumps(settings))  # type: ignore[no-any-return]


@pytest.fixture
def workspace(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which is the current folder."""
    copy = tmp_path / "workspace"
    shutil.copytree(made, copy, symlinks=True, copy_function=os.link)
    for part in ("params.yaml", "plan.json"):  # which cases change in place
        content = (copy / part).read_bytes()
        (copy / part).unlink()
        (copy / part).write_bytes(content)
    monkeypatch.chdir(copy)
    return copy


class Done(NamedTuple):
    status: int
    out: str
    error: str


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs a script with these arguments, as `python -m stages.NAME` does."""

    def call(name: str, *arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        capfd.readouterr()
        try:
            common.run(importlib.import_module(f"stages.{name}").main)
        except SystemExit as end:
            return Done(int(str(end.code)), *capfd.readouterr())
        return Done(0, *capfd.readouterr())

    return call


def content(folder: Path) -> dict[str, str]:
    """Every file and folder below it, with a digest of what a file holds; the code is not looked into."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in folder.rglob("*")
    }


def refused(start: Callable[..., Done], folder: Path, status: int, message: str, name: str, *arguments: str) -> None:
    """The script ends with that status, with one line that has such a message, and leaves everything as it was."""
    before = content(folder)
    done = start(name, *arguments)
    assert (done.status, done.out) == (status, ""), done
    assert re.fullmatch(r"error: [^\n]+\n", done.error), done
    assert re.search(message, done.error), done
    assert content(folder) == before


@pytest.mark.parametrize("name", SCRIPTS)
def test_arguments(workspace: Path, start: Callable[..., Done], name: str) -> None:
    """--help has an example, whose arguments are as many as the script takes; with others it says what it wants."""
    done = start(name, "--help")
    usage, *_, example = done.out.strip().splitlines()
    assert (done.status, done.error) == (0, "")
    command, *wanted = usage.removeprefix("usage: ").split()[2:]
    assert (command, example.split()[:4]) == (f"stages.{name}", ["Example:", "python", "-m", f"stages.{name}"])
    assert len(example.split()) == 4 + len(wanted)
    words = " ".join(wanted) or "no argument"
    for arguments in (["-x"], ["--version", *wanted[1:]], [*wanted, "more"], wanted[1:] if wanted else ["a", "b"]):
        said = f"expected {words}, got {re.escape(str(arguments)) if arguments else 'none'}; try .* --help"
        refused(start, workspace, 2, said, name, *arguments)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stage", [*OF_EXPERIMENT[:3], *OF_DATASET[:1], "study"])
def test_names_on_the_command_line(workspace: Path, start: Callable[..., Done], stage: str, name: str) -> None:
    refused(start, workspace, 1, rf"{stage}: expected names of at most 80 letters, digits, - and _", stage, name)


@pytest.mark.parametrize("stage", [*OF_EXPERIMENT, *OF_DATASET, "study", "prepare"])
def test_an_unknown_name(workspace: Path, start: Callable[..., Done], stage: str) -> None:
    refused(start, workspace, 1, r"(unknown name|nothing to prepare for) 'nope'; known: \w+", stage, "nope")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("section", ["experiments", "datasets", "sizes", "studies"])
def test_names_in_params_yaml(workspace: Path, start: Callable[..., Done], section: str, name: str) -> None:
    settings = good()
    settings[section][name] = next(iter(settings[section].values()))
    save_settings(workspace, settings)
    refused(start, workspace, 1, rf"params\.yaml: {section}: expected names of at most 80 letters", "plan")


EXPERIMENT, DATASET = ("experiments", RCIG), ("datasets", "mnist_sample")
VALUES: dict[str, tuple[tuple[str, ...], Any, str]] = {
    "a seed below 0": ((*EXPERIMENT, "seeds"), [-1], r"expected seeds from 0 on, got \[-1\]"),
    "a seed of 33 bits": ((*EXPERIMENT, "seeds"), [2**32], r"seeds: expected seeds below 2\*\*32, got 4294967296"),
    "a seed of 1000 bits": ((*EXPERIMENT, "seeds"), [10**300], r"seeds\[0\]: expected a number of at most 64 bits"),
    "no width": ((*EXPERIMENT, "width"), 0, r"width: expected width to be positive, got 0"),
    "an infinite width": ((*EXPERIMENT, "width"), float("inf"), r"width: expected a whole number, got inf"),
    "an infinite rate": (
        (*EXPERIMENT, "settings"),
        {"learning_rate": float("inf")},
        r"settings\.learning_rate: expected learning_rate to be below 2147483648, got inf",
    ),
    "no rate": (
        (*EXPERIMENT, "settings"),
        {"learning_rate": float("nan")},
        r"settings\.learning_rate: expected learning_rate to be positive, got nan",
    ),
    "no end of steps": (
        (*EXPERIMENT, "loop"),
        {"steps": 10**12},
        r"expected steps to be below 2147483648, got 1000",
    ),
    "fewer than no steps": ((*EXPERIMENT, "loop"), {"steps": -1}, r"expected steps not to be negative, got -1"),
    "a chunk of a set's size": ((*EXPERIMENT, "chunk"), 10, r"chunk: 10 random images are too few .* give at least 20"),
    "text for a number": ((*EXPERIMENT, "width"), "16", r"width: expected a whole number, got '16'"),
    "a number for text": ((*EXPERIMENT, "needs"), 3, r"needs: expected text, got 3"),
    "a path elsewhere": ((*EXPERIMENT, "needs"), "../x", r"needs: expected a plain path inside of this folder"),
    "a path of 300": (
        (*EXPERIMENT, "needs"),
        LONG,
        r"needs: expected a plain path .* got 'a{90,}…",
    ),
    "this folder": ((*EXPERIMENT, "needs"), ".", r"needs: expected a plain path inside of this folder, got '\.'"),
    "a path of two lines": ((*EXPERIMENT, "needs"), "a\nb", r"needs: expected a plain path .* got 'a\\nb'"),
    "a file that is a folder": (
        (*EXPERIMENT,),
        {"initialisation": "stored", "needs": "artifacts"},
        r"needs: no file artifacts, and no stage makes one",
    ),
    "scores for a set": (
        (*EXPERIMENT,),
        {"initialisation": "stored", "needs": f"artifacts/scores/{RCIG}.npz"},
        r"needs: expected a file as those of artifacts/distilled/, got artifacts/scores/",
    ),
    "itself": (
        (*EXPERIMENT,),
        {"hardness": {}, "needs": f"artifacts/scores/{RCIG}.npz"},
        rf"needs: goes in a circle: {RCIG} needs {RCIG}",
    ),
    "a method that is a list": (
        (*EXPERIMENT, "method"),
        ["rcig"],
        r"method: unknown method \['rcig'\]; known: at_bptt",
    ),
    "an entry that is a number": (EXPERIMENT, 3, rf"experiments\.{RCIG}: expected a mapping with dataset, .* got 3"),
    "a long word": ((*EXPERIMENT, "size"), LONG, r"size: unknown size 'a{90,}…; known: compact, demo, minutes"),
    "a depth of 10": ((*DATASET, "depth"), 10, r"datasets\.mnist_sample\.depth: 10 stages that halve 32 pixels"),
    "a ridge below 0": ((*DATASET, "l2_rate"), -1, r"l2_rate: expected l2_rate to be positive, got -1"),
    "all but nothing held out": ((*DATASET, "held_out"), 1e-5, r"held_out: expected held_out between 0.001 and 0.9"),
    "all but nothing seen": ((*DATASET, "held_out"), 0.9999, r"held_out: expected held_out between 0.001 and 0.9"),
    "a held-out part that is none": ((*DATASET, "held_out"), float("nan"), r"held_out: expected .* got nan"),
    "an unknown dataset": (("datasets", "minst"), {}, r"datasets\.minst\.resolution: missing; add it"),
    "a study of nothing": (("studies", STUDY, "grids"), [], r"grids: figure backward_images needs a grid"),
    "a seed of the full dataset": (
        ("full_dataset", "mnist_sample", "seed"),
        -1,
        r"seed: expected seed from 0 to below",
    ),
    "a section that is a list": (("attack",), [RCIG], r"attack: expected a mapping, got \['mnist_sample"),
    "a section that is not there": (("attac",), {}, r"attac: unknown key 'attac'; known: attack, cross_arch"),
}


@pytest.mark.parametrize("case", VALUES)
def test_values_in_params_yaml(workspace: Path, start: Callable[..., Done], case: str) -> None:
    path, value, message = VALUES[case]
    settings = good()
    branch = settings
    for key in path[:-1]:
        branch = branch.setdefault(key, {})
    both = isinstance(value, dict) and isinstance(branch.get(path[-1]), dict)
    branch[path[-1]] = branch[path[-1]] | value if both else value
    for section in ("cross_arch", "attack", "score"):  # which repeat what they name
        if isinstance(settings[section], dict):
            settings[section] = {name: settings["experiments"][name] for name in settings[section]}
    save_settings(workspace, settings)
    refused(start, workspace, 1, rf"^error: params\.yaml: (?={path[0]}).*{message}", "plan")


TEXTS = {
    "nothing": (b"", r"expected the sections datasets, sizes, .* got None"),
    "a list": (b"- a", r"expected the sections datasets, sizes, .* got \['a'\]"),
    "UTF-16": ("sizes: {}".encode("utf-16"), "it is no text in UTF-8; save it as such"),
    "Latin-1": ("größe: 3".encode("latin-1"), "it is no text in UTF-8; save it as such"),
    "no YAML": (b"a: [1", "not readable as YAML: "),
    "tabs": (b"a:\n\t- 1", "not readable as YAML: "),
    "a key twice": (b"a: 1\na: 2", "not readable as YAML: .*duplicate key"),
    "no day": (b"a: 2024-13-45", "not readable as YAML: month must be in 1..12"),
    "levels": (b"a: " + 500 * b"[", "holds itself, or has too many levels"),
    "zeros": (bytes(100), "not readable as YAML: "),
}


@pytest.mark.parametrize("case", TEXTS)
def test_what_is_no_params_yaml(workspace: Path, start: Callable[..., Done], case: str) -> None:
    text, message = TEXTS[case]
    planned.PARAMS.write_bytes(text)
    refused(start, workspace, 1, rf"^error: params\.yaml: {message}", "plan")
    refused(start, workspace, 1, r"params\.yaml has changed since plan\.json was made; run `dvc repro plan`", "report")
    planned.PARAMS.unlink()
    refused(start, workspace, 1, r"params\.yaml: No such file or directory; run from the folder that holds it", "plan")
    planned.PARAMS.mkdir()
    refused(start, workspace, 1, r"params\.yaml: Is a directory; run from the folder that holds it", "plan")
    refused(start, workspace, 1, r"params\.yaml: a folder lies where a file belongs; move it away", "report")


def replanned(change: Callable[[dict[str, Any]], object]) -> None:
    """A plan.json that somebody has changed who knows how its digest is made."""
    plan = json.loads(planned.PLAN.read_text())
    change(plan)
    plan["digest"] = planned.digest_of(planned.written(plan.get("stages")))
    planned.PLAN.write_text(json.dumps(plan))


PLANS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no params": (lambda plan: plan.pop("params"), r"not a plan \(it has no params\)"),
    "of an earlier kind": (lambda plan: plan.update(params="0" * 16), r"not a plan \(it has no params\)"),
    "no stages": (lambda plan: plan.pop("stages"), r"not a plan \(it has no stages\)"),
    "null for stages": (lambda plan: plan.update(stages=None), r"not a plan \(it has no stages\)"),
    "no such stage": (lambda plan: plan["stages"].pop("picture"), r"not a plan \(it has no picture\)"),
    "a list for a stage": (lambda plan: plan["stages"].update(picture=[RCIG]), r"not a plan \(it has no picture\)"),
    "null for an entry": (
        lambda plan: plan["stages"]["picture"].update({RCIG: None}),
        rf"has no {RCIG}",
    ),
    "no modules": (lambda plan: plan["stages"]["picture"][RCIG].pop("modules"), "lacks its settings or its modules"),
    "no settings": (lambda plan: plan["stages"]["picture"][RCIG].pop("settings"), "lacks its settings or its modules"),
    "numbers for modules": (
        lambda plan: plan["stages"]["picture"][RCIG].update(modules=[3]),
        "lacks its settings or its modules",
    ),
    "no code": (lambda plan: plan["stages"]["picture"][RCIG].pop("code"), "was planned with the code None, here it is"),
    "other code": (lambda plan: plan["stages"]["picture"][RCIG].update(code="x"), "was planned with the code x, here"),
    "other modules": (
        lambda plan: plan["stages"]["picture"][RCIG].update(modules=[]),
        "with the code .*, here",
    ),
}


@pytest.mark.parametrize("case", PLANS)
def test_plans_that_were_made_by_hand(workspace: Path, start: Callable[..., Done], case: str) -> None:
    change, message = PLANS[case]
    replanned(change)
    refused(start, workspace, 1, rf"^error: plan\.json: .*{message}.*; run `dvc repro plan`$", "picture", RCIG)


def test_a_plan_with_other_settings(workspace: Path, start: Callable[..., Done]) -> None:
    for settings in (None, 3, {"dataset": {}}, {"nope": 1}, {"dataset": None, "run": None}):
        replanned(lambda plan, made=settings: plan["stages"]["distill"][RCIG].update(settings=made))
        refused(start, workspace, 1, r"plan\.json: distill\.\S+ has other settings than the code", "distill", RCIG)


@pytest.mark.parametrize("name", NAMES)
def test_a_plan_made_by_hand_is_no_way_around_the_rule_for_names(
    workspace: Path, start: Callable[..., Done], name: str
) -> None:
    replanned(lambda plan: plan["stages"]["distill"].update({name: plan["stages"]["distill"][RCIG]}))
    refused(start, workspace, 1, "distill: expected names of at most 80 letters", "distill", name)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "3", "\xff", "[" * 3000], ids=range(7))
def test_what_is_no_plan(workspace: Path, start: Callable[..., Done], text: str) -> None:
    planned.PLAN.write_text(text, "latin-1")
    refused(start, workspace, 1, r"^error: plan\.json: not a plan \(.*\); run `dvc repro plan`$", "picture", RCIG)
    planned.PLAN.unlink()
    refused(start, workspace, 1, r"plan\.json: no such file; run `dvc repro plan`, from the folder", "picture", RCIG)
    planned.PLAN.mkdir()
    refused(start, workspace, 1, r"plan\.json: not a plan \(IsADirectoryError.*; run `dvc repro", "picture", RCIG)
    refused(start, workspace, 1, r"plan\.json: a folder lies where a file belongs; move it away", "plan")


DATA, DISTILLED, SUMMARY = "artifacts/data/mnist_sample", "artifacts/distilled", f"results/distill/{RCIG}"


def put(path: str, text: str = "no such thing") -> None:
    """A file with that text, in the place of what is there."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).unlink(missing_ok=True)
    Path(path).write_text(text)


def folder(path: str) -> None:
    """A folder in the place of that file."""
    Path(path).unlink(missing_ok=True)
    Path(path).mkdir(parents=True)


def in_place_of_a_folder(path: str) -> None:
    shutil.rmtree(path, ignore_errors=True)
    put(path)


def cut(path: str) -> None:
    """The first half of that file."""
    whole = Path(path).read_bytes()
    Path(path).unlink()
    Path(path).write_bytes(whole[: len(whole) // 2])


Arranged = tuple[Callable[[], object], tuple[str, ...], str]
FILES: dict[str, Arranged] = {
    "no raw images": (
        lambda: Path(DATA, "train.npz").unlink(),
        ("distill", RCIG),
        r"train\.npz: no such file; run",
    ),
    "half of them": (lambda: cut(f"{DATA}/train.npz"), ("distill", RCIG), r"train\.npz: not a whole \.npz file"),
    "a folder for them": (lambda: folder(f"{DATA}/train.npz"), ("distill", RCIG), r"train\.npz: .*[Dd]irectory|folder"),
    "text for them": (lambda: put(f"{DATA}/train.npz"), ("describe", "mnist_sample"), r"train\.npz: not a whole \.npz"),
    "no whitening": (
        lambda: Path(DATA, "whitening.npz").unlink(),
        ("distill", RANDOM),
        r"whitening\.npz: no such",
    ),
    "no test images": (
        lambda: Path(DATA, "test.npz").unlink(),
        ("describe", "mnist_sample"),
        r"test\.npz: no such",
    ),
    "no set": (lambda: None, ("evaluate", RCIG), rf"{DISTILLED}/{RCIG}\.npz: no such file"),
    "text for a set": (
        lambda: put(f"{DISTILLED}/{RCIG}.npz"),
        ("attack", RCIG),
        rf"{RCIG}\.npz: not a whole",
    ),
    "images for a set": (
        lambda: (Path(DISTILLED).mkdir(), shutil.copy(f"{DATA}/train.npz", f"{DISTILLED}/{RCIG}.npz")),
        ("score", RCIG),
        rf"{RCIG}\.npz: not a distilled set: expected the arrays",
    ),
    "a file for all sets": (lambda: put(DISTILLED), ("cross_arch", RCIG), rf"{DISTILLED}/{RCIG}\.npz: "),
    "a picture of no set": (lambda: None, ("picture", RCIG), rf"{RCIG}\.npz: no such file"),
    "a file for a folder": (
        lambda: in_place_of_a_folder(DATA),
        ("preprocess", "mnist_sample"),
        rf"{DATA}: a file lies where a folder belongs; move it away",
    ),
    "a file for a folder's folder": (
        lambda: in_place_of_a_folder("artifacts"),
        ("preprocess", "mnist_sample"),
        r"artifacts\S*: a file lies where a folder belongs; move it away",
    ),
    "a folder for a result": (
        lambda: folder("results/data/mnist_sample.json"),
        ("describe", "mnist_sample"),
        r"results/data/mnist_sample\.json: a folder lies where a file belongs; move it away",
    ),
    "a demo that is a file": (lambda: put("demo"), ("demo",), r"demo\S*: a file lies where a folder belongs"),
    "no results": (
        lambda: None,
        ("report",),
        r"nothing to report for dataset 'mnist_sample': looked",
    ),
    "results of nothing": (lambda: None, ("release", "x.npz", "nope"), r"x\.npz: no such file"),
    "a folder to release": (lambda: Path("x.npz").mkdir(), ("release", "x.npz", "nope"), r"x\.npz: "),
    "a name of 300": (lambda: None, ("release", f"{LONG}.npz", "nope"), r"a{300}\.npz: .*File name too long"),
}


@pytest.mark.parametrize("case", FILES)
def test_files_and_folders(workspace: Path, start: Callable[..., Done], case: str) -> None:
    arrange, command, message = FILES[case]
    arrange()
    refused(start, workspace, 1, rf"^error: .*{message}", *command)


def test_a_demo_without_its_dataset(workspace: Path, start: Callable[..., Done]) -> None:
    empty = {section: {} for section in good()}
    save_settings(workspace, empty)
    refused(start, workspace, 1, "params.yaml: the demo needs the dataset mnist_sample and the experiment", "demo")
    save_settings(workspace, good() | {"experiments": {"x": 3}})
    refused(start, workspace, 1, r"params\.yaml: experiments\.x: expected a mapping", "demo")


def test_the_demo_has_what_it_needs_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy_pipeline(tmp_path / "project"))
    digits = read_settings()["shared"]["digits"]
    more = {"mine": digits["mnist_sample-ipc1-rcig"] | {"initialisation": "stored", "needs": "inputs/of mine.npz"}}
    save_settings(Path(), sections(experiments=digits | more))
    Path("inputs/of mine.npz").write_text("a set")
    Path("inputs/photos").symlink_to("nowhere")
    sheet = Path("rcig/report/sections")
    for section in ("robustness.py", "robust.py"):  # as it is called first, and then
        if not (sheet / section).exists():
            (sheet / "robustness.py").rename(sheet / section)
        demo.make_workspace(demo.demo_params(Path("params.yaml")))
    found = {path.name for path in Path("demo", "rcig/report/sections").iterdir()}
    assert found == {path.name for path in sheet.iterdir() if path.name != "__pycache__"}
    assert {path.name for path in Path("demo/inputs").iterdir()} == {"none", "of mine.npz"}
    Path("inputs/of mine.npz").rename("elsewhere.npz")
    Path("inputs/of mine.npz.dvc").write_text("outs: [{path: of mine.npz, md5: 0}]")
    with pytest.raises(Foreseen, match=r"inputs/of mine\.npz: the demo needs it and it is not here; .* dvc pull"):
        demo.make_workspace(demo.demo_params(Path("params.yaml")))


def as_people_start_it(folder: Path, *command: str, **variables: str) -> Done:
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT | variables, capture_output=True, text=True, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


def test_started_from_a_shell(workspace: Path) -> None:
    before = content(workspace)
    for arguments, status, message in (
        (["picture"], 2, "error: expected EXPERIMENT, got none; try python -m stages.picture --help\n"),
        (["picture", RCIG], 1, f"error: artifacts/distilled/{RCIG}.npz: no such file; run `dvc repro` to make it"),
    ):
        done = as_people_start_it(workspace, sys.executable, "-m", f"stages.{arguments[0]}", *arguments[1:])
        assert (done.status, done.out, len(done.error.splitlines())) == (status, "", 1), done
        assert done.error.startswith(message)
    assert content(workspace) == before


@pytest.mark.skipif(not os.getuid() and not shutil.which("setpriv"), reason="root may read and write everything")
@pytest.mark.parametrize("what", ["params.yaml", "plan.json", "."])
def test_what_may_not_be_read_or_written(workspace: Path, what: str) -> None:
    python = [sys.executable, "-B", "-m"]
    if not os.getuid():
        python = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *python]
    before, mode = content(workspace), (workspace / what).stat().st_mode
    (workspace / what).chmod(0o555 if what == "." else 0)
    script = ["stages.picture", RCIG] if what == "plan.json" else ["stages.plan"]
    done = as_people_start_it(workspace, *python, *script)
    (workspace / what).chmod(mode)
    assert (done.status, done.out, len(done.error.splitlines())) == (1, "", 1), done
    assert re.search(rf"{re.escape(what)}.*(Permission denied|may not be read or written)", done.error)
    assert content(workspace) == before


COMPILES = """
'compiles: something'
import time
import jax
from stages.common import run

def main():
    jax.jit(lambda x: jax.numpy.linalg.inv(x @ x))(jax.numpy.eye(7)).block_until_ready()

run(main)
"""


def test_compiled_code_is_kept_where_jax_was_imported_before(workspace: Path) -> None:
    (workspace / "compiles.py").write_text(COMPILES)
    variables = ENVIRONMENT | {"PYTHONPATH": ".", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    del variables["JAX_COMPILATION_CACHE_DIR"]
    subprocess.run([sys.executable, "compiles.py"], cwd=workspace, env=variables, check=True)
    assert list((workspace / common.COMPILED).glob("*/*"))


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    folder = copy_pipeline(tmp_path / "workspace")
    run(folder, "dvc", "init", "-q", "--no-scm")
    return folder


def new(folder: Path, before: dict[str, str]) -> set[str]:
    """Files and folders that are new, but for what DVC and Python keep for themselves."""
    return {
        path for path in content(folder).keys() - before.keys() if "/.dvc/" not in path and "__pycache__" not in path
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a;touch X", "$(touch X)", "../../out", "a'b"])
def test_names_that_dvc_meets(pipeline: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """`plan` comes first and refuses them. A stage alone, with a plan made by hand, meets them as text."""
    settings = good()
    save_settings(pipeline, sections(experiments={name: settings["experiments"][RANDOM]}))
    before = content(pipeline.parent)
    said = run(pipeline, "dvc", "repro", fails=True)
    assert len(re.findall("^error: params.yaml: experiments: expected names of at most", said, re.MULTILINE)) == 1
    assert new(pipeline.parent, before) == set()
    monkeypatch.chdir(pipeline)
    stages.plan.save({"distill": {name: {"settings": {}, "modules": [], "code": ""}}}, planned.PARAMS.read_bytes())
    for part in ("train", "whitening"):
        put(f"{DATA}/{part}.npz")
    before = content(pipeline.parent)
    said = run(pipeline, "dvc", "repro", "--single-item", f"distill@{name}", fails=True)
    told = (
        r"^error: distill: expected names|Parameters 'stages\.distill\.\S+' are missing"  # the latter of dots, by DVC
    )
    assert len(re.findall(told, said, re.MULTILINE)) == 1
    assert new(pipeline.parent, before) == set()

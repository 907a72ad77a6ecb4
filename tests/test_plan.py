"""From params.yaml to the settings in force: what is refused, what overrides what, and what plan.json is good for."""

import copy
import dataclasses
import json
import re
import typing
import warnings
from pathlib import Path
from typing import Any

import pytest
from tiny import resolved
from workspaces import ROOT, read_settings

from rcig import fields, fingerprint, nets, plan, planned, store, strict
from rcig.data import catalogue
from rcig.errors import ParamsError
from rcig.judging import attacks, cross_architecture, evaluate, membership, protocols
from rcig.methods import registry
from rcig.run import task
from rcig.run.settings import Study
from stages import plan as stage_plan

RCIG, RANDOM, STEPS = "mnist_sample-ipc1-rcig", "mnist_sample-ipc1-random_real", "solver_steps"
RAT = "rat"
SHARED = read_settings()["shared"]
GROUPS = [
    name
    for name, part in SHARED.items()
    if isinstance(part, dict) and all(isinstance(one, dict) and "method" in one for one in part.values())
]
"""of experiments, each of which can be switched on by its name"""


def made(raw: dict[str, Any], root: Path = ROOT) -> dict[str, Any]:
    """The plan of a params.yaml with these sections."""
    return plan.make(parsed(raw), root)


def refusal(raw: dict[str, Any]) -> str:
    """What `made` says of them, one line, after the name of the file."""
    try:
        params = parsed(raw)
    except ParamsError as error:
        return str(error)
    with pytest.raises(ParamsError, match=r"^params\.yaml: [^\n]*$") as found:
        plan.make(params, ROOT)
    return str(found.value).removeprefix("params.yaml: ")


def parsed(raw: dict[str, Any]) -> plan.Params:
    return strict.parse(plan.Params, raw, "")


def run_of(raw: dict[str, Any], name: str = RCIG) -> Any:
    return plan.experiment_of(parsed(raw), name).run


@pytest.fixture
def raw() -> dict[str, Any]:
    # Of one dataset, whatever else the project has switched on. Entries share what stands under an anchor; written and
    # read again, each has its own, which a test can change alone.
    content = json.loads(json.dumps(read_settings()))
    shared = content["shared"]
    experiments = {name: shared["digits"][name] for name in (RCIG, RANDOM)}
    experiments[RAT] = experiments[RCIG] | {"method": "rat_bptt", "settings": {"inner_steps": 60, "window": 20}}
    sections = {
        "datasets": {"mnist_sample": shared["datasets"]["mnist_sample"]},
        "sizes": content["sizes"],
        "full_dataset": {"mnist_sample": shared["full_dataset"]["mnist_sample"]},
        "experiments": experiments,
        **{section: {} for section in ("cross_arch", "attack", "score", "experts")},
        "studies": shared["studies"],
    }
    return json.loads(json.dumps(sections))


def test_the_projects_own_settings_are_valid() -> None:
    params, content = plan.read(ROOT / "params.yaml")
    assert content == (ROOT / "params.yaml").read_bytes()
    assert RCIG in plan.make(params, ROOT)["distill"]


def test_the_groups_are_those_of_the_papers_and_more() -> None:
    assert {"digits", "table1", "table2", "table3", "table4", "mia", "feng", "released_gpu"} <= set(GROUPS)


@pytest.mark.parametrize("group", GROUPS)
def test_every_group_of_the_catalogue_can_be_switched_on(group: str) -> None:
    sections = {section: {} for section in ("full_dataset", "cross_arch", "attack", "score", "studies")}
    sections |= {
        "experts": SHARED["experts"],
        "datasets": SHARED["datasets"],
        "sizes": read_settings()["sizes"],
        "experiments": SHARED[group],
    }
    judged = {"table3": ("cross_arch",), "mia": ("attack",), "digits": ("cross_arch", "attack", "score")}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stages = made(sections | dict.fromkeys(judged.get(group, ()), SHARED[group]))
    assert stages["distill"].keys() == stages["evaluate"].keys() == SHARED[group].keys()
    for section in judged.get(group, ()):
        assert stages[section].keys() == SHARED[group].keys()


def test_every_dataset_and_every_study_of_the_catalogue_can_be_switched_on() -> None:
    shared = SHARED
    sections = {section: {} for section in ("experiments", "cross_arch", "attack", "score", "experts")}
    stages = made(
        sections
        | {part: shared[part] for part in ("datasets", "studies")}
        | {
            "sizes": read_settings()["sizes"],
            "full_dataset": dict.fromkeys(shared["datasets"], shared["full_dataset"]["large"]),
        }
    )
    for stage, section in (("preprocess", "datasets"), ("full_dataset", "datasets"), ("study", "studies")):
        assert stages[stage].keys() == shared[section].keys()
    for full in shared["full_dataset"].values():
        strict.parse(plan.FullDataset, full, "")


def test_names_are_those_of_the_code_behind_them() -> None:
    assert set(typing.get_args(protocols.Name)) == set(protocols.PROTOCOLS)
    assert set(typing.get_args(cross_architecture.Architecture)) == set(nets.ARCHITECTURES)
    assert set(typing.get_args(membership.AttackName)) == {*attacks.ATTACKS, "gradient_norm", "likelihood_ratio"}
    assert set(SHARED["datasets"]) == set(catalogue.SOURCES)
    for module in set(registry.METHODS.values()):
        assert set(registry.load(module).MEMBERS) == {name for name, file in registry.METHODS.items() if file == module}


def test_what_is_planned_is_what_was_said(raw: dict[str, Any]) -> None:
    stages = json.loads(json.dumps(made(raw | {"cross_arch": {RCIG: raw["experiments"][RCIG]}})))
    for name in raw["experiments"]:
        entry = fields.build(task.Entry, stages["distill"][name]["settings"])
        assert task.typed(entry.run) == run_of(raw, name)
        assert entry.dataset == parsed(raw).datasets["mnist_sample"].dataset
        judged = fields.build(evaluate.Entry, stages["evaluate"][name]["settings"])
        assert judged.evaluate == plan.experiment_of(parsed(raw), name).judging["evaluate"]
    crossed = fields.build(cross_architecture.Entry, stages["cross_arch"][RCIG]["settings"])
    assert crossed.cross_arch == plan.experiment_of(parsed(raw), RCIG).judging["cross_arch"]
    study = fields.build(Study, stages["study"][STEPS]["settings"])
    expected = plan.study_of(parsed(raw), STEPS)
    assert dataclasses.replace(study, base=task.typed(study.base)) == expected


def test_a_study_is_the_union_of_its_grids(raw: dict[str, Any]) -> None:
    raw["studies"][STEPS]["grids"] = [
        {"solver": ["adam"], "inner_steps": [0, 2], "inverse_steps": [0, 5]},
        {"solver": ["dense"], "body_weight": [1]},
        {"inverse_steps": [5], "solver": ["adam"], "inner_steps": [2]},
        {},
    ]
    study = plan.study_of(parsed(raw), STEPS)
    assert study.varied == ("solver", "inner_steps", "inverse_steps", "body_weight")
    adam = [{"solver": "adam", "inner_steps": a, "inverse_steps": b} for a in (0, 2) for b in (0, 5)]
    assert list(study.points) == [*adam, {"solver": "dense", "body_weight": 1.0}, {}]
    assert study.base == plan.resolve("x", raw["studies"][STEPS]["base"], parsed(raw).datasets, raw["sizes"]).run


def test_null_in_a_grid_is_never_read_as_the_value_of_the_base(raw: dict[str, Any]) -> None:
    base = raw["studies"]["backward_images"]["base"]
    base["settings"] |= {"images_per_pass": 10, "backward_images": 50}
    raw["studies"]["backward_images"]["grids"] = [{"backward_images": [10, None], "images_per_pass": [10, 20]}]
    assert plan.study_of(parsed(raw), "backward_images").points
    raw["studies"]["backward_images"]["grids"][0]["images_per_pass"] = [10, None]
    said = refusal(raw)
    assert "grids[0].images_per_pass[1]: an empty cell" in said
    assert "stands for the base's 10; leave images_per_pass out of the base" in said
    del base["settings"]["images_per_pass"]
    assert plan.study_of(parsed(raw), "backward_images").points


def test_what_is_done_besides_is_part_of_the_name_of_a_method(raw: dict[str, Any]) -> None:
    assert run_of(raw).label == "rcig"
    raw["experiments"][RCIG] |= {"boost": {"block": 1}, "hardness": {"strength": 1}, "needs": "scores.npz"}
    raw["experiments"][RCIG]["settings"] = {"batch_norm": True}
    assert run_of(raw).label == "rcig+boost+hardness+batch_norm"


def test_seeds_number_the_chunks(raw: dict[str, Any]) -> None:
    raw["experiments"][RCIG] |= {"chunk": 100, "seeds": [-1]}
    with pytest.raises(ParamsError, match=rf"{RCIG}: expected seeds from 0 on: they number the chunks, got \[-1\]"):
        made(raw)


def test_there_may_be_nothing_to_do(raw: dict[str, Any]) -> None:
    stages = made(raw | {"full_dataset": {}, "experiments": {}, "studies": {}})
    assert stages["distill"] == stages["study"] == stages["full_dataset"] == {}
    assert stages["report"]["settings"]["datasets"] == []


def test_what_learns_nothing_keeps_the_protocol_of_its_loop(raw: dict[str, Any]) -> None:
    raw["experiments"][RANDOM]["loop"] = {"steps": 7, "protocol": "narrow_sgd", "precision": "bfloat16"}
    loop = run_of(raw, RANDOM).loop
    assert (loop.steps, loop.protocol, loop.precision) == (0, "narrow_sgd", "bfloat16")
    raw["experiments"][RANDOM]["loop"]["protocol"] = "mtt"
    assert "protocol mtt judges no set on its way" in refusal(raw)


def test_published_steps_are_those_of_the_paper(raw: dict[str, Any]) -> None:
    raw["experiments"][RCIG]["loop"]["steps"] = "published"
    assert run_of(raw).loop.steps == 15000


MISSING = object()
"""stands for a key that is taken away"""
BAD = {
    "unknown dataset": (
        ["experiments", RCIG, "dataset"],
        "minst",
        r"dataset: unknown dataset 'minst'; known: mnist_sample",
    ),
    "unknown method": (["experiments", RCIG, "method"], "rcgi", r"method: unknown method 'rcgi'; known: .*rcig"),
    "unknown key": (["experiments", RCIG, "settings", "learningrate"], 1, r"settings.learningrate: unknown key"),
    "wrong type": (["experiments", RCIG, "width"], "wide", r"width: expected a whole number, got 'wide'"),
    "bool for number": (["experiments", RCIG, "width"], True, r"width: expected a whole number, got True"),
    "text for float": (
        ["experiments", RCIG, "settings", "learning_rate"],
        "1e-3x",
        r"learning_rate: expected a number, got '1e-3x'",
    ),
    "negative rate": (
        ["experiments", RCIG, "settings", "learning_rate"],
        -1,
        r"settings\.learning_rate: expected learning_rate to be positive, got -1\.0$",
    ),
    "zero ridge": (["datasets", "mnist_sample", "l2_rate"], 0, r"expected l2_rate to be positive, got 0"),
    "a window longer than all": (
        ["experiments", RAT, "settings", "window"],
        61,
        r"window 61 is longer than the 60",
    ),
    "no inner step": (
        ["experiments", RAT, "settings", "inner_steps"],
        0,
        "inner_steps to be positive, got 0",
    ),
    "a window of nothing": (["experiments", RAT, "settings", "window"], 0, r"expected window to be positive, got 0"),
    "rat_bptt without its random window": (
        ["experiments", RAT, "settings", "window_end"],
        "last",
        r"window_end: rat_bptt has random, got last; with another value it is another method",
    ),
    "bptt through a part": (
        ["experiments", RAT],
        {"method": "bptt"},
        r"settings.window: bptt has null, got 20; with another value it is another method",
    ),
    "clip of zero": (["experiments", RCIG, "settings", "clip_gradient"], 0, r"clip_gradient to be positive, got 0"),
    "a basis of nothing": (["experiments", RCIG, "basis"], 0, r"expected basis to be positive, got 0"),
    "blocks that do not divide": (
        ["experiments", RCIG],
        {"images_per_class": 10, "boost": {"block": 4}},
        r"boost: blocks of 4 images per class do not divide 10; give a divisor",
    ),
    "mobility of two": (
        ["experiments", RCIG, "boost"],
        {"block": 1, "mobility": 2},
        r"boost\.mobility: expected mobility between 0 and 1, got 2",
    ),
    "boost with a basis": (
        ["experiments", RCIG],
        {"boost": {"block": 1, "mobility": 0}, "basis": 5},
        r"boost: a basis is shared by all blocks .*; set basis: null",
    ),
    "boost of real images": (
        ["experiments", RANDOM, "boost"],
        {"block": 1, "mobility": 0},
        r"boost: nothing is distilled by random_real",
    ),
    "a basis of real images": (
        ["experiments", RANDOM, "basis"],
        5,
        r"basis: nothing is distilled by random_real; set basis: null",
    ),
    "noise for real images": (
        ["experiments", RANDOM, "initialisation"],
        "unit_noise",
        r"initialisation: random_real starts from no noise; set initialisation: real",
    ),
    "hard images for real ones": (
        ["experiments", RANDOM, "hardness"],
        {"strength": 1},
        r"hardness: nothing is distilled by random_real; set hardness: null",
    ),
    "hard images drawn by class": (
        ["experiments", RCIG],
        {"method": "dm", "settings": {}, "hardness": {"strength": 1}, "needs": f"artifacts/scores/{RCIG}.npz"},
        r"hardness: dm draws as many real images of every class, hard or not; set hardness: null",
    ),
    "a part of mixtures": (
        ["experiments", RCIG],
        {"images_per_class": 4, "basis": 9, "evaluate": {"parts": [2]}},
        r"parts: a part of a set of mixtures needs the whole basis; give none",
    ),
    "a part that is the whole": (
        ["experiments", RCIG, "evaluate", "parts"],
        [1],
        r"parts: 1 is no part of a set of 1 images per class",
    ),
    "parts that are no blocks": (
        ["experiments", RCIG],
        {"images_per_class": 4, "boost": {"block": 2, "mobility": 0}, "evaluate": {"parts": [3]}},
        r"parts: 3 images per class are not whole blocks of 2",
    ),
    "one part twice": (
        ["experiments", RCIG],
        {"images_per_class": 4, "evaluate": {"parts": [2, 2]}},
        r"expected parts to be different numbers, got \[2, 2\]",
    ),
    "hardness without scores": (
        ["experiments", RCIG, "hardness"],
        {"strength": 1},
        r"needs: missing; name the file with the set, scores or experts that it reads",
    ),
    "a set to start from and scores": (
        ["experiments", RCIG],
        {"hardness": {"strength": 1}, "initialisation": "stored", "needs": "set.npz"},
        r"needs: one file for both initialisation: stored and hardness; drop one of them",
    ),
    "a file that nothing reads": (
        ["experiments", RCIG, "needs"],
        "params.yaml",
        r"needs: nothing reads params\.yaml; set needs: inputs/none",
    ),
    "a file that is not there": (
        ["experiments", RCIG],
        {"initialisation": "stored", "needs": "released/none.npz"},
        r"needs: no file released/none\.npz, and no stage makes one .* `dvc add released/none\.npz`",
    ),
    "a released set that is not there": (
        ["experiments", RCIG],
        {"method": "stored", "needs": "released/none.npz", "loop": {}, "settings": {}},
        r"needs: no file released/none\.npz",
    ),
    "no size": (["experiments", RCIG, "size"], MISSING, r"size: missing; add it, it has no default"),
    "no word on what it needs": (
        ["experiments", RCIG, "needs"],
        MISSING,
        r"needs: missing; add needs: inputs/none, or the file that it reads",
    ),
    "a size for an unknown method": (
        ["sizes", "demo", "settings"],
        {"implict": {"pool_size": 3}},
        r"settings\.implict: unknown method 'implict'; known: at_bptt, bptt, ",
    ),
    "a size that is no mapping": (["sizes", "demo"], 3, r"sizes\.demo: expected a mapping, got 3"),
    "unknown size": (
        ["experiments", RCIG, "size"],
        "dmo",
        "size: unknown size 'dmo'; known: compact, demo, minutes",
    ),
    "a setting of another method": (["experiments", RCIG, "settings"], {"window": 3}, r"window: unknown key 'window'"),
    "unknown setting of random real images": (
        ["experiments", RANDOM, "settings"],
        {"solver": "cg"},
        r"settings.solver: unknown key 'solver'; known: none",
    ),
    "unknown key of an experiment": (["experiments", RCIG, "widht"], 3, r"widht: unknown key 'widht'; known: attack"),
    "text for a default that is a number": (
        ["experiments", RCIG, "settings"],
        {"pool_size": "30"},
        r"settings\.pool_size: expected a whole number, got '30'",
    ),
    "a number for a default that is true": (
        ["experiments", RCIG, "settings"],
        {"learn_labels": 1},
        r"settings\.learn_labels: expected true or false, got 1",
    ),
    "a word that was null": (
        ["experiments", RCIG, "settings"],
        {"clip_gradient": "none"},
        r"settings\.clip_gradient: expected a number, got 'none' \(or give null\)",
    ),
    "a list for a mapping": (["experiments", RCIG, "settings"], [1], r"settings: expected a mapping"),
    "no setting at all": (["experiments", RCIG, "settings"], None, r"settings: expected a mapping"),
    "a method by another type": (["experiments", RCIG, "method"], 3, r"method: unknown method 3; known: at_bptt, "),
    "cross_arch of no experiment": (
        ["cross_arch", "x"],
        {"method": "rcig"},
        rf"unknown experiment 'x'; known: {RANDOM}, {RCIG}, {RAT}",
    ),
    "attack of no experiment": (["attack", "x"], {}, r"unknown experiment 'x'"),
    "score of another entry": (
        ["score", RANDOM],
        {"method": "random_real"},
        rf"is not the entry of that experiment; .* `score: {{{RANDOM}: \*{RANDOM}}}`",
    ),
    "full_dataset of no dataset": (["full_dataset", "minst"], {"steps": 1}, r"unknown dataset 'minst'"),
    "a study of a boosted set": (
        ["studies", STEPS, "base", "boost"],
        {"block": 1, "mobility": 0},
        r"base.boost: a study measures one run at a time; set boost: null",
    ),
    "choice": (
        ["experiments", RCIG, "settings", "outer_loss"],
        "hinge",
        r"expected one of platt, squared, got 'hinge'",
    ),
    "same seed twice": (["experiments", RCIG, "seeds"], [1, 1], r"expected seeds to be different numbers"),
    "scalar for list": (["experiments", RCIG, "seeds"], 0, r"seeds: expected a list, got 0"),
    "scalar for section": (["experiments", RCIG, "loop"], 3, r"loop: expected a mapping with steps, batch_size"),
    "no protocol": (["experiments", RCIG, "evaluate", "protocols"], [], "at least one of protocols, got none"),
    "no learning rate": (
        ["experiments", RCIG, "cross_arch", "learning_rates"],
        [],
        "at least one of widths and of learning_rates, got none",
    ),
    "negative learning rate": (
        ["experiments", RCIG, "cross_arch", "learning_rates"],
        [1e-3, -1e-3],
        r"learning_rates\[1\]: expected learning_rates\[1\] to be positive, got -0\.001",
    ),
    "steps that go back": (
        ["experiments", RCIG, "attack", "measured_at"],
        [100, 100],
        r"expected measured_at to be increasing numbers of steps, got \[100, 100\]",
    ),
    "no steps": (["experiments", RCIG, "attack", "measured_at"], [], "to be increasing numbers of steps, got"),
    "no shadows": (
        ["experiments", RCIG, "attack"],
        {"attacks": ["likelihood_ratio"], "shadow_networks": 0},
        "likelihood_ratio needs 4, 6, 8, … shadow_networks, got 0",
    ),
    "shadows of other steps": (
        ["experiments", RCIG, "attack", "curve_attacks"],
        ["likelihood_ratio"],
        "curve_attacks: likelihood_ratio needs shadow networks of the same number of steps",
    ),
    "empty chunk": (["experiments", RCIG, "chunk"], 0, "expected chunk to be positive, got 0"),
    "unknown protocol": (
        ["experiments", RCIG, "evaluate", "protocols"],
        ["loo2024"],
        r"protocols\[0\]: expected one of loo2023, .* got 'loo2024'",
    ),
    "unknown architecture": (
        ["experiments", RCIG, "cross_arch", "widths"],
        {"resnet": 8},
        r"widths: expected one of conv, .* got 'resnet'",
    ),
    "fraction": (
        ["datasets", "mnist_sample", "held_out"],
        2,
        r"expected held_out between 0.001 and 0.9, got 2",
    ),
    "study of an unknown dataset": (
        ["studies", STEPS, "base", "dataset"],
        "minst",
        r"base.dataset: unknown dataset 'minst'; known: mnist_sample",
    ),
    "study of a method without settings": (
        ["studies", STEPS, "base", "method"],
        "random_real",
        r"base.method: random_real has no settings to vary; name another method",
    ),
    "unknown setting of a grid": (
        ["studies", STEPS, "grids", 0, "innersteps"],
        [2],
        r"grids\[0\].innersteps: unknown setting 'innersteps'; known: .*inner_steps",
    ),
    "scalar for a grid's list": (
        ["studies", STEPS, "grids", 0, "inner_steps"],
        2,
        r"grids\[0\].inner_steps: expected a list, got 2",
    ),
    "a grid's empty list": (
        ["studies", STEPS, "grids", 0, "inner_steps"],
        [],
        r"grids\[0\].inner_steps: expected at least one value, got none",
    ),
    "wrong type in a grid": (
        ["studies", STEPS, "grids", 0, "inner_steps", 2],
        "five",
        r"grids\[0\].inner_steps\[2\]: expected a whole number, got 'five'",
    ),
    "choice in a grid": (
        ["studies", STEPS, "grids", 1, "solver", 0],
        "cgg",
        r"grids\[1\].solver\[0\]: expected one of auto, .* got 'cgg'",
    ),
    "a combination that cannot be": (
        ["studies", STEPS, "grids", 0, "inner_steps", 2],
        1,
        r"grids\[0\].solver\[0\], .*, inner_steps\[2\], inverse_steps\[0\]: inner_rate auto needs .* got 1",
    ),
    "another method in a grid": (
        ["studies", STEPS, "grids", 0, "linearised"],
        [True, False],
        r"grids\[0\]\.linearised\[1\]: rcig has true, got false; with another value it is another method",
    ),
    "a figure of what is not varied": (
        ["studies", STEPS, "figure"],
        "backward_images",
        r"grids: figure backward_images needs a grid that varies backward_images",
    ),
    "nothing timed": (["studies", STEPS, "timing_steps"], 0, r"expected timing_steps to be positive, got 0"),
    "unpublished": (["experiments", RCIG, "images_per_class"], 7, r"no number of steps for 7 images per class"),
}


def merged(old: Any, new: Any) -> Any:
    """The new value; of a mapping over a mapping, only its keys are new."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    return old | {key: merged(old.get(key), value) for key, value in new.items()}


@pytest.mark.parametrize("case", BAD)
def test_bad_settings_name_the_key_and_the_value(raw: dict[str, Any], case: str) -> None:
    keys, value, message = BAD[case]
    if case == "unpublished":
        raw["experiments"][RCIG]["loop"]["steps"] = "published"
    section = raw
    for key in keys[:-1]:
        section = section[key] if isinstance(section, list) else section.setdefault(key, {})
    if value is MISSING:
        del section[keys[-1]]
    else:
        old = section.get(keys[-1]) if isinstance(section, dict) else section[keys[-1]]
        section[keys[-1]] = merged(old, value)
    said = refusal(raw)
    assert re.search(message, said), said
    assert said.startswith(".".join(keys[:2]))


@pytest.mark.parametrize("key", ["dataset", "images_per_class", "method", "size", "needs"])
def test_a_missing_key_is_named(raw: dict[str, Any], key: str) -> None:
    del raw["experiments"][RCIG][key]
    assert refusal(raw).startswith(f"experiments.{RCIG}.{key}: missing; add ")


def test_what_neither_the_entry_nor_its_size_gives_is_named(raw: dict[str, Any]) -> None:
    raw["sizes"]["demo"].pop("width")
    with pytest.raises(ParamsError, match=r"\.width: missing; add it, it has no default"):
        made(raw)
    raw["sizes"]["demo"] |= {"width": 8}
    raw["sizes"]["demo"].pop("attack")
    attacked = {"attack": {RCIG: raw["experiments"][RCIG]}}
    with pytest.raises(ParamsError, match=rf"experiments\.{RCIG}\.attack: missing; give it there or in sizes\.demo"):
        made(raw | attacked)


def test_an_unknown_method_is_never_random_real_images_under_its_name() -> None:
    for method in ("rcgi", "RCIG", "", "random", None, "implicit"):
        with pytest.raises(ParamsError, match=r"^x\.method: unknown method .*; known: at_bptt, .*vig$"):
            resolved(method=method)
    for method, module in registry.METHODS.items():
        file = registry.load(module)
        member = file.MEMBERS[method]
        if member.starts and not hasattr(file, "NEEDS"):
            run = resolved(method=method).run
            assert (run.method, run.module) == (method, module)
            assert (run.loop.steps > 0) == member.learns


def test_an_experiment_may_need_what_a_stage_makes(raw: dict[str, Any]) -> None:
    entry = raw["experiments"][RCIG]
    warm = entry | {"initialisation": "stored", "needs": f"artifacts/distilled/{RCIG}.npz"}
    hard = entry | {"hardness": {}, "needs": f"artifacts/scores/{RCIG}.npz"}
    made(raw | {"experiments": {RCIG: entry, "warm": warm, "hard": hard}, "score": {RCIG: entry}})
    with pytest.raises(ParamsError, match=rf"experiments\.hard\.needs: no file artifacts/scores/{RCIG}\.npz"):
        made(raw | {"experiments": {RCIG: entry, "hard": hard}})


def test_an_experiment_may_need_a_file_that_is_there_or_pinned(raw: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs" / "none").touch()
    raw["experiments"] = {"x": raw["experiments"][RCIG] | {"initialisation": "stored", "needs": "set.npz"}}
    for name in ("set.npz", "set.npz.dvc"):
        with pytest.raises(ParamsError, match=r"experiments\.x\.needs: no file set\.npz"):
            made(raw, tmp_path)
        (tmp_path / name).touch()
        made(raw, tmp_path)
        (tmp_path / name).unlink()


def test_what_an_experiment_needs_is_of_its_dataset_and_not_of_itself(raw: dict[str, Any]) -> None:
    entry = raw["experiments"][RCIG] | {"initialisation": "stored"}

    def needing(**needs: str) -> dict[str, Any]:
        return raw | {"experiments": {name: entry | {"needs": path} for name, path in needs.items()}}

    with pytest.raises(ParamsError, match=r"experiments\.a\.needs: goes in a circle: a needs b needs a"):
        made(needing(a="artifacts/distilled/b.npz", b="artifacts/distilled/a.npz"))
    scored = raw["experiments"][RCIG] | {"hardness": {}, "needs": "artifacts/scores/a.npz"}
    mixed = {"a": entry | {"needs": "artifacts/distilled/b.npz"}, "b": scored}
    with pytest.raises(ParamsError, match=r"experiments\.a\.needs: goes in a circle: a needs b needs a"):
        made(raw | {"experiments": mixed, "score": {"a": mixed["a"]}})
    for path in ("/etc/passwd", "../set.npz", "", ".", "a\nb", "x" * 300):
        with pytest.raises(ParamsError, match=r"experiments\.a\.needs: expected a plain path inside of this folder"):
            made(needing(a=path))
    other = needing(a="artifacts/distilled/b.npz")
    other["datasets"] = raw["datasets"] | {"mnist": raw["datasets"][DATASET]}
    other["experiments"]["b"] = raw["experiments"][RCIG] | {"dataset": "mnist"}
    with pytest.raises(ParamsError, match=rf"a\.needs: artifacts/distilled/b\.npz is of mnist, not {DATASET}"):
        made(other)
    with pytest.raises(ParamsError, match=r"boost: every block would start from the same stored images"):
        made(raw | {"experiments": {RCIG: raw["experiments"][RCIG], "a": entry | BOOSTED}})


DATASET = "mnist_sample"
BOOSTED = {"needs": f"artifacts/distilled/{RCIG}.npz", "images_per_class": 2, "boost": {"block": 1}}
SIZES: dict[str, tuple[dict[str, Any], str]] = {
    "a typo in a setting": (
        {"settings": {"implicit": {"learing_rate": 1}}},
        r"sizes\.x\.settings\.implicit\.learing_rate: unknown key",
    ),
    "no method": ({"settings": {"implict": {}}}, r"sizes\.x\.settings\.implict: unknown method 'implict'"),
    "settings of nothing": ({"settings": None}, r"sizes\.x\.settings: expected a mapping"),
    "what a size cannot give": ({"mirror": True}, r"sizes\.x\.mirror: unknown key 'mirror'"),
    "no loop": ({"loop": 7}, r"sizes\.x\.loop: expected a mapping"),
    "a typo in judging": ({"evaluate": {"netwroks": 2}}, r"sizes\.x\.evaluate\.netwroks: unknown key"),
}


@pytest.mark.parametrize("case", SIZES)
def test_a_size_is_checked_whether_it_is_used_or_not(raw: dict[str, Any], case: str) -> None:
    size, message = SIZES[case]
    with pytest.raises(ParamsError, match=message):
        made(raw | {"sizes": raw["sizes"] | {"x": size}})


def test_a_depth_that_leaves_no_pixels(raw: dict[str, Any]) -> None:
    datasets = {name: entry | {"depth": 9} for name, entry in raw["datasets"].items()}
    with pytest.raises(ParamsError, match=r"depth: 9 stages that halve 32 pixels leave none; lower it"):
        made(raw | {"datasets": datasets})


@pytest.mark.parametrize("section", ["cross_arch", "attack", "score"])
def test_a_judging_section_repeats_the_experiments_entry(raw: dict[str, Any], section: str) -> None:
    entry = raw["experiments"][RCIG]
    assert made(raw | {section: {RCIG: copy.deepcopy(entry)}})[section].keys() == {RCIG}
    said = refusal(raw | {section: {RCIG: entry | {"width": 15}}})
    assert said.startswith(f"{section}.{RCIG}: is not the entry of that experiment; repeat it by its")


def test_layers() -> None:
    """Own over fixed over the size by method over the size by module over presets over defaults."""
    size = {
        "loop": {"batch_size": 64, "validate_every": 5},
        "settings": {
            "implicit": {"clip_implicit": False, "inner_steps": 7, "inverse_steps": 7, "cg_iterations": 7},
            "rig": {"inner_steps": 8, "inverse_steps": 8, "linearised": True},
            "unrolled": {"inner_steps": 6},
            "vig": {"inner_steps": 5},
        },
    }
    run = resolved(size=size, method="rig", settings={"inverse_steps": 9}, loop={"validate_every": 6}).run
    found = run.settings
    assert found.pool_size == 30, "the default"
    assert (found.solver, found.body_weight) == ("adam", 1), "presets over defaults"
    assert (found.clip_implicit, found.cg_iterations) == (False, 7), "the size by module over presets and defaults"
    assert found.inner_steps == 8, "the size by method over the size by module"
    assert found.linearised is False, "what makes the method over its size"
    assert found.inverse_steps == 9, "its own over all"
    assert (run.loop.steps, run.loop.batch_size, run.loop.validate_every) == (10, 64, 6), "mappings are merged"
    assert resolved(size=size, method="rig", settings={"clip_implicit": True}).run.settings.clip_implicit is True
    assert resolved(method="rig").run.settings.clip_implicit is True
    assert resolved(size={"width": 9}).run.width == 4
    assert resolved(size={"settings": {"unrolled": {"window": 7}}}, method="bptt").run.settings.window is None


def write(folder: Path, experiments: str) -> Path:
    """A params.yaml with the experiments of that text."""
    path = folder / "params.yaml"
    rest = "".join(
        f"{name}: {{}}\n" for name in ("full_dataset", "cross_arch", "attack", "score", "experts", "studies")
    )
    path.write_text(
        "sizes: {s: {width: 4}}\n"
        "datasets: {d: {resolution: 8, channels: 1, classes: 3, depth: 2, whitening: standard, mirror: false,"
        " l2_rate: 5e-4, held_out: 0.1}}\n"
        "shared:\n"
        "  one: &one {dataset: d, images_per_class: 1, method: random_real, size: s, needs: inputs/none}\n"
        "  first: &first {a: *one, b: *one}\n"
        "  second: &second {b: *one, c: *one}\n"
        f"experiments:\n{experiments}{rest}"
    )
    return path


def test_groups_of_experiments_are_merged(tmp_path: Path) -> None:
    params, _ = plan.read(write(tmp_path, "  <<: *first\n  c: {<<: *one, images_per_class: 2}\n"))
    assert {name: entry["images_per_class"] for name, entry in params.experiments.items()} == {"a": 1, "b": 1, "c": 2}
    assert type(params.datasets["d"].l2_rate) is float, "5e-4 is a number, not text"


@pytest.mark.parametrize(
    ("experiments", "message"),
    [
        ("  a: *one\n  a: *one\n", r"not readable as YAML: .*duplicate key \"a\""),
        ("  <<: [*first, *second]\n", r"experiments: two entries have the name 'b'; rename one of them"),
    ],
    ids=["a key twice", "two groups"],
)
def test_two_experiments_of_one_name(tmp_path: Path, experiments: str, message: str) -> None:
    with pytest.raises(ParamsError, match=message) as error:
        plan.read(write(tmp_path, experiments))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a b", "../a", "a.b", "a;b", "'$(a)'", "é", "''", "a" * 81, "-a", "--help"])
def test_names_that_no_command_line_should_meet(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        ParamsError, match=r"experiments: expected names of at most 80 letters, digits, - and _, .*got '"
    ):
        plan.read(write(tmp_path, f"  {name}: *one\n"))


def test_numbers_with_exponents_are_numbers() -> None:
    # PyYAML reads 5e-5 as text; DVC and this project read it as a number.
    params, _ = plan.read(ROOT / "params.yaml")
    assert params.datasets["mnist_sample"].l2_rate == 5e-4


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [1", "not readable as YAML"), ("3", "expected the sections datasets, sizes"), ("a: 1", "a: unknown key 'a'")],
)
def test_unreadable_files(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParamsError, match=message) as error:
        plan.read(tmp_path / "params.yaml")
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"{tmp_path}/params.yaml: ")
    with pytest.raises(ParamsError, match="No such file"):
        plan.read(tmp_path / "other.yaml")
    (tmp_path / "params.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ParamsError, match="it is no text in UTF-8"):
        plan.read(tmp_path / "params.yaml")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a params.yaml, one module and a plan of both."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "picture.py").write_text("NUMBER = 1\n")
    planned.PARAMS.write_text("a: 1\n")
    entry = {"settings": {"n": 3}, "modules": ["stages.picture"], "code": fingerprint.of(["stages.picture"])}
    planned.save({"picture": {"x": entry}, "report": entry}, planned.PARAMS.read_bytes())
    return tmp_path


def test_a_plan_is_read_as_it_was_made(project: Path) -> None:
    expected = planned.Planned({"n": 3}, fingerprint.of(["stages.picture"]))
    assert planned.read("picture", "x", dict) == planned.read("report", None, dict) == expected
    (project / "stages" / "picture.py").write_text('"""A docstring."""\n\nNUMBER = 1  # one\n')
    assert planned.read("picture", "x", dict) == expected
    planned.PARAMS.unlink()
    assert planned.read("picture", "x", dict) == expected, "where there are only results"


def test_a_name_that_is_not_planned(project: Path) -> None:
    with pytest.raises(ParamsError, match=r"picture in params\.yaml: unknown name 'y'; known: x"):
        planned.read("picture", "y", dict)


def test_a_plan_that_was_edited_by_hand(project: Path) -> None:
    planned.PLAN.write_text(planned.PLAN.read_text().replace('"n": 3', '"n": 4', 1))
    with pytest.raises(ParamsError, match=r"plan\.json: was edited by hand; settings are changed in params\.yaml; run"):
        planned.read("picture", "x", dict)


def test_a_plan_of_another_params_yaml(project: Path) -> None:
    planned.PARAMS.write_text("a: 2\n")
    with pytest.raises(ParamsError, match=r"params\.yaml has changed since plan\.json was made; run `dvc repro plan`"):
        planned.read("picture", "x", dict)


@pytest.mark.parametrize("written", [0, 1, 2])
def test_a_plan_that_is_cut_off_halfway_is_followed_by_no_stage(
    project: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    """Whatever of it is there: what DVC would note is then never what a stage has worked by."""
    entry = {"settings": {"n": 4}, "modules": ["stages.picture"], "code": fingerprint.of(["stages.picture"])}
    save, left = store.save_json, [written]

    def killed(path: Path, content: Any) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        save(path, content)

    planned.PARAMS.write_text("a: 2\n")
    monkeypatch.setattr(store, "save_json", killed)
    made = {"picture": {"x": entry}, "report": entry}
    with pytest.raises(KeyboardInterrupt):
        stage_plan.save(made, planned.PARAMS.read_bytes())
    with pytest.raises(ParamsError, match="has changed since"):
        planned.read("picture", "x", dict)
    monkeypatch.undo()
    monkeypatch.chdir(project)
    stage_plan.save(made, planned.PARAMS.read_bytes())
    assert planned.read("picture", "x", dict).settings == {"n": 4}
    parts = [json.loads(path.read_text())["stages"] for path in sorted(Path("plan").iterdir())]
    assert {**parts[0], **parts[1]} == planned.load()["stages"] == made


def test_a_comment_in_params_yaml_stops_no_stage(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for same in ("# a comment\na:   1\n", '"a": 1\nshared: {b: 2}\n', "{a: 1}"):
        planned.PARAMS.write_text(same)
        assert planned.read("picture", "x", dict).settings == {"n": 3}
    for other in ("a: '1'\n", "a: 1\nb: 1\n", "a: 1.0\n", "a: [1", "a: 1\na: 1\n", ""):
        planned.PARAMS.write_text(other)
        with pytest.raises(ParamsError, match=r"params\.yaml has changed since"):
            planned.read("picture", "x", dict)
    planned.PARAMS.write_text("a: 1\n")
    monkeypatch.setattr(planned, "meaning_of", None)
    assert planned.read("picture", "x", dict).settings == {"n": 3}, "equal bytes are not parsed"


def test_a_plan_of_other_code(project: Path) -> None:
    (project / "stages" / "picture.py").write_text("NUMBER = 2\n")
    with pytest.raises(
        ParamsError, match=r"plan\.json: picture was planned with the code \w+, here it is \w+; run `dvc"
    ):
        planned.read("picture", "x", dict)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"digest": 1}', "null"])
def test_what_is_no_plan(project: Path, text: str) -> None:
    planned.PLAN.write_text(text)
    with pytest.raises(ParamsError, match=r"plan\.json: not a plan \(.*\); run `dvc repro plan`"):
        planned.read("picture", "x", dict)
    planned.PLAN.unlink()
    with pytest.raises(
        ParamsError, match=r"plan\.json: no such file; run `dvc repro plan`, from the folder that holds"
    ):
        planned.read("picture", "x", dict)

import copy
import dataclasses
import typing
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from rcig.params import ParamsError
from ruamel.yaml import YAML

from rcig import attacks, evaluate, nets, params
from rcig.data import sources

RCIG, RANDOM, STEPS = "mnist_sample-ipc1-rcig", "mnist_sample-ipc1-random_real", "solver_steps"
RAT = "mnist-ipc1-rat_bptt-compact"


@pytest.fixture
def raw() -> dict[str, Any]:
    content = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    content["studies"] = content["shared"]["studies"]
    # Of one dataset, whatever else the project has switched on. Entries share what stands under an anchor; a copy each
    # lets a test change one of them alone.
    chosen = {"datasets": ["mnist_sample"], "full_dataset": ["mnist_sample"], "experiments": [RCIG, RANDOM]}
    chosen["studies"] = list(content["studies"])
    entries = {
        section: {name: copy.deepcopy(content[section][name]) for name in names} for section, names in chosen.items()
    }
    unrolled = copy.deepcopy(content["shared"]["experiments"][RAT])
    entries["experiments"][RAT] = unrolled | {"dataset": "mnist_sample"}
    return entries


def test_the_projects_own_settings_are_valid() -> None:
    assert RCIG in params.load(ROOT / "params.yaml").experiments


def test_every_entry_of_the_catalogue_can_be_switched_on() -> None:
    shared = YAML(typ="safe").load((ROOT / "params.yaml").read_text())["shared"]
    loaded = params.parse_params(
        {section: shared[section] for section in ("datasets", "full_dataset", "experiments", "studies")}
    )
    assert len(loaded.experiments) == len(shared["experiments"])
    assert len(loaded.studies) == len(shared["studies"])
    assert loaded.full_dataset.keys() == shared["full_dataset"].keys()


def test_names_are_those_of_the_code_behind_them() -> None:
    assert set(typing.get_args(params.Protocol)) == set(evaluate.PROTOCOLS)
    assert set(typing.get_args(params.Architecture)) == set(nets.ARCHITECTURES)
    assert set(typing.get_args(params.Attack)) == {*attacks.ATTACKS, "gradient_norm", "likelihood_ratio"}
    shared = YAML(typ="safe").load((ROOT / "params.yaml").read_text())["shared"]
    assert set(shared["datasets"]) == set(sources.SOURCES)


def test_asking_for_what_is_not_listed() -> None:
    loaded = params.load(ROOT / "params.yaml")
    with pytest.raises(ParamsError, match=r"unknown experiment 'rcgi'; known: .*mnist_sample-ipc1-rcig"):
        loaded.experiment("rcgi")


def test_a_study_is_the_union_of_its_grids(raw: dict[str, Any]) -> None:
    raw["studies"][STEPS]["grids"] = [
        {"solver": ["adam"], "inner_steps": [0, 2], "inverse_steps": [0, 5]},
        {"solver": ["dense"], "body_weight": [1]},
        {"inverse_steps": [5], "solver": ["adam"], "inner_steps": [2]},
        {},
    ]
    study = params.parse_params(raw).study(STEPS)
    assert study.varied == ["solver", "inner_steps", "inverse_steps", "body_weight"]
    adam = [{"solver": "adam", "inner_steps": a, "inverse_steps": b} for a in (0, 2) for b in (0, 5)]
    points = study.points()
    assert [point for point, _ in points] == [*adam, {"solver": "dense", "body_weight": 1.0}, {}]
    for point, experiment in points:
        assert vars(experiment.settings) == vars(study.base.settings) | point
        assert dataclasses.replace(experiment, settings=study.base.settings) == study.base


def test_asking_for_a_study_that_is_not_listed(raw: dict[str, Any]) -> None:
    with pytest.raises(ParamsError, match=r"unknown study 'steps'; known: solver_steps, subset"):
        params.parse_params(raw).study("steps")


def test_what_is_done_besides_is_part_of_the_name_of_a_method(raw: dict[str, Any]) -> None:
    assert params.parse_params(raw).experiments[RCIG].label == "rcig"
    scores = {"scores": "scores.npz", "sha256": "0", "strength": 1}
    raw["experiments"][RCIG] |= {"boost": {"block": 1, "mobility": 0}, "hardness": scores}
    raw["experiments"][RCIG]["settings"]["batch_norm"] = True
    assert params.parse_params(raw).experiments[RCIG].label == "rcig+boost+hardness+batch_norm"


def test_seeds_number_the_chunks(raw: dict[str, Any]) -> None:
    raw["experiments"][RCIG] |= {"chunk": 100, "seeds": [-1]}
    with pytest.raises(ParamsError, match=r"seeds number the chunks from 0, got \[-1\]"):
        params.parse_params(raw)


def test_there_may_be_nothing_to_do(raw: dict[str, Any]) -> None:
    loaded = params.parse_params(raw | {"full_dataset": {}, "experiments": {}, "studies": {}})
    assert loaded.experiments == loaded.studies == {}


def test_published_steps_are_those_of_the_paper(raw: dict[str, Any]) -> None:
    raw["experiments"][RCIG]["loop"]["steps"] = "published"
    loaded = params.parse_params(raw)
    assert params.steps(loaded.datasets["mnist_sample"], loaded.experiments[RCIG]) == 15000


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
        r"learning_rate: expected a number",
    ),
    "negative rate": (
        ["experiments", RCIG, "settings", "learning_rate"],
        -1,
        r"expected learning_rate to be positive, got -1",
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
        {"method": "bptt", "settings": {"window_end": "last"}},
        r"settings.window: bptt goes back through all 60 inner_steps, got 20; use t_bptt",
    ),
    "clip of zero": (["experiments", RCIG, "settings", "clip_gradient"], 0, r"clip_gradient to be positive, got 0"),
    "a basis of nothing": (["experiments", RCIG, "basis"], 0, r"expected basis to be positive, got 0"),
    "blocks that do not divide": (
        ["experiments", RCIG],
        {"images_per_class": 10, "boost": {"block": 4, "mobility": 0}},
        r"boost: blocks of 4 images per class do not divide 10; give a divisor",
    ),
    "mobility of two": (
        ["experiments", RCIG, "boost"],
        {"block": 1, "mobility": 2},
        "mobility between 0 and 1",
    ),
    "boost with a basis": (
        ["experiments", RCIG],
        {"boost": {"block": 1, "mobility": 0}, "basis": 5},
        r"boost: a basis is shared by all blocks .*; set basis: none",
    ),
    "boost of real images": (
        ["experiments", RANDOM, "boost"],
        {"block": 1, "mobility": 0},
        r"boost: nothing is distilled by random_real",
    ),
    "a basis of real images": (
        ["experiments", RANDOM, "basis"],
        5,
        r"basis: nothing is distilled by random_real; set basis: none",
    ),
    "noise for real images": (
        ["experiments", RANDOM, "initialisation"],
        "unit_noise",
        r"initialisation: random_real starts from no noise; set initialisation: real",
    ),
    "hard images for real ones": (
        ["experiments", RANDOM, "hardness"],
        {"scores": "scores.npz", "sha256": "0", "strength": 1},
        r"hardness: nothing is distilled by random_real; set hardness: none",
    ),
    "a part of mixtures": (
        ["experiments", RCIG],
        {"images_per_class": 4, "basis": 9, "evaluate": {"subsets": [2]}},
        r"subsets: a part of a set of mixtures needs the whole basis; give none",
    ),
    "a part that is the whole": (
        ["experiments", RCIG, "evaluate", "subsets"],
        [1],
        r"subsets: 1 is no part of a set of 1 images per class",
    ),
    "parts that are no blocks": (
        ["experiments", RCIG],
        {"images_per_class": 4, "boost": {"block": 2, "mobility": 0}, "evaluate": {"subsets": [3]}},
        r"subsets: 3 images per class are not whole blocks of 2",
    ),
    "one part twice": (
        ["experiments", RCIG],
        {"images_per_class": 4, "evaluate": {"subsets": [2, 2]}},
        r"expected subsets to be different numbers, got \[2, 2\]",
    ),
    "hardness without scores": (
        ["experiments", RCIG, "hardness"],
        {"strength": 1},
        r"hardness.scores: missing; add it",
    ),
    "a study of a boosted set": (
        ["studies", STEPS, "base", "boost"],
        {"block": 1, "mobility": 0},
        r"base.boost: a study measures one run at a time; set boost: none",
    ),
    "choice": (
        ["experiments", RCIG, "settings", "outer_loss"],
        "hinge",
        r"expected one of platt, squared, got 'hinge'",
    ),
    "same seed twice": (["experiments", RCIG, "seeds"], [1, 1], r"expected seeds to be different numbers"),
    "scalar for list": (["experiments", RCIG, "seeds"], 0, r"seeds: expected a list, got 0"),
    "scalar for section": (["experiments", RCIG, "loop"], 3, r"loop: expected a mapping with steps"),
    "no protocol": (["experiments", RCIG, "evaluate", "protocols"], [], "at least one of protocols, got none"),
    "no learning rate": (
        ["experiments", RCIG, "cross_arch", "learning_rates"],
        [],
        "at least one of learning_rates, got none",
    ),
    "negative learning rate": (
        ["experiments", RCIG, "cross_arch", "learning_rates"],
        [1e-3, -1e-3],
        r"expected learning_rates to be positive, got -0\.001",
    ),
    "steps that go back": (
        ["experiments", RCIG, "attack", "measured_at"],
        [100, 100],
        r"expected measured_at to be increasing numbers of steps, got \[100, 100\]",
    ),
    "no steps": (["experiments", RCIG, "attack", "measured_at"], [], "to be increasing numbers of steps, got"),
    "no shadows": (
        ["experiments", RCIG, "attack", "attacks"],
        ["likelihood_ratio"],
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
        r"expected held_out between 0 and 1, both excluded, got 2",
    ),
    "study of an unknown dataset": (
        ["studies", STEPS, "base", "dataset"],
        "minst",
        r"base.dataset: unknown dataset 'minst'; known: mnist_sample",
    ),
    "study of a method without settings": (
        ["studies", STEPS, "base", "method"],
        "random_real",
        r"base.method: unknown method with settings to vary 'random_real'; known: cig, .*vig",
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
        r"linearised\[1\]: linearised: rcig has True, got False",
    ),
    "a figure of what is not varied": (
        ["studies", STEPS, "figure"],
        "subset",
        r"grids: figure subset needs a grid that varies subset",
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
        section = section[key]
    old = section.get(keys[-1]) if isinstance(section, dict) else section[keys[-1]]
    section[keys[-1]] = merged(old, value)
    with pytest.raises(ParamsError, match=message) as error:
        params.parse_params(raw)
    assert "\n" not in str(error.value)
    assert ".".join(keys[:2]) in str(error.value)


def test_a_missing_key_is_named(raw: dict[str, Any]) -> None:
    del raw["experiments"][RCIG]["settings"]["pool_size"]
    with pytest.raises(ParamsError, match=rf"experiments.{RCIG}.settings.pool_size: missing"):
        params.parse_params(raw)


def test_numbers_with_exponents_are_numbers(raw: dict[str, Any]) -> None:
    # PyYAML reads 5e-5 as text; DVC and this project read it as a number.
    loaded = params.parse_params(raw).experiments[RCIG].settings
    assert loaded.pool_learning_rate == 5e-5


@pytest.mark.parametrize(("text", "message"), [("a: [1", "not readable as YAML"), ("3", "expected the sections")])
def test_unreadable_files(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParamsError, match=message) as error:
        params.load(tmp_path / "params.yaml")
    assert "\n" not in str(error.value)
    with pytest.raises(ParamsError, match="no such file"):
        params.load(tmp_path / "other.yaml")

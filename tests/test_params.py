import copy
import typing
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from ruamel.yaml import YAML

from rcig import data, evaluate, nets, params
from rcig.params import ParamsError


@pytest.fixture
def raw() -> dict[str, Any]:
    content = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    # Entries share what stands under an anchor; a copy each lets a test change one of them alone.
    return {
        section: {name: copy.deepcopy(entry) for name, entry in content[section].items()}
        for section in ("datasets", "experiments")
    }


RCIG = "mnist_sample-ipc1-rcig"


def test_the_projects_own_settings_are_valid() -> None:
    assert RCIG in params.load(ROOT / "params.yaml").experiments


def test_every_entry_of_the_catalogue_can_be_switched_on() -> None:
    shared = YAML(typ="safe").load((ROOT / "params.yaml").read_text())["shared"]
    loaded = params.parse_params({"datasets": shared["datasets"], "experiments": shared["experiments"]})
    assert len(loaded.experiments) == len(shared["experiments"])


def test_names_are_those_of_the_code_behind_them() -> None:
    assert set(typing.get_args(params.Protocol)) == set(evaluate.PROTOCOLS)
    assert set(typing.get_args(params.Architecture)) == set(nets.ARCHITECTURES)
    shared = YAML(typ="safe").load((ROOT / "params.yaml").read_text())["shared"]
    assert set(shared["datasets"]) == set(data.SOURCES)


def test_asking_for_what_is_not_listed() -> None:
    loaded = params.load(ROOT / "params.yaml")
    with pytest.raises(ParamsError, match=r"unknown experiment 'rcgi'; known: .*mnist_sample-ipc1-rcig"):
        loaded.experiment("rcgi")


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
    "choice": (
        ["experiments", RCIG, "settings", "outer_loss"],
        "hinge",
        r"expected one of platt, squared, got 'hinge'",
    ),
    "same seed twice": (["experiments", RCIG, "seeds"], [1, 1], r"expected seeds to be different numbers"),
    "scalar for list": (["experiments", RCIG, "seeds"], 0, r"seeds: expected a list, got 0"),
    "scalar for section": (["experiments", RCIG, "loop"], 3, r"loop: expected a mapping with steps"),
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
    "unpublished": (["experiments", RCIG, "images_per_class"], 7, r"no number of steps for 7 images per class"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_settings_name_the_key_and_the_value(raw: dict[str, Any], case: str) -> None:
    keys, value, message = BAD[case]
    if case == "unpublished":
        raw["experiments"][RCIG]["loop"]["steps"] = "published"
    section = raw
    for key in keys[:-1]:
        section = section[key]
    section[keys[-1]] = value
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

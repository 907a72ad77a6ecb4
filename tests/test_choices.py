"""Settings of the implicit methods that contradict each other or do not fit their set, and what `auto` picks."""

import dataclasses
from typing import Any

import pytest
from conftest import ROOT
from rcig.params import FAMILY, Experiment, ParamsError

from rcig import distill, params

LOADED = params.load(ROOT / "params.yaml")
DATASET = LOADED.datasets["mnist_sample"]
RCIG = LOADED.experiments["mnist_sample-ipc1-rcig"]

CONTRADICTIONS = {
    "exact solver, network not linearised": (
        {"solver": "cg", "linearised": False},
        r"solver cg needs linearised: true and closed_form: true, got linearised: false, .*; use solver: adam",
    ),
    "exact solver, free final layer": (
        {"solver": "dense", "closed_form": False},
        "solver dense needs linearised: true",
    ),
    "nothing to learn": ({"body_weight": 0.0, "closed_form": False}, "which needs closed_form: true"),
    "nothing to clip": ({"body_weight": 0.0, "clip_implicit": True}, "no implicit gradient to clip"),
    "nothing to clip with": ({"solver": "adam", "closed_form": False, "clip_implicit": True}, "no direct gradient"),
    "negative rate": ({"inner_rate": -0.1}, "expected inner_rate to be positive, got -0.1"),
    "no iterations": ({"cg_iterations": 0}, "expected cg_iterations to be positive, got 0"),
    "negative steps": ({"inverse_steps": -1}, "expected inverse_steps not to be negative, got -1"),
    "one step tells nothing": ({"inner_steps": 1}, "inner_rate auto needs 0 or at least 2 inner_steps"),
    "empty subset": ({"subset": 0}, "expected subset to be positive, got 0"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_settings_that_contradict_each_other(case: str) -> None:
    changes, message = CONTRADICTIONS[case]
    with pytest.raises(ParamsError, match=message):
        dataclasses.replace(RCIG.settings, **changes)


def experiment(images_per_class: int = 1, width: int = 16, **settings: Any) -> Experiment:
    return dataclasses.replace(
        RCIG,
        images_per_class=images_per_class,
        width=width,
        settings=dataclasses.replace(RCIG.settings, **settings),
    )


def test_auto_takes_dense_for_small_sets_and_cg_for_others() -> None:
    assert distill.chosen_settings(DATASET, experiment(solver="auto")).solver == "dense"
    assert distill.chosen_settings(DATASET, experiment(50, solver="auto")).solver == "cg"
    assert distill.chosen_settings(DATASET, experiment(50, solver="auto"), 50).solver == "dense", "for a first block"
    assert distill.chosen_settings(DATASET, experiment(solver="adam")).solver == "adam"


def test_auto_takes_cg_where_the_jacobian_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distill, "_memory_gib", lambda: 0.01)
    assert distill.chosen_settings(DATASET, experiment(solver="auto")).solver == "cg"


MISFITS = {
    "dense": (
        {"images_per_class": 5000, "width": 128, "solver": "dense"},
        r"solver dense would need [\d.]+ GiB for the Jacobian and kernel of 50000 images .* use solver: cg",
    ),
    "iterations": ({"solver": "cg", "cg_iterations": 101}, "cg_iterations 101 is more than the 100 unknowns"),
    "subset": ({"subset": 11}, "subset 11 is larger than the set of 10 images"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_settings_that_do_not_fit_the_set(case: str) -> None:
    changes, message = MISFITS[case]
    with pytest.raises(ParamsError, match=message):
        distill.make(DATASET, experiment(**changes))


def test_mirror_images_count() -> None:
    mirrored = dataclasses.replace(DATASET, mirror=True)
    assert distill.chosen_settings(mirrored, experiment(subset=20)).subset == 20
    with pytest.raises(ParamsError, match="larger than the set of 20 images"):
        distill.chosen_settings(mirrored, experiment(subset=21))


@pytest.mark.parametrize("method", FAMILY)
def test_a_method_is_what_its_name_says(method: str) -> None:
    for key, value in FAMILY[method].items():
        settings = {"solver": "adam", "clip_implicit": False, **FAMILY[method], key: other(value)}
        if key == "body_weight":
            settings |= {"closed_form": True}
        if not settings["closed_form"] and settings.get("body_weight") == 0:
            settings |= {"body_weight": 0.5}
        raw = {
            "datasets": {"mnist_sample": dataclasses.asdict(DATASET)},
            "experiments": {"x": as_yaml(dataclasses.replace(RCIG, method=method), settings)},
            "full_dataset": {},
            "studies": {},
        }
        with pytest.raises(ParamsError, match=rf"experiments.x.settings.\w+: {method} has .*, got"):
            params.parse_params(raw)


def other(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return {"squared": "platt", "platt": "squared"}[value]
    return value + 1


def as_yaml(entry: Experiment, settings: dict[str, Any]) -> dict[str, Any]:
    raw = dataclasses.asdict(dataclasses.replace(entry, settings={}))
    raw["settings"] = dataclasses.asdict(RCIG.settings) | settings
    for key in ("seeds",):
        raw[key] = list(raw[key])
    raw["evaluate"]["protocols"] = list(raw["evaluate"]["protocols"])
    raw["attack"]["trained_on"] = list(raw["attack"]["trained_on"])
    return raw


def test_mirroring_grey_images_is_allowed_but_said() -> None:
    with pytest.warns(UserWarning, match="mirror"):
        distill.make(dataclasses.replace(DATASET, mirror=True), experiment())

"""Settings of the methods that contradict each other or do not fit their set, and what `auto` picks."""

import dataclasses
from typing import Any, get_args, get_type_hints

import pytest
from tiny import SAMPLE, resolved, setup

from rcig import strict
from rcig.errors import ParamsError
from rcig.methods import implicit, registry
from rcig.methods.base import Setup
from rcig.methods.implicit import Settings

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
    "negative rate": ({"inner_rate": -0.1}, r"expected inner_rate to be positive, got -0\.1 \(or give auto\)"),
    "no iterations": ({"cg_iterations": 0}, "expected cg_iterations to be positive, got 0"),
    "negative steps": ({"inverse_steps": -1}, "expected inverse_steps not to be negative, got -1"),
    "one step tells nothing": ({"inner_steps": 1}, "inner_rate auto needs 0 or at least 2 inner_steps"),
    "no images": ({"backward_images": 0}, r"expected backward_images to be positive, got 0 \(or give null\)"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_settings_that_contradict_each_other(case: str) -> None:
    changes, message = CONTRADICTIONS[case]
    with pytest.raises(ParamsError, match=rf"^x\.settings[.:].*{message}") as error:
        strict.parse(Settings, changes, "x.settings")
    assert "\n" not in str(error.value)


def sample(images: int = 10, width: int = 16, **changes: Any) -> Setup:
    """A run on the sample of MNIST."""
    return setup(shape=SAMPLE.shape, classes=SAMPLE.classes, images=images, width=width, **changes)


def test_auto_takes_dense_for_small_sets_and_cg_for_others() -> None:
    assert implicit.chosen(Settings(), sample()).solver == "dense"
    assert implicit.chosen(Settings(), sample(500)).solver == "cg"
    assert implicit.chosen(Settings(), sample(50)).solver == "dense", "for a first block"
    assert implicit.chosen(Settings(solver="adam"), sample()).solver == "adam"


def test_auto_takes_cg_where_the_jacobian_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(implicit, "_memory_gib", lambda: 0.001)
    assert implicit.chosen(Settings(), sample()).solver == "cg"


def test_dense_is_refused_where_it_does_not_fit() -> None:
    message = r"solver dense would need [\d.]+ GiB for the Jacobian and kernel of 50000 images .* use solver: cg"
    for make in (implicit.chosen, implicit.make):
        with pytest.raises(ParamsError, match=message):
            make(Settings(solver="dense"), sample(50_000, width=128))


MISFITS = {
    "iterations": ({"solver": "cg", "cg_iterations": 101}, "cg_iterations 101 is more than the 100 unknowns"),
    "images": ({"backward_images": 11}, "backward_images 11 is larger than the set of 10 images"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_settings_that_do_not_fit_the_set(case: str) -> None:
    changes, message = MISFITS[case]
    with pytest.raises(ParamsError, match=message):
        implicit.check(Settings(**changes), 10, 10)
    with pytest.raises(ParamsError, match=rf"^x\.settings\.{message}"):
        resolved(settings=changes)
    (name, value) = list(changes.items())[-1]
    resolved(settings=changes | {name: value - 1})


def test_mirror_images_count() -> None:
    mirrored = dataclasses.replace(SAMPLE, channels=3, mirror=True)
    assert resolved(mirrored, settings={"backward_images": 20}).run.settings.backward_images == 20
    with pytest.raises(ParamsError, match="larger than the set of 20 images"):
        resolved(mirrored, settings={"backward_images": 21})
    assert implicit.chosen(Settings(), sample(40)).solver == "dense"
    assert implicit.chosen(Settings(), sample(40, mirror=True)).solver == "cg", "of 800 unknowns"


FIXED = [
    (method, key, value)
    for method, module in registry.METHODS.items()
    for key, value in registry.load(module).MEMBERS[method].fixed.items()
]


@pytest.mark.parametrize(("method", "key", "value"), FIXED)
def test_a_method_is_what_its_name_says(method: str, key: str, value: Any) -> None:
    file = registry.load(registry.METHODS[method])
    given = other(file.Settings, key, value)
    said = rf"^x\.settings\.{key}: {method} has {in_yaml(value)}, got {in_yaml(given)}; .*it is another method$"
    with pytest.raises(ParamsError, match=said):
        resolved(method=method, settings={key: given})
    reads = hasattr(file, "NEEDS") or not file.MEMBERS[method].starts
    needs = {"needs": "a.npz"} if reads else {}
    assert getattr(resolved(method=method, settings={key: value}, **needs).run.settings, key) == value
    assert getattr(resolved(method=method, **needs).run.settings, key) == value


def other(settings: type, key: str, value: Any) -> Any:
    if isinstance(value, int | float):
        return not value if isinstance(value, bool) else value + 1
    return 20 if value is None else next(one for one in get_args(get_type_hints(settings)[key]) if one != value)


def in_yaml(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def test_mirroring_grey_images_is_allowed_but_said() -> None:
    with pytest.warns(UserWarning, match=r"datasets\.d\.mirror: true on grey images"):
        resolved(dataclasses.replace(SAMPLE, mirror=True))

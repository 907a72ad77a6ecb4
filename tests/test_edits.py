"""Random edits of a good params.yaml: whatever somebody makes of it, the stage `plan` runs, or says why in one line."""

import copy
import datetime
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from ruamel.yaml import YAML
from workspaces import ROOT, read_settings, save_settings, sections

import stages.plan
from rcig import fingerprint, planned
from rcig.errors import Foreseen
from rcig.methods import registry

RCIG, RANDOM, STUDY = "mnist_sample-ipc1-rcig", "mnist_sample-ipc1-random_real", "backward_images"


def good() -> dict[str, Any]:
    """Every section has something, and no two places share it."""
    shared = read_settings()["shared"]
    digits = shared["digits"]
    one, warm = digits[RCIG], {"initialisation": "stored", "needs": f"artifacts/distilled/{RCIG}.npz"}
    hard = {"hardness": {"strength": 1}, "needs": f"artifacts/scores/{RCIG}.npz", "chunk": 1000, "basis": 5}
    experiments = {RCIG: one, RANDOM: digits[RANDOM], "warm": one | warm, "hard": one | hard}
    judged = {section: {RCIG: one} for section in ("cross_arch", "attack", "score")}
    full, studies = {"mnist_sample": shared["full_dataset"]["mnist_sample"]}, {STUDY: shared["studies"][STUDY]}
    trained = {"mnist_sample": {"dataset": "mnist_sample", "width": 16}}
    whole = sections(experiments=experiments, full_dataset=full, experts=trained, studies=studies, **judged)
    return json.loads(json.dumps(whole))  # type: ignore[no-any-return]


GOOD = good()
TEXT = io.StringIO()
YAML(typ="safe").dump(GOOD, TEXT)
WORDS = [RCIG, "published", "inputs/none", "real", "stored", "auto", "../x", "$(touch X)", "x" * 300, *registry.METHODS]
SCALARS = some.one_of(
    some.none(),
    some.booleans(),
    some.integers(-3, 60),
    some.sampled_from([2**31, 2**32, 2**63, -(2**70), 10**400]),
    some.floats(),
    some.sampled_from(WORDS),
    some.text(some.characters(exclude_categories=["Cs"]), max_size=8),
    some.dates(datetime.date(1, 1, 1)),
    some.binary(max_size=3),
)
KEYS = some.one_of(some.sampled_from(["settings", "loop", "width", "seeds", "needs", "shared"]), SCALARS)
VALUES = some.recursive(
    SCALARS, lambda inner: some.lists(inner, max_size=3) | some.dictionaries(KEYS, inner, max_size=3), max_leaves=6
)


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values in it."""
    for key in tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield (*path, key)
        yield from places(tree[key], (*path, key))


@some.composite
def edited(draw: some.DrawFn) -> dict[str, Any]:
    """The good settings after one to three edits: a value is another, is gone, or has a new neighbour."""
    tree = copy.deepcopy(GOOD)
    for _ in range(draw(some.integers(1, 3))):
        *path, last = draw(some.sampled_from(sorted(places(tree), key=repr)))
        branch: Any = tree
        for key in path:
            branch = branch[key]
        kind = draw(some.sampled_from(["other", "other", "gone", "new", "moved"]))
        if kind == "gone":
            del branch[last]
        elif kind == "new" and isinstance(branch, dict):
            branch[draw(KEYS)] = draw(VALUES)
        elif kind == "moved":
            other: Any = tree
            for key in draw(some.sampled_from(sorted(places(tree), key=repr))):
                other = other[key]
            branch[last] = copy.deepcopy(other)
        else:
            branch[last] = draw(VALUES)
    return tree


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The current folder, with the project's code, of whose modules the meaning is not looked up again and again."""
    folder = tmp_path_factory.mktemp("edits")
    for part in ("rcig", "stages", "inputs"):
        (folder / part).symlink_to(ROOT / part)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(fingerprint, "of", lambda *_: "0" * 16)
        yield folder


def check(workspace: Path) -> None:
    """The plan is made, and can be read; or there is one line, and no plan."""
    planned.PLAN.unlink(missing_ok=True)
    said = refusal()
    if said is None:
        assert planned.load()["stages"].keys() >= {"distill", "report"}
    else:
        assert said.startswith("params.yaml: ")
        assert "\n" not in said
        assert len(said) < 2000
        assert not planned.PLAN.exists()
    known = {"rcig", "stages", "inputs", "params.yaml", "plan.json", "plan"}
    assert {path.name for path in workspace.iterdir()} <= known


def refusal() -> str | None:
    try:
        stages.plan.main()
    except Foreseen as error:
        return str(error)
    return None


FEW = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


def test_the_settings_that_are_edited_are_good(workspace: Path) -> None:
    save_settings(workspace, GOOD)
    stages.plan.main()
    assert all(planned.load()["stages"].values())


@FEW
@given(tree=edited())
def test_edits_of_settings(workspace: Path, tree: dict[str, Any]) -> None:
    try:
        save_settings(workspace, tree)
    except Exception:
        return
    check(workspace)


MARKS = ["<<: ", "!!int ", "--- ", "&a [*a]", "2024-13-45", "\xff", *"{}[]&*!|>'\"%@`#:,-?<\t\n\0\x85\ufeff"]


@some.composite
def scribbled(draw: some.DrawFn) -> bytes:
    """Their text with marks in it, parts missing, or in another encoding."""
    text = TEXT.getvalue()
    for _ in range(draw(some.integers(1, 3))):
        start = draw(some.integers(0, len(text)))
        end = start + draw(some.sampled_from([0, 0, 1, 5, 100]))
        text = text[:start] + draw(some.sampled_from(MARKS)) + text[end:]
    return text.encode(draw(some.sampled_from(["utf-8", "utf-8", "utf-8", "utf-16", "latin-1"])), "ignore")


@FEW
@given(content=scribbled())
def test_edits_of_the_text(workspace: Path, content: bytes) -> None:
    planned.PARAMS.write_bytes(content)
    check(workspace)

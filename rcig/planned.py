"""What the stages read: plan.json, which the stage `plan` makes of params.yaml and of the code."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from rcig import fingerprint, store
from rcig.errors import ParamsError
from rcig.fields import build, check_name, known

T = TypeVar("T")

PLAN, PARAMS = Path("plan.json"), Path("params.yaml")
FIX = "run `dvc repro plan`"


class Planned(NamedTuple):
    settings: Any
    """the settings in force, all of them"""
    code: str
    """what the code means that works by them, see rcig.fingerprint"""


def read(stage: str, name: str | None, kind: Any) -> Planned:
    """The entry of a stage, or of its member of that name, with its settings as a dataclass of that kind.

    Raises ParamsError for a name that is not planned, for a plan that is not that of the params.yaml beside it or was
    edited by hand, and for code that is not the code that was planned.
    """
    plan = load()
    if PARAMS.exists() and _differs(PARAMS.read_bytes(), plan["params"]):
        raise ParamsError(f"{PARAMS} has changed since {PLAN} was made; {FIX}")
    members = _mapping(plan["stages"], stage)
    if name is not None:
        check_name(stage, name)
        known(f"{stage} in {PARAMS}", "name", name, members)
    where, entry = (stage, members) if name is None else (f"{stage}.{name}", _mapping(members, name))
    modules, code = entry.get("modules"), entry.get("code")
    if not (isinstance(modules, list) and all(isinstance(one, str) for one in modules) and "settings" in entry):
        raise ParamsError(f"{PLAN}: {where} lacks its settings or its modules; {FIX}")
    if (found := fingerprint.of(modules)) != code:
        raise ParamsError(f"{PLAN}: {stage} was planned with the code {code}, here it is {found}; {FIX}")
    try:
        return Planned(build(kind, entry["settings"]), found)
    except (TypeError, KeyError, AttributeError) as error:
        raise ParamsError(f"{PLAN}: {where} has other settings than the code ({_line(error)}); {FIX}") from None


def load() -> dict[str, Any]:
    """The content of plan.json. Raises ParamsError where it is missing, or not as the stage `plan` has written it."""
    try:
        plan = json.loads(PLAN.read_bytes())
    except FileNotFoundError:
        raise ParamsError(f"{PLAN}: no such file; {FIX}, from the folder that holds {PARAMS}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ParamsError(f"{PLAN}: not a plan ({_line(error)}); {FIX}") from None
    stages, _ = _mapping(plan, "stages"), _mapping(plan, "params")
    if plan.get("digest") != digest_of(written(stages)):
        raise ParamsError(f"{PLAN}: was edited by hand; settings are changed in {PARAMS}; {FIX}")
    return dict(plan)


def save(stages: Mapping[str, Any], params: bytes) -> None:
    """Write a plan: stage -> its entry, or member -> entry; made of a params.yaml with that content."""
    digests = {"content": digest_of(params), "meaning": meaning_of(params)}
    store.save_json(PLAN, {"digest": digest_of(written(stages)), "params": digests, "stages": stages})


def written(stages: Mapping[str, Any]) -> bytes:
    return json.dumps(stages, sort_keys=True).encode()


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def meaning_of(params: bytes) -> str:
    """The same of what a params.yaml says: without comments, layout and what is only to choose from."""
    from ruamel.yaml import YAML  # which most starts of a stage do without
    from ruamel.yaml.error import YAMLError

    try:
        content = YAML(typ="safe", pure=True).load(params)
    except (YAMLError, ValueError, RecursionError):
        return digest_of(params)
    if isinstance(content, dict):
        content.pop("shared", None)
    return digest_of(repr(content).encode())


def _differs(params: bytes, planned: Mapping[str, Any]) -> bool:
    """Whether a params.yaml says anything else than the planned one did; parsed only where its bytes differ."""
    return planned.get("content") != digest_of(params) and planned.get("meaning") != meaning_of(params)


def _mapping(content: Any, name: str) -> Mapping[str, Any]:
    """The mapping of that name in a part of the plan. Raises ParamsError where there is none."""
    found = content.get(name) if isinstance(content, Mapping) else None
    if not isinstance(found, Mapping):
        raise ParamsError(f"{PLAN}: not a plan (it has no {name}); {FIX}")
    return found


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"

"""What the stages read: plan.json, which the stage `plan` makes of params.yaml and of the code."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from rcig import fingerprint, store
from rcig.errors import ParamsError
from rcig.fields import build, known

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
    if PARAMS.exists() and plan["params"] != digest_of(PARAMS.read_bytes()):
        raise ParamsError(f"{PARAMS} has changed since {PLAN} was made; {FIX}")
    members = plan["stages"][stage]
    if name is not None:
        known(f"{stage} in {PARAMS}", "name", name, members)
    entry = members if name is None else members[name]
    if (found := fingerprint.of(entry["modules"])) != entry["code"]:
        raise ParamsError(f"{PLAN}: {stage} was planned with the code {entry['code']}, here it is {found}; {FIX}")
    return Planned(build(kind, entry["settings"]), entry["code"])


def load() -> dict[str, Any]:
    """The content of plan.json. Raises ParamsError where it is missing, or not as the stage `plan` has written it."""
    try:
        plan = json.loads(PLAN.read_text())
        whole = plan["digest"] == digest_of(written(plan["stages"]))
    except FileNotFoundError:
        raise ParamsError(f"{PLAN}: no such file; {FIX}, from the folder that holds {PARAMS}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ParamsError(f"{PLAN}: not a plan ({type(error).__name__}: {error}); {FIX}") from None
    if not whole:
        raise ParamsError(f"{PLAN}: was edited by hand; settings are changed in {PARAMS}; {FIX}")
    return dict(plan)


def save(stages: Mapping[str, Any], params: bytes) -> None:
    """Write a plan: stage -> its entry, or member -> entry; made of a params.yaml with that content."""
    content = {"digest": digest_of(written(stages)), "params": digest_of(params), "stages": stages}
    store.save_json(PLAN, content)


def written(stages: Mapping[str, Any]) -> bytes:
    return json.dumps(stages, sort_keys=True).encode()


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]

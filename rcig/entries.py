"""Entries of dvc.lock: by what each stage was run, and what it made. Pure functions of what the file holds."""

import io
from collections.abc import Mapping
from graphlib import TopologicalSorter
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from rcig.errors import StoreError

Entry = Mapping[str, Any]
"""of one stage: `deps` and `outs`, each a list of {path, md5, …}, and `params`, file -> key -> value"""
Entries = Mapping[str, Entry]
"""stage -> its entry, the section `stages` of dvc.lock"""


class Here(NamedTuple):
    """What lies in a folder that entries are to fit."""

    files: Mapping[str, str]
    """path -> md5, of what no stage makes"""
    plan: Mapping[str, Any]
    """the content of plan.json"""


def read(content: bytes) -> dict[str, Entry]:
    """The entries that a dvc.lock of that content holds. Raises StoreError where it is none."""
    try:
        return dict(YAML(typ="safe").load(content)["stages"])
    except (YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise StoreError(f"dvc.lock: not a lock file of DVC ({said}); restore it by git") from None


def pinned(content: bytes) -> str:
    """The md5 of the file that a file of `dvc add` with that content stands for."""
    return str(YAML(typ="safe").load(content)["outs"][0]["md5"])


def written(entries: Entries) -> str:
    """The content of a dvc.lock with these entries, as DVC writes it."""
    text, yaml = io.StringIO(), YAML()
    yaml.default_flow_style = False
    yaml.dump({"schema": "2.0", "stages": dict(entries)}, text)
    return text.getvalue()


def made(entries: Entries) -> dict[str, str]:
    """Path -> md5, of what these stages have made."""
    return {out["path"]: out["md5"] for entry in entries.values() for out in entry.get("outs", [])}


def merge(base: Entries, ours: Entries, theirs: Entries, here: Here) -> tuple[dict[str, Entry], list[str]]:
    """The entries of both sides, which were `base` once, and a line for each stage that both have changed.

    What one side alone has changed is taken from that side. Of a stage that both have changed, each otherwise, the one
    entry that fits what is here is taken; where none or both do, the stage has no entry and DVC runs it again.
    """
    merged: dict[str, Entry] = {}
    sides: dict[str, dict[str, Entry]] = {}
    for name in {**ours, **theirs}:
        was, mine, other = base.get(name), ours.get(name), theirs.get(name)
        if mine != other and was not in (mine, other):
            sides[name] = {side: entry for side, entry in (("ours", mine), ("theirs", other)) if entry is not None}
        elif (taken := mine if other == was else other) is not None:
            merged[name] = taken
    notes = []
    for name in _makers_first(sides, here):
        wrong = {side: misfits(entry, merged, here) for side, entry in sides[name].items()}
        fitting = [side for side in wrong if not wrong[side]]
        if len(fitting) == 1:
            merged[name] = sides[name][fitting[0]]
            notes.append(f"{name}: changed on both sides, that of {fitting[0]} is taken")
        else:
            why = [f"{side} had another {', '.join(names)}" for side, names in wrong.items() if names]
            notes.append(f"{name}: changed on both sides, runs again: {'; '.join(why) or 'both fit and differ'}")
    return {name: merged[name] for name in {**ours, **theirs} if name in merged}, notes


def misfits(entry: Entry, entries: Entries, here: Here) -> list[str]:
    """The dependencies and parameters of an entry that are not those made by `entries` and found here, by name."""
    known = {**here.files, **made(entries)}
    files = [dep["path"] for dep in entry.get("deps", []) if known.get(dep["path"]) != dep.get("md5")]
    return files + _other_params(entry, here)


def _other_params(entry: Entry, here: Here) -> list[str]:
    params = [item for keys in entry.get("params", {}).values() for item in keys.items()]
    return [key for key, value in params if _at(here.plan, key) != value]


def _at(content: Any, key: str) -> Any:
    """The value of a key whose parts are joined by dots; None where there is none."""
    for part in key.split("."):
        content = content.get(part) if isinstance(content, Mapping) else None
    return content


def _makers_first(sides: Mapping[str, Mapping[str, Entry]], here: Here) -> list[str]:
    """The stages in an order in which each follows those that make what it needs.

    That of an entry whose parameters are not those here does not count, as two plans may be a circle together.
    """
    usable = {name: [one for one in of.values() if not _other_params(one, here)] for name, of in sides.items()}
    makers = {out["path"]: name for name, entries in usable.items() for one in entries for out in one.get("outs", [])}
    needs = {
        name: {makers[dep["path"]] for one in entries for dep in one.get("deps", []) if dep["path"] in makers}
        for name, entries in usable.items()
    }
    return list(TopologicalSorter(needs).static_order())

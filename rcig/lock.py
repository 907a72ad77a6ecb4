"""dvc.lock: by what each stage was run and what it made, whether that is what is planned, and merging two sides."""

import io
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from rcig.errors import StoreError

LOCK = Path("dvc.lock")
PARTS = Path("plan")
"""of plan.json, a file for each stage, whose keys DVC follows"""
UNREADABLE = (YAMLError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""what comes of a file that is no YAML, or is another one than DVC writes"""
Entry = Mapping[str, Any]
"""of one stage: `deps` and `outs`, each a list of {path, md5, …}, and `params`, file -> key -> value"""
Entries = Mapping[str, Entry]
"""stage -> its entry, the section `stages` of dvc.lock"""


class Here(NamedTuple):
    """What lies in a folder that entries are to fit."""

    files: Mapping[str, str | None]
    """path -> md5, of what no stage makes"""
    plan: Mapping[str, Any]
    """the content of plan.json"""


def read(content: bytes) -> dict[str, Entry]:
    """The entries that a dvc.lock of that content holds. Raises StoreError where it is none."""
    return dict(_read(content))


@lru_cache(maxsize=1)
def _read(content: bytes) -> dict[str, Entry]:
    try:
        entries: dict[str, Entry] = {
            str(name): moved(dict(entry)) for name, entry in YAML(typ="safe").load(content)["stages"].items()
        }
        for entry in entries.values():
            _md5s(entry, "deps"), _md5s(entry, "outs"), _params(entry)
    except UNREADABLE as error:
        said = " ".join(str(error).split())
        raise StoreError(f"{LOCK}: not a lock file of DVC ({said}); restore it by git") from None
    return entries


def part(stage: str) -> Path:
    """The file with the part of plan.json of that stage."""
    return PARTS / f"{stage}.json"


def moved(entry: Entry) -> Entry:
    """An entry as DVC writes it today. Before 28 November 2026 it followed the keys of all stages in plan.json."""
    params = dict(entry.get("params", {}))
    for key, value in params.pop("plan.json", {}).items():
        file = part(key.removeprefix("stages.").partition(".")[0]).as_posix()
        params[file] = {**params.get(file, {}), key: value}
    return {**entry, "params": params} if params else entry


def at(root: Path) -> dict[str, Entry]:
    """The entries of the clone `root`; none where it has no lock file of DVC, which DVC itself will say."""
    with suppress(OSError, StoreError):
        return read((root / LOCK).read_bytes())
    return {}


def pins(files: Iterable[Path]) -> dict[Path, str]:
    """Path -> md5, of what these files of `dvc add` stand for; those that are missing or no such file say nothing."""
    found: dict[Path, str] = {}
    for file in files:
        with suppress(OSError, *UNREADABLE):
            md5s = _md5s(YAML(typ="safe").load(file.read_bytes()), "outs")
            found |= {file.parent / path: md5 for path, md5 in md5s.items() if md5}
    return found


def outputs(root: Path) -> dict[str, str]:
    """Path -> md5, of all that dvc.lock and the files *.dvc of the clone `root` know."""
    found = pins(path for pattern in ("*.dvc", "*/*.dvc") for path in sorted(root.glob(pattern)) if path.is_file())
    return {path.relative_to(root).as_posix(): md5 for path, md5 in found.items()} | made(at(root))


def outdated(plan: Mapping[str, Any], root: Path = Path()) -> list[str]:
    """The stages, by their names for `dvc repro`, of which dvc.lock has no entry or one that does not fit.

    An entry fits if it was made by the plan's settings and code, of what other entries have made since. Scores count
    where a set was made by them, and a clone without any entry has nothing that could be outdated.
    """
    entries, known = at(root), outputs(root)
    needed = {path for entry in entries.values() for path in _md5s(entry, "deps")}
    planned = [(stage, name) for stage in plan["stages"] if stage != "report" for name in plan["stages"][stage]]
    found = []
    for stage, name in planned:
        entry = entries.get(f"{stage}@{name}", {})
        here = Here(_md5s(entry, "deps") | known, plan)  # of what nobody makes or pins, DVC alone knows the content
        fits = f"stages.{stage}.{name}" in _params(entry) and not misfits(entry, entries, here)
        if not fits and (stage != "score" or f"artifacts/scores/{name}.npz" in needed):
            found.append(f"{stage}@{name}")
    return found if entries else []


def written(entries: Entries) -> str:
    """The content of a dvc.lock with these entries, as DVC writes it."""
    text, yaml = io.StringIO(), YAML()
    yaml.default_flow_style = False
    yaml.dump({"schema": "2.0", "stages": dict(entries)}, text)
    return text.getvalue()


def made(entries: Entries) -> dict[str, str]:
    """Path -> md5, of what these stages have made."""
    return {path: md5 for entry in entries.values() for path, md5 in _md5s(entry, "outs").items() if md5}


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
    files = [path for path, md5 in _md5s(entry, "deps").items() if known.get(path) != md5]
    return files + _other_params(entry, here)


def _md5s(entry: Entry, of: str) -> dict[str, str | None]:
    """Path -> md5, of its `deps` or `outs`; None where DVC notes none."""
    return {one["path"]: one.get("md5") for one in entry.get(of, [])}


def _params(entry: Entry) -> dict[str, Any]:
    return {key: value for keys in entry.get("params", {}).values() for key, value in keys.items()}


def _other_params(entry: Entry, here: Here) -> list[str]:
    return [key for key, value in _params(entry).items() if at_key(here.plan, key) != value]


def at_key(content: Any, key: str) -> Any:
    """The value of a key whose parts are joined by dots; None where there is none."""
    for part in key.split("."):
        content = content.get(part) if isinstance(content, Mapping) else None
    return content


def _makers_first(sides: Mapping[str, Mapping[str, Entry]], here: Here) -> list[str]:
    """The stages in an order in which each follows those that make what it needs.

    That of an entry whose parameters are not those here does not count, as two plans may be a circle together.
    """
    usable = {name: [one for one in of.values() if not _other_params(one, here)] for name, of in sides.items()}
    makers = {path: name for name, entries in usable.items() for one in entries for path in _md5s(one, "outs")}
    needs = {
        name: {makers[path] for one in entries for path in _md5s(one, "deps") if path in makers}
        for name, entries in usable.items()
    }
    return list(TopologicalSorter(needs).static_order())

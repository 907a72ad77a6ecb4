"""What dvc.lock says: which outputs there are of what content, and by which entries of the plan they were made."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

LOCK = Path("dvc.lock")


def load(path: Path) -> dict[str, Any]:
    """What a file of DVC says; nothing of one that is missing or no YAML, which DVC itself will say."""
    try:
        content = YAML(typ="safe").load(path.read_text()) if path.is_file() else None
    except (OSError, ValueError, YAMLError):
        content = None
    return content if isinstance(content, dict) else {}


def outputs(root: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Folder and entry of all outputs that dvc.lock and the files *.dvc of the clone `root` know."""
    for stage in load(root / LOCK).get("stages", {}).values():
        yield from ((Path(), out) for out in stage.get("outs", []))
    for path in (path for pattern in ("*.dvc", "*/*.dvc") for path in sorted(root.glob(pattern))):
        yield from ((path.parent.relative_to(root), out) for out in load(path).get("outs", []))


def outdated(plan: Mapping[str, Any], root: Path = Path()) -> list[str]:
    """The stages, by their names for `dvc repro`, whose results another entry has made than that of this plan."""
    stages = load(root / LOCK).get("stages", {})
    now = {
        f"{stage}@{name}": (f"stages.{stage}.{name}", entry)
        for stage, members in plan["stages"].items()
        if stage != "report"  # which has no members
        for name, entry in members.items()
    }
    made = {name: stage.get("params", {}).get("plan.json", {}) for name, stage in stages.items() if name in now}
    return [name for name, params in made.items() if params.get(now[name][0]) != now[name][1]]

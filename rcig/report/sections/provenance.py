"""How each set came about, and how to load it: what stands at the end of its section."""

import json
from collections.abc import Mapping
from typing import Any

from rcig.report.blocks import Block, Code, Facts, Fold, Section
from rcig.report.results import Report
from rcig.report.tables import duration

ORDER = 105


def section(report: Report) -> Section:
    sets: dict[str, list[Block]] = {}
    for name, summary in report.summaries.items():
        sets[name] = [Code(f"distilled = rcig.load({json.dumps(name)})"), Facts(facts(summary))]
        if settings := in_force(report.cards.get(name, "")):
            sets[name].append(Fold("Settings in force", [Code(settings)]))
    return Section("provenance", "Card", [], {}, sets)


def facts(summary: Mapping[str, Any]) -> dict[str, str]:
    """What summary.json says of where a set comes from, in words; what it does not say is left out."""
    held_out, seconds = summary["heldout_accuracy"], summary["seconds"]
    found = {
        "Settings made for": summary["size"],
        "Width while distilling": str(summary["width"]),
        "Seeds": ", ".join(map(str, summary["seeds"])),
        "Steps of each seed": f"{summary['steps']:,}",
        "Time of all seeds": duration(seconds) if seconds else "",
        "Held-out accuracy": "" if held_out is None else f"{100 * held_out:.1f} %",
        "Numbers stored": f"{summary['stored_floats']:,}",
        "Machine": summary["machine"],
        "Revision": summary["revision"] or "",
        "Code and data": ", ".join(str(summary[key]) for key in ("code", "data") if key in summary),
        "Versions": ", ".join(f"{name} {version}" for name, version in sorted(summary["versions"].items())),
    }
    return {name: text for name, text in found.items() if text}


def in_force(card: str) -> str:
    """The settings that a card holds, see rcig.sets.card."""
    return card.partition("```json\n")[2].partition("\n```")[0]

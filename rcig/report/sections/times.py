"""What the distillations took, and on what machines."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from rcig.report.blocks import Section, Table
from rcig.report.results import Report
from rcig.report.tables import duration, published

ORDER = 100

_CAPTION = (
    "Wall-clock time of distilling all seeds of each set, and its held-out accuracy in percent. That of a released set"
    " is measured anew, by networks of the width of its entry here. Width: filters of the first stage of the network"
    " used to distil. Published: Loo et al. (2023), Table 7, 128 wide, on an RTX A6000."
)


def section(report: Report) -> Section:
    table = costs(report.summaries)
    blocks = [] if table.empty else [Table(table.drop(columns="Versions"), _CAPTION)]
    return Section("time", "Time and machines", blocks, {"times": table})


def costs(summaries: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """What each distillation took, and on what; `summaries` are the summary.json by experiment."""
    records = [_time(experiment, summary) for experiment, summary in summaries.items()]
    columns = "Experiment, Width, Seeds, Steps, Time, Seconds per step and seed, Held-out accuracy, Machine, Versions"
    table = pd.DataFrame(records, columns=columns.split(", "))
    known = published()
    keys = ("dataset", "images_per_class", "method")
    printed = [
        known.get(("loo2023/table7", *(str(summary[key]) for key in keys), "seconds_per_iteration"), "")
        for summary in summaries.values()
    ]
    if any(printed):
        table.insert(6, "Published seconds per step", printed)
    return table


def _time(experiment: str, summary: Mapping[str, Any]) -> tuple[Any, ...]:
    seeds, steps, held_out = len(summary["seeds"]), summary["steps"], summary["heldout_accuracy"]
    return (
        experiment,
        summary["width"],
        seeds,
        steps,
        duration(summary["seconds"]),
        f"{summary['seconds'] / (steps * seeds):.3g}" if steps else "",
        "" if held_out is None else f"{100 * held_out:.1f}",
        summary["machine"],
        ", ".join(f"{name} {version}" for name, version in sorted(summary["versions"].items())),
    )

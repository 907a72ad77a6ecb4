"""What every set reaches by every protocol, with all that such a number is of: the lines of the page's first tables."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from rcig.report.blocks import Entry
from rcig.report.results import Report
from rcig.report.tables import FULL, IDENTITY, OTHER_PROTOCOLS, PROTOCOLS, duration, final, published, storage
from rcig.rows import PART
from rcig.statistics import standard_error

PLAIN = "No augmentation"
"""the protocol that sets are compared by"""
SIZES = {"paper": "the paper’s size", "compact": "compact", "minutes": "two minutes of one CPU core"}
"""sizes that have a mark, in words"""
_BY_PROTOCOL = {"No augmentation": "accuracy/no_augmentation", "Augmentation": "accuracy/augmentation"}


class Standing(NamedTuple):
    """Test accuracy, in percent, of networks that were trained on one set by one protocol."""

    experiment: str
    dataset: str
    images: int
    """per class"""
    room: int
    """images per class that the set takes the room of"""
    method: str
    size: str
    protocol: str
    """in words"""
    mean: float
    deviation: float
    """sample standard deviation over networks; NaN for one"""
    error: float
    """standard error of the mean over seeds; NaN for one"""
    networks: int
    """of all seeds"""
    seeds: int
    width: int
    published: str
    hard: str
    """accuracy with hard labels; "" where it was not measured"""
    seconds: float | None
    """that making all seeds took"""

    @property
    def accuracy(self) -> str:
        return f"{self.mean:.1f}" + ("" if math.isnan(self.deviation) else f" ± {self.deviation:.1f}")

    @property
    def of(self) -> str:
        """How many of what the accuracy is of."""
        seeds = "1 seed" if self.seeds == 1 else f"{self.seeds} seeds"
        return f"n {self.networks}, {seeds}, width {self.width}"

    @property
    def made(self) -> bool:
        """Whether it is of a distilled set, neither of real images nor of a part."""
        return self.method not in ("random_real", "full_dataset") and not self.part

    @property
    def part(self) -> bool:
        return self.method.endswith(PART)

    @property
    def time(self) -> str:
        return duration(self.seconds) if self.seconds else ""


def standings(report: Report) -> list[Standing]:
    """One for each set, or part of a set, protocol and width, in the order of the report."""
    rows = final(report.rows)
    names = PROTOCOLS | OTHER_PROTOCOLS
    rows = rows.assign(protocol=rows["protocol"].replace(FULL), room=storage(rows, report.summaries))
    rows = rows[rows["protocol"].isin(names.keys()) & (rows["metric"] == "accuracy")]
    found = []
    for key, group in rows.groupby([*IDENTITY, "room", "protocol", "width"], sort=False):
        of: dict[str, Any] = dict(zip(["experiment", "dataset", "images", "method", "room"], key, strict=False))
        values = 100 * group["value"]
        summary: Mapping[str, Any] = report.summaries.get(of["experiment"], {})
        standing = Standing(
            **of,
            size=summary.get("size", ""),
            protocol=names[group["protocol"].iloc[0]],
            mean=float(values.mean()),
            deviation=float(values.std(ddof=1)),
            error=100 * standard_error(group),
            networks=len(values),
            seeds=group["seed"].nunique(),
            width=group["width"].iloc[0],
            published="",
            hard="",
            seconds=summary.get("seconds"),
        )
        # What is distilled from a chunk of the training images is no set of the paper's tables.
        found.append(standing if summary.get("chunk") else standing._replace(published=_printed(standing)))
    hard = {
        (one.experiment, one.method, one.width): one.accuracy
        for one in found
        if one.protocol == OTHER_PROTOCOLS["loo2023_hard"]
    }
    return [one._replace(hard=hard.get((one.experiment, one.method, one.width), "")) for one in found]


def compared(found: list[Standing]) -> dict[str, Standing]:
    """Experiment -> its set's standing by the protocol that sets are compared by, or else by its first."""
    chosen: dict[str, Standing] = {}
    for one in found:
        if not one.part and (one.experiment not in chosen or PLAIN == one.protocol != chosen[one.experiment].protocol):
            chosen[one.experiment] = one
    return chosen


def highest(found: Iterable[Standing]) -> Standing:
    """The one of the highest accuracy, among those by the protocol that sets are compared by if there are any."""
    every = list(found)
    return max([one for one in every if one.protocol == PLAIN] or every, key=lambda one: one.mean)


def entry(one: Standing, best: bool) -> Entry:
    """What a reader must know of a set beside its accuracy."""
    notes = [
        one.of,
        "" if one.protocol == PLAIN else one.protocol.lower(),
        f"hard labels {one.hard}" if one.hard else "",
        f"made in {one.time}" if one.time else "",
    ]
    return Entry(one.experiment, one.size, one.accuracy, one.published, best, [note for note in notes if note])


def _printed(one: Standing) -> str:
    """The published accuracy by this protocol, or of this set where the paper names no protocol."""
    if one.protocol not in PROTOCOLS.values():
        return ""
    count = "full" if one.method == "full_dataset" else str(one.images)
    by_protocol = ("loo2023/table8", one.dataset, count, one.method, _BY_PROTOCOL[one.protocol])
    return published().get(by_protocol, published_accuracy().get((one.dataset, count, one.method), ""))


def published_accuracy() -> dict[tuple[str, str, str], str]:
    """(dataset, images per class or "full", method) -> accuracy in percent.

    Table 2 goes before Table 1, which alone has random_real, vig, cig and rig; Table 4 has the sets of larger images.
    That of dc is of Zhao et al. (2021).
    """
    values = published()
    return {
        (dataset, count, method): text
        for wanted in ("zhao2021", "loo2023/table1", "loo2023/table4", "loo2023/table2")
        for (source, dataset, count, method, metric), text in values.items()
        if (source, metric) == (wanted, "accuracy")
    }

"""One matrix: datasets and sizes by methods, what is published in the same cell, and the best of each row marked."""

from collections.abc import Sequence

import pandas as pd
from markupsafe import Markup

from rcig.report.blocks import Block, Entry, Matrix, Paragraph, Section
from rcig.report.results import Report
from rcig.report.standings import PLAIN, Standing, compared, entry, highest, published_accuracy, standings

ORDER = 5

_CAPTION = (
    "Test accuracy in percent, mean ± sample standard deviation over n networks of all seeds, by the protocol without"
    " augmentation where no other is named; the best of a row is marked. Of several sets of one method and"
    " size the one that the widest networks judge stands here, and of these the first in params.yaml: none is chosen by"
    " its test accuracy. Published: Loo et al. (2023), and for dc Zhao et al. (2021), networks 128 wide. The time is"
    " that of making all seeds. A set whose images are mixtures of a basis stands with the sets that store as many"
    " numbers. Choose a number to see its set."
)
_SAMPLE = Markup(
    "<code>mnist_sample</code> holds 5,000 real handwritten digits that come with this project. It is not the benchmark"
    " called MNIST, so no published accuracy stands beside its own."
)


def section(report: Report) -> Section:
    found = [one for one in compared(standings(report)).values() if one.method != "full_dataset"]
    sizes = sorted({(one.dataset, one.room) for one in found}, key=lambda size: (_places(found)[size[0]], size[1]))
    methods = sorted({one.method for one in found}, key=lambda name: (name != "random_real", _first(found, name)))
    rows = {size: [_of_cell(found, size, method) for method in methods] for size in sizes}
    marked = {size: highest(one for cell in cells for one in cell).experiment for size, cells in rows.items()}
    shown = {
        (dataset, f"{room} per class"): [
            [entry(one, one.experiment == marked[dataset, room]) for one in cell]
            or _only_published(dataset, room, method)
            for method, cell in zip(methods, cells, strict=True)
        ]
        for (dataset, room), cells in rows.items()
    }
    table = pd.DataFrame(
        [
            (dataset, room, *("; ".join(_in_words(one) for one in cell) for cell in cells))
            for (dataset, room), cells in rows.items()
        ],
        columns=["Dataset", "Images per class", *methods],
    )
    blocks: list[Block] = [Paragraph(_SAMPLE)] if "mnist_sample" in report.datasets else []
    blocks += [Matrix(methods, shown, _CAPTION)] if shown else []
    return Section("matrix", "Results at a glance", blocks, {"matrix": table}, folded=False)


def _places(found: Sequence[Standing]) -> dict[str, int]:
    """Dataset -> its place in the order of the report."""
    return {dataset: place for place, dataset in enumerate(dict.fromkeys(one.dataset for one in found))}


def _first(found: Sequence[Standing], method: str) -> int:
    return next(place for place, one in enumerate(found) if one.method == method)


def _of_cell(found: Sequence[Standing], size: tuple[str, int], method: str) -> list[Standing]:
    """One set of each size of settings, best first: not the best one, but the first that the widest networks judge."""
    here = [one for one in found if ((one.dataset, one.room), one.method) == (size, method)]
    kept: dict[str, Standing] = {}
    for one in sorted(here, key=lambda one: (one.protocol != PLAIN, -one.width)):
        kept.setdefault(one.size, one)
    return sorted(kept.values(), key=lambda one: -one.mean)


def _only_published(dataset: str, room: int, method: str) -> list[Entry]:
    printed = published_accuracy().get((dataset, str(room), method))
    return [Entry("", "", "", printed, False, [])] if printed else []


def _in_words(one: Standing) -> str:
    published = f", published {one.published}" if one.published else ""
    size = f", {one.size}" if one.size else ""
    protocol = "" if one.protocol == PLAIN else f", {one.protocol.lower()}"
    return f"{one.accuracy} ({one.of}{size}{protocol}{published})"

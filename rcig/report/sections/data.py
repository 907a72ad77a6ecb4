"""The real images."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from rcig.report.blocks import Block, Figure, Picture, Section, Table
from rcig.report.drawing import COLOURS, INK, panels, png, styled
from rcig.report.results import Report

ORDER = 90

_CAPTION = (
    "The real images. Held out: the part of the training images that no distillation sees and on which all selection is"
    " made. Test part: what the test accuracy is measured on, of a benchmark the official split; where that is called"
    " validation, the official test labels are not public or do not exist, and the literature tests on it as well."
)


def section(report: Report) -> Section:
    table = contents(report.facts)
    drawn = {name: draw(facts) for name, facts in report.facts.items()}
    blocks: list[Block] = [] if table.empty else [Table({"": table}, 1, _CAPTION)]
    blocks += [_shown(name, facts, report.samples[name], drawn[name]) for name, facts in report.facts.items()]
    return Section(
        "data", "Data", blocks, {"datasets": table}, {f"data-{name}": drawing for name, drawing in drawn.items()}
    )


def _shown(name: str, facts: Mapping[str, Any], sample: bytes, drawn: bytes) -> Figure:
    spectrum = ", and the eigenvalues of its covariance" if facts["spectrum"] else ""
    pictures = [
        Picture(sample, f"An image of each of ten classes of {name}: as it is, whitened, and back"),
        Picture(drawn, f"Images per class of {name}{spectrum}"),
    ]
    source = f"Source: {facts['url']}."
    if facts["licence"]:
        source += f" Licence: {facts['licence']}. Cite: {facts['citation']}."
    if facts["duplicates"]:
        source += f" Of the test images {facts['duplicates']} are training images too, pixel by pixel."
    rows = (
        "Rows: real images; whitened, where middle grey is 0 and the brightness is scaled for each image; and turned"
        f" back into pixels, which differ from the real ones by {facts['round_trip']} of 255 grey levels at most."
    )
    return Figure(facts["title"], pictures, [source, rows])


def contents(facts: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """What each dataset holds; `facts` are those of stages.describe."""
    records = [
        (
            name,
            " × ".join(map(str, known["shape"])),
            len(known["class_names"]),
            *(
                f"{count:,}"
                for count in (sum(known["counts"]["train"]), known["held_out"], sum(known["counts"]["test"]))
            ),
            known["test"],
            known["whitening"],
        )
        for name, known in facts.items()
    ]
    columns = "Dataset, Images, Classes, Train, Held out, Test, Test part, Whitening"
    return pd.DataFrame(records, columns=columns.split(", "))


@styled
def draw(facts: Mapping[str, Any]) -> bytes:
    """Images of every class, and the eigenvalues of the covariance where the whitening has any; see stages.describe."""
    spectrum = facts["spectrum"]
    figure, (classes, *rest) = panels(2 if spectrum else 1, height=2.6)
    classes.set(title="Images per class", xlabel="Class")
    for (part, counts), colour in zip(facts["counts"].items(), COLOURS, strict=False):
        classes.stairs(counts, np.arange(len(counts) + 1) - 0.5, color=colour, label=part, linewidth=1.6, baseline=None)
    classes.set_ylim(0, 1.1 * max(max(counts) for counts in facts["counts"].values()))
    classes.legend(loc="center")
    for axes in rest:
        axes.set(title="Eigenvalues of the covariance", xlabel="Rank")
        axes.loglog(*zip(*((rank, value) for rank, value in spectrum if value > 0), strict=True), color=COLOURS[0])
        axes.axhline(facts["ridge"], color=INK, linestyle="--", linewidth=1, label="added by the regularisation")
        axes.legend()
    return png(figure)

"""The real images."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from rcig.report import charts
from rcig.report.blocks import Block, Chart, Facts, Fold, Picture, Row, Section, Table
from rcig.report.results import Report

ORDER = 90

_CAPTION = (
    "The real images. Held out: the part of the training images that no distillation sees and on which all selection is"
    " made. Test part: what the test accuracy is measured on, of a benchmark the official split; where that is called"
    " validation, the official test labels are not public or do not exist, and the literature tests on it as well."
)


def section(report: Report) -> Section:
    table = contents(report.facts)
    blocks: list[Block] = [] if table.empty else [Table(table, _CAPTION)]
    for name, facts in report.facts.items():
        drawn = [chart._replace(name=f"data-{name}-{what}") for what, chart in draw(facts).items()]
        blocks.append(Fold(f"{name}: {facts['title']}", [*_shown(name, facts, report.samples[name]), Row(drawn)]))
    return Section("data", "Data", blocks, {"datasets": table})


def _shown(name: str, facts: Mapping[str, Any], sample: bytes) -> list[Block]:
    rows = (
        "Rows: real images; whitened, where middle grey is 0 and the brightness is scaled for each image; and turned"
        f" back into pixels, which differ from the real ones by {facts['round_trip']} of 255 grey levels at most."
    )
    alt = f"An image of each of ten classes of {name}: as it is, whitened, and back"
    known = {"Source": facts["url"]}
    if facts["licence"]:
        known |= {"Licence": facts["licence"], "Cite": facts["citation"]}
    if facts["duplicates"]:
        known["Repeated"] = f"{facts['duplicates']} test images are training images too, pixel by pixel"
    return [
        Facts(known),
        Picture(sample, alt, rows),
    ]


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


def draw(facts: Mapping[str, Any]) -> dict[str, Chart]:
    """Images of every class, and the eigenvalues of the covariance where the whitening has any; see stages.describe."""
    counts = pd.DataFrame(
        [
            {"name": part, "place": place, "class": facts["class_names"][place], "images": count}
            for part, found in facts["counts"].items()
            for place, count in enumerate(found)
        ]
    )
    drawn = {"classes": Chart("Images per class", f"Images of each class of {facts['title']}", _counts(counts))}
    known = [(rank, value) for rank, value in facts["spectrum"] if value > 0]
    if known:
        alt = f"Eigenvalues of the covariance of {facts['title']} by rank"
        spec = _spectrum(pd.DataFrame(known, columns=["rank", "value"]).assign(name="eigenvalue"), facts["ridge"])
        drawn["spectrum"] = Chart("Eigenvalues of the covariance, and what the regularisation adds", alt, spec)
    return drawn


def _counts(counts: pd.DataFrame) -> charts.Spec:
    names = list(dict.fromkeys(counts["name"]))
    bars: charts.Spec = {
        "mark": {"type": "bar"},
        "encoding": {
            "x": {"field": "place", "type": "ordinal", "title": "class", "axis": {"labels": len(counts) <= 40}},
            "y": charts.number("images", "images", zero=True),
            "xOffset": {"field": "name", "sort": names},
            "tooltip": [{"field": field, "type": "nominal"} for field in ("class", "name", "images")],
            "color": charts.colour("name", names)["color"] | {"legend": {"title": None}},
        },
    }
    return charts.figure(counts, bars, text=("name", "class"))


def _spectrum(values: pd.DataFrame, ridge: float) -> charts.Spec:
    spec = charts.lines(
        values, charts.number("rank", "rank", log=True), charts.number("value", "eigenvalue", log=True), ["eigenvalue"]
    )
    rule = {"mark": {"type": "rule", "strokeDash": [6, 3]}, "encoding": {"y": {"datum": ridge}}}
    return spec | {"layer": [*spec["layer"], rule]}

"""Which classes are mixed up, and who is right on the images that are hard."""

import math
from collections.abc import Mapping

import pandas as pd

from rcig.predictions import STRATA, Predictions, by_hardness, by_stratum, hardness
from rcig.predictions import confusion as shares_of
from rcig.report import charts
from rcig.report.blocks import Block, Chart, Paragraph, Row, Section, Table
from rcig.report.results import Report
from rcig.report.tables import networks

ORDER = 30

_CAPTION = (
    "Test accuracy in percent on the images that equally many of the reference networks miss. These are the networks"
    " trained on the full dataset."
)
_TEXT = (
    "Test images by how many of the networks on the sets of all other methods miss them: the same images at every size."
)
_SEEN, _CELLS = 0.005, 2000
"""shares below the first are left out of a matrix; of many, so many of the largest are in it"""


def section(report: Report) -> Section:
    datasets = dict(report.rows[["experiment", "dataset"]].drop_duplicates().to_numpy())
    table = by_misses(report.predictions, report.references, datasets)
    drawn = [
        Chart(
            f"{dataset}, {method}",
            f"Test accuracy of {method} on easy and hard images of {dataset} against images per class",
            draw_strata(sizes),
            f"strata-{dataset}-{method}",
        )
        for dataset, methods in strata(report).items()
        for method, sizes in methods.items()
    ]
    blocks: list[Block] = [Paragraph(_TEXT), Row(drawn)] if drawn else []
    if not table.empty:
        blocks.append(Table(table, _CAPTION, ("Dataset", "Missed by")))
    sets: dict[str, list[Block]] = {}
    for name, found in report.predictions.items():
        alt = f"Confusion of classes by networks trained on {name}"
        sets[name] = [Row([Chart("Confusion", alt, confusion(found), f"confusion-{name}")])]
        own = table[table["Experiment"] == name]
        if not own.empty:
            sets[name].append(Table(own[["Missed by", "Test images", "Accuracy"]], _CAPTION))
    return Section("hardness", "Classes and hard images", blocks, {"hardness": table}, sets)


def by_misses(
    predictions: Mapping[str, Predictions], references: Mapping[str, Predictions], datasets: Mapping[str, str]
) -> pd.DataFrame:
    """Accuracy of each set's networks on the test images that none, some or all reference networks miss.

    `predictions` by experiment, `references` (of the full dataset) by dataset, `datasets` by experiment.
    """
    records = []
    for experiment, found in predictions.items():
        dataset = datasets.get(experiment, "")
        if dataset not in references:
            continue
        count = references[dataset].predicted[..., 0].size
        for misses, group in by_hardness(found, references[dataset]).groupby("missed"):
            images = group["images"].iloc[0]
            records.append((experiment, dataset, f"{misses} of {count}", f"{images:,}", networks(group)))
    columns = "Experiment, Dataset, Missed by, Test images, Accuracy"
    return pd.DataFrame(records, columns=columns.split(", "))


def strata(report: Report) -> dict[str, dict[str, dict[int, dict[str, float]]]]:
    """Dataset -> method -> size -> accuracy by hardness, of methods with sets of several sizes.

    Hardness is how many of the networks on the sets of all other methods miss an image: a method has no say in what is
    hard for it, and a stratum has the same images at every size. Sets of one method and size share a mean.
    """
    found: dict[str, dict[str, dict[int, dict[str, float]]]] = {}
    of = {name: summary for name, summary in report.summaries.items() if name in report.predictions}
    for dataset in dict.fromkeys(summary["dataset"] for summary in of.values()):
        sets = [
            (summary["method"], summary["storage_images_per_class"], report.predictions[name])
            for name, summary in of.items()
            if summary["dataset"] == dataset
        ]
        for method in dict.fromkeys(method for method, _, _ in sets):
            others = [predictions for other, _, predictions in sets if other != method]
            own: dict[int, list[Predictions]] = {}
            for _, size, predictions in (one for one in sets if one[0] == method):
                own.setdefault(size, []).append(predictions)
            if others and len(own) > 1:
                score = hardness(others)
                sizes = {size: pd.DataFrame([by_stratum(one, score) for one in some]) for size, some in own.items()}
                found.setdefault(dataset, {})[method] = {size: dict(rows.mean()) for size, rows in sizes.items()}
    return found


def draw_strata(sizes: Mapping[int, Mapping[str, float]]) -> charts.Spec:
    """Of one method: accuracy on the test images of each stratum of hardness against images per class."""
    lines = [
        {"name": stratum, "images": size, "accuracy": value}
        for size, by_words in sorted(sizes.items())
        for stratum, value in by_words.items()
        if not math.isnan(value)
    ]
    return charts.lines(
        pd.DataFrame(lines),
        charts.number("images", "images per class"),
        charts.number("accuracy", "test accuracy", percent=True),
        list(STRATA),
        title="missed by",
        dots=True,
    )


def confusion(found: Predictions) -> charts.Spec:
    """How often images of each class are said to be of each, over all networks; the diagonal is accuracy by class."""
    shares = shares_of(found)
    names = found.class_names
    cells = zip(*(shares >= _SEEN).nonzero(), strict=True)
    lines = [
        {"true": names[row], "said": names[column], "share": round(float(shares[row, column]), 3)}
        for row, column in sorted(cells, key=lambda cell: -shares[cell])[:_CELLS]
    ]
    return charts.heatmap(pd.DataFrame(lines, columns=["true", "said", "share"]), names)

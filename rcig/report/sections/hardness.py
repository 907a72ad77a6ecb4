"""Which classes are mixed up, and who is right on the images that are hard."""

from collections.abc import Mapping
from itertools import product

import pandas as pd
from matplotlib.ticker import PercentFormatter

from rcig import escape
from rcig.predictions import Predictions, by_hardness, by_stratum, hardness
from rcig.predictions import confusion as shares_of
from rcig.report.blocks import Block, Figure, Grid, Picture, Section, Table
from rcig.report.drawing import COLOURS, in_percent, legend, panels, png, styled
from rcig.report.results import Report
from rcig.report.tables import networks

ORDER = 30

_CAPTION = (
    "Test accuracy in percent on the images that equally many of the reference networks miss. These are the networks"
    " trained on the full dataset."
)
_NAMED = 20
"""classes whose names fit beside a matrix"""

Strata = Mapping[str, Mapping[int, Mapping[str, float]]]
"""method -> images per class -> accuracy by stratum, see rcig.predictions"""


def section(report: Report) -> Section:
    datasets = dict(report.rows[["experiment", "dataset"]].drop_duplicates().to_numpy())
    table = by_misses(report.predictions, report.references, datasets)
    by_dataset = {dataset: draw_strata(sets) for dataset, sets in strata(report).items()}
    confusions = {name: confusion(found) for name, found in report.predictions.items()}
    blocks: list[Block] = [] if table.empty else [Table({"": table}, 2, _CAPTION)]
    blocks += [
        Figure(
            f"{dataset}: test images by how many of the networks on the sets of all other methods miss them, the same"
            " images at every size",
            [Picture(drawn, f"Test accuracy on easy and hard images of {dataset} against images per class, by method")],
        )
        for dataset, drawn in by_dataset.items()
    ]
    if confusions:
        blocks.append(
            Grid(
                [
                    Figure(name, [Picture(drawn, f"Confusion of classes by networks trained on {name}")])
                    for name, drawn in confusions.items()
                ]
            )
        )
    files = {f"strata-{dataset}": drawn for dataset, drawn in by_dataset.items()}
    files |= {f"confusion-{name}": drawn for name, drawn in confusions.items()}
    return Section("hardness", "Classes and hard images", blocks, {"hardness": table}, files)


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


@styled
def draw_strata(sets: Strata) -> bytes:
    """By method a panel: accuracy on the test images of each stratum of hardness against images per class."""
    figure, by_method = panels(len(sets), width=3.2 * len(sets), share_y=True)
    for axes, (method, sizes) in zip(by_method, sets.items(), strict=True):
        axes.set(title=escape.drawn(method), xlabel="Images per class", ylim=(-0.03, 1.03))
        in_percent(axes)
        axes.set_xticks(sorted(sizes))
        table = pd.DataFrame(dict(sizes)).T.sort_index()
        for stratum, colour in zip(table, COLOURS, strict=False):
            axes.plot(table.index, table[stratum], color=colour, marker="o", markersize=4, label=stratum)
    legend(figure, by_method[0], columns=5, title="Missed by")
    return png(figure)


@styled
def confusion(found: Predictions) -> bytes:
    """How often images of each class are said to be of each, over all networks; the diagonal is accuracy by class."""
    shares = shares_of(found)
    classes = len(shares)
    figure, (axes,) = panels(1, width=4.5, height=4.2)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="Predicted", ylabel="True")
    axes.grid(False)
    if classes <= _NAMED:
        names = [escape.drawn(name) for name in found.class_names]
        axes.set_xticks(range(classes), names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(classes), names)
        for row, column in product(range(classes), repeat=2):
            if shares[row, column] >= 0.01:
                ink = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, f"{100 * shares[row, column]:.0f}", color=ink, size=6, ha="center", va="center")
    else:
        colours = figure.colorbar(image, format=PercentFormatter(1))
        colours.outline.set_visible(False)
    return png(figure)

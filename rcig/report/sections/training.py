"""How the distillations went: held-out accuracy, loss and gradients, of sets of one size together."""

from collections.abc import Mapping

import pandas as pd

from rcig.report import charts
from rcig.report.blocks import Block, Chart, Fold, Paragraph, Row, Section
from rcig.report.results import Report

ORDER = 50

_TEXT = (
    "Held-out accuracy is measured on a part of the training split that the distillation does not see. Lines are means"
    " over seeds; the section of a set has its seeds as faint lines. The loss is a running median. Gradients are those"
    " by what is learned (images, or coefficients and basis, and labels), before clipping, at every tenth step; their"
    " variance is from successive steps."
)

Curves = Mapping[str, pd.DataFrame]
"""by experiment, with the columns seed, step, seconds, loss, heldout_accuracy (a fraction, NaN where not measured)"""


def section(report: Report) -> Section:
    curves = {name: smoothed(curve) for name, curve in report.curves.items()}
    blocks: list[Block] = [Paragraph(_TEXT)] if curves else []
    for size, together in by_size(report, curves).items():
        drawn = {f"curves-{size}-{what}": chart for what, chart in training_curves(together).items()}
        drawn |= {f"gradients-{size}-{what}": chart for what, chart in gradients(together).items()}
        blocks.append(Fold(size, [Row([chart._replace(name=name) for name, chart in drawn.items()])]))
    sets = {
        name: [Row([chart for what, chart in training_curves({name: curve}, True).items() if what != "seconds"])]
        for name, curve in curves.items()
        if len(curve) > 1
    }
    return Section("training", "Training", blocks, {}, sets)


def by_size(report: Report, curves: Curves) -> dict[str, dict[str, pd.DataFrame]]:
    """Dataset and size -> the curves of the sets that take the room of so many images per class, by experiment."""
    sizes: dict[str, dict[str, pd.DataFrame]] = {}
    for experiment, curve in curves.items():
        of = report.summaries.get(experiment)
        size = experiment if of is None else f"{of['dataset']}-ipc{of['storage_images_per_class']}"
        sizes.setdefault(size, {})[experiment] = curve
    return sizes


def training_curves(curves: Curves, seeds: bool = False) -> dict[str, Chart]:
    """Held-out accuracy against steps and against seconds, and outer loss against steps, one colour per experiment.

    Means over seeds; with `seeds` each seed as well.
    """
    accuracy = charts.number("heldout_accuracy", "held-out accuracy", percent=True)
    loss = charts.number("loss", "outer loss, running median")
    step, seconds = charts.number("step", "step", zero=True), charts.number("seconds", "seconds", zero=True)
    drawn = {
        "accuracy": ("Held-out accuracy", step, accuracy),
        "seconds": ("Held-out accuracy by time", seconds, accuracy),
        "loss": ("Outer loss", step, loss),
    }
    return {
        name: _chart(title, data, x, y, dots=y is accuracy)
        for name, (title, x, y) in drawn.items()
        for data in [joined(curves, x["field"], y["field"], seeds)]
        if not data.empty  # a set that is not trained has no loss
    }


def gradients(curves: Curves) -> dict[str, Chart]:
    """Norm and variance of the gradient by the set against steps, of methods that measure both.

    As they were recorded, at every tenth step: a median would hide the steps at which a gradient explodes.
    """
    known = {name: curve for name, curve in curves.items() if "gradient_variance" in curve}
    titles = {"norm": "Norm of the gradient", "variance": "Variance of the gradient"}
    step = charts.number("step", "step", log=True)
    return {
        what: _chart(title, data, step, charts.number(column, title.lower(), log=True))
        for what, title in titles.items()
        for column in [f"gradient_{what}"]
        for data in [joined(known, "step", column)]
        for data in [data[(data[["step", column]] > 0).all(axis=1)]]  # what an axis of logarithms can show
        if not data.empty
    }


def _chart(title: str, data: pd.DataFrame, x: charts.Spec, y: charts.Spec, dots: bool = False) -> Chart:
    names = list(dict.fromkeys(data["name"]))
    spec = charts.lines(data, x, y, names, dots=dots)
    return Chart(title, f"{title} of {', '.join(names)}", spec)


def joined(curves: Curves, x: str, y: str, seeds: bool = False) -> pd.DataFrame:
    """Where both columns are known: lines by `name`, and with `seeds` by `seed`, which is empty for their mean."""
    columns = ["name", "seed", x, y]
    found = []
    for name, curve in curves.items():
        known = curve.dropna(subset=[x, y])
        several = known["seed"].nunique() > 1
        mean = known.groupby("step")[list({x, y} - {"step"})].mean().reset_index() if several else known
        found.append(mean.assign(name=name, seed=""))
        if several and seeds:
            found.append(known.assign(name=name, seed=known["seed"].astype(str)))
    lines = pd.concat(found, ignore_index=True)[columns] if found else pd.DataFrame(columns=columns)
    return lines if (lines["seed"] != "").any() else lines.drop(columns="seed")


def smoothed(curve: pd.DataFrame) -> pd.DataFrame:
    """The curve with the loss of each seed replaced by its running median over 2 % of the steps: batches are noisy."""
    window = 1 + curve["step"].nunique() // 50
    median = curve.groupby("seed")["loss"].transform(lambda loss: loss.rolling(window, 1, center=True).median())
    return curve.assign(loss=median)

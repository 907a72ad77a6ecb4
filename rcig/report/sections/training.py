"""How the distillations went: held-out accuracy, loss and gradients, of sets of one size together."""

from collections.abc import Mapping, Sequence

import pandas as pd

from rcig.report import charts
from rcig.report.blocks import Block, Chart, Fold, Paragraph, Row, Section
from rcig.report.results import Report

ORDER = 50

_TEXT = (
    "Held-out accuracy is measured on a part of the training split that the distillation does not see. Faint lines are"
    " single seeds, full lines their mean; the loss is a running median. Gradients are those by what is learned (images, or"
    " coefficients and basis, and labels), before clipping, at every tenth step; their variance is from successive steps."
)

Curves = Mapping[str, pd.DataFrame]
"""by experiment, with the columns seed, step, seconds, loss, heldout_accuracy (a fraction, NaN where not measured)"""


def section(report: Report) -> Section:
    blocks: list[Block] = [Paragraph(_TEXT)] if report.curves else []
    for size, together in by_size(report).items():
        drawn = {f"curves-{size}-{name}": chart for name, chart in training_curves(together).items()}
        drawn |= {f"{name}-{size}".replace("_", "-", 1): chart for name, chart in gradients(together).items()}
        blocks.append(Fold(size, [Row([chart._replace(name=name) for name, chart in drawn.items()])]))
    sets = {
        name: [Row(drawn)]
        for name, curve in report.curves.items()
        if len(curve) > 1
        for drawn in [[chart for what, chart in training_curves({name: curve}).items() if what != "seconds"]]
    }
    return Section("training", "Training", blocks, {}, sets)


def by_size(report: Report) -> dict[str, dict[str, pd.DataFrame]]:
    """Dataset and size -> the curves of the sets that take the room of so many images per class, by experiment."""
    sizes: dict[str, dict[str, pd.DataFrame]] = {}
    for experiment, curve in report.curves.items():
        of = report.summaries.get(experiment)
        size = experiment if of is None else f"{of['dataset']}-ipc{of['storage_images_per_class']}"
        sizes.setdefault(size, {})[experiment] = curve
    return sizes


def training_curves(curves: Curves) -> dict[str, Chart]:
    """Held-out accuracy against steps and against seconds, and outer loss against steps, one colour per experiment."""
    accuracy = charts.number("heldout_accuracy", "held-out accuracy", percent=True)
    step = charts.number("step", "step", zero=True)
    measured = joined({name: curve.dropna(subset="heldout_accuracy") for name, curve in curves.items()})
    losses = joined({name: smoothed(curve).dropna(subset="loss") for name, curve in curves.items()})
    # A set that is not trained has no loss.
    drawn = {
        "accuracy": ("Held-out accuracy", measured, step, accuracy),
        "seconds": ("Held-out accuracy by time", measured, charts.number("seconds", "seconds", zero=True), accuracy),
        "loss": ("Outer loss", losses, step, charts.number("loss", "outer loss, running median")),
    }
    return {
        name: _chart(title, data, x, y, dots=name != "loss")
        for name, (title, data, x, y) in drawn.items()
        if not data.empty
    }


def gradients(curves: Curves) -> dict[str, Chart]:
    """Norm and variance of the gradient by the set against steps, of methods that measure both.

    As they were recorded, at every tenth step: a median would hide the steps at which a gradient explodes.
    """
    known = {name: curve for name, curve in curves.items() if "gradient_variance" in curve}
    titles = {"gradient_norm": "norm of the gradient", "gradient_variance": "variance of the gradient"}
    step = charts.number("step", "step", log=True)
    return {
        column: _chart(title.capitalize(), data, step, charts.number(column, title, log=True))
        for column, title in titles.items()
        for data in [positive(joined(known, (column,)), column)]
        if not data.empty
    }


def _chart(title: str, data: pd.DataFrame, x: charts.Spec, y: charts.Spec, dots: bool = False) -> Chart:
    columns = ["name", "seed", x["field"], y["field"]]
    names = list(dict.fromkeys(data["name"]))
    spec = charts.lines(data[columns], x, y, names, dots=dots)
    return Chart(title, f"{title} against {x['title']}s of {', '.join(names)}".replace("ss of", "s of"), spec)


def joined(curves: Curves, more: Sequence[str] = ()) -> pd.DataFrame:
    """All curves as lines by `name` and `seed`; the seed is empty for their mean at each step."""
    columns = ["step", "seconds", "loss", "heldout_accuracy", *more]
    found = []
    for name, curve in curves.items():
        mean = curve.groupby("step", as_index=False)[columns[1:]].mean()
        found.append(mean.assign(name=name, seed=""))
        if curve["seed"].nunique() > 1:
            found.append(curve[[*columns, "seed"]].assign(name=name, seed=curve["seed"].astype(str)))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=[*columns, "name", "seed"])


def positive(data: pd.DataFrame, column: str) -> pd.DataFrame:
    """The rows that an axis of logarithms can show."""
    return data[(data[column] > 0) & (data["step"] > 0)]


def smoothed(curve: pd.DataFrame) -> pd.DataFrame:
    """The curve with the loss of each seed replaced by its running median over 2 % of the steps: batches are noisy."""
    window = 1 + curve["step"].nunique() // 50
    median = curve.groupby("seed")["loss"].transform(lambda loss: loss.rolling(window, 1, center=True).median())
    return curve.assign(loss=median)

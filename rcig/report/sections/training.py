"""How the distillations went: held-out accuracy, loss and gradients, of sets of one size together."""

from collections.abc import Iterator, Mapping
from itertools import cycle, product
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from rcig.report.blocks import Block, Figure, Paragraph, Picture, Section
from rcig.report.drawing import COLOURS, DASHES, in_percent, legend, panels, png, styled
from rcig.report.results import Report

ORDER = 50

_TEXT = (
    "Held-out accuracy is measured on a part of the training split that the distillation does not see. Faint lines are"
    " single seeds, full lines their mean; the loss is a running median."
)
_GRADIENTS = (
    "gradients by what is learned (images, or coefficients and basis, and labels), before clipping, at every tenth"
    " step; variance from successive steps"
)

Curves = Mapping[str, pd.DataFrame]
"""by experiment, with the columns seed, step, seconds, loss, heldout_accuracy (a fraction, NaN where not measured)"""


def section(report: Report) -> Section:
    sizes = by_size(report)
    curves = {size: training_curves(together) for size, together in sizes.items()}
    measured = {size: gradients(together) for size, together in sizes.items()}
    known = {size: drawn for size, drawn in measured.items() if drawn is not None}
    blocks: list[Block] = [Paragraph(_TEXT)] if curves else []
    what = "Held-out accuracy against steps and seconds, and outer loss against steps"
    blocks += [Figure(size, [Picture(drawn, f"{what}, of sets of {size}")]) for size, drawn in curves.items()]
    what = "Norm and variance of the gradient against steps"
    blocks += [
        Figure(f"{size}: {_GRADIENTS}", [Picture(drawn, f"{what}, of sets of {size}")]) for size, drawn in known.items()
    ]
    files = {f"curves-{size}": drawn for size, drawn in curves.items()}
    files |= {f"gradients-{size}": drawn for size, drawn in known.items()}
    return Section("training", "Training", blocks, {}, files)


def by_size(report: Report) -> dict[str, dict[str, pd.DataFrame]]:
    """Dataset and size -> the curves of the sets that take the room of so many images per class, by experiment."""
    sizes: dict[str, dict[str, pd.DataFrame]] = {}
    for experiment, curve in report.curves.items():
        of = report.summaries.get(experiment)
        size = experiment if of is None else f"{of['dataset']}-ipc{of['storage_images_per_class']}"
        sizes.setdefault(size, {})[experiment] = curve
    return sizes


@styled
def training_curves(curves: Curves) -> bytes:
    """Held-out accuracy against steps and against seconds, and outer loss against steps, one colour per experiment."""
    figure, (by_step, by_time, loss) = panels(3)
    by_step.set(title="Held-out accuracy", xlabel="Step")
    by_time.set(title="Held-out accuracy", xlabel="Seconds")
    loss.set(title="Outer loss", xlabel="Step")
    in_percent(by_step, by_time)
    for (experiment, curve), look in zip(curves.items(), _looks(), strict=False):
        measured = curve.dropna(subset="heldout_accuracy")
        # Markers, as a set that is not trained has one point and no line.
        dots = {"marker": "o", "markersize": 3}
        _draw(by_step, measured, ("step", "heldout_accuracy"), label=experiment, **look, **dots)
        _draw(by_time, measured, ("seconds", "heldout_accuracy"), **look, **dots)
        _draw(loss, smoothed(curve), ("step", "loss"), **look)
    legend(figure, by_step, columns=3)
    return png(figure)


@styled
def gradients(curves: Curves) -> bytes | None:
    """Norm and variance of the gradient by the set against steps, of methods that measure both; None where none does.

    As they were recorded, at every tenth step: a median would hide the steps at which a gradient explodes.
    """
    known = {name: curve for name, curve in curves.items() if "gradient_variance" in curve}
    if not known:
        return None
    figure, both = panels(2)
    titles = {"gradient_norm": "Norm of the gradient", "gradient_variance": "Variance of the gradient"}
    for axes, (column, title) in zip(both, titles.items(), strict=True):
        axes.set(title=title, xlabel="Step", xscale="log", yscale="log")
        for (experiment, curve), look in zip(known.items(), _looks(), strict=False):
            _draw(axes, curve, ("step", column), **look, linewidth=0.8, label=experiment)
    legend(figure, both[0], columns=3)
    return png(figure)


def _looks() -> Iterator[dict[str, Any]]:
    """Of one line after the other."""
    return ({"color": colour, "linestyle": dashes} for dashes, colour in cycle(product(DASHES, COLOURS)))


def _draw(axes: Axes, curve: pd.DataFrame, columns: tuple[str, str], **look: Any) -> None:
    """A faint line per seed and a full one through their mean at each step."""
    x, y = columns
    for _, one in curve.groupby("seed"):
        axes.plot(one[x], one[y], **{**look, "alpha": 0.3, "linewidth": 0.8, "label": None})
    mean = curve.groupby("step", as_index=False).mean()
    axes.plot(mean[x], mean[y], **look)


def smoothed(curve: pd.DataFrame) -> pd.DataFrame:
    """The curve with the loss of each seed replaced by its running median over 2 % of the steps: batches are noisy."""
    window = 1 + curve["step"].nunique() // 50
    median = curve.groupby("seed")["loss"].transform(lambda loss: loss.rolling(window, 1, center=True).median())
    return curve.assign(loss=median)

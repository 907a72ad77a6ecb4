"""Pictures of distilled sets, of their training and of studies, as PNG bytes: the same input gives the same bytes.

All stand on a transparent ground, with writing in a grey that can be read on white and on near-black pages.
"""

import io
from collections.abc import Callable, Mapping
from itertools import cycle, product
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from rcig.predictions import Predictions
from rcig.predictions import confusion as shares_of
from rcig.report.studies import Measured
from rcig.rows import SUBSET

_INK = "#7b7b7b"
_CELL, _GAP, _TITLE = 128, 12, 32
"""Pixels: side of a cell at most, where images are smaller; between cells; height of a title."""

# Okabe & Ito's palette, which readers with any colour vision can tell apart, without the two it has for dark or light
# grounds only (black, yellow).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_DASHES = ("-", "--", ":")
_HOLLOW: dict[str, Any] = {"linestyle": "none", "markerfacecolor": "none", "label": None}
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _INK,
    "axes.titlecolor": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": _INK,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.labelcolor": _INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


def image_grid(pixels: NDArray[np.uint8], titles: list[str], columns: int) -> bytes:
    """Images in rows of `columns`, each under its title, small ones enlarged by a whole factor without smoothing.

    `pixels` is uint8 (n, h, w, c) with c = 1 (grey) or 3 (RGB). A title wider than its image is cut short.
    Raises ValueError for pixels of any other kind and unless there is one title per image.
    """
    _check_images(pixels, titles)
    scale = max(1, _CELL // max(pixels.shape[1:3]))
    cells = np.broadcast_to(pixels, (*pixels.shape[:3], 3)).repeat(scale, axis=1).repeat(scale, axis=2)
    count, height, width, _ = cells.shape
    size = columns * (width + _GAP) - _GAP, -(-count // columns) * (_TITLE + height + _GAP) - _GAP
    # The ground has the ink's colour, or the smoothed edges of the letters would be darker than the letters.
    canvas = Image.new("RGBA", size, f"{_INK}00")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=24)
    for index, (cell, title) in enumerate(zip(cells, titles, strict=True)):
        row, column = divmod(index, columns)
        left, top = column * (width + _GAP), row * (_TITLE + height + _GAP)
        draw.text((left + width / 2, top), _shorten(title, width, font), _INK, font, anchor="ma")
        canvas.paste(Image.fromarray(cell), (left, top + _TITLE))
    buffer = io.BytesIO()
    canvas.save(buffer, "png")
    return buffer.getvalue()


def _check_images(pixels: NDArray[np.uint8], titles: list[str]) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[0] == 0 or pixels.shape[3] not in (1, 3):
        raise ValueError(
            f"expected pixels as uint8 (n, h, w, 1 or 3) with n > 0, got {pixels.dtype} {pixels.shape};"
            " pass the de-whitened pixels of one seed"
        )
    if len(titles) != len(pixels):
        raise ValueError(f"expected one title per image, got {len(titles)} titles for {len(pixels)} images")


def _shorten(title: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The title, or as much of its beginning as fits into `width` pixels with an ellipsis."""
    candidates = [title, *(title[:end].rstrip() + "…" for end in range(len(title) - 1, 0, -1))]
    return next((text for text in candidates if font.getlength(text) <= width), "")


def training_curves(curves: Mapping[str, pd.DataFrame]) -> bytes:
    """Held-out accuracy against steps and against seconds, and the outer loss against steps, one colour per experiment.

    Each frame has the columns seed, step, seconds, loss and heldout_accuracy (a fraction, NaN where not measured).
    """
    with matplotlib.rc_context(_STYLE):
        figure, (by_step, by_time, loss) = _panels()
        by_step.set(title="Held-out accuracy", xlabel="Step")
        by_time.set(title="Held-out accuracy", xlabel="Seconds")
        loss.set(title="Outer loss", xlabel="Step")
        for axes in (by_step, by_time):
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
        looks = cycle(product(_DASHES, COLOURS))
        for (experiment, curve), (dashes, colour) in zip(curves.items(), looks, strict=False):
            measured = curve.dropna(subset="heldout_accuracy")
            look = {"color": colour, "linestyle": dashes}
            # Markers, as a set that is not trained has one point and no line.
            dots = {"marker": "o", "markersize": 3}
            _draw(by_step, measured, ("step", "heldout_accuracy"), label=experiment, **look, **dots)
            _draw(by_time, measured, ("seconds", "heldout_accuracy"), **look, **dots)
            _draw(loss, smoothed(curve), ("step", "loss"), **look)
        figure.legend(*by_step.get_legend_handles_labels(), loc="outside lower center", ncols=3)
        return png(figure)


def gradients(curves: Mapping[str, pd.DataFrame]) -> bytes | None:
    """Norm and variance of the gradient by the set against steps, of methods that measure both; None where none does.

    As they were recorded, at every tenth step: a median would hide the steps at which a gradient explodes. Frames as
    those of `training_curves`.
    """
    known = {name: curve for name, curve in curves.items() if "gradient_variance" in curve}
    if not known:
        return None
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(9, 3.1), dpi=200, layout="constrained")
        panels = figure.subplots(1, 2)
        titles = {"gradient_norm": "Norm of the gradient", "gradient_variance": "Variance of the gradient"}
        for (experiment, curve), (dashes, colour) in zip(known.items(), cycle(product(_DASHES, COLOURS)), strict=False):
            for axes, (column, title) in zip(panels, titles.items(), strict=True):
                axes.set(title=title, xlabel="Step", xscale="log", yscale="log")
                look = {"color": colour, "linestyle": dashes, "linewidth": 0.8, "label": experiment}
                _draw(axes, curve, ("step", column), **look)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
        return png(figure)


@matplotlib.rc_context(_STYLE)
def parts(rows: pd.DataFrame) -> dict[str, bytes]:
    """Accuracy against images per class of sets and of their parts: random ones, or the first blocks of boosted sets.

    By dataset, method, protocol and width, where parts were judged: a line joins a set and its parts, every experiment
    has its own; means over networks and their standard deviation (Feng et al. 2023, the intercorrelation of distilled
    images). `rows` are those of fully trained networks.
    """
    accuracies = rows[rows["metric"] == "accuracy"]
    accuracies = accuracies.assign(root=accuracies["method"].str.split("+").str[0])
    drawn = {}
    for (data, root, protocol, width), some in accuracies.groupby(["dataset", "root", "protocol", "width"], sort=False):
        if not some["method"].str.endswith(SUBSET).any():
            continue
        figure = Figure(figsize=(4.5, 3.1), dpi=200, layout="constrained")
        axes = figure.subplots()
        axes.set(title="Test accuracy", xlabel="Images per class")
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
        axes.set_xticks(sorted(some["images_per_class"].unique()))
        for (experiment, of_one), colour in zip(some.groupby("experiment", sort=False), cycle(COLOURS), strict=False):
            line = of_one.groupby("images_per_class")["value"].agg(["mean", "std"]).fillna(0)
            look: dict[str, Any] = {"color": colour, "marker": "o", "markersize": 4, "capsize": 3, "label": experiment}
            axes.errorbar(line.index, line["mean"], line["std"], **look)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center")
        drawn[f"{data}-{root}-{protocol}-{width}"] = png(figure)
    return drawn


@matplotlib.rc_context(_STYLE)
def strata(sets: Mapping[str, Mapping[int, Mapping[str, float]]]) -> bytes:
    """By method a panel: accuracy on the test images of each stratum of hardness against images per class.

    `sets`: method -> images per class -> accuracy by stratum, see rcig.predictions.
    """
    figure = Figure(figsize=(3.2 * len(sets), 3.1), dpi=200, layout="constrained")
    panels = figure.subplots(1, len(sets), squeeze=False, sharey=True)[0]
    for axes, (method, sizes) in zip(panels, sets.items(), strict=True):
        axes.set(title=method, xlabel="Images per class", ylim=(-0.03, 1.03))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
        axes.set_xticks(sorted(sizes))
        table = pd.DataFrame(dict(sizes)).T.sort_index()
        for stratum, colour in zip(table, COLOURS, strict=False):
            axes.plot(table.index, table[stratum], color=colour, marker="o", markersize=4, label=stratum)
    legend = figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, title="Missed by"
    )
    legend.get_title().set_color(_INK)
    return png(figure)


_TRAINED_ON = {"real_members": "all members", "real_subset": "a real subset", "distilled": "the distilled set"}


@matplotlib.rc_context(_STYLE)
def attack_curves(rows: pd.DataFrame) -> dict[str, bytes]:
    """By experiment whose networks were attacked more than once: accuracy and AUCs against training steps.

    Means over networks, with their standard deviation as a band (Loo et al. 2023, figure 3).
    """
    prefix = "membership_inference/"
    attacked = rows[rows["protocol"].str.startswith(prefix)]
    drawn = {}
    for experiment, all_rows in attacked.groupby("experiment", sort=False):
        steps = all_rows.groupby("metric")["step"].nunique()
        metrics = ["accuracy", *(name for name in steps[steps > 1].index if name.startswith("auc/"))]
        if steps["accuracy"] == 1:
            continue
        figure = Figure(figsize=(4.5 * len(metrics), 3.1), dpi=200, layout="constrained")
        for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
            title = "Test accuracy" if metric == "accuracy" else f"AUC, {metric.removeprefix('auc/')}"
            axes.set(title=title, xlabel="Training step", xscale="log")
            measured = sorted(all_rows["step"].unique())
            axes.set_xticks(measured, [f"{step:g}" for step in measured])
            axes.minorticks_off()
            if metric == "accuracy":
                axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
            else:
                axes.axhline(0.5, color=_INK, linestyle="--", linewidth=1)
            for protocol, colour in zip(all_rows["protocol"].unique(), COLOURS, strict=False):
                of_kind = all_rows[(all_rows["protocol"] == protocol) & (all_rows["metric"] == metric)]
                line = of_kind.groupby("step")["value"].agg(["mean", "std"]).fillna(0)
                label = _TRAINED_ON[protocol.removeprefix(prefix)]
                axes.plot(line.index, line["mean"], color=colour, marker="o", markersize=3, label=label)
                band = line["mean"] - line["std"], line["mean"] + line["std"]
                axes.fill_between(line.index, *band, color=colour, alpha=0.2, linewidth=0)
        handles = figure.axes[0].get_legend_handles_labels()
        legend = figure.legend(*handles, loc="outside lower center", ncols=3, title="Trained on")
        legend.get_title().set_color(_INK)
        drawn[str(experiment)] = png(figure)
    return drawn


_NAMED = 20
"""classes whose names fit beside a matrix"""


@matplotlib.rc_context(_STYLE)
def confusion(found: Predictions) -> bytes:
    """How often images of each class are said to be of each, over all networks; the diagonal is accuracy by class."""
    shares = shares_of(found)
    classes = len(shares)
    figure = Figure(figsize=(4.5, 4.2), dpi=200, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="Predicted", ylabel="True")
    axes.grid(False)
    if classes <= _NAMED:
        axes.set_xticks(range(classes), found.class_names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(classes), found.class_names)
        for row, column in product(range(classes), repeat=2):
            if shares[row, column] >= 0.01:
                ink = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, f"{100 * shares[row, column]:.0f}", color=ink, size=6, ha="center", va="center")
    else:
        colours = figure.colorbar(image, format=PercentFormatter(1))
        colours.outline.set_visible(False)
    return png(figure)


def png(figure: Figure) -> bytes:
    """With 256 colours and transparencies, as many as lines and letters need: a third of the bytes."""
    drawn, buffer = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    few = Image.open(drawn).quantize(256, Image.Quantize.FASTOCTREE)
    few.save(buffer, "png", optimize=True, dpi=(figure.dpi, figure.dpi))
    return buffer.getvalue()


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


@matplotlib.rc_context(_STYLE)
def study(measured: Measured) -> bytes:
    """The figure that the study asks for; means over seeds."""
    return png(STUDIES[measured.study.figure](measured))


def steps(measured: Measured) -> Figure:
    """Time and held-out accuracy over both kinds of steps of adam, and the one against the other for all solvers.

    Points whose body_weight is not that of most are hollow.
    """
    figure, (time, accuracy, both) = _panels()
    time.set(title="Seconds per step", xlabel="inverse_steps")
    accuracy.set(title="Held-out accuracy", xlabel="inverse_steps")
    both.set(title="Held-out accuracy, all solvers", xlabel="Seconds per step")
    for axes in (accuracy, both):
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    points = measured.points()
    weights = points.get("body_weight", pd.Series(0, points.index))
    hollow = weights != weights.mode()[0]
    by_solver = dict(list(points.groupby("solver")))
    adam = by_solver.pop("adam", points.iloc[:0]).sort_values("inverse_steps").groupby("inner_steps")
    for (inner, line), colour in zip(adam, cycle(COLOURS), strict=False):
        look = {"color": colour, "marker": "o", "markersize": 4, "label": f"adam, inner_steps {inner:g}"}
        _mark(time, line, ("inverse_steps", "seconds_per_step"), hollow, **look)
        _mark(accuracy, line, ("inverse_steps", "heldout_accuracy"), hollow, **look)
        _mark(both, line, ("seconds_per_step", "heldout_accuracy"), hollow, **look, linestyle="none")
    for (solver, line), marker in zip(by_solver.items(), ("s", "*", "D"), strict=False):
        look = {"color": _INK, "marker": marker, "markersize": 9 if marker == "*" else 4, "label": solver}
        dashes = "none"
        if solver == "cg" and "cg_iterations" in line:
            line, dashes = line.sort_values("cg_iterations"), "--"
            for at in line[~hollow[line.index]].itertuples():
                place = at.seconds_per_step, at.heldout_accuracy
                both.annotate(f"{at.cg_iterations:g}", place, (4, -9), textcoords="offset points", color=_INK, size=7)
        _mark(both, line, ("seconds_per_step", "heldout_accuracy"), hollow, **look, linestyle=dashes)
    time.set_ylim(0)
    handles, labels = both.get_legend_handles_labels()
    for weight in weights[hollow].unique():
        handles.append(Line2D([], [], color=_INK, marker="o", markersize=4, **_HOLLOW))
        labels.append(f"hollow: body_weight {weight:g}")
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def subset(measured: Measured) -> Figure:
    """Memory, time and held-out accuracy over the number of images of a backward pass."""
    figure, panels = _panels()
    columns = {
        "memory_mb": "Memory of a step in MiB",
        "seconds_per_step": "Seconds per step",
        "heldout_accuracy": "Held-out accuracy",
    }
    for axes, (column, title) in zip(panels, columns.items(), strict=True):
        axes.set(title=title, xlabel="subset")
        for (label, line), colour in zip(measured.lines("subset").items(), cycle(COLOURS), strict=False):
            axes.plot(line["subset"], line[column], color=colour, marker="o", markersize=4, label=label)
    for axes in panels[:2]:
        axes.set_ylim(0)
    panels[2].yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


STUDIES: dict[str, Callable[[Measured], Figure]] = {"steps": steps, "subset": subset}
"""see rcig.params.Study.figure"""


@matplotlib.rc_context(_STYLE)
def dataset(facts: Mapping[str, Any]) -> bytes:
    """Images of every class, and the eigenvalues of the covariance where the whitening has any; see stages.describe."""
    spectrum = facts["spectrum"]
    figure = Figure(figsize=(9, 2.6), dpi=200, layout="constrained")
    classes, *rest = list(figure.subplots(1, 2 if spectrum else 1, squeeze=False)[0])
    classes.set(title="Images per class", xlabel="Class")
    for (part, counts), colour in zip(facts["counts"].items(), COLOURS, strict=False):
        classes.stairs(counts, np.arange(len(counts) + 1) - 0.5, color=colour, label=part, linewidth=1.6, baseline=None)
    classes.set_ylim(0, 1.1 * max(max(counts) for counts in facts["counts"].values()))
    classes.legend(loc="center")
    for axes in rest:
        axes.set(title="Eigenvalues of the covariance", xlabel="Rank")
        axes.loglog(*zip(*((rank, value) for rank, value in spectrum if value > 0), strict=True), color=COLOURS[0])
        axes.axhline(facts["ridge"], color=_INK, linestyle="--", linewidth=1, label="added by the regularisation")
        axes.legend()
    return png(figure)


def _panels() -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(9, 3.1), dpi=200, layout="constrained")
    return figure, list(figure.subplots(1, 3))


def _mark(axes: Axes, points: pd.DataFrame, columns: tuple[str, str], hollow: pd.Series, **look: Any) -> None:
    """Points joined by a line; the hollow ones for themselves."""
    x, y = columns
    aside = hollow[points.index]
    axes.plot(points[x][~aside], points[y][~aside], **look)
    if aside.any():
        axes.plot(points[x][aside], points[y][aside], **look | _HOLLOW)

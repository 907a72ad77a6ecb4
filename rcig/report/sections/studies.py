"""What settings of a method do to the time and memory of a step and to what comes of it."""

from collections.abc import Callable, Iterator, Mapping
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D

from rcig.report.blocks import Block, Figure, Paragraph, Picture, Section, Table
from rcig.report.drawing import COLOURS, INK, in_percent, legend, panels, png, styled
from rcig.report.results import Measured, Report
from rcig.report.tables import least_squares

ORDER = 80

_TEXT = (
    "What settings of a method do to the time and memory of a step and to what comes of it. Accuracy is held-out"
    " accuracy: on training images that the distillation does not see, of networks of the width used to distil. Memory"
    " is the compiler’s plan for one step."
)
_CAPTION = (
    "What one more step, iteration or image costs: least squares over the points of a study, both kinds of steps of"
    " adam in one fit. R² is that of the fit: 1 where the cost is linear."
)
_VALUES = ["seconds_per_step", "memory_mib", "heldout_accuracy"]
_STEPS = {"adam": ["inner_steps", "inverse_steps"], "cg": ["cg_iterations"]}
"""solver -> what its time should be linear in"""
_HOLLOW: dict[str, Any] = {"linestyle": "none", "markerfacecolor": "none", "label": None}


def section(report: Report) -> Section:
    table = slopes(report.studies)
    drawn = {name: draw(measured) for name, measured in report.studies.items()}
    blocks: list[Block] = [Paragraph(_TEXT)] if drawn else []
    blocks += [
        Figure(name, [Picture(drawn[name], f"What was measured at the points of the study {name}")], [_about(measured)])
        for name, measured in report.studies.items()
    ]
    if not table.empty:
        blocks.append(Table({"": table}, 2, _CAPTION))
    files = {f"study-{name}": drawing for name, drawing in drawn.items()}
    return Section("studies", "Studies", blocks, {"slopes": table}, files)


def _about(measured: Measured) -> str:
    base, machines = measured.study.base, measured.rows["machine"].unique()
    images = f"{base.images_per_class} {'image' if base.images_per_class == 1 else 'images'} per class"
    seeds = f"{len(base.seeds)} {'seed' if len(base.seeds) == 1 else 'seeds'}"
    return (
        f"Varied: {', '.join(measured.study.varied)}. {base.method} on {base.dataset}, {images}, width {base.width},"
        f" batches of {base.loop.batch_size} real images, {base.loop.steps} steps, {seeds}; on"
        f" {' and '.join(machines)}. Accuracy is held-out."
    )


def averages(measured: Measured) -> pd.DataFrame:
    """One line per point, in the order in which they were measured: time, memory and accuracy as means over seeds."""
    settings = list(measured.study.varied)
    return measured.rows.groupby(settings, sort=False, dropna=False)[_VALUES].mean().reset_index()


def lines(measured: Measured, x: str) -> dict[str, pd.DataFrame]:
    """The points by all settings that vary besides x, in words: "images_per_pass 10"; sorted by x."""
    points = averages(measured).sort_values(x)
    rest = [name for name in measured.study.varied if name != x]
    labels = [", ".join(f"{name} {_text(point[name])}" for name in rest) for _, point in points.iterrows()]
    return {str(label): line for label, line in points.groupby(np.array(labels), sort=False)}


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


class _Fit(NamedTuple):
    points: str
    """which of a study, in words"""
    x: pd.DataFrame
    y: pd.Series
    unit: str


def slopes(studies: Mapping[str, Measured]) -> pd.DataFrame:
    """What one more iteration costs in time, or one more image of a backward pass in memory, by least squares."""
    records = []
    for name, measured in studies.items():
        for fit in _by_solver(measured) if measured.study.figure == "steps" else _by_images(measured):
            # Fewer points than unknowns, or just as many, say nothing about linearity.
            if len(fit.x) > fit.x.shape[1] + 1:
                found, share = least_squares(fit.x, fit.y)
                what = {"Study": name, "Points": f"{fit.points} ({len(fit.x)})".strip()}
                records += [
                    what | {"Per": term, "Slope": f"{slope:.3g} {fit.unit}", "R²": f"{share:.3f}"}
                    for term, slope in zip(fit.x, found, strict=True)
                ]
    return pd.DataFrame(records, columns=["Study", "Points", "Per", "Slope", "R²"])


def _by_solver(measured: Measured) -> Iterator[_Fit]:
    points = averages(measured)
    # Iterations of cg cost nothing once it has converged, which a light body brings about earlier.
    apart = ["solver", *({"body_weight"} & set(points))]
    for values, some in points.groupby(apart, sort=False):
        over = _STEPS.get(str(values[0]), [])
        if over and set(over) <= set(some):
            words = ", ".join(f"{name} {value}" for name, value in zip(apart, values, strict=True))
            yield _Fit(words, some[over], 1000 * some["seconds_per_step"], "ms per step")


def _by_images(measured: Measured) -> Iterator[_Fit]:
    for words, some in lines(measured, "backward_images").items():
        yield _Fit(words, some[["backward_images"]], some["memory_mib"], "MiB")


@styled
def draw(measured: Measured) -> bytes:
    """The figure that the study asks for; means over seeds."""
    return png(FIGURES[measured.study.figure](measured))


def steps(measured: Measured) -> Drawing:
    """Time and held-out accuracy over both kinds of steps of adam, and the one against the other for all solvers.

    Points whose body_weight is not that of most are hollow.
    """
    figure, (time, accuracy, both) = panels(3)
    time.set(title="Seconds per step", xlabel="inverse_steps")
    accuracy.set(title="Held-out accuracy", xlabel="inverse_steps")
    both.set(title="Held-out accuracy, all solvers", xlabel="Seconds per step")
    in_percent(accuracy, both)
    points = averages(measured)
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
        _draw_solver(both, str(solver), line, hollow, marker)
    time.set_ylim(0)
    handles, labels = both.get_legend_handles_labels()
    for weight in weights[hollow].unique():
        handles.append(Line2D([], [], color=INK, marker="o", markersize=4, **_HOLLOW))
        labels.append(f"hollow: body_weight {weight:g}")
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def _draw_solver(axes: Axes, solver: str, points: pd.DataFrame, hollow: pd.Series, marker: str) -> None:
    """Accuracy against seconds; the points of cg joined and with their numbers of iterations."""
    look = {"color": INK, "marker": marker, "markersize": 9 if marker == "*" else 4, "label": solver}
    dashes = "none"
    if solver == "cg" and "cg_iterations" in points:
        points, dashes = points.sort_values("cg_iterations"), "--"
        for at in points[~hollow[points.index]].itertuples():
            place = at.seconds_per_step, at.heldout_accuracy
            axes.annotate(f"{at.cg_iterations:g}", place, (4, -9), textcoords="offset points", color=INK, size=7)
    _mark(axes, points, ("seconds_per_step", "heldout_accuracy"), hollow, **look, linestyle=dashes)


def _mark(axes: Axes, points: pd.DataFrame, columns: tuple[str, str], hollow: pd.Series, **look: Any) -> None:
    """Points joined by a line; the hollow ones for themselves."""
    x, y = columns
    aside = hollow[points.index]
    axes.plot(points[x][~aside], points[y][~aside], **look)
    if aside.any():
        axes.plot(points[x][aside], points[y][aside], **look | _HOLLOW)


def backward_images(measured: Measured) -> Drawing:
    """Memory, time and held-out accuracy over the number of images of a backward pass."""
    figure, shown = panels(3)
    columns = {
        "memory_mib": "Memory of a step in MiB",
        "seconds_per_step": "Seconds per step",
        "heldout_accuracy": "Held-out accuracy",
    }
    for axes, (column, title) in zip(shown, columns.items(), strict=True):
        axes.set(title=title, xlabel="backward_images")
        for (label, line), colour in zip(lines(measured, "backward_images").items(), cycle(COLOURS), strict=False):
            axes.plot(line["backward_images"], line[column], color=colour, marker="o", markersize=4, label=label)
    for axes in shown[:2]:
        axes.set_ylim(0)
    in_percent(shown[2])
    legend(figure, shown[0], columns=3)
    return figure


FIGURES: dict[str, Callable[[Measured], Drawing]] = {"steps": steps, "backward_images": backward_images}
"""see rcig.run.settings.Study.figure"""

"""What settings of a method do to the time and memory of a step and to what comes of it."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rcig.report import charts
from rcig.report.blocks import Block, Chart, Fold, Paragraph, Row, Section, Table
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
_TITLES = {
    "seconds_per_step": "seconds per step",
    "memory_mib": "memory of a step in MiB",
    "heldout_accuracy": "held-out accuracy",
}


def section(report: Report) -> Section:
    table = slopes(report.studies)
    blocks: list[Block] = [Paragraph(_TEXT)] if report.studies else []
    for name, measured in report.studies.items():
        drawn = [chart._replace(name=f"study-{name}-{what}") for what, chart in draw(measured).items()]
        blocks.append(Fold(name, [Paragraph(_about(measured)), Row(drawn)]))
    if not table.empty:
        blocks.append(Table(table, _CAPTION, ("Study",)))
    return Section("studies", "Studies", blocks, {"slopes": table})


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


def draw(measured: Measured) -> dict[str, Chart]:
    """The charts that the study asks for; means over seeds."""
    return FIGURES[measured.study.figure](measured)


def steps(measured: Measured) -> dict[str, Chart]:
    """Time and held-out accuracy over both kinds of steps of adam, and the one against the other for all solvers.

    Points whose body_weight is not that of most are named apart.
    """
    points = averages(measured)
    apart = _apart(points)
    adam = points[points["solver"] == "adam"].sort_values(["inner_steps", "inverse_steps"])
    adam = adam.assign(name=[f"inner_steps {one:g}" for one in adam["inner_steps"]] + apart[adam.index])
    x = charts.number("inverse_steps", "inverse_steps", zero=True)
    drawn = {
        column: _chart(adam, x, column, "adam", zero=column == "seconds_per_step")
        for column in ("seconds_per_step", "heldout_accuracy")
        if not adam.empty
    }
    every = points.assign(
        name=points["solver"] + apart,
        iterations=[_iterations(point) for _, point in points.iterrows()],
    )
    spec = _points(every, charts.number("seconds_per_step", "seconds per step", zero=True))
    title = "Held-out accuracy against time, all solvers"
    return drawn | {"solvers": Chart(title, f"{title}; a point is named by its steps or iterations", spec)}


def _apart(points: pd.DataFrame) -> pd.Series:
    """What is added to the name of a point whose body_weight is not that of most."""
    weights = points.get("body_weight", pd.Series(0, points.index))
    other = weights != weights.mode()[0]
    return pd.Series([f", body_weight {w:g}" if o else "" for w, o in zip(weights, other, strict=True)], points.index)


def _iterations(point: pd.Series) -> str:
    """The steps of adam or iterations of cg that a point takes, in words."""
    return ", ".join(f"{name} {point[name]:g}" for name in _STEPS.get(str(point["solver"]), []) if name in point)


def _points(data: pd.DataFrame, x: charts.Spec) -> charts.Spec:
    y = charts.number("heldout_accuracy", "held-out accuracy", percent=True)
    names = list(dict.fromkeys(data["name"]))
    looks = charts.colour("name", names, symbol="circle")
    del looks["strokeDash"]
    tooltip = [
        {"field": "name", "type": "nominal", "title": "solver"},
        {"field": "iterations", "type": "nominal"},
        {"field": "seconds_per_step", "type": "quantitative", "format": ".3~g"},
        {"field": "heldout_accuracy", "type": "quantitative", "format": ".1%"},
    ]
    dots: charts.Spec = {
        "params": charts.choices("name"),
        "mark": {"type": "point", "filled": True, "size": 50},
        "encoding": {"x": x, "y": y, **looks, "tooltip": tooltip},
    }
    columns = ["name", "iterations", "seconds_per_step", "heldout_accuracy"]
    return charts.figure(data[columns], dots, text=("name", "iterations"))


def backward_images(measured: Measured) -> dict[str, Chart]:
    """Memory, time and held-out accuracy over the number of images of a backward pass."""
    by_name = lines(measured, "backward_images")
    points = pd.concat([line.assign(name=name) for name, line in by_name.items()], ignore_index=True)
    x = charts.number("backward_images", "backward_images", zero=True)
    return {column: _chart(points, x, column, zero=column != "heldout_accuracy") for column in _VALUES}


def _chart(points: pd.DataFrame, x: charts.Spec, column: str, of: str = "", zero: bool = False) -> Chart:
    title = _TITLES[column]
    y = charts.number(column, title, zero=zero, percent=column == "heldout_accuracy")
    names = list(dict.fromkeys(points["name"]))
    spec = charts.lines(points[["name", x["field"], column]], x, y, names, title="points", dots=True)
    words = f"{title} against {x['title']}"
    words = f"{words[0].upper()}{words[1:]}{', ' * bool(of)}{of}"
    return Chart(words, words, spec)


FIGURES: dict[str, Callable[[Measured], dict[str, Chart]]] = {"steps": steps, "backward_images": backward_images}
"""see rcig.run.settings.Study.figure"""

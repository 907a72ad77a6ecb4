"""How an outer step's time and memory grow with the distilled images and with the iterations of the solvers.

    python -m benchmarks.scaling --width 16 --batch 64 --plot scaling.png

Prints the slope of every line and the R² of the fit. For `adam` there are as many Hessian-inverse as inner steps.
"""

import argparse
import dataclasses
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.machine import run, seconds
from benchmarks.outer_step import prepare, solver_settings
from rcig.methods import implicit
from rcig.report.tables import least_squares

IMAGES, ITERATIONS = (10, 20, 40, 80), (4, 8, 16, 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--plot", type=Path, help="write a picture here")
    options = parser.parse_args()
    points = [("images", solver, images, 10) for solver in ("dense", "cg") for images in IMAGES]
    points += [("iterations", solver, 10, number) for solver in ("cg", "adam") for number in ITERATIONS]
    rows = []
    for axis, solver, images, iterations in points:
        # The paper's objective: with a light body conjugate gradients would be done before its last iteration.
        settings = dataclasses.replace(solver_settings(solver, iterations), body_weight=1.0, images_per_pass=10)
        case = prepare(implicit, settings, options.width, options.batch, images)
        x = images if axis == "images" else iterations
        rows.append((axis, solver, x, seconds(case.run, options.repeats), case.memory_mib))
    table = pd.DataFrame(rows, columns=["axis", "solver", "x", "seconds", "memory_mib"])
    print(table.to_string(index=False))
    for (what, name), line in table.groupby(["axis", "solver"]):
        for quantity in ("seconds", "memory_mib"):
            (slope,), fit = least_squares(line[["x"]], line[quantity])
            print(f"{quantity} per {what}, {name}: {slope:.4g}, R² {fit:.3f}")
    if options.plot:
        draw(table).savefig(options.plot, metadata={"Software": None})


def draw(table: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    for axes, (axis, quantity) in zip(
        figure.subplots(2, 2).flat,
        [(axis, quantity) for quantity in ("seconds", "memory_mib") for axis in ("images", "iterations")],
        strict=True,
    ):
        for name, line in table[table["axis"] == axis].groupby("solver"):
            axes.plot(line["x"], line[quantity], "o-", label=name)
        largest = table.loc[table["axis"] == axis, quantity].max()
        axes.set(xlabel=axis, ylabel=quantity.replace("_mib", " (MiB)"), ylim=(0, 1.1 * largest))
        axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    run(main)

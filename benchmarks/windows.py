"""Memory and time of an outer step of rat_bptt by the length of its window and of its inner training.

    python -m benchmarks.windows --width 32 --images 10 --json

Memory is the compiler's plan for a step; seconds are given with the ratio to those of the first line.
"""

import argparse
import dataclasses
import json
from pathlib import Path

from ruamel.yaml import YAML

from benchmarks.machine import seconds
from benchmarks.outer_step import prepare_experiment
from rcig import params
from stages.common import run

BASE = "mnist-ipc1-rat_bptt-compact"
WINDOWS, STEPS = (20, 40, 60), (20, 60, 200)


def main(*_: str) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    first = None
    cases = [(20, steps, False) for steps in STEPS] + [(window, 60, False) for window in WINDOWS[1:]]
    for window, steps, rematerialise in cases + [(window, 60, True) for window in WINDOWS]:
        experiment = base(options.width, window, steps, rematerialise)
        case = prepare_experiment(experiment, options.batch, options.images)
        spent = seconds(case.run, options.repeats)
        first = first or spent
        found = {
            "inner_steps": steps,
            "window": window,
            "rematerialise": rematerialise,
            "memory_mb": round(case.memory_mb),
            "seconds": round(spent, 3),
            "ratio": round(spent / first, 2),
        }
        print(json.dumps(found) if options.json else "  ".join(f"{name} {value}" for name, value in found.items()))


def base(width: int, window: int, steps: int, rematerialise: bool) -> params.Experiment:
    """The catalogue's entry at another width, window and number of inner steps; a window always ends with the last."""
    raw = YAML(typ="safe").load(Path("params.yaml").read_text())["shared"]
    sections = {"datasets": raw["datasets"], "full_dataset": {}, "studies": {}}
    found = params.parse_params(sections | {"experiments": {BASE: raw["experiments"][BASE]}}).experiment(BASE)
    settings = dataclasses.replace(
        found.settings, inner_steps=steps, window=window, window_end="last", rematerialise=rematerialise
    )
    return dataclasses.replace(found, method="t_bptt", width=width, settings=settings)


if __name__ == "__main__":
    run(main)

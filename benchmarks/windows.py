"""Memory and time of an outer step of rat_bptt by the length of its window and of its inner training.

    python -m benchmarks.windows --width 32 --images 10 --json

Memory is the compiler's plan for a step; seconds are given with the ratio to those of the first line.
"""

import argparse
import dataclasses
import json

from benchmarks.machine import run, seconds
from benchmarks.outer_step import prepare
from rcig.methods import unrolled

BASE = unrolled.Settings(
    learning_rate=0.02, learning_rate_floor=0.05, architecture="conv", augment=False, augment_real=False
)
"""of the size `compact` in params.yaml"""
WINDOWS, STEPS = (20, 40, 60), (20, 60, 200)


def main() -> None:
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
        # A window that always ends with the last step, as t_bptt has it.
        settings = dataclasses.replace(
            BASE, inner_steps=steps, window=window, window_end="last", rematerialise=rematerialise
        )
        case = prepare(unrolled, settings, options.width, options.batch, options.images)
        spent = seconds(case.run, options.repeats)
        first = first or spent
        found = {
            "inner_steps": steps,
            "window": window,
            "rematerialise": rematerialise,
            "memory_mib": round(case.memory_mib),
            "seconds": round(spent, 3),
            "ratio": round(spent / first, 2),
        }
        print(json.dumps(found) if options.json else "  ".join(f"{name} {value}" for name, value in found.items()))


if __name__ == "__main__":
    run(main)

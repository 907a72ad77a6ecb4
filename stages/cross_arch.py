"""cross_arch EXPERIMENT: test accuracy of other architectures trained on the distilled set.

Each with the learning rate that is best on held-out training images, for the set of the first seed.
"""

from typing import Any

import jax
import numpy as np

from rcig import rows, train
from rcig.data.splits import View
from stages.common import RESULTS, run
from stages.inputs import Inputs, Networks, judge, load_inputs, networks
from stages.real import load_parts

CHOOSING = 2_000
"""held-out images that the choice is made on, at most"""


def main(name: str) -> None:
    inputs = load_inputs(name)
    widths, found = inputs.experiment.cross_arch.widths, []
    if widths:
        _, held_out, _ = load_parts(inputs.experiment.dataset, inputs.dataset)
        for architecture, width in widths.items():
            found += by_architecture(inputs, architecture, width, some(held_out))
    rows.save(RESULTS / "cross_arch" / f"{name}.csv", name, found)


def some(view: View) -> View:
    """CHOOSING of its examples, or all where it has no more."""
    count = min(CHOOSING, len(view.members))
    return View(view.split, np.sort(np.random.default_rng(0).choice(view.members, count, replace=False)))


def by_architecture(inputs: Inputs, architecture: str, width: int, held_out: View) -> list[rows.Row]:
    """The learning rate of one architecture, and its rows for every seed of the distilled set."""
    settings = inputs.experiment.cross_arch
    optimizer = train.adam(settings.steps, settings.steps // 10)
    schedule = train.Schedule(settings.steps, optimizer, settings.learning_rates[0], batch_size=256)
    trained = networks(inputs, architecture, width, schedule, settings.networks)
    rate = best_rate(inputs, trained, held_out)
    where: dict[str, Any] = {"protocol": "cross_architecture", "architecture": architecture, "width": width}
    chosen = where | {"seed": inputs.experiment.seeds[0], "step": settings.steps, "metric": "learning_rate"}
    return rows.of_networks(inputs.experiment, [rate], **chosen) + judge(inputs, trained, where, rate=rate).rows


def best_rate(inputs: Inputs, trained: Networks, held_out: View) -> float:
    """Of the rates to choose from, the one with the best held-out accuracy; no choice costs nothing."""
    rates = inputs.experiment.cross_arch.learning_rates
    if len(rates) == 1:
        return rates[0]
    seed, (x, y) = next(inputs.supports())
    key = jax.random.fold_in(jax.random.key(seed), 1)  # other networks than those that are tested

    def accuracy(rate: float) -> float:
        ((_, variables),) = trained.course(key, x, y, rate=rate)
        return float(train.accuracy(trained.outputs(variables, held_out), held_out.labels).mean())

    return max(rates, key=accuracy)


if __name__ == "__main__":
    run(main)

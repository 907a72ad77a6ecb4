"""Other architectures trained on a distilled set, each with the learning rate that is best on held-out images."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import jax
import numpy as np

from rcig import rows, train
from rcig.data.settings import Dataset
from rcig.data.splits import View
from rcig.errors import ParamsError
from rcig.fields import POSITIVE
from rcig.judging import networks
from rcig.judging.networks import Networks
from rcig.judging.subject import Judged, Subject
from rcig.resources import progress

CHOOSING = 2_000
"""held-out images that the choice is made on, at most"""
Architecture = Literal[
    "conv",
    "conv_bn",
    "conv_in",
    "conv_ln",
    "conv_gn",
    "narrow_in",
    "resnet18_bn",
    "resnet18_stem_bn",
    "vgg11_bn",
    "vgg11_narrow",
    "alexnet",
    "efficientnet_b0",
    "vit_tiny",
]
"""see rcig.nets"""
STANDARD: dict[Architecture, int] = {
    "conv": 128,
    "conv_bn": 128,
    "conv_in": 128,
    "conv_ln": 128,
    "conv_gn": 128,
    "narrow_in": 128,
    "resnet18_bn": 64,
    "resnet18_stem_bn": 64,
    "vgg11_bn": 64,
    "vgg11_narrow": 128,
    "alexnet": 128,
    "efficientnet_b0": 32,
    "vit_tiny": 192,
}


@dataclass(frozen=True)
class CrossArch:
    """Other architectures trained on the distilled set, by default all at their standard widths."""

    widths: dict[Architecture, Annotated[int, POSITIVE]] = field(default_factory=lambda: dict(STANDARD))
    """architecture -> number of filters of its first stage"""
    networks: Annotated[int, POSITIVE] = 5
    """of each architecture, for every seed"""
    steps: Annotated[int, POSITIVE] = 2000
    """of training"""
    learning_rates: tuple[Annotated[float, POSITIVE], ...] = (1e-4, 3e-4, 1e-3, 3e-3)
    """each architecture is tested with that of the best held-out accuracy"""

    def __post_init__(self) -> None:
        if not self.widths or not self.learning_rates:
            raise ParamsError("expected at least one of widths and of learning_rates, got none")


@dataclass(frozen=True)
class Entry:
    """What the stage reads of plan.json."""

    dataset: Dataset
    judged: Judged
    cross_arch: CrossArch


def some(view: View) -> View:
    """CHOOSING of its examples, or all where it has no more."""
    count = min(CHOOSING, len(view.members))
    return View(view.split, np.sort(np.random.default_rng(0).choice(view.members, count, replace=False)))


def by_architecture(
    subject: Subject, settings: CrossArch, architecture: str, width: int, held_out: View
) -> list[rows.Row]:
    """The learning rate of one architecture, and its rows for every seed of the distilled set."""
    schedule = train.Schedule(settings.steps, train.adam(0.1), settings.learning_rates[0], batch_size=256)
    trained = networks.build(subject, architecture, width, schedule, settings.networks)
    rate = best_rate(subject, settings.learning_rates, trained, held_out)
    where: dict[str, Any] = {"protocol": "cross_architecture", "architecture": architecture, "width": width}
    chosen = where | {"seed": subject.judged.seeds[0], "step": settings.steps, "metric": "learning_rate"}
    return (
        rows.by_network([rate], **subject.where, **chosen) + networks.measure(subject, trained, where, rate=rate).rows
    )


def best_rate(subject: Subject, rates: tuple[float, ...], trained: Networks, held_out: View) -> float:
    """Of the rates to choose from, the one with the best held-out accuracy for the first seed's set.

    No choice costs nothing.
    """
    if len(rates) == 1:
        return rates[0]
    seed, (x, y) = next(subject.supports())
    key = jax.random.fold_in(jax.random.key(seed), 1)  # other networks than those that are tested
    accuracies, title = [], f"learning rate of {trained.name}"
    with progress(title, len(rates) * trained.steps, "the tests", trained.memory) as reached:
        for i, rate in enumerate(rates):
            for step, variables in trained.course(key, x, y, at=sorted(trained.looks), rate=rate):
                jax.block_until_ready(variables)
                reached(i * trained.steps + step)
            accuracies.append(train.accuracy(trained.outputs(variables, held_out), held_out.labels).mean())
    return rates[int(np.argmax(accuracies))]

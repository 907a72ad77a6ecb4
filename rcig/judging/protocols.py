"""The protocols by which a distilled set is judged: networks trained on it from scratch, tested on real images.

Their numbers can be compared within a protocol only.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import jax

from rcig.augment import augment
from rcig.train import Augment, Relabel, Schedule, adam, constant_adam, cross_entropy, own_labels, sgd, unchanged

Name = Literal["loo2023", "loo2023_augmented", "loo2023_hard", "reference", "inner_adam", "narrow_adam", "narrow_sgd"]
"""of a protocol"""
BATCH = 256
"""images per step, where the set has more"""


def hardened(labels: jax.Array) -> jax.Array:
    """Labels (n, C) -> the centred hard labels of their top classes."""
    classes = labels.shape[1]
    return jax.nn.one_hot(labels.argmax(1), classes) - 1 / classes


class Protocol(NamedTuple):
    """How networks are trained on a set."""

    architecture: str
    """see rcig.nets"""
    width: int | None
    """None: as the experiment says, 128 in the paper"""
    schedule: Callable[[int], Schedule]
    """number of distilled images, mirror images not counted -> schedule"""
    labels: Relabel = own_labels


def loo2023(images: int, steps: tuple[int, int], transform: Augment) -> Schedule:
    """Adam at 1e-4 after 500 steps of warm-up (Loo et al. 2023, appendix C); fewer `steps` for 10 images."""
    count = steps[0] if images == 10 else steps[1]
    return Schedule(count, adam(warmup=500 / count), 1e-4, BATCH, transform)


def narrow_adam(images: int) -> Schedule:
    """Adam at 1e-3, 1000 steps for sets up to a batch and 2000 beyond, on the mean squared error, augmented."""
    steps = 1000 if images <= BATCH else 2000
    return Schedule(steps, adam(warmup=0), 1e-3, BATCH, augment)


def narrow_sgd(images: int) -> Schedule:
    """1000 epochs of SGD at 0.01 on the cross-entropy, augmented (Zhao & Bilen 2021; DM and MTT follow them)."""
    steps = 1000 * -(-images // BATCH)
    return Schedule(steps, sgd, 0.01, BATCH, augment, cross_entropy)


def inner_adam(images: int) -> Schedule:
    """Adam at a constant 1e-3 on the mean squared error: the inner training of Feng et al. (2023), their longest."""
    return Schedule(300, constant_adam, 1e-3, BATCH)


PAPER, REFERENCE = (1000, 2000), (2500, 5000)
PROTOCOLS: dict[Name, Protocol] = {
    "loo2023": Protocol("conv", None, partial(loo2023, steps=PAPER, transform=unchanged)),
    "loo2023_augmented": Protocol("conv", None, partial(loo2023, steps=PAPER, transform=augment)),
    "loo2023_hard": Protocol("conv", None, partial(loo2023, steps=PAPER, transform=unchanged), hardened),
    # The public code of the paper trains longer where it does not augment.
    "reference": Protocol("conv", None, partial(loo2023, steps=REFERENCE, transform=unchanged)),
    "inner_adam": Protocol("conv", None, inner_adam),
    # The network that most of the field reports on: 128 filters in every stage, instance norm.
    "narrow_adam": Protocol("narrow_in", 128, narrow_adam),
    "narrow_sgd": Protocol("narrow_in", 128, narrow_sgd),
}


def milestones(steps: int, measurements: int) -> list[int]:
    """Where to test networks that are trained for so many steps: `measurements` times, evenly, last at the end."""
    return sorted({max(1, round(steps * (i + 1) / measurements)) for i in range(measurements)})

"""The protocols by which a distilled set is judged: networks trained on it from scratch, tested on real images.

Their numbers can be compared within a protocol only.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rcig import dsa
from rcig.augment import augment
from rcig.train import Augment, Relabel, Schedule, adam, constant_adam, cross_entropy, own_labels, sgd, unchanged

Name = Literal[
    "loo2023",
    "loo2023_augmented",
    "loo2023_hard",
    "reference",
    "inner_adam",
    "narrow_adam",
    "narrow_sgd",
    "dsa",
    "mtt",
    "datm",
    "idc",
    "ncfm",
    "frepo",
    "teacher",
    "teacher_random",
]
"""of a protocol"""
BATCH = 256
"""images per step, where the set has more"""
WARMUP = 500
"""steps of loo2023"""


TEMPERATURE = 20.0
"""that the logits of a teacher and its students are divided by"""


def softened(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The divergence from labels that a teacher has softened, but for their own entropy."""
    return cross_entropy(logits / TEMPERATURE, labels)


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
    own_rate: bool = False
    """whether networks are trained with the learning rate that was learned with the set"""
    teacher: bool = False
    """whether a teacher labels the images, see rcig.judging.teachers"""
    random: bool = False
    """whether random real images stand in for the set, as what its number is to be compared with"""
    mirror: bool = True
    """whether the set's mirror images are used where its dataset has them used"""


def loo2023(images: int, steps: tuple[int, int], transform: Augment) -> Schedule:
    """Adam at 1e-4 after WARMUP steps (Loo et al. 2023, appendix C); fewer `steps` for 10 images."""
    count = steps[0] if images == 10 else steps[1]
    return Schedule(count, adam(WARMUP / count), 1e-4, BATCH, transform)


def narrow_adam(images: int) -> Schedule:
    """Adam at 1e-3, 1000 steps for sets up to a batch and 2000 beyond, on the mean squared error, augmented."""
    steps = 1000 if images <= BATCH else 2000
    return Schedule(steps, adam(warmup=0), 1e-3, BATCH, augment)


def narrow_sgd(images: int) -> Schedule:
    """1000 epochs of SGD at 0.01 on the cross-entropy, augmented (Zhao & Bilen 2021; DM and MTT follow them)."""
    steps = 1000 * -(-images // BATCH)
    return Schedule(steps, sgd(), 0.01, BATCH, augment, cross_entropy)


def inner_adam(images: int) -> Schedule:
    """Adam at a constant 1e-3 on the mean squared error: the inner training of Feng et al. (2023), their longest."""
    return Schedule(300, constant_adam, 1e-3, BATCH)


def dsa_sgd(images: int, batch: int) -> Schedule:
    """As `narrow_sgd`, with the augmentation of DSA: as DSA, DM, MTT (batches of 256) and DATM (128) judge their sets.

    Their last epoch is the 1001st, and their rate drops after the 502nd.
    """
    steps = 1000 * -(-images // batch)
    return Schedule(steps, sgd(), 0.01, batch, dsa.augment, cross_entropy)


def idc(images: int) -> Schedule:
    """1000 epochs of SGD at 0.01, a fifth of it after 2/3 and again after 5/6, half of the batches with CutMix."""
    steps = 1000 * -(-images // 64)
    return Schedule(steps, sgd({2 / 3: 0.2, 5 / 6: 0.2}), 0.01, 64, dsa.augment_uncut, cross_entropy, cut_mixed)


def ncfm(images: int) -> Schedule:
    """2000 epochs of AdamW at 1e-3, half of it after every fifth, half of the batches with CutMix."""

    def adamw(steps: int, rate: float | jax.Array) -> optax.GradientTransformation:
        shape = optax.piecewise_constant_schedule(1.0, {i * steps // 5: 0.5 for i in range(1, 5)})
        return optax.adamw(lambda step: rate * shape(step), weight_decay=0.01)

    return Schedule(2000 * -(-images // 128), adamw, 1e-3, 128, dsa.augment_uncut, cross_entropy, cut_mixed)


def frepo(images: int) -> Schedule:
    """Adam at 3e-4 after 500 steps of warm-up, augmented, on the mean squared error."""
    steps = {10: 1000, 100: 2000, 200: 20000, 1000: 10000, 2000: 40000, 5000: 40000}.get(images, 5000)
    return Schedule(steps, adam(WARMUP / steps), 3e-4, 500, augment)


def decoupled(images: int) -> Schedule:
    """300 epochs of AdamW at 1e-3, which falls to a half, on batches of 50 crops, all with CutMix (Sun et al. 2024)."""

    def adamw(steps: int, rate: float | jax.Array) -> optax.GradientTransformation:
        return optax.adamw(lambda step: rate * (1 + jnp.cos(jnp.pi / 2 * step / steps)) / 2, weight_decay=0.01)

    return Schedule(300 * -(-images // 50), adamw, 1e-3, 50, dsa.crop_and_flip, softened, partial(cut_mixed, share=1.0))


def cut_mixed(key: jax.Array, images: jax.Array, labels: jax.Array, share: float = 0.5) -> tuple[jax.Array, jax.Array]:
    """CutMix (Yun et al. 2019) of that share of batches: a box of each image is another's, labels in proportion.

    The box is the same for all; its area is drawn uniformly, and its centre too, so that part of it may lie outside.
    """
    whether_key, area_key, centre_key, order_key = jax.random.split(key, 4)
    side, order = images.shape[1], jax.random.permutation(order_key, len(images))
    half = (side * jnp.sqrt(jax.random.uniform(area_key))).astype(int) // 2
    centre = jax.random.randint(centre_key, (2, 1), 0, side)
    rows, columns = abs(2 * (jnp.arange(side) - centre) + 1) <= 2 * half
    box = rows[:, None] & columns & jax.random.bernoulli(whether_key, share)
    area = box.mean()
    mixed = jnp.where(box[..., None], images[order], images)
    return mixed, (1 - area) * labels + area * labels[order]


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
    # Sets of others, as their authors judge them.
    "dsa": Protocol("narrow_in", 128, partial(dsa_sgd, batch=256), mirror=False),
    "mtt": Protocol("narrow_in", 128, partial(dsa_sgd, batch=256), own_rate=True, mirror=False),
    "datm": Protocol("narrow_in", 128, partial(dsa_sgd, batch=128), own_rate=True, mirror=False),
    "idc": Protocol("narrow_in", 128, idc, mirror=False),
    "ncfm": Protocol("narrow_in", 128, ncfm, mirror=False),
    "frepo": Protocol("conv", None, frepo),
    "teacher": Protocol("narrow_in", 128, decoupled, teacher=True, mirror=False),
    "teacher_random": Protocol("narrow_in", 128, decoupled, teacher=True, random=True, mirror=False),
}


def milestones(steps: int, measurements: int) -> list[int]:
    """Where to test networks that are trained for so many steps: `measurements` times, evenly, last at the end."""
    return sorted({max(1, round(steps * (i + 1) / measurements)) for i in range(measurements)})

"""Matching of training trajectories: MTT (Cazenavette et al. 2022), with what DATM (Guo et al. 2024) has besides.

An expert is a network that was trained on real images, whose weights after every epoch are in the file that the run
`needs`, see rcig.methods.experts. A student begins with the weights of an expert at a random epoch and takes some steps
of gradient descent on the distilled set, at a learning rate that is learned as well. It is to end where the expert was
some epochs later: the loss is its squared distance from there, as a fraction of that of its start.

DATM is `mtt` with `learn_labels`, `min_start_epoch` and `early_max_start_epoch`.

What differs from the published codes:

1.  The learning rate is learned as its logarithm, so that it stays positive.
2.  A student's batches are drawn anew at every step, and not in shuffled passes.
3.  Where networks see every distilled image together with its mirror image (`mirror` of a dataset), students do so.
4.  Learned labels begin with what the first expert says in the end, of random real images. DATM's begin with the mean
    of all experts that are right, of images that an expert gets right; its momentum of labels is 0.9.
5.  `max_start_epoch` is the last epoch that a student may start from; in the published codes it is the first that none
    does.
6.  The transforms are those of `rcig.dsa`.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rcig import dsa, train
from rcig.errors import ParamsError
from rcig.fields import BELOW_ONE, FRACTION, NOT_NEGATIVE, POSITIVE
from rcig.methods import experts
from rcig.methods.base import Distilled, Info, Member, Method, Setup, support
from rcig.methods.descent import Descent, Position, descend
from rcig.nets import Net

NEEDS = f"{experts.FOLDER}/"
"""where the files lie that its runs read"""
MOMENTUM = 0.5
"""of all descents"""
GROWTH = 0.1
"""part of the steps in which the last start epoch grows, or a fifth in some published settings"""


@dataclass(frozen=True)
class Settings(Descent):
    """Defaults are those of the published commands; they differ by dataset and images per class."""

    learning_rate: Annotated[float, POSITIVE] = 1000.0
    """images, descent with momentum 0.5 (papers: MTT 1000, DATM 50 to 1000)"""
    learning_rate_floor: Annotated[float, FRACTION] = 1.0
    """the cosine schedule ends at this fraction of the learning rates; 1 keeps them constant (papers)"""
    learn_labels: bool = False
    """labels are probabilities that begin with what an expert says, and are learned (papers: MTT false, DATM true)"""
    label_learning_rate: Annotated[float, POSITIVE] = 5.0
    """of the logits of learned labels (paper of DATM: 2 to 10, with momentum 0.9)"""
    average_decay: Annotated[float, BELOW_ONE] = 0.0
    """the returned set is the exponential average of the run's sets (papers: MTT 0, DATM 0.995 or more)"""
    architecture: Literal["conv", "narrow_in"] = "narrow_in"
    """of experts and students (papers: narrow_in of width 128)"""
    inner_steps: Annotated[int, POSITIVE] = 20
    """of a student (papers: 20 to 100)"""
    inner_batch_size: Annotated[int, POSITIVE] | None = None
    """distilled images of a student's step; null: all"""
    augment: bool = True
    """one kind of transform for each step of a student (papers: true)"""
    expert_epochs: Annotated[int, POSITIVE] = 2
    """of an expert, that a student's steps are to amount to (papers: 2 or 3)"""
    min_start_epoch: Annotated[int, NOT_NEGATIVE] = 0
    """of an expert, that students start from (papers: MTT 0, DATM 0 to 40)"""
    max_start_epoch: Annotated[int, NOT_NEGATIVE] = 19
    """the last one (papers: MTT 9 to 19, DATM 3 to 59)"""
    early_max_start_epoch: Annotated[int, NOT_NEGATIVE] | None = None
    """the last one of the first step, which grows evenly to max_start_epoch over a tenth of the steps; null: it is
    max_start_epoch at once (papers: MTT null, DATM about half of it)"""
    learned_rate: Annotated[float, POSITIVE] = 0.01
    """of students, at the start (papers: 0.01); the file of a set says what it has become in the end"""
    rate_learning_rate: Annotated[float, POSITIVE] = 0.1
    """of the logarithm of that rate (papers: 1e-7 to 1e-5 of the rate itself, which is 1e-3 to 0.1 at a rate 0.01)"""

    def __post_init__(self) -> None:
        first = self.max_start_epoch if self.early_max_start_epoch is None else self.early_max_start_epoch
        if not self.min_start_epoch <= first <= self.max_start_epoch:
            raise ParamsError(
                f"expected min_start_epoch, early_max_start_epoch and max_start_epoch in this order, got"
                f" {self.min_start_epoch}, {self.early_max_start_epoch} and {self.max_start_epoch}"
            )


MEMBERS = {"mtt": Member()}


class Segment(NamedTuple):
    """A part of an expert's trajectory."""

    start: np.ndarray
    """(p,) weights that a student begins with"""
    target: np.ndarray
    """(p,) where it is to end"""


class State(NamedTuple):
    position: Position
    """labels are logits where they are learned"""
    log_rate: jax.Array
    optimizer: optax.OptState
    """of the rate"""


class Rated(NamedTuple):
    """A distilled set, as `Distilled`, with the learning rate that was learned with it."""

    images: jax.Array
    labels: jax.Array
    log_temperature: jax.Array
    learned_rate: jax.Array


def make(settings: Settings, setup: Setup) -> Method[State, Segment, Rated]:
    """The method for one run. Raises StoreError for experts of other images, ParamsError for those of another network
    and of too few epochs."""
    net = setup.network(settings.architecture)
    size, unravel = experts.flat(net)
    found = experts.load(setup.needs, setup.class_names, setup.whitening)
    try:
        fits(settings, found.experts, found.experts.dataset, found.experts.width)
    except ParamsError as error:
        raise ParamsError(f"{setup.needs}: {error}") from None
    if found.weights.shape[2] != size:
        raise ParamsError(
            f"{setup.needs}: experts of width {found.experts.width} have {found.weights.shape[2]:,} weights, the run's"
            f" networks {size:,}; set width: {found.experts.width}, or name other experts"
        )
    if settings.learn_labels and setup.mobility is not None:
        raise ParamsError("learn_labels: learned labels of blocks would begin anew with every block; set boost: null")
    outer = descend(partial(optax.sgd, momentum=MOMENTUM), settings, setup)
    schedule = optax.cosine_decay_schedule(settings.rate_learning_rate, setup.steps, settings.learning_rate_floor)
    rates = optax.sgd(schedule, momentum=MOMENTUM)

    def init(key: jax.Array, initial: Distilled) -> State:
        if settings.learn_labels:
            last = jnp.asarray(found.weights[0, -1])
            initial = initial._replace(labels=net.apply({"params": unravel(last)}, initial.images))
        log_rate = jnp.log(jnp.asarray(settings.learned_rate, initial.images.dtype))
        return State(outer.start(key, initial), log_rate, rates.init(log_rate))

    def step(key: jax.Array, state: State, segment: Segment) -> tuple[State, Info]:
        distilled = outer.current(state.position)
        loss, (grad, slope) = match(net, unravel, settings, setup.mirror, key, distilled, state.log_rate, segment)
        # A factor on a gradient is one on the learning rate of this descent.
        grad = grad._replace(labels=grad.labels * (settings.label_learning_rate / settings.learning_rate))
        position, statistics = outer.move(state.position, grad)
        change, optimizer = rates.update(slope, state.optimizer)
        log_rate = state.log_rate + change
        return State(position, log_rate, optimizer), {"loss": loss, "learned_rate": jnp.exp(log_rate)} | statistics

    def result(state: State) -> Rated:
        return Rated(*labelled(settings, outer.result(state.position)), jnp.exp(state.log_rate))

    return Method(init, step, result, segments(settings, found.weights, setup.steps, setup.seed))


def fits(settings: Settings, found: experts.Experts, dataset: str, width: int) -> None:
    """Raise ParamsError unless these experts are of that dataset and of the run's network, and have epochs enough."""
    expected = {"dataset": dataset, "architecture": settings.architecture, "width": width}
    for name, value in expected.items():
        if (theirs := getattr(found, name)) != value:
            raise ParamsError(f"expected experts of {name} {value}, got {theirs}; correct {name}, or name others")
    if settings.max_start_epoch + settings.expert_epochs > found.epochs:
        raise ParamsError(
            f"experts have {found.epochs} epochs, max_start_epoch {settings.max_start_epoch} and expert_epochs"
            f" {settings.expert_epochs} after it are beyond them; lower either, or have experts trained for longer"
        )


def learned(settings: Settings, sets: list[Rated]) -> Settings:
    """The settings with what was learned beside the set; of several seeds the geometric mean."""
    rate = np.exp(np.mean([np.log(one.learned_rate) for one in sets]))
    return dataclasses.replace(settings, learned_rate=float(rate))


def segments(settings: Settings, weights: np.ndarray, steps: int, seed: int) -> Callable[[int], Segment]:
    """Step number -> part of a random trajectory, of expert_epochs epochs."""
    last = settings.max_start_epoch
    first = last if settings.early_max_start_epoch is None else settings.early_max_start_epoch

    def read(step: int) -> Segment:
        rng = np.random.default_rng([seed, step])
        expert = rng.integers(len(weights))
        latest = min(last, first + int((last - first) * step / (GROWTH * steps)))
        start = rng.integers(settings.min_start_epoch, latest + 1)
        return Segment(*(np.array(weights[expert, epoch]) for epoch in (start, start + settings.expert_epochs)))

    return read


def labelled(settings: Settings, distilled: Distilled) -> Distilled:
    """The set with centred labels in place of logits, where labels are learned."""
    if not settings.learn_labels:
        return distilled
    return distilled._replace(labels=jax.nn.softmax(distilled.labels) - 1 / distilled.labels.shape[1])


def match(
    net: Net,
    unravel: Callable[[jax.Array], Any],
    settings: Settings,
    mirror: bool,
    key: jax.Array,
    distilled: Distilled,
    log_rate: jax.Array,
    segment: Segment,
) -> tuple[jax.Array, tuple[Distilled, jax.Array]]:
    """How far a student ends from the expert, as a fraction -> (that, gradients by the set and by the log-rate).

    Learned labels of the set are logits.
    """
    start, target = map(jnp.asarray, segment)

    def distance(distilled: Distilled, log_rate: jax.Array) -> jax.Array:
        x, y = support(labelled(settings, distilled), mirror)

        def step(weights: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
            draw_key, transform_key = jax.random.split(key)
            images, labels = train.draw(draw_key, settings.inner_batch_size or len(x), x, y)
            if settings.augment:
                images = dsa.augment(transform_key, images)

            def loss(weights: jax.Array) -> jax.Array:
                return train.cross_entropy(net.apply({"params": unravel(weights)}, images), labels)

            return weights - jnp.exp(log_rate) * jax.grad(loss)(weights), None

        reached, _ = jax.lax.scan(step, start, jax.random.split(key, settings.inner_steps))
        return ((reached - target) ** 2).sum() / ((start - target) ** 2).sum()

    return jax.value_and_grad(distance, argnums=(0, 1))(distilled, log_rate)

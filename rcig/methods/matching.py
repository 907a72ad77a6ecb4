"""Matching of real and distilled images: DM (Zhao & Bilen 2023), DC (Zhao et al. 2021), DSA (Zhao & Bilen 2021).

At every step a network sees the real and the distilled images of each class. What it makes of both is to be alike: the
mean of its features (`dm`), or the gradient of its loss by its weights (`dc`, and `dsa`, which transforms both sides
alike before). `dm` takes a fresh network at every step. Those of `dc` and `dsa` go on training on the distilled set
between steps, which `dsa` transforms each image on its own for, and are replaced after some.

What differs from the published code:

1.  The real images of a step are `batch_size` of the loop, as many of every class (published: 256 of each).
2.  Where networks see every distilled image together with its mirror image (`mirror` of a dataset), they do so here;
    real images are as they are.
3.  `learning_rate` is the published one for images whitened by mean and deviation.
4.  The transforms are those of `rcig.dsa`.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rcig import dsa, train
from rcig.fields import BELOW_ONE, FRACTION, NOT_NEGATIVE, POSITIVE
from rcig.methods.base import Distilled, Info, Member, Method, Setup, support
from rcig.methods.descent import Descent, Position, descend
from rcig.methods.feeds import Examples, class_batches
from rcig.nets import Net
from rcig.passes import sum_images
from rcig.train import TrainState

MOMENTUM = 0.5
"""of the images' descent"""
ROUNDS = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}
"""images per class -> steps that use a network, and epochs that it is trained for between two of them"""
BATCH = 256
"""distilled images of a training step of a network, where the set has more"""
DRAWN_BY_CLASS = True
"""real images of a step are, so that no weights of theirs count"""


@dataclass(frozen=True)
class Settings(Descent):
    """Defaults are the published ones, for a network whose every stage is normalised."""

    matched: Literal["features", "gradients"] = "gradients"
    """what a network makes of images: the mean of its features, or the gradient of its loss by its weights"""
    siamese: bool = True
    """one random transform for each class and step, the same on both sides; networks are trained on such images too"""
    learning_rate: Annotated[float, POSITIVE] = 0.1
    """images, descent with momentum 0.5 (papers: 0.1, dm 1)"""
    learning_rate_floor: Annotated[float, FRACTION] = 1.0
    """the cosine schedule ends at this fraction of the learning rate; 1 keeps it constant (papers)"""
    learn_labels: bool = False
    average_decay: Annotated[float, BELOW_ONE] = 0.0
    """the returned set is the exponential average of the run's sets; 0 is the last (papers)"""
    architecture: Literal["conv", "narrow_in"] = "narrow_in"
    """of the networks (papers: narrow_in of width 128)"""
    network_rounds: Annotated[int, POSITIVE] | Literal["auto"] = "auto"
    """steps that use a network before a fresh one takes its place; auto: 1 for features, else as published"""
    network_epochs: Annotated[int, NOT_NEGATIVE] | Literal["auto"] = "auto"
    """epochs on the distilled set between two of them; auto: 0 for features, else as published by images per class"""
    network_rate: Annotated[float, POSITIVE] = 0.01
    """learning rate of these epochs (papers: 0.01)"""


_GRADIENTS = {"matched": "gradients", "learn_labels": False}
MEMBERS = {
    "dm": Member({"matched": "features", "learn_labels": False}, {"learning_rate": 1.0}),
    "dc": Member(_GRADIENTS | {"siamese": False}),
    "dsa": Member(_GRADIENTS | {"siamese": True}),
}


class State(NamedTuple):
    position: Position
    network: TrainState


def chosen(settings: Settings, setup: Setup) -> Settings:
    """The settings with numbers in place of `auto`: those of the largest published set that is not larger."""
    per_class = setup.images // setup.classes
    rounds, epochs = ROUNDS[max(size for size in ROUNDS if size <= per_class)]
    if settings.matched == "features":
        rounds, epochs = 1, 0
    return dataclasses.replace(
        settings,
        network_rounds=rounds if settings.network_rounds == "auto" else settings.network_rounds,
        network_epochs=epochs if settings.network_epochs == "auto" else settings.network_epochs,
    )


def make(settings: Settings, setup: Setup) -> Method[State, Examples, Distilled]:
    """The method for one run."""
    settings = chosen(settings, setup)
    net = setup.network(settings.architecture)
    outer = descend(partial(optax.sgd, momentum=MOMENTUM), settings, setup)
    optimizer = optax.sgd(settings.network_rate)
    rounds, training_steps = int(settings.network_rounds), int(settings.network_epochs) * -(-setup.support // BATCH)

    def init(key: jax.Array, initial: Distilled) -> State:
        key, start_key = jax.random.split(key)
        return State(outer.start(start_key, initial), train.start(net, optimizer, key))

    def step(key: jax.Array, state: State, examples: Examples) -> tuple[State, Info]:
        start_key, match_key, batch_key = jax.random.split(key, 3)
        first = state.position.steps_done % rounds == 0
        fresh = train.start(net, optimizer, start_key)
        network = jax.tree.map(partial(jnp.where, first), fresh, state.network)
        loss, grad = match(
            net, settings, setup.mirror, network.variables, match_key, outer.current(state.position), examples.images
        )
        position, statistics = outer.move(state.position, grad)
        x, y = support(outer.current(position), setup.mirror)

        def fit(i: jax.Array, network: TrainState) -> TrainState:
            draw_key, transform_key = jax.random.split(jax.random.fold_in(batch_key, i))
            images, labels = train.draw(draw_key, BATCH, x, y)
            if settings.siamese:
                images = dsa.augment(transform_key, images)
            return train.update(net, optimizer, network, images, labels, train.cross_entropy)

        last = position.steps_done % rounds == 0  # a fresh network takes its place
        network = jax.lax.fori_loop(0, jnp.where(last, 0, training_steps), fit, network)
        return State(position, network), {"loss": loss} | statistics

    return Method(init, step, lambda state: outer.result(state.position), class_batches(setup))


def match(
    net: Net, settings: Settings, mirror: bool, variables: Any, key: jax.Array, distilled: Distilled, real: jax.Array
) -> tuple[jax.Array, Distilled]:
    """How far a set is from real images (n, h, w, c), as many of every class, in order -> (sum over classes, gradient).

    Every class of the set has as many images, in any order; labels are centred and hard.
    """
    classes = distilled.labels.shape[1]

    def by_class(distilled: Distilled) -> jax.Array:
        x, y = support(distilled, mirror)
        return x[jnp.argsort(y.argmax(1), stable=True)].reshape(classes, -1, *x.shape[1:])

    def of_class(given: tuple[jax.Array, jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        label, key, real, own = given
        transform = partial(dsa.siamese, key) if settings.siamese else lambda images: images
        seen = DISTANCES[settings.matched](net, variables, jax.nn.one_hot(label, classes) - 1 / classes)
        target = seen.of_real(transform(real))
        return jax.value_and_grad(lambda own: seen.distance(target, transform(own)))(own)

    own, pull = jax.vjp(by_class, distilled)
    real = real.reshape(classes, -1, *real.shape[1:])
    losses, slopes = jax.lax.map(of_class, (jnp.arange(classes), jax.random.split(key, classes), real, own))
    (grad,) = pull(slopes)
    return losses.sum(), grad


class Seen(NamedTuple):
    """What a network makes of the images of one class."""

    of_real: Callable[[jax.Array], Any]
    distance: Callable[[Any, jax.Array], jax.Array]
    """(what it makes of real images, distilled images) -> their distance"""


def features(net: Net, variables: Any, label: jax.Array) -> Seen:
    """The mean of its features; their squared distance."""

    def total(images: jax.Array) -> jax.Array:
        return net.features(variables["params"]["body"], images).sum(0)

    def distance(target: jax.Array, images: jax.Array) -> jax.Array:
        return ((target - total(images) / len(images)) ** 2).sum()

    return Seen(lambda images: sum_images(total, images) / len(images), distance)


def gradients(net: Net, variables: Any, label: jax.Array) -> Seen:
    """The gradient of its mean cross-entropy; one minus the cosine, summed over the filters of all layers.

    Biases and what belongs to norms are left out.
    """

    def total(images: jax.Array) -> Any:
        def loss(params: Any) -> jax.Array:
            logits = net.apply(variables | {"params": params}, images)
            return train.cross_entropy(logits, jnp.broadcast_to(label, logits.shape)) * len(images)

        return jax.grad(loss)(variables["params"])

    def mean(total: Any, images: jax.Array) -> Any:
        return jax.tree.map(lambda leaf: leaf / len(images), total)

    def distance(target: Any, images: jax.Array) -> jax.Array:
        return jnp.stack(jax.tree.leaves(jax.tree.map(unlikeness, target, mean(total(images), images)))).sum()

    return Seen(lambda images: mean(sum_images(total, images), images), distance)


DISTANCES = {"features": features, "gradients": gradients}


def unlikeness(a: jax.Array, b: jax.Array) -> jax.Array:
    """One minus the cosine, summed over the filters of weights (filters, …) or outputs of (inputs, outputs); else 0."""
    if a.ndim == 1:
        return jnp.zeros((), a.dtype)
    a, b = (leaf.T if leaf.ndim == 2 else leaf.reshape(len(leaf), -1) for leaf in (a, b))
    lengths = jnp.sqrt((a**2).sum(1)) * jnp.sqrt((b**2).sum(1) + TINY)
    return (1 - (a * b).sum(1) / (lengths + 1e-6)).sum()


TINY = 1e-30
"""keeps the derivative of a length finite at zero"""

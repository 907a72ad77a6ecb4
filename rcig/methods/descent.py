"""How a distilled set moves along a gradient: the part of a method that is the same wherever the gradient is from."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rcig.fields import BELOW_ONE, FRACTION, POSITIVE
from rcig.methods import basis as bases
from rcig.methods.base import Batch, Distilled, Info, Setup
from rcig.passes import sum_images

DECAY = 0.9
"""of the running norm and variance of the gradient (Feng et al. 2023)"""


@dataclass(frozen=True)
class Descent:
    """How a distilled set moves along a gradient, whatever the gradient is of."""

    learning_rate: Annotated[float, POSITIVE] = 0.02
    """images and labels; AdaBelief for the family of RCIG (paper: 3e-3), Adam for rat_bptt (its paper: 1e-3)"""
    learning_rate_floor: Annotated[float, FRACTION] = 0.05
    """the cosine schedule ends at this fraction of the learning rates; 1 keeps them constant (papers)"""
    learn_labels: bool = True
    """whether labels move with the images, or stay (papers of RCIG and rat_bptt: true, of dm, dc and dsa: false)"""
    clip_gradient: Annotated[float, POSITIVE] | None = None
    """no gradient longer than this times the running norm of those before it (paper of rat_bptt: 2); null: none is"""
    average_decay: Annotated[float, BELOW_ONE] = 0.99
    """the returned set is the exponential average of the run's sets (reference code of RCIG: 0.99); 0 is the last"""


@dataclass(frozen=True)
class OuterLoss:
    """What real images say of networks that are fitted to the set."""

    outer_loss: Literal["platt", "squared"] = "platt"
    """cross-entropy of logits times a learned temperature, or squared error to centred labels (paper of RCIG: platt)"""
    temperature_learning_rate: Annotated[float, POSITIVE] = 0.03
    """Platt log-temperature (paper of RCIG: 3e-2)"""


@dataclass(frozen=True)
class OuterDescent(OuterLoss, Descent):
    """Descent along the gradient of an outer loss."""


class Past(NamedTuple):
    """What is remembered of earlier gradients."""

    gradient: Any
    """the last one"""
    norm: jax.Array
    """() running mean of the norms, each as it was used; 0 before the first step"""
    variance: jax.Array
    """() running mean of half the squared differences of successive gradients, not yet corrected for its start at 0"""


class Position(NamedTuple):
    """Where a set is, in the coordinates that are learned."""

    coordinates: Any
    optimizer: optax.OptState
    average: Any
    """exponential average of the coordinates, not yet corrected for its start at zero"""
    past: Past
    steps_done: jax.Array
    """()"""


class Outer(NamedTuple):
    """Outer descent as pure functions."""

    start: Callable[[jax.Array, Distilled], Position]
    """(key, initial set) -> Position"""
    current: Callable[[Position], Distilled]
    move: Callable[[Position, Distilled], tuple[Position, Info]]
    """(position, gradient of a loss by the current set) -> (next position, norm and variance of gradients)"""
    result: Callable[[Position], Distilled]
    """the averaged set"""


def descend(make: Callable[[Any], optax.GradientTransformation], settings: Descent, setup: Setup) -> Outer:
    """The descent with the optimiser that `make` makes of a learning rate's schedule.

    The temperature is learned where there is an outer loss that has one.

    The learning rate falls as a cosine; a gradient may be clipped at a multiple of its running norm. What does not
    move (labels that are not learned, images of mobility 0) is no part of the gradient that is clipped and measured.
    """

    def scheduled(rate: float) -> optax.GradientTransformation:
        return make(optax.cosine_decay_schedule(rate, setup.steps, settings.learning_rate_floor))

    transforms = {"set": scheduled(settings.learning_rate), "fixed": optax.set_to_zero()}
    if isinstance(settings, OuterLoss):
        transforms["temperature"] = scheduled(settings.temperature_learning_rate)
    labels, temperature = ("set" if settings.learn_labels else "fixed"), list(transforms)[-1]
    optimizer = optax.partition(transforms, Distilled("set", labels, temperature))  # type: ignore[arg-type]

    def start(key: jax.Array, distilled: Distilled) -> Position:
        coordinates = distilled if setup.basis is None else bases.encode(distilled, setup.basis, key)
        zeros = jax.tree.map(jnp.zeros_like, coordinates)
        past = Past(zeros, jnp.zeros(()), jnp.zeros(()))
        return Position(coordinates, optimizer.init(coordinates), zeros, past, jnp.zeros((), jnp.int32))

    def move(position: Position, grad: Distilled) -> tuple[Position, Info]:
        (grad,) = jax.vjp(bases.decode, position.coordinates)[1](grad)
        if not settings.learn_labels:
            grad = grad._replace(labels=jnp.zeros_like(grad.labels))
        if setup.mobility is not None:
            grad = _scaled(grad, tuple(float(factor > 0) for factor in setup.mobility))
        grad, past, info = _remember(position, grad, settings.clip_gradient)
        change, state = optimizer.update(grad, position.optimizer, position.coordinates)
        if setup.mobility is not None:
            change = _scaled(change, setup.mobility)
        coordinates = optax.apply_updates(position.coordinates, change)
        average = optax.incremental_update(coordinates, position.average, 1 - settings.average_decay)
        return Position(coordinates, state, average, past, position.steps_done + 1), info

    def result(position: Position) -> Distilled:
        weight = 1 - settings.average_decay ** position.steps_done.astype(jnp.float32)
        average = jax.tree.map(lambda leaf: leaf / jnp.maximum(weight, 1e-8), position.average)
        if setup.mobility is not None:
            average = _where_fixed(setup.mobility, position.coordinates, average)
        moved = position.steps_done > 0
        return bases.decode(jax.tree.map(partial(jnp.where, moved), average, position.coordinates))

    return Outer(start, lambda position: bases.decode(position.coordinates), move, result)


def _scaled(coordinates: Any, factors: tuple[float, ...]) -> Any:
    """Images and labels, each times its factor."""

    def scale(leaf: jax.Array) -> jax.Array:
        return leaf * jnp.asarray(factors, leaf.dtype).reshape(-1, *(1,) * (leaf.ndim - 1))

    return coordinates._replace(images=scale(coordinates.images), labels=scale(coordinates.labels))


def _where_fixed(factors: tuple[float, ...], fixed: Any, moved: Any) -> Any:
    """Images and labels of `fixed` where the factor is 0, of `moved` elsewhere."""

    def choose(fixed: jax.Array, moved: jax.Array) -> jax.Array:
        return jnp.where(jnp.asarray(factors).reshape(-1, *(1,) * (fixed.ndim - 1)) == 0, fixed, moved)

    return moved._replace(images=choose(fixed.images, moved.images), labels=choose(fixed.labels, moved.labels))


def _remember(position: Position, grad: Any, clip: float | None) -> tuple[Any, Past, Info]:
    """-> (the gradient to use, the new past, norm and variance of gradients as they come).

    All of images and labels; the temperature has another unit and its own learning rate.
    """
    past, first, rest = position.past, position.steps_done == 0, grad.log_temperature
    grad = grad._replace(log_temperature=jnp.zeros_like(rest))
    norm = optax.tree.norm(grad)
    limit = jnp.inf if clip is None else clip * past.norm
    used = jnp.where(past.norm > 0, jnp.minimum(norm, limit), norm)
    kept = jax.tree.map(lambda leaf: leaf * (used / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny)), grad)
    running = jnp.where(past.norm > 0, DECAY * past.norm + (1 - DECAY) * used, used)
    squared_change = optax.tree.norm(optax.tree.sub(grad, past.gradient), squared=True)
    variance = DECAY * past.variance + (1 - DECAY) * jnp.where(first, 0, squared_change / 2)
    seen = 1 - DECAY ** position.steps_done.astype(norm.dtype)
    info = {"gradient_norm": norm, "gradient_variance": variance / jnp.where(first, 1, seen)}
    return kept._replace(log_temperature=rest), Past(grad, running, variance), info


Logits = Callable[[Any, jax.Array], jax.Array]
"""(weights, images) -> logits (n, C)"""


def on_real(loss: str, logits: Logits, weights: Any, log_temperature: jax.Array, batch: Batch) -> tuple[Info, Any, Any]:
    """The outer loss and its gradients -> (mean loss and accuracy, by the weights, by the log-temperature)."""

    def total(weights: Any, log_temperature: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
        scores = logits(weights, batch.images)
        hits = (scores.argmax(1) == batch.labels.argmax(1)).sum()
        return LOSSES[loss](scores, log_temperature, batch.labels).sum(), hits

    def part(batch: Batch) -> Any:
        return jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(weights, log_temperature, batch)

    sums = sum_images(part, batch)
    size = len(batch.images)
    (mean, accuracy), (grad, temperature_grad) = jax.tree.map(lambda leaf: leaf / size, sums)
    return {"loss": mean, "batch_accuracy": accuracy}, grad, temperature_grad


def platt(logits: jax.Array, log_temperature: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross-entropy of the logits times a learned temperature, per image (Loo et al. 2023, eq. 6)."""
    return optax.softmax_cross_entropy(logits * jnp.exp(log_temperature), labels)


def squared(logits: jax.Array, log_temperature: jax.Array, labels: jax.Array) -> jax.Array:
    """Squared error to the centred labels, per image, the outer loss of FRePo; it has no temperature."""
    return optax.l2_loss(logits, labels - 1 / labels.shape[1]).sum(1)


LOSSES = {"platt": platt, "squared": squared}

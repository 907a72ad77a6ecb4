"""Training networks on small labelled sets: used by the model pool, by evaluation and by the attacks."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from rcig.data.splits import View
from rcig.nets import Net, Variables

Augment = Callable[[jax.Array, jax.Array], jax.Array]
"""(key, images) -> images"""

Loss = Callable[[jax.Array, jax.Array], jax.Array]
"""(logits (n, C), centred labels (n, C)) -> mean loss"""

TEST_BATCH = 250
"""images per forward pass of a test"""


class TrainState(NamedTuple):
    variables: Variables
    optimizer: optax.OptState


def unchanged(key: jax.Array, images: jax.Array) -> jax.Array:
    """The augmentation that does nothing."""
    return images


def mse(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Half the squared error, averaged over images and classes."""
    return optax.l2_loss(logits, labels).mean()


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Of the labels with 1/C added back to each, which makes a hard label one-hot; averaged over images."""
    return optax.safe_softmax_cross_entropy(logits, labels + 1 / labels.shape[-1]).mean()


class Schedule(NamedTuple):
    """How a network is trained."""

    steps: int
    optimizer: optax.GradientTransformation
    batch_size: int
    """batches are drawn without replacement, anew at every step; a smaller set is used whole"""
    augment: Augment = unchanged
    loss: Loss = mse


def adam(steps: int, learning_rate: float, warmup: int) -> optax.GradientTransformation:
    """Linear warm-up, then a cosine that ends at a hundredth of the learning rate."""
    return optax.adam(optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup, steps, learning_rate / 100))


def sgd(steps: int, learning_rate: float) -> optax.GradientTransformation:
    """Momentum 0.9 and weight decay 5e-4; a tenth of the learning rate from half of the steps on."""
    rate = optax.piecewise_constant_schedule(learning_rate, {steps // 2: 0.1})
    return optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(rate, momentum=0.9))


def start(net: Net, optimizer: optax.GradientTransformation, key: jax.Array) -> TrainState:
    variables = net.init(key)
    return TrainState(variables, optimizer.init(variables["params"]))


def update(
    net: Net,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    x: jax.Array,
    y: jax.Array,
    loss: Loss = mse,
) -> TrainState:
    """One optimiser step of the network on images x and labels y (n, C)."""

    def of(params: Any) -> tuple[jax.Array, Variables]:
        logits, variables = net.train(state.variables | {"params": params}, x)
        return loss(logits, y), variables

    grad, variables = jax.grad(of, has_aux=True)(state.variables["params"])
    change, optimizer_state = optimizer.update(grad, state.optimizer, state.variables["params"])
    params = optax.apply_updates(state.variables["params"], change)
    return TrainState(variables | {"params": params}, optimizer_state)


def fit(net: Net, schedule: Schedule, key: jax.Array, x: jax.Array, y: jax.Array) -> Variables:
    """A network trained from scratch on images x (n, h, w, c) and labels y (n, C), in one scan."""
    start_key, loop_key = jax.random.split(key)

    def body(state: TrainState, key: jax.Array) -> tuple[TrainState, None]:
        batch_key, augment_key = jax.random.split(key)
        images, labels = x, y
        if len(x) > schedule.batch_size:
            index = jax.random.choice(batch_key, len(x), (schedule.batch_size,), replace=False)
            images, labels = x[index], y[index]
        images = schedule.augment(augment_key, images)
        return update(net, schedule.optimizer, state, images, labels, schedule.loss), None

    fresh = start(net, schedule.optimizer, start_key)
    state, _ = jax.lax.scan(body, fresh, jax.random.split(loop_key, schedule.steps))
    return state.variables


def trainer(net: Net, schedule: Schedule, networks: int) -> Callable[[jax.Array, jax.Array, jax.Array], Variables]:
    """(key, x, y) -> networks trained together from different starts, stacked along the first axis. Compiled once."""

    @jax.jit
    def train_all(key: jax.Array, x: jax.Array, y: jax.Array) -> Variables:
        return jax.vmap(lambda key: fit(net, schedule, key, x, y))(jax.random.split(key, networks))

    return train_all


def tester(net: Net, transform: Callable[[np.ndarray], jax.Array]) -> Callable[[Variables, View], np.ndarray]:
    """(variables of k networks, n real images) -> logits (k, n, C), by TEST_BATCH images. Compiled once.

    `transform` makes the network's input of raw images: their whitening.
    """
    forward = jax.jit(jax.vmap(net.apply, (0, None)))

    def outputs(variables: Variables, images: View) -> np.ndarray:
        count = len(images.members)
        # The last batch is filled up with its first images, so that all are of one size.
        positions = [np.arange(start, start + TEST_BATCH) % count for start in range(0, count, TEST_BATCH)]
        parts = [np.asarray(forward(variables, transform(images.take(some).images))) for some in positions]
        return np.concatenate(parts, axis=1)[:, :count]

    return outputs


def accuracy(logits: np.ndarray | jax.Array, labels: np.ndarray | jax.Array) -> np.ndarray | jax.Array:
    """Fraction of images whose largest logit is their label, (…, n, C) and (n,) -> (…)."""
    return (logits.argmax(-1) == labels).mean(-1)


def validator(
    net: Net, held_out: View, transform: Callable[[np.ndarray], jax.Array]
) -> Callable[[jax.Array, jax.Array], float]:
    """(images, their labels (n, C)) -> accuracy on held-out images of two networks after a short training.

    Quick, and always from the same two starts: it shows the course of a run and compares runs. It is not a protocol.
    """
    schedule = Schedule(300, adam(300, 1e-3, warmup=30), batch_size=256)
    train, outputs = trainer(net, schedule, 2), tester(net, transform)
    key = jax.random.key(0)
    return lambda images, targets: float(
        accuracy(outputs(train(key, images, targets), held_out), held_out.labels).mean()
    )

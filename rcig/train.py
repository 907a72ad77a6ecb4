"""Training networks on small labelled sets: used by the model pool, by evaluation and by the attacks."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rcig.data.splits import Split, View
from rcig.nets import Net, Variables, at_precision
from rcig.passes import everywhere, map_images, shapes

STREAM = 0x74726169
"""sets the draws of trained networks apart from all others with the same key, such as those of a distillation"""

Augment = Callable[[jax.Array, jax.Array], jax.Array]
"""(key, images) -> images"""

Mix = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""(key, augmented images, their centred labels) -> images and labels that a step is taken on"""

Loss = Callable[[jax.Array, jax.Array], jax.Array]
"""(logits (n, C), centred labels (n, C)) -> mean loss"""

Relabel = Callable[[jax.Array], jax.Array]
"""labels of a set (n, C) -> those to train on"""

TEST_BATCH = 512
"""images per call of a test, of which a CPU takes some at a time"""


class TrainState(NamedTuple):
    """A network in training, and what its optimiser remembers."""

    variables: Variables
    optimizer: optax.OptState


def unchanged(key: jax.Array, images: jax.Array) -> jax.Array:
    """The augmentation that does nothing."""
    return images


def unmixed(key: jax.Array, images: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The mix that is none."""
    return images, labels


def own_labels(labels: jax.Array) -> jax.Array:
    """The labels as they are."""
    return labels


def mse(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Half the squared error, averaged over images and classes."""
    return optax.l2_loss(logits, labels).mean()


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Of the labels with 1/C added back to each, which makes a hard label one-hot; averaged over images."""
    return optax.safe_softmax_cross_entropy(logits, labels + 1 / labels.shape[-1]).mean()


Optimizer = Callable[[int, float | jax.Array], optax.GradientTransformation]
"""(steps, largest learning rate) -> optimiser"""


class Schedule(NamedTuple):
    """How a network is trained."""

    steps: int
    optimizer: Optimizer
    learning_rate: float
    batch_size: int
    """batches are drawn without replacement, anew at every step; a smaller set is used whole"""
    augment: Augment = unchanged
    loss: Loss = mse
    mix: Mix = unmixed


FINAL = 0.01
"""of the learning rate, where a cosine ends"""


def shortened(schedule: Schedule, steps: int) -> Schedule:
    """The schedule in so many steps, at a learning rate that is larger by as much; as it is where that has fewer."""
    if schedule.steps <= steps:
        return schedule
    return schedule._replace(steps=steps, learning_rate=schedule.learning_rate * schedule.steps / steps)


def adam(warmup: float) -> Optimizer:
    """Linear warm-up for that part of the steps, then a cosine that ends at FINAL of the learning rate."""

    def optimizer(steps: int, rate: float | jax.Array) -> optax.GradientTransformation:
        shape = optax.warmup_cosine_decay_schedule(0.0, 1.0, round(warmup * steps), steps, FINAL)
        return optax.adam(lambda step: rate * shape(step))

    return optimizer


def constant_adam(steps: int, rate: float | jax.Array) -> optax.GradientTransformation:
    """At the same learning rate to the end."""
    return optax.adam(rate)


def sgd(drops: Mapping[float, float] = MappingProxyType({0.5: 0.1})) -> Optimizer:
    """Momentum 0.9 and weight decay 5e-4; from each of these parts of the steps on, times a factor."""

    def optimizer(steps: int, rate: float | jax.Array) -> optax.GradientTransformation:
        shape = optax.piecewise_constant_schedule(1.0, {int(at * steps): factor for at, factor in drops.items()})
        return optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(lambda step: rate * shape(step), momentum=0.9))

    return optimizer


def start(net: Net, optimizer: optax.GradientTransformation, key: jax.Array) -> TrainState:
    """A network that has not been trained yet."""
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


def draw(key: jax.Array, count: int, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """That many random images with their labels, none twice; of a smaller set all."""
    if len(x) <= count:
        return x, y
    index = jax.random.choice(key, len(x), (count,), replace=False)
    return x[index], y[index]


class Course(NamedTuple):
    """The training of networks from scratch, with looks on the way. Compiled once, whatever the steps and rates."""

    schedule: Schedule
    begin: jax.stages.Wrapped
    """(key, learning rate) -> (TrainState, key) of every network, stacked along the first axis"""
    advance: jax.stages.Wrapped
    """(TrainState, key, first step, last step, x, y, learning rate) -> TrainState"""

    def __call__(
        self, key: jax.Array, x: jax.Array, y: jax.Array, at: Sequence[int] | None = None, rate: float | None = None
    ) -> Iterator[tuple[int, Variables]]:
        """Train on images x (n, h, w, c) and labels y (n, C), at the schedule's learning rate or another.

        Yields, for each step of the increasing numbers `at` (the schedule's last alone), (step, variables of the
        networks after it, stacked along the first axis).
        """
        rate = self.schedule.learning_rate if rate is None else rate
        states, keys = self.begin(key, rate)
        for first, last in itertools.pairwise([0, *((self.schedule.steps,) if at is None else at)]):
            states = self.advance(states, keys, first, last, x, y, rate)
            yield last, states.variables

    def lowered(self, x: Any, y: Any) -> list[jax.stages.Lowered]:
        """The programs that train on such a set, arrays or their shapes, for the compiler."""
        rate = self.schedule.learning_rate
        return [self.begin.lower(jax.random.key(0), rate), self.advance.lower(*self._start(), 0, 1, x, y, rate)]

    @property
    def variables(self) -> Variables:
        """Shapes of the networks' variables."""
        return self._start()[0].variables

    def _start(self) -> tuple[TrainState, jax.Array]:
        """Shapes of what networks start with."""
        return shapes(self.begin, jax.random.key(0), self.schedule.learning_rate)


def course(net: Net, schedule: Schedule, networks: int) -> Course:
    """So many networks, which differ by their starts and draws; each is trained as if it were alone.

    None starts as a network does that a set was distilled with from the same key: it is to judge that set. So they
    compute in float32 on every device.
    """
    net = at_precision(net, "float32")

    def begin(key: jax.Array, rate: jax.Array) -> tuple[TrainState, jax.Array]:
        start_key, loop_key = jax.random.split(key)
        return start(net, schedule.optimizer(schedule.steps, rate), start_key), loop_key

    def advance(
        state: TrainState, key: jax.Array, first: int, last: int, x: jax.Array, y: jax.Array, rate: jax.Array
    ) -> TrainState:
        def step(i: jax.Array, state: TrainState) -> TrainState:
            batch_key, augment_key = jax.random.split(jax.random.fold_in(key, i))
            images, labels = draw(batch_key, schedule.batch_size, x, y)
            images = schedule.augment(augment_key, images)
            images, labels = schedule.mix(jax.random.fold_in(augment_key, 1), images, labels)
            return update(net, schedule.optimizer(schedule.steps, rate), state, images, labels, schedule.loss)

        return jax.lax.fori_loop(first, last, step, state)

    @jax.jit
    def begin_all(key: jax.Array, rate: jax.Array) -> tuple[TrainState, jax.Array]:
        keys = jax.random.split(jax.random.fold_in(key, STREAM), networks)
        return jax.vmap(begin, (0, None))(keys, rate)

    return Course(schedule, begin_all, jax.jit(jax.vmap(advance, (0, 0, *5 * (None,)))))


def trainer(net: Net, schedule: Schedule, networks: int) -> Callable[..., Variables]:
    """(key, x, y, rate=the schedule's) -> the networks of `course` at the end of the schedule."""
    run = course(net, schedule, networks)

    def train_all(key: jax.Array, x: jax.Array, y: jax.Array, rate: float | None = None) -> Variables:
        ((_, variables),) = run(key, x, y, rate=rate)
        return variables

    return train_all


class Tester(NamedTuple):
    """(variables of k networks, n real images) -> logits (k, n, C). Compiled once."""

    forward: jax.stages.Wrapped
    """(variables, whitened images) -> logits"""
    transform: Callable[[np.ndarray], jax.Array]

    def __call__(self, variables: Variables, images: View) -> np.ndarray:
        return in_batches(lambda some: self.forward(variables, self.transform(some.images)), images)

    def lowered(self, variables: Variables, shape: tuple[int, ...]) -> jax.stages.Lowered:
        """The program that tests such networks on images (h, w, c), for the compiler."""
        images = shapes(lambda: jnp.zeros((TEST_BATCH, *shape)))
        return self.forward.lower(variables, images)


def tester(net: Net, transform: Callable[[np.ndarray], jax.Array]) -> Tester:
    """`transform` makes the network's input of raw images: their whitening. In float32 on every device."""
    apply = at_precision(net, "float32").apply

    # Every process of a mesh gets all logits, not those of its own images only.
    @partial(jax.jit, out_shardings=everywhere())
    def forward(variables: Variables, images: jax.Array) -> jax.Array:
        return jax.lax.map(lambda one: map_images(partial(apply, one), images), variables)

    return Tester(forward, transform)


def in_batches(of_batch: Callable[[Split], jax.Array], images: View) -> np.ndarray:
    """What a function makes of TEST_BATCH examples at a time, (k, TEST_BATCH, …), for all n of a view -> (k, n, …)."""
    count = len(images.members)
    # The last batch is filled up with the first images, so that all are of one size and compiled for once.
    positions = [np.arange(start, start + TEST_BATCH) % count for start in range(0, count, TEST_BATCH)]
    return np.concatenate([np.asarray(of_batch(images.take(some))) for some in positions], axis=1)[:, :count]


def accuracy(logits: np.ndarray | jax.Array, labels: np.ndarray | jax.Array) -> np.ndarray | jax.Array:
    """Fraction of images whose largest logit is their label, (…, n, C) and (n,) -> (…)."""
    return (logits.argmax(-1) == labels).mean(-1)


def lowered(course: Course, outputs: Tester, x: Any, y: Any) -> list[jax.stages.Lowered]:
    """The programs that train networks on such a set and test them, for the compiler."""
    return [*course.lowered(x, y), outputs.lowered(course.variables, x.shape[1:])]

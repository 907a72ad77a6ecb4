"""Labels of a teacher: how the decoupled family (SRe2L, RDED and others) judges its sets.

A teacher is trained on the training split, once for all sets that are judged by it. Students see crops and mixtures of
the set's images alone, and learn to say of each what the teacher says of it. Much of their accuracy is the teacher's;
so random real images under the same teacher belong beside every such number.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rcig import nets, resources, train
from rcig.augment import augment
from rcig.data import splits
from rcig.data.settings import Dataset
from rcig.data.splits import Split
from rcig.errors import ParamsError
from rcig.judging.protocols import TEMPERATURE
from rcig.judging.subject import Subject

SEED = 0
STEPS = 2000
"""of the teacher"""
BATCH = 256
"""of the teacher"""
RATE = 1e-3


class Teacher(NamedTuple):
    net: nets.Net
    variables: nets.Variables

    def labels(self, images: jax.Array) -> jax.Array:
        """Whitened images (n, h, w, c) -> what it says of them, softened and centred (n, C)."""
        logits = self.net.apply(self.variables, images)
        return jax.nn.softmax(logits / TEMPERATURE) - 1 / logits.shape[1]


def taught(schedule: train.Schedule, teacher: Teacher) -> train.Schedule:
    """The schedule with the teacher's labels in place of the set's, of the images as they are after it has mixed."""

    def mix(key: jax.Array, images: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        images, _ = schedule.mix(key, images, labels)
        return images, teacher.labels(images)

    return schedule._replace(mix=mix)


def of(subject: Subject, architecture: str, width: int) -> Teacher:
    """The teacher for the subject's dataset as its networks see it. Raises ParamsError where that is not at hand."""
    if subject.train is None:
        raise ParamsError("protocol teacher: needs the training images; give the name of a prepared dataset")
    return _trained(subject.train, subject.whitened, subject.dataset, architecture, width)


@lru_cache(maxsize=1)
def _trained(
    load: Callable[[], Split],
    whitened: Callable[[np.ndarray], jax.Array],
    dataset: Dataset,
    architecture: str,
    width: int,
) -> Teacher:
    net = nets.build(architecture, dataset.shape, dataset.classes, width=width, depth=dataset.depth)
    optimizer, key = train.adam(warmup=0)(STEPS, RATE), jax.random.key(SEED)
    state, real, draw = train.start(net, optimizer, key), splits.whole(load()), np.random.default_rng(SEED)
    count = min(BATCH, len(real.members))

    @jax.jit
    def step(state: train.TrainState, key: jax.Array, x: jax.Array, classes: jax.Array) -> train.TrainState:
        y = jax.nn.one_hot(classes, dataset.classes) - 1 / dataset.classes
        return train.update(net, optimizer, state, augment(key, x), y, train.cross_entropy)

    batch = jnp.zeros((count, *dataset.shape)), jnp.zeros(count, jnp.int32)
    what = f"teacher, {architecture} of width {width}"
    memory = resources.check(what, "width", resources.Use(0, step.lower(state, key, *batch)))
    with resources.progress(what, STEPS, "its students", memory) as reached:
        for i in range(STEPS):
            images, classes = real.take(draw.choice(len(real.members), count, replace=False))
            state = jax.block_until_ready(step(state, jax.random.fold_in(key, i), whitened(images), classes))
            reached(i + 1)
    return Teacher(net, state.variables)


def random_real(subject: Subject) -> Subject:
    """The subject with as many random real images of each class in place of every seed's set."""
    if subject.train is None:
        raise ParamsError("protocol teacher_random: needs the training images; give the name of a prepared dataset")
    real, per_class, classes = subject.train(), subject.judged.images_per_class, subject.dataset.classes
    chosen = [splits.sample_per_class(real.labels, per_class, classes, seed) for seed in subject.judged.seeds]
    sets = [splits.whole(real).take(one) for one in chosen]
    return subject._replace(
        images=np.stack([subject.whitened(one.images) for one in sets]),
        labels=np.stack([np.eye(classes, dtype=np.float32)[one.labels] - np.float32(1 / classes) for one in sets]),
    )

"""Coresets: real images that stand for their class, by the features of a network trained on the real images.

Nothing is distilled. A network is trained for `network_steps` on the images that the run may see, and images are chosen
class by class by the features before its final layer:

- `herding` (Welling 2009): one after another, so that the mean of those chosen is as near as can be to the mean of all;
- `k_centre` (Sener & Savarese 2018, in its greedy form): first the image nearest to the mean, then always the one
  farthest from those chosen;
- `k_means`: the images nearest to the centres of as many clusters.

With one image per class all three choose the same, the image nearest to the mean.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.cluster import KMeans
from tqdm import tqdm

from rcig import resources, train
from rcig.data.splits import Split, View
from rcig.errors import ParamsError
from rcig.fields import POSITIVE
from rcig.methods.base import Distilled, Member, Method, Setup, kept
from rcig.methods.feeds import batches
from rcig.passes import map_images, shapes
from rcig.resources import Use


@dataclass(frozen=True)
class Settings:
    """Of the choice, and of the network that makes the features; its width is that of the run."""

    choice: Literal["herding", "k_centre", "k_means"] = "herding"
    """how images are chosen by their features"""
    network_steps: Annotated[int, POSITIVE] = 500
    """of training, by Adam"""
    network_batch_size: Annotated[int, POSITIVE] = 64
    """real images per step of training"""
    network_rate: Annotated[float, POSITIVE] = 1e-3
    """learning rate of training"""


MEMBERS = {name: Member({"choice": name}, learns=False) for name in ("herding", "k_centre", "k_means")}

Choice = Callable[[np.ndarray, int, int], np.ndarray]
"""(features (n, H) of a class, images to choose, seed) -> their positions"""


def make(settings: Settings, setup: Setup) -> Method[Distilled, tuple[()], Distilled]:
    """The chosen images."""
    features = trained(settings, setup)
    choose = CHOICES[settings.choice]

    def of_class(own: np.ndarray, count: int) -> np.ndarray:
        return own[choose(features(View(setup.seen.split, setup.seen.members[own])), count, setup.seed)]

    return chosen_by(of_class, setup)


def chosen_by(
    of_class: Callable[[np.ndarray, int], np.ndarray], setup: Setup
) -> Method[Distilled, tuple[()], Distilled]:
    """The real images that a function chooses, with hard labels: (positions of a class, images) -> their positions.

    Raises ParamsError for more images per class than a class has.
    """
    counts, asked = np.bincount(setup.seen.labels, minlength=setup.classes), setup.images // setup.classes
    if counts.min() < asked:
        raise ParamsError(
            f"a coreset of {asked} images per class asked for, class {setup.class_names[counts.argmin()]} has"
            f" {counts.min()}; lower images_per_class, or let more be seen: held_out, chunk"
        )
    own = [np.flatnonzero(setup.seen.labels == label) for label in range(setup.classes)]
    images, labels = setup.seen.take(np.concatenate([of_class(some, asked) for some in own]))
    given = Distilled(setup.whitened(images), jax.nn.one_hot(labels, setup.classes) - 1 / setup.classes, jnp.zeros(()))
    return kept(lambda key, initial: given)


def trained(settings: Settings, setup: Setup) -> Callable[[View], np.ndarray]:
    """View of n images -> their features (n, H) by a network trained on those that the run may see.

    Raises TooLargeError where that needs more memory than is free.
    """
    net, optimizer = setup.network("conv"), optax.adam(settings.network_rate)
    read = batches(setup.seen, setup.whitened, settings.network_batch_size, setup.seed)

    @jax.jit
    def step(state: train.TrainState, x: jax.Array, labels: jax.Array) -> train.TrainState:
        targets = jax.nn.one_hot(labels, setup.classes) - 1 / setup.classes
        return train.update(net, optimizer, state, x, targets, train.cross_entropy)

    begin, key = jax.jit(partial(train.start, net, optimizer)), jax.random.key(setup.seed)
    program = step.lower(shapes(begin, key), *read(0))
    resources.check("network of the coreset", "width or network_batch_size", Use(0, program))
    state = begin(key)
    for i in tqdm(range(settings.network_steps), desc="network of the coreset", unit="step", disable=None):
        state = step(state, *read(i))
    of_some = jax.jit(partial(map_images, partial(net.features, state.variables["params"]["body"])))

    def features(images: View) -> np.ndarray:
        def of_batch(some: Split) -> jax.Array:
            return of_some(setup.whitened(some.images))[None]

        found: np.ndarray = train.in_batches(of_batch, images)[0]
        return found

    return features


def herding(features: np.ndarray, count: int, seed: int) -> np.ndarray:
    """One after another, so that the mean of those chosen is nearest to the mean of all."""
    chosen: list[int] = []
    mean, total = features.mean(0), np.zeros_like(features[0])
    for i in range(count):
        distance = np.linalg.norm(mean - (total + features) / (i + 1), axis=1)
        distance[chosen] = np.inf
        chosen.append(int(distance.argmin()))
        total = total + features[chosen[-1]]
    return np.array(chosen)


def k_centre(features: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The one nearest to the mean, then always the one farthest from those chosen."""
    chosen = [int(np.linalg.norm(features - features.mean(0), axis=1).argmin())]
    distance = np.full(len(features), np.inf)
    while len(chosen) < count:
        distance = np.minimum(distance, np.linalg.norm(features - features[chosen[-1]], axis=1))
        distance[chosen] = -1  # also where others lie in the same place
        chosen.append(int(distance.argmax()))
    return np.array(chosen)


def k_means(features: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The one nearest to the centre of each cluster; none twice."""
    chosen: list[int] = []
    for centre in KMeans(count, n_init=1, random_state=seed).fit(features).cluster_centers_:
        distance = np.linalg.norm(features - centre, axis=1)
        distance[chosen] = np.inf
        chosen.append(int(distance.argmin()))
    return np.array(chosen)


CHOICES: dict[str, Choice] = {"herding": herding, "k_centre": k_centre, "k_means": k_means}

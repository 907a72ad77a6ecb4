"""Sets that grow block by block (Boost-DD, Feng et al. 2023), and parts of sets."""

import jax.numpy as jnp
import numpy as np

from rcig.methods.base import Distilled


def join(before: Distilled, new: Distilled) -> Distilled:
    """The images of a block behind those before it, with the temperature that these have reached."""
    images, labels = (jnp.concatenate(pair) for pair in zip(before[:2], new[:2], strict=True))
    return Distilled(images, labels, before.log_temperature)


def seed_of(seed: int, images: int) -> int:
    """The seed of the block behind so many images: the run's own for the first, another for each of the others."""
    return seed if images == 0 else int(np.random.SeedSequence([seed, images]).generate_state(1)[0])


def part(per_class: int, of: int, classes: int, boosted: bool, seed: int) -> np.ndarray:
    """Positions of `per_class` images per class in a set of `of` per class, in their order.

    The first blocks of a boosted set, whose classes repeat in every block; else random images of every class, which
    stand together.
    """
    if boosted:
        return np.arange(per_class * classes)
    rng = np.random.default_rng([seed, per_class])
    return np.concatenate([label * of + np.sort(rng.permutation(of)[:per_class]) for label in range(classes)])

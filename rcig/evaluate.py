"""The protocols by which a distilled set is judged: networks trained on it from scratch, tested on real images."""

from collections.abc import Callable
from functools import partial

from rcig.augment import augment
from rcig.train import Augment, Schedule, unchanged


def loo2023(images: int, transform: Augment) -> Schedule:
    """Loo et al. 2023, appendix C, for a set of that many images, mirror images not counted."""
    return Schedule(
        steps=1000 if images == 10 else 2000,
        learning_rate=1e-4,
        warmup=500,
        floor=0.01,
        batch_size=256,
        augment=transform,
    )


PROTOCOLS: dict[str, Callable[[int], Schedule]] = {
    "loo2023": partial(loo2023, transform=unchanged),
    "loo2023_augmented": partial(loo2023, transform=augment),
}
"""name -> (number of distilled images -> schedule)"""

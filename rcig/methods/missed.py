"""Coresets by hardness: the real images that the fewest or the most networks miss.

The scores are the file that the experiment `needs`, made by the stage `score`: how many networks, trained on the set of
another experiment, miss each training image. Of images that as many miss, those to keep are drawn at random.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from rcig import store
from rcig.errors import ParamsError
from rcig.methods.base import Distilled, Member, Method, Setup
from rcig.methods.coresets import chosen_by

NEEDS = "artifacts/scores/"
"""where the files lie that its runs need"""


@dataclass(frozen=True)
class Settings:
    first: Literal["least", "most"] = "least"
    """whether the images are chosen that the fewest networks miss, or those that the most do"""


MEMBERS = {
    "least_missed": Member({"first": "least"}, learns=False, starts=False),
    "most_missed": Member({"first": "most"}, learns=False, starts=False),
}


def make(settings: Settings, setup: Setup) -> Method[Distilled, tuple[()], Distilled]:
    """The chosen images. Raises ParamsError for scores of another dataset, and for a class with too few images."""
    scores, count = store.load(setup.needs, store.SCORES), len(setup.seen.split.labels)
    if len(scores["missed"]) != count:
        raise ParamsError(
            f"{setup.needs}: scores of {len(scores['missed'])} images, the training split has {count};"
            " use those of this dataset"
        )
    missed = scores["missed"][setup.seen.members]
    rank = missed if settings.first == "least" else -missed
    rng = np.random.default_rng(setup.seed)

    def of_class(own: np.ndarray, images: int) -> np.ndarray:
        shuffled = rng.permutation(own)
        return shuffled[np.argsort(rank[shuffled], kind="stable")[:images]]

    return chosen_by(of_class, setup)

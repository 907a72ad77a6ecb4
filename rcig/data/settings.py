"""What the pipeline has to know of a dataset."""

from dataclasses import dataclass, fields
from typing import Annotated, Literal

from rcig.errors import ParamsError
from rcig.fields import POSITIVE, Range

NOTHING = "inputs/none"
"""the file that an experiment or a dataset needs which needs none"""

SEVERAL = Range("to be at least 2", lambda value: value >= 2)
HELD_OUT = Range("between 0.001 and 0.9", lambda value: 0.001 <= value <= 0.9)
"""With less, a class of a benchmark has no image that is held out; with more, too few that are seen."""


@dataclass(frozen=True)
class Dataset:
    """What the paper fixes per dataset (Loo et al. 2023, appendix C)."""

    resolution: Annotated[int, POSITIVE]
    """side of the square images in pixels"""
    channels: Annotated[int, POSITIVE]
    """1 for grey images, 3 for RGB"""
    classes: Annotated[int, SEVERAL]
    """that the labels tell apart"""
    depth: Annotated[int, POSITIVE]
    """stages of the convolutional network: 3 for 28 and 32 px, 4 for 64 px, 5 for 128 px"""
    whitening: Literal["standard", "zca", "zca_checkerboard"]
    """see rcig.whiten; the paper: standard for grey images, zca for RGB, zca_checkerboard for 128 px"""
    mirror: bool
    """use every distilled image with its mirror image too, in sets of up to rcig.plan.MIRRORED images (paper: RGB)"""
    l2_rate: Annotated[float, POSITIVE]
    """ridge rate per distilled image, before mirroring"""
    held_out: Annotated[float, HELD_OUT]
    """fraction of the training split that no distiller sees; all selection is made on it"""

    def __post_init__(self) -> None:
        if self.whitening == "zca_checkerboard" and self.resolution % 64:
            raise ParamsError(f"zca_checkerboard needs a resolution that 64 divides, got {self.resolution}; use zca")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(h, w, c) of its images"""
        return (self.resolution, self.resolution, self.channels)


@dataclass(frozen=True)
class Own:
    """Where raw images are that no catalogue knows, and how they are read, see rcig.data.own."""

    source: Literal["folder", "npz", "huggingface", "tfds"] = "tfds"
    """what kind of file or folder `path` is, see rcig.data.readers; tfds: of tensorflow-datasets"""
    path: str = NOTHING
    """file or folder inside of that of params.yaml, which `preprocess` depends on; inputs/none: a known dataset"""
    test_fraction: Annotated[float, HELD_OUT] | None = None
    """part of every class that is drawn once and for all to test on; null: the source has a test part"""
    leave_out: tuple[str, ...] = ()
    """examples that are not read, by the names that messages call them"""
    image_column: str | None = None
    """of a Hugging Face dataset; null: found by its type or its name"""
    label_column: str | None = None
    """likewise"""

    @property
    def known(self) -> bool:
        """Whether the catalogue knows where the images are."""
        return self.path == NOTHING

    @property
    def tested_on(self) -> str:
        """What is tested on, in words."""
        if self.test_fraction is None:
            return "the test part of the source"
        return f"{100 * self.test_fraction:g} % of every class, drawn once"

    def __post_init__(self) -> None:
        given = [one.name for one in fields(Own) if getattr(self, one.name) != one.default]
        if self.known and given:
            raise ParamsError(f"{given[0]} is a setting of images of your own; give their path too, or leave it out")


@dataclass(frozen=True)
class Listed(Own, Dataset):
    """A dataset as params.yaml lists it."""

    def __post_init__(self) -> None:
        Dataset.__post_init__(self)
        Own.__post_init__(self)
        if not self.known and self.channels not in (1, 3):
            raise ParamsError(f"channels: expected 1 for grey images or 3 for colour, got {self.channels}")

    @property
    def dataset(self) -> Dataset:
        return Dataset(**{one.name: getattr(self, one.name) for one in fields(Dataset)})

    @property
    def own(self) -> Own:
        return Own(**{one.name: getattr(self, one.name) for one in fields(Own)})

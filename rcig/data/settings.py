"""What the pipeline has to know of a dataset."""

from dataclasses import dataclass
from typing import Annotated, Literal

from rcig.errors import ParamsError
from rcig.fields import POSITIVE, Range

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

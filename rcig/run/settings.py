"""What is distilled and how long: the settings of a run that are the same for every method."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from rcig.data.settings import Dataset
from rcig.errors import ParamsError
from rcig.fields import FRACTION, NOT_NEGATIVE, POSITIVE
from rcig.judging.protocols import PROTOCOLS, Name


@dataclass(frozen=True)
class Loop:
    """The distillation loop."""

    steps: Annotated[int, NOT_NEGATIVE]
    """outer steps; in params.yaml also `published`: the paper's number for this dataset and images per class"""
    batch_size: Annotated[int, POSITIVE] = 256
    """real training images per outer step (paper: 1024)"""
    validate_every: Annotated[int, POSITIVE] = 200
    """outer steps between measurements of the held-out accuracy"""
    drawn: Literal["image", "class"] = "image"
    """image: batches are passes through all images in a shuffled order; class: every batch is drawn for itself, an
    image the more often the fewer its class has, so that all classes are seen alike"""
    protocol: Name = "loo2023"
    """that the set is meant for: in a shortened form it measures the held-out accuracy, see rcig.run.validate"""
    returned: Literal["last", "best"] = "last"
    """the set after the last step, or the one with the best held-out accuracy among those measured"""
    precision: Literal["auto", "float32", "tensorfloat32", "bfloat16"] = "auto"
    """of the products in passes of networks, on accelerators with matrix units of reduced precision; all else of a step
    is float32. auto: tensorfloat32 on a GPU. A CPU computes in float32 whatever is said here"""

    def __post_init__(self) -> None:
        if PROTOCOLS[self.protocol].teacher or PROTOCOLS[self.protocol].own_rate:
            raise ParamsError(f"protocol {self.protocol} judges no set on its way; name loo2023, or narrow_sgd")


@dataclass(frozen=True)
class Boost:
    """A set that is distilled block by block, so that its first blocks are a set of their own (Feng et al. 2023)."""

    block: Annotated[int, POSITIVE]
    """images per class of a block; every one has the outer steps of the loop"""
    mobility: Annotated[float, FRACTION] = 0.0
    """factor on the updates of the blocks before the one that is distilled: 0 leaves them as they are"""


@dataclass(frozen=True)
class Hardness:
    """Real batches drawn by hardness: how many networks trained on a distilled set miss an image.

    The scores are the file that the experiment `needs`, made by the stage `score`.
    """

    strength: Annotated[float, POSITIVE] = 1.0
    """an image that all networks miss is drawn 1 + strength times as often as one that none misses"""


@dataclass(frozen=True)
class Run:
    """Everything that decides a distilled set, but for its dataset and the code."""

    dataset: str
    """one of `datasets` in params.yaml"""
    images_per_class: Annotated[int, POSITIVE]
    """of the distilled set"""
    method: str
    """see rcig.methods.registry"""
    module: str
    """file of rcig/methods that has the method"""
    size: str
    """what its settings are made for, the name of one of `sizes` in params.yaml"""
    width: Annotated[int, POSITIVE]
    """of the network while distilling"""
    mirror: bool
    """whether networks see every image together with its mirror image"""
    needs: str
    """file that the run reads beside the dataset: a set, hardness scores; inputs/none says nothing"""
    seeds: tuple[int, ...]
    """one set is distilled for each (paper: three)"""
    chunk: Annotated[int, POSITIVE] | None
    """training images that a seed may see, none shared by two seeds; null: all but the held-out ones"""
    initialisation: Literal["real", "noise", "unit_noise", "stored"]
    """random real images; standard normal noise; the same, images scaled to norm 1; or the set that the run `needs`"""
    basis: Annotated[int, POSITIVE] | None
    """basis images that all images are mixtures of; null: every image is learned for itself"""
    boost: Boost | None
    """distil block by block; null: all at once"""
    hardness: Hardness | None
    """draw real images by how hard they are; null: all alike"""
    loop: Loop
    """how long, on what, looked at how often"""
    settings: Any
    """of the method, see its file"""

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ParamsError(f"expected seeds to be different numbers, at least one, got {list(self.seeds)}")
        if min(self.seeds) < 0:
            what = ": they number the chunks" if self.chunk is not None else ""
            raise ParamsError(f"expected seeds from 0 on{what}, got {list(self.seeds)}")
        if self.boost is not None and self.images_per_class % self.boost.block:
            raise ParamsError(
                f"boost: blocks of {self.boost.block} images per class do not divide {self.images_per_class};"
                " give a divisor"
            )
        if self.boost is not None and self.basis is not None:
            raise ParamsError("boost: a basis is shared by all blocks and would move those before; set basis: null")

    @property
    def blocks(self) -> list[int]:
        """Images per class after each block; of a set that is not boosted its own."""
        block = self.images_per_class if self.boost is None else self.boost.block
        return list(range(block, self.images_per_class + 1, block))

    @property
    def label(self) -> str:
        """The method, with what else is done besides: the name of its rows in tables."""
        more = {"linear_basis": self.basis, "boost": self.boost, "hardness": self.hardness}
        names = [name for name, value in more.items() if value is not None]
        return "+".join([self.method, *names, *["batch_norm"] * getattr(self.settings, "batch_norm", False)])


@dataclass(frozen=True)
class Study:
    """What settings of one method do to time, memory and accuracy."""

    dataset: Dataset
    base: Run
    """gives all that a point does not"""
    varied: tuple[str, ...]
    """the method's settings that points give"""
    points: tuple[dict[str, Any], ...]
    """values of settings, one run for each of these and every seed"""
    figure: Literal["steps", "backward_images"]
    timing_steps: Annotated[int, POSITIVE]
    """outer steps that are timed one by one, after two that are not"""

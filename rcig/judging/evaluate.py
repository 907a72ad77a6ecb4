"""A distilled set judged by protocols, and parts of it."""

from dataclasses import dataclass
from typing import Annotated

from rcig.data.settings import Dataset
from rcig.errors import ParamsError
from rcig.fields import POSITIVE
from rcig.judging import networks
from rcig.judging.networks import Found
from rcig.judging.protocols import PROTOCOLS, Name, milestones
from rcig.judging.subject import Judged, Subject


@dataclass(frozen=True)
class Evaluate:
    """Networks trained on the distilled set, tested on the whole test split."""

    protocols: tuple[Name, ...] = ("loo2023",)
    """by which the set is judged"""
    width: Annotated[int, POSITIVE] = 128
    """of the networks, where the protocol leaves it open (paper: 128)"""
    networks: Annotated[int, POSITIVE] = 5
    """trained on the set of every seed (paper: 5)"""
    measurements: Annotated[int, POSITIVE] = 1
    """tests on the way, evenly spread over the training steps; the last is at their end"""
    parts: tuple[Annotated[int, POSITIVE], ...] = ()
    """images per class of parts of the set that are judged as well: a boosted set's first blocks, else random ones"""

    def __post_init__(self) -> None:
        if len(set(self.parts)) < len(self.parts):
            raise ParamsError(f"expected parts to be different numbers, got {list(self.parts)}")
        if not self.protocols:
            raise ParamsError("expected at least one of protocols, got none")


@dataclass(frozen=True)
class Entry:
    """What the stages `evaluate` and `score` read of plan.json."""

    dataset: Dataset
    judged: Judged
    evaluate: Evaluate


def by_protocol(subject: Subject, settings: Evaluate, name: Name) -> Found:
    """What one protocol says of the set of every seed."""
    protocol = PROTOCOLS[name]
    width = protocol.width or settings.width
    schedule = protocol.schedule(subject.judged.images_per_class * subject.dataset.classes)
    at = milestones(schedule.steps, settings.measurements)
    trained = networks.build(subject, protocol.architecture, width, schedule, settings.networks)
    where = {"protocol": name, "architecture": protocol.architecture, "width": width}
    return networks.measure(subject, trained, where, protocol.labels, at=at)

"""A distilled set judged by protocols, and parts of it."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated

from rcig.data.settings import Dataset
from rcig.errors import ParamsError
from rcig.fields import POSITIVE
from rcig.judging import networks, teachers
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
    if not protocol.mirror:
        subject = subject._replace(judged=dataclasses.replace(subject.judged, mirror=False))
    width = protocol.width or settings.width
    schedule = protocol.schedule(subject.judged.images_per_class * subject.dataset.classes)
    if protocol.random:
        subject = teachers.random_real(subject)
    if protocol.teacher:
        schedule = teachers.taught(schedule, teachers.of(subject, protocol.architecture, width))
    at = milestones(schedule.steps, settings.measurements)
    trained = networks.build(subject, protocol.architecture, width, schedule, settings.networks)
    where = {"protocol": name, "architecture": protocol.architecture, "width": width}
    rate = {"rate": learned_rate(subject, name)} if protocol.own_rate else {}
    return networks.measure(subject, trained, where, protocol.labels, at=at, **rate)


def learned_rate(subject: Subject, protocol: str) -> float:
    """The learning rate that was learned with the set. Raises ParamsError where nobody has said it."""
    rate = (subject.meta.get("settings") or {}).get("learned_rate")
    if rate is None:
        raise ParamsError(
            f"protocol {protocol}: the set has no learned rate; give that of its authors, as in settings:"
            " {learned_rate: 0.01}, or take protocol dsa"
        )
    return float(rate)

"""Networks trained on a subject's sets and tested on real images."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from rcig import nets, rows, train
from rcig.judging.subject import Subject
from rcig.resources import Use, check, progress

LOOKS = 20
"""progress reports while the networks of one seed are trained"""


class Networks(NamedTuple):
    """How networks of one kind are trained and tested, compiled once."""

    name: str
    """for people"""
    course: train.Course
    outputs: train.Tester
    memory: int
    """bytes that the process will hold at most"""

    @property
    def steps(self) -> int:
        return self.course.schedule.steps

    @property
    def looks(self) -> set[int]:
        """Steps after which progress is reported."""
        return {self.steps * (i + 1) // LOOKS for i in range(LOOKS)} - {0}


class Found(NamedTuple):
    rows: list[rows.Row]
    predicted: np.ndarray
    """(seeds, k, n) classes, of the fully trained networks"""

    @property
    def accuracy(self) -> float:
        """Mean test accuracy of the fully trained networks."""
        last = max(row["step"] for row in self.rows)
        return float(np.mean([row["value"] for row in self.rows if row["step"] == last]))


def build(subject: Subject, architecture: str, width: int, schedule: train.Schedule, count: int) -> Networks:
    """So many networks of that kind for the subject's images. Raises TooLargeError where memory is too small."""
    depth = {"depth": subject.dataset.depth} if architecture in nets.WITH_DEPTH else {}
    net = nets.build(architecture, subject.dataset.shape, subject.dataset.classes, width=width, **depth)
    course, outputs = train.course(net, schedule, count), train.tester(net, subject.whitened)
    name = f"{architecture} of width {width}"
    uses = [Use(0, program) for program in train.lowered(course, outputs, *subject.shapes())]
    return Networks(name, course, outputs, check(f"{count} networks {name}", "width or networks", *uses))


def measure(
    subject: Subject,
    networks: Networks,
    where: dict[str, Any],
    labels: train.Relabel = train.own_labels,
    at: Sequence[int] = (),
    **course: Any,
) -> Found:
    """Test accuracy of networks trained on the set of every seed, after the steps `at` and all steps.

    `labels` makes those trained on of the set's own; `where` gives protocol, architecture and width.
    """
    measured, total = {*at, networks.steps}, networks.steps * len(subject.judged.seeds)
    found, predicted = [], []
    shown: dict[str, str] = {}
    with progress(f"{where['protocol']}, {networks.name}", total, "the tests", networks.memory) as reached:
        for i, (seed, (x, y)) in enumerate(subject.supports()):
            looks = sorted(measured | networks.looks)
            for step, variables in networks.course(jax.random.key(seed), x, labels(y), at=looks, **course):
                jax.block_until_ready(variables)
                reached(i * networks.steps + step, **shown)
                if step not in measured:
                    continue
                logits = networks.outputs(variables, subject.test)
                values = train.accuracy(logits, subject.test.labels)
                shown = {"accuracy": f"{values.mean():.4f}"}
                found += rows.by_network(values, **subject.where, **where, seed=seed, step=step, metric="accuracy")
            predicted.append(logits.argmax(-1))
    return Found(found, np.stack(predicted))

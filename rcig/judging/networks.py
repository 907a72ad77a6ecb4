"""Networks trained on a subject's sets and tested on real images."""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from rcig import nets, rows, train
from rcig.data import splits
from rcig.judging.subject import Subject
from rcig.nets import Variables

LOOKS = 20
"""progress reports while the networks of one seed are trained"""


class Networks(NamedTuple):
    """How networks of one kind are trained and tested, compiled once."""

    steps: int
    course: Callable[..., Iterator[tuple[int, Variables]]]
    """see rcig.train"""
    outputs: Callable[[Variables, splits.View], np.ndarray]


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
    """So many networks of that kind for the subject's images."""
    depth = {"depth": subject.dataset.depth} if architecture in nets.WITH_DEPTH else {}
    net = nets.build(architecture, subject.dataset.shape, subject.dataset.classes, width=width, **depth)
    return Networks(schedule.steps, train.course(net, schedule, count), train.tester(net, subject.whitened))


def measure(
    subject: Subject,
    networks: Networks,
    where: dict[str, Any],
    labels: train.Relabel = train.own_labels,
    at: Sequence[int] = (),
    **course: Any,
) -> Found:
    """Test accuracy of networks trained on the set of every seed, after the steps `at` and all steps.

    `labels` makes those trained on of the set's own; `where` gives protocol, architecture and width. Progress goes to
    standard error where that is a terminal.
    """
    measured = {*at, networks.steps}
    looks = sorted(measured | {networks.steps * (i + 1) // LOOKS for i in range(LOOKS)} - {0})
    title = f"{where['protocol']}, {where['architecture']} of width {where['width']}"
    found, predicted = [], []
    total = networks.steps * len(subject.judged.seeds)
    with tqdm(total=total, desc=title, unit="step", disable=None, file=sys.stderr) as bar:
        for seed, (x, y) in subject.supports():
            before = bar.n
            for step, variables in networks.course(jax.random.key(seed), x, labels(y), at=looks, **course):
                jax.block_until_ready(variables)
                bar.update(before + step - bar.n)
                if step not in measured:
                    continue
                logits = networks.outputs(variables, subject.test)
                values = train.accuracy(logits, subject.test.labels)
                bar.set_postfix(accuracy=f"{float(values.mean()):.4f}")
                found += rows.by_network(values, **subject.where, **where, seed=seed, step=step, metric="accuracy")
            predicted.append(logits.argmax(-1))
    return Found(found, np.stack(predicted))

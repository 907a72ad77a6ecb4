"""How good a set is on its way: the accuracy, on held-out images, of networks that are trained on it.

They are trained as by the protocol that the set is meant for, in fewer steps. A judge with a learning rate of its own
ranks sets otherwise than the protocol, as each set is best for the training that it was distilled for; docs/lab-book.md
has the rank correlations.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from rcig.data.splits import View
from rcig.nets import Net
from rcig.train import Course, Relabel, Schedule, Tester, accuracy, course, lowered, shortened, tester

STEPS, NETWORKS = 300, 2
"""of training, at most; trained at once"""


class Validator(NamedTuple):
    """(images, their labels (n, C)) -> mean accuracy of the networks on held-out images.

    They always start from the same weights: this shows the course of a run and compares runs.
    """

    course: Course
    labels: Relabel
    outputs: Tester
    held_out: View

    def __call__(self, images: jax.Array, targets: jax.Array) -> float:
        ((_, variables),) = self.course(jax.random.key(0), images, self.labels(targets))
        return float(accuracy(self.outputs(variables, self.held_out), self.held_out.labels).mean())

    def lowered(self, images: Any, targets: Any) -> list[jax.stages.Lowered]:
        """Its programs for such a set, arrays or their shapes, for the compiler."""
        return lowered(self.course, self.outputs, images, targets)


def validator(
    net: Net, schedule: Schedule, labels: Relabel, held_out: View, transform: Callable[[np.ndarray], jax.Array]
) -> Validator:
    """By a protocol's network, schedule and labels."""
    return Validator(course(net, shortened(schedule, STEPS), NETWORKS), labels, tester(net, transform), held_out)

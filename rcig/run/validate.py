"""How good a set is on its way: the accuracy of networks that are trained on it, on held-out images."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from rcig.data.splits import View
from rcig.nets import Net
from rcig.train import Course, Schedule, Tester, accuracy, adam, course, lowered, tester

STEPS = 300
"""of training"""


class Validator(NamedTuple):
    """(images, their labels (n, C)) -> accuracy on held-out images of two networks after a short training."""

    course: Course
    outputs: Tester
    held_out: View

    def __call__(self, images: jax.Array, targets: jax.Array) -> float:
        ((_, variables),) = self.course(jax.random.key(0), images, targets)
        return float(accuracy(self.outputs(variables, self.held_out), self.held_out.labels).mean())

    def lowered(self, images: Any, targets: Any) -> list[jax.stages.Lowered]:
        """Its programs for such a set, arrays or their shapes, for the compiler."""
        return lowered(self.course, self.outputs, images, targets)


def validator(net: Net, held_out: View, transform: Callable[[np.ndarray], jax.Array]) -> Validator:
    """Quick, and always from the same two starts: it shows the course of a run and compares runs. It is no protocol."""
    schedule = Schedule(STEPS, adam(STEPS, warmup=STEPS // 10), 1e-3, batch_size=256)
    return Validator(course(net, schedule, 2), tester(net, transform), held_out)

"""Which form of a computation is taken on which backend: all such choices pass through here.

What a form computes is the same everywhere, up to rounding. Tests run both on a CPU.
"""

from typing import TypeVar

import jax

T = TypeVar("T")


def suited(cpu: T, accelerator: T) -> T:
    """The one for the backend that arrays are on."""
    return cpu if jax.default_backend() == "cpu" else accelerator

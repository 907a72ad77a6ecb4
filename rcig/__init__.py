"""Distil a dataset into a handful of images, and trust and reproduce every number about it.

rcig.load("mnist-ipc1-rcig-compact")            a distilled set by its name
rcig.distil(images, labels, method="rcig")      a distilled set of your own arrays
rcig.judge(distilled, "mnist")                  how good it is
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rcig.api import distil, judge
    from rcig.sets import load

__version__ = "0.2.0"
__all__ = ["distil", "judge", "load"]
_PLACES = {"load": "rcig.sets", "distil": "rcig.api", "judge": "rcig.api"}


def __getattr__(name: str) -> Any:
    """The verbs, whose modules are imported when they are asked for: JAX takes a second to start."""
    if name not in _PLACES:
        raise AttributeError(f"module 'rcig' has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    """What there is to call, for completion and for the pages of the documentation."""
    return [*globals(), *__all__]

"""Distil a dataset into a handful of images, and trust and reproduce every number about it.

rcig.load("mnist-ipc1-rcig-compact")            a distilled set by its name
rcig.distil(images, labels, method="rcig")      a distilled set of your own arrays
rcig.read("images.pt", "mnist")                 a set that others have published
rcig.judge(distilled, "mnist")                  how good it is
rcig.export(distilled, "folder")                for PyTorch and everything else
rcig.add("leaves", "inputs/leaves")             images of your own as a dataset of the pipeline
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rcig.adding import add
    from rcig.api import distil, judge
    from rcig.exporting import export
    from rcig.reading import read
    from rcig.sets import load

__version__ = "0.2.0"
__all__ = ["add", "distil", "export", "judge", "load", "read"]
_PLACES = {
    "add": "rcig.adding",
    "distil": "rcig.api",
    "export": "rcig.exporting",
    "judge": "rcig.api",
    "load": "rcig.sets",
    "read": "rcig.reading",
}


def __getattr__(name: str) -> Any:
    """The verbs, whose modules are imported when they are asked for: JAX takes a second to start."""
    if name not in _PLACES:
        raise AttributeError(f"module 'rcig' has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    """What there is to call, for completion and for the pages of the documentation."""
    return [*globals(), *__all__]

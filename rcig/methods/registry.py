"""The names of all methods, and the file of this package that each lies in; files are imported when asked for."""

import importlib
from typing import Any

from rcig.fields import known

METHODS = {
    "rcig": "implicit",
    "vig": "implicit",
    "cig": "implicit",
    "rig": "implicit",
    "frepo": "implicit",
    "rfad": "implicit",
    "rat_bptt": "unrolled",
    "t_bptt": "unrolled",
    "bptt": "unrolled",
    "at_bptt": "unrolled",
    "dm": "matching",
    "dc": "matching",
    "dsa": "matching",
    "mtt": "trajectories",
    "kip": "kernel_points",
    "label_solve": "kernel_points",
    "herding": "coresets",
    "k_centre": "coresets",
    "k_means": "coresets",
    "least_missed": "missed",
    "most_missed": "missed",
    "random_real": "random_real",
    "external": "external",
    "stored": "stored",
}


def module_of(where: str, method: str) -> str:
    """The file of a method's name. Raises ParamsError, which lists all names, for any other."""
    return METHODS[known(where, "method", method, METHODS)]


def load(module: str) -> Any:
    """The module of a method's file."""
    return importlib.import_module(f"rcig.methods.{module}")

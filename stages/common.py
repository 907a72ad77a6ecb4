"""What all stage scripts share: how they start, how they fail, where files lie."""

import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

from rcig.entry import end, guarded
from rcig.fields import shown

DISTILLED = Path("artifacts/distilled")
RESULTS = Path("results")
COMPILED = Path(".cache/jax")
"""compiled code, kept for the next time; by machine, as folders may be shared by several"""


def run(main: Callable[..., None]) -> None:
    """Call main with the command line's arguments, which its script's docstring names: "distill EXPERIMENT: ...".

    A foreseen error ends the process with one line and status 1, as one of the system about a path does; other
    arguments end it with one line and status 2. --help prints the docstring.
    """
    given, words = sys.argv[1:], main.__globals__["__doc__"].strip()
    name, *wanted = words.partition(":")[0].split()
    call = f"python -m stages.{name}"
    if "--help" in given:
        print(f"usage: {' '.join([call, *wanted])}\n\n{words}")
        return
    if len(given) != len(wanted) or any(one.startswith("-") for one in given):
        end(
            f"expected {' '.join(wanted) or 'no argument'}, got {shown(given) if given else 'none'}; try {call} --help",
            2,
        )
    _keep_compiled()
    guarded(main, *given)


def _keep_compiled() -> None:
    folder = os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(COMPILED.resolve() / platform.node()))
    if "jax" in sys.modules:  # which has read the environment when it was imported
        sys.modules["jax"].config.update("jax_compilation_cache_dir", folder)

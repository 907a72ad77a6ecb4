"""What all stage scripts share: how they start, how they fail, where files lie."""

import inspect
import os
import platform
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from rcig.errors import Foreseen

DISTILLED = Path("artifacts/distilled")
RESULTS = Path("results")
COMPILED = Path(".cache/jax")
"""compiled code, kept for the next time; by machine, as folders may be shared by several"""

FORMAT = warnings.formatwarning


def run(main: Callable[..., None]) -> None:
    """Call main with the command line's arguments. A foreseen error ends the process with one line and status 1.

    Other arguments than main takes, or --help, print what the script is and how it is called.
    """
    arguments, names = sys.argv[1:], [name.upper() for name in inspect.signature(main).parameters]
    if "--help" in arguments or len(arguments) != len(names):
        script = main.__globals__
        print(f"usage: python -m {script['__spec__'].name} {' '.join(names)}\n\n{script['__doc__'].strip()}")
        sys.exit(0 if "--help" in arguments else 2)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(COMPILED.resolve() / platform.node()))
    warnings.formatwarning = in_one_line
    try:
        main(*arguments)
    except Foreseen as error:
        sys.exit(f"error: {error}")


def in_one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning that is meant for people is one line, without the place in the code; others are as ever."""
    return f"warning: {message}\n" if category is UserWarning else FORMAT(message, category, filename, lineno, line)

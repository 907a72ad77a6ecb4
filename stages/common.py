"""What all stage scripts share: how they start, how they fail, where files lie."""

import inspect
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

from rcig.errors import Foreseen

DISTILLED = Path("artifacts/distilled")
RESULTS = Path("results")
COMPILED = Path(".cache/jax")
"""compiled code, kept for the next time; by machine, as folders may be shared by several"""


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
    try:
        main(*arguments)
    except Foreseen as error:
        sys.exit(f"error: {error}")

"""What all stage scripts share: how they start, how they fail, where files lie."""

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
    """Call main with the command line's arguments. A foreseen error ends the process with one line and status 1."""
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(COMPILED.resolve() / platform.node()))
    try:
        main(*sys.argv[1:])
    except Foreseen as error:
        sys.exit(f"error: {error}")

"""How what is called from a command line ends: with one line, and a status, for an error that was foreseen."""

import sys
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

from rcig.errors import Foreseen, of_path

FORMAT = warnings.formatwarning


def guarded(main: Callable[..., None], *given: Any) -> None:
    """Call main. A foreseen error ends the process with one line and status 1, as one about a path does."""
    warnings.formatwarning = in_one_line
    try:
        main(*given)
    except Foreseen as error:
        end(str(error), 1)
    except OSError as error:
        if error.filename is None:
            raise
        end(of_path(error), 1)


def in_one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning that is meant for people is one line, without the place in the code; others are as ever."""
    return f"warning: {message}\n" if category is UserWarning else FORMAT(message, category, filename, lineno, line)


def end(error: str, status: int) -> NoReturn:
    print("error:", " ".join(error.split()), file=sys.stderr)
    sys.exit(status)

"""Docstrings as they are: words between backticks, columns that stand below each other, no other marks, none missing.

A public name without a docstring is a warning, which the build takes for an error.
"""

import re
from typing import Any

from sphinx.util import logging

MARKS = re.compile(r"(`[^`]*`)|([*|]|(?<=\w)_(?!\w))")
"""what stands between backticks; what reStructuredText would take for a mark"""
COLUMNS = re.compile(r"^(\s*)(?=\S.*\S {3,}\S)")
"""the start of a line that has columns, which stays a line"""


def plain(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    module = getattr(thing, "__module__", None) or ""
    verb = name.count(".") == 1
    if not any(lines) and (verb or name.startswith(f"{module}.")):
        logging.getLogger(__name__).warning("%s has no docstring; say what it is", name)
    if lines and lines[0].startswith("Alias for field number"):  # which Python says of a named tuple's
        lines[:] = []
    escaped = (MARKS.sub(lambda found: found[1] or f"\\{found[2]}", line) for line in lines)
    lines[:] = [COLUMNS.sub(r"\1| ", line) for line in escaped]


def setup(app: Any) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", plain)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

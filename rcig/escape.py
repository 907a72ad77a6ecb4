"""Text from settings and files in what people open: nothing in it is taken for a mark, a command or a formula."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_FORMULA = re.compile(r"'*(?:\s*[=+\-@]|\t)")
"""how a text begins that a spreadsheet takes for a formula, perhaps after marks that it is none"""


def cell(text: str) -> str:
    """Text in a cell of a CSV file: one that begins like a formula has a ' before it, and no line ends with a \\r."""
    text = text.replace("\r", " ")
    return f"'{text}" if _FORMULA.match(text) else text


def csv(table: "pd.DataFrame") -> str:
    """A table as CSV, every text as `cell` has it; numbers are numbers."""
    return _each(table, cell).to_csv(index=False, lineterminator="\n")


def plain(table: "pd.DataFrame") -> "pd.DataFrame":
    """A table that was read from such a CSV file, with its texts as they were."""
    return _each(table, lambda text: text[1:] if _FORMULA.match(text) and text.startswith("'") else text)


def _each(table: "pd.DataFrame", change: Callable[[str], str]) -> "pd.DataFrame":
    """The table with its texts changed, and no cell touched that has none to change."""
    table = table.copy()
    for name in table.columns[[kind.kind == "O" for kind in table.dtypes]]:
        texts = [isinstance(one, str) and change(one) != one for one in table[name]]
        table.loc[texts, name] = [change(one) for one in table.loc[texts, name]]
    return table


def markdown(text: str) -> str:
    """Text that GitHub's Markdown shows as it is, on one line, in a cell of a table as well."""
    marks = r"[\\`*|<>]|~(?=~)|(?<!\w)_|_(?!\w)|\](?=[(\[])|&(?=#?\w+;)"
    return re.sub(marks, lambda mark: f"\\{mark[0]}", " ".join(text.split()))


def file_name(text: str) -> str:
    """Text as the name of a file: no folder, nothing that a shell takes for its own."""
    return re.sub(r"[^\w.+-]", "_", text, flags=re.ASCII)

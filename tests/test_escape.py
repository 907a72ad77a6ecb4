"""Text as text, in each of what the report writes."""

import io

import pandas as pd
import pytest

from rcig import escape

FORMULAS = ["=1+1", "+1", "-x", "@sum", "\tx", "'=x", "''-x"]
TEXTS = ["a", "", "x=1", "'a'", "a-b", "1 - 2", "rcig+part"]


def test_a_text_that_begins_like_a_formula_does_no_more_and_is_read_as_it_was() -> None:
    table = pd.DataFrame({"text": [*FORMULAS, *TEXTS], "number": -1.5})
    written = escape.csv(table)
    cells = pd.read_csv(io.StringIO(written), dtype={"text": str}, keep_default_na=False)
    assert [cell[0] for cell in cells["text"][: len(FORMULAS)]] == ["'"] * len(FORMULAS)
    assert list(cells["text"][len(FORMULAS) :]) == TEXTS, "nothing else is touched"
    assert list(cells["number"]) == [-1.5] * len(table), "numbers are numbers"
    assert list(escape.plain(cells)["text"]) == list(table["text"])


def test_a_table_of_mixed_cells_keeps_its_numbers() -> None:
    table = pd.DataFrame({"a": [1, None, "x"], "b": [1, 2, 3]}, dtype=object)
    assert escape.csv(table) == table.to_csv(index=False)


def test_a_carriage_return_is_no_new_line() -> None:
    table = pd.DataFrame({"a": ["x\r=y", "b\nc"]})
    assert list(pd.read_csv(io.StringIO(escape.csv(table)))["a"]) == ["x =y", "b\nc"]


MARKS = {
    "a|b": r"a\|b",
    "<b>": r"\<b\>",
    "*a* `b`": r"\*a\* \`b\`",
    "[a](b)": r"[a\](b)",
    "[0.1, 0.2]": "[0.1, 0.2]",
    "a\n\n# b": "a # b",
    "_a_ b_c": r"\_a\_ b_c",
    "~~a~~ ~1": r"\~~a\~~ ~1",
    "a & b &lt;": r"a & b \&lt;",
    "\\": r"\\",
    "94.7 ± 0.5 (15, SE 0.3)": "94.7 ± 0.5 (15, SE 0.3)",
}


@pytest.mark.parametrize("text", MARKS)
def test_marks_of_markdown(text: str) -> None:
    assert escape.markdown(text) == MARKS[text]


def test_a_files_name_is_in_no_other_folder() -> None:
    assert escape.file_name("parts-mnist-../../x;$(y)-loo2023-32") == "parts-mnist-.._.._x___y_-loo2023-32"
    assert escape.file_name("parts-mnist_sample-rcig+boost-32") == "parts-mnist_sample-rcig+boost-32"

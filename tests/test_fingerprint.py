"""What code means: the same after a comment, a docstring or a new layout, another after anything else."""

from pathlib import Path

import pytest
from workspaces import ROOT

from rcig import fingerprint

PROJECT = {
    "stages/__init__.py": "",
    "stages/one.py": '''"""Docstring."""

from typing import TYPE_CHECKING

from rcig import two
from rcig.kept import four

if TYPE_CHECKING:
    from rcig import typed


def main(path: "typed.Path") -> int:
    """What it does."""
    from rcig.lazy import late

    # A comment.
    return two.double(four.FOUR) + late()
''',
    "rcig/__init__.py": '''"""The verbs."""


def __getattr__(name):
    from rcig import verb

    return getattr(verb, name)
''',
    "rcig/two.py": 'FILE = "table.csv"\n\n\ndef double(x):\n    return 2 * x\n',
    "rcig/table.csv": "a,b\n",
    "rcig/other.csv": "a,b\n",
    "rcig/kept/__init__.py": '''"""A package whose function imports what its modules do not."""

from rcig import at_once


def load():
    from rcig import beside

    return beside
''',
    "rcig/kept/four.py": "FOUR = 4\n",
    "rcig/lazy.py": """def late(x=1):
    if not x:
        raise ValueError(f"expected {x} to be", 'more')
    return x
""",
    "rcig/at_once.py": "ONE = 1\n",
    "rcig/beside.py": "ONE = 1\n",
    "rcig/typed.py": "Path = str\n",
    "rcig/verb.py": "ONE = 1\n",
    "rcig/unused.py": "ONE = 1\n",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in PROJECT.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def changed(project: Path, name: str, old: str, new: str) -> bool:
    """Whether the meaning of stages.one is another after that edit."""
    before = fingerprint.of(["stages.one"], project)
    path = project / name
    assert path.read_text().count(old) == 1
    path.write_text(path.read_text().replace(old, new))
    return fingerprint.of(["stages.one"], project) != before


SAME = {
    "a comment": ("stages/one.py", "# A comment.", "# Another one, longer."),
    "no comment": ("stages/one.py", "    # A comment.\n", ""),
    "a docstring": ("stages/one.py", "What it does.", "What it is for."),
    "a module's docstring": ("stages/one.py", '"""Docstring."""', '"""Another."""'),
    "no docstring": ("stages/one.py", '    """What it does."""\n', ""),
    "a docstring of a constant": ("rcig/kept/four.py", "FOUR = 4", 'FOUR = 4\n"""the number"""'),
    "layout": ("rcig/two.py", "return 2 * x", "return (\n        2\n        * x\n    )"),
    "the words of an error": ("rcig/lazy.py", "'more'", "'other words', x"),
    "quotes": ("rcig/two.py", '"table.csv"', "'table.csv'"),
    "a type checker's import": (
        "stages/one.py",
        "    from rcig import typed\n",
        "    from rcig import typed, unused\n",
    ),
    "what a type checker sees alone": (
        "rcig/two.py",
        "2 * x\n",
        "2 * x\n\n\nif typing.TYPE_CHECKING:\n    from rcig import unused\n",
    ),
    "a module that a type checker imports": ("rcig/typed.py", "str", "bytes"),
    "a module that is not imported": ("rcig/unused.py", "1", "2"),
    "a data file that no module names": ("rcig/other.csv", "a,b", "a,c"),
    "what a parent package imports in a function": ("rcig/beside.py", "1", "2"),
    "what the package's verbs import": ("rcig/verb.py", "1", "2"),
    "the package's verbs": ("rcig/__init__.py", "getattr(verb, name)", "getattr(verb, name.lower())"),
}
OTHER = {
    "a constant": ("rcig/kept/four.py", "4", "5"),
    "another type of number": ("rcig/kept/four.py", "4", "4.0"),
    "a name": ("stages/one.py", "main", "start"),
    "an annotation": ("stages/one.py", "-> int", "-> float"),
    "a function of an imported module": ("rcig/two.py", "2 * x", "3 * x"),
    "what only runs": ("rcig/two.py", "2 * x\n", "2 * x\n\n\nif not TYPE_CHECKING:\n    print(1)\n"),
    "another name that ends like it": ("rcig/two.py", "2 * x\n", "2 * x\n\n\nif NO_TYPE_CHECKING:\n    print(1)\n"),
    "a module that is imported lazily": ("rcig/lazy.py", "x=1", "x=2"),
    "a data file that a module names": ("rcig/table.csv", "a,b", "a,c"),
    "a package that holds a module": ("rcig/kept/__init__.py", "return beside", "return None"),
    "what a parent package imports at once": ("rcig/at_once.py", "1", "2"),
    "another import": ("stages/one.py", "from rcig import two\n", "from rcig import two, unused\n"),
    "a text that is no docstring": ("rcig/lazy.py", "return x", 'return "x"'),
    "another error": ("rcig/lazy.py", "ValueError", "TypeError"),
    "when there is an error": ("rcig/lazy.py", "not x", "x"),
    "nothing for a value": ("rcig/lazy.py", "return x", "return None"),
}


@pytest.mark.parametrize("case", SAME)
def test_the_meaning_is_the_same(project: Path, case: str) -> None:
    assert not changed(project, *SAME[case])


@pytest.mark.parametrize("case", OTHER)
def test_the_meaning_is_another(project: Path, case: str) -> None:
    assert changed(project, *OTHER[case])


def test_the_closure_is_what_can_be_imported(project: Path) -> None:
    found = fingerprint.closure(["stages.one"], project)
    names = {"stages", "stages.one", "rcig", "rcig.two", "rcig.kept", "rcig.kept.four", "rcig.lazy", "rcig.at_once"}
    assert found.keys() == names
    assert found["rcig.kept"] == project / "rcig" / "kept" / "__init__.py"
    whole = fingerprint.closure(["rcig.kept"], project)
    assert "rcig.beside" in whole, "of a module that is asked for, functions count"


def test_modules_are_named_in_any_order_and_all_count(project: Path) -> None:
    both = fingerprint.of(["stages.one", "rcig.unused"], project)
    assert both == fingerprint.of(["rcig.unused", "stages.one"], project)
    assert both != fingerprint.of(["stages.one"], project)


def test_a_moved_or_removed_module_is_noticed(project: Path) -> None:
    before = fingerprint.of(["stages.one"], project)
    (project / "rcig" / "lazy.py").rename(project / "rcig" / "late.py")
    assert fingerprint.of(["stages.one"], project) != before


def test_a_stage_of_the_project_depends_on_what_it_uses_alone() -> None:
    found = {name: fingerprint.closure([f"stages.{name}"], ROOT).keys() for name in ("distill", "evaluate", "plan")}
    assert {"rcig.run.loop", "rcig.methods.base", "rcig.train"} <= found["distill"]
    assert not {"rcig.methods.implicit", "rcig.plan", "rcig.judging.attacks", "rcig.api"} & found["distill"]
    assert not {"rcig.run.loop", "rcig.plan", "rcig.judging.attacks"} & found["evaluate"]
    assert "rcig.methods.registry" in found["plan"]

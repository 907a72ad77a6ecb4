"""What code means, as 16 digits: the same after a comment, a docstring or a new layout, another after anything else.

The meaning of a module is its syntax tree without docstrings, positions, the words of errors and imports that only type
checkers see, and the data files in its folder that it names. The meaning of a stage is that of all modules of this
project that it can import, wherever in the code the import stands: its closure.
"""

import ast
import hashlib
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

PACKAGES = ("rcig", "stages")
VERBS = "rcig"
"""The package itself only says where its verbs lie, which no stage uses: a new verb changes no result."""


def of(modules: Iterable[str], root: Path = Path()) -> str:
    """16 digits that name what these modules mean, with all that they import of the project under `root`."""
    content = hashlib.sha256()
    for name, path in sorted(closure(modules, root).items()):
        if name != VERBS:
            content.update(f"{name}\n{_read(path).meaning}\n".encode())
    return content.hexdigest()[:16]


def closure(modules: Iterable[str], root: Path = Path()) -> dict[str, Path]:
    """Module -> its file, of these modules, those that they import in turn, and the packages that hold them.

    Of a package that only holds a module nothing is called: imports inside its functions are no part of the closure.
    """
    found: dict[str, Path] = {}
    seen: set[tuple[str, bool]] = set()
    waiting = [(name, True) for name in modules]
    while waiting:
        name, whole = waiting.pop()
        path = None if (name, whole) in seen else _file(name, root)
        seen.add((name, whole))
        if path is not None:
            found[name] = path
            waiting += [(parent, False) for parent in _parents(name)]
            imports = _read(path).imports if whole else _read(path).at_once
            waiting += [(inside if _file(inside, root) else module, True) for module, inside in imports]
    return found


class _Module(NamedTuple):
    meaning: str
    at_once: tuple[tuple[str, str], ...]
    """what it imports of this project when it is imported itself: (module, what may be a module inside of it)"""
    imports: tuple[tuple[str, str], ...]
    """that, and what functions import when they are called"""


def _read(path: Path) -> _Module:
    content = path.read_bytes()
    return _understood(path, content, tuple((file, file.read_bytes()) for file in _data(path, content)))


@cache
def _data(path: Path, content: bytes) -> tuple[Path, ...]:
    """The files beside a module that it names."""
    texts = (node.value for node in ast.walk(ast.parse(content)) if isinstance(node, ast.Constant))
    names = {text for text in texts if isinstance(text, str) and re.fullmatch(r"[\w-]+(\.[\w-]+)+", text)}
    names = {name for name in names if not name.endswith(".py")}  # code counts by what it means
    return tuple(file for file in (path.parent / name for name in sorted(names)) if file.is_file())


@cache
def _understood(path: Path, content: bytes, data: tuple[tuple[Path, bytes], ...]) -> _Module:
    tree = _Bare().visit(ast.parse(content, path))
    files = (f"{file.name} {hashlib.sha256(inside).hexdigest()}" for file, inside in data)
    meaning = hashlib.sha256("\n".join([_written(tree), *files]).encode()).hexdigest()
    return _Module(meaning, _imports(tree.body), _imports(ast.walk(tree)))


def _imports(nodes: Iterable[ast.AST]) -> tuple[tuple[str, str], ...]:
    """Every name that may be a module of the project: of `from a import b` (a, a.b), of `import a` (a, a)."""
    names = []
    for node in nodes:
        if isinstance(node, ast.Import):
            names += [(alias.name, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [(node.module, f"{node.module}.{alias.name}") for alias in node.names]
    return tuple(name for name in dict.fromkeys(names) if name[0].split(".")[0] in PACKAGES)


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]


def _file(name: str, root: Path) -> Path | None:
    if name.split(".")[0] not in PACKAGES:
        return None
    path = root.joinpath(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None)


class _Bare(ast.NodeTransformer):
    """Leaves out what has no meaning when the code runs."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        alone = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if alone else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call):
            node.exc.args, node.exc.keywords = [], []
        return node

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.AST] | None:
        self.generic_visit(node)
        return list(node.orelse) if ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING") else node


def _written(node: object) -> str:
    """A syntax tree in words that are the same for every version of Python: fields that are empty are left out."""
    if isinstance(node, ast.AST):
        fields = ((name, value) for name, value in ast.iter_fields(node) if name not in ("kind", "type_comment"))
        inside = ", ".join(f"{name}={_written(value)}" for name, value in fields if value not in (None, []))
        return f"{type(node).__name__}({inside})"
    if isinstance(node, list):
        return f"[{', '.join(map(_written, node))}]"
    return repr(node)

"""Directives that take tables and lists from the code and the results, so that they are never out of date.

    settings NAME           every field of a dataclass of settings, or of all those of a module
    methods MODULE          the settings of all methods of the registry
    schema NAME             the arrays of a file
    differences MODULE      the numbered list at the top of a method's file
    published-steps NAME    the numbers of outer steps of the paper
    accuracies FILE         test accuracy by set, protocol and width, of tidy rows

The docstring below a field says between parentheses what a paper or its public code has: (paper: 1024). The unit
follows from the field's name. A field without a docstring, and a number whose name is not in UNITS, are warnings.
"""

import dataclasses
import inspect
import pkgutil
import re
import types
import typing
from pathlib import Path
from typing import Any

import pandas as pd
from docutils import nodes
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from rcig.plan import DEFAULTS
from rcig.rows import PART
from rcig.run.settings import Run

ROOT = Path(__file__).parents[2]
UNITS = {
    "steps": r"(.*_)?steps|validate_every|measured_at|window|pool_age|network_rounds",
    "epochs": r"(.*_)?epochs?",
    "images": r"(.*_)?batch_size|backward_images|images_per_pass|chunk|basis",
    "images per class": r"images_per_class|block|parts",
    "filters": r"width|widths",
    "networks": r"(.*_)?networks|pool_size|trajectories",
    "pixels": r"resolution",
    "layers": r"depth",
    "brightness": r"mean|std",
    "GiB": r"memory",
    "": r".*(rates?|floor|decay|weight|temperature|gradient|strength|mobility|held_out|fraction|factor|iterations)"
    r"|channels|classes|folds|measurements|seeds?|cores|gpus",
}
"""unit of a number -> names of the settings that have it; those of the last are pure numbers and counts"""
OF_PAPERS = re.compile(r"\s*\(([^()]*\b(?:papers?|reference code)\b[^()]*)\)")
KINDS = {int: "whole number", float: "number", bool: "true or false", str: "text", type(None): "null"}
OTHERS = "cross_architecture|full_dataset|membership_inference/.*"
"""in place of a protocol, in rows that are of no protocol"""
LOG = logging.getLogger(__name__)


class FromCode(SphinxDirective):
    """What a function makes, as Markdown, of a name in the code."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(MADE[self.name](pkgutil.resolve_name(self.arguments[0])))


class Accuracies(SphinxDirective):
    """Of a file of tidy rows, a path inside of the repository."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        rows = pd.read_csv(ROOT / self.arguments[0])
        other = rows["protocol"].str.fullmatch(OTHERS) | rows["method"].str.endswith(PART)
        judged = rows[(rows["metric"] == "accuracy") & ~other]
        lines = ["| set | protocol | width | seeds | networks | accuracy |", "|---|---|---|---|---|---|"]
        for (experiment, protocol, width), group in judged.groupby(["experiment", "protocol", "width"], sort=False):
            last = group[group["step"] == group["step"].max()]
            spread = f" ± {100 * last['value'].std():.1f}" if len(last) > 1 else ""
            mean = f"{100 * last['value'].mean():.1f}{spread}"
            lines.append(
                f"| `{experiment}` | `{protocol}` | {width} | {last['seed'].nunique()} | {len(last)} | {mean} |"
            )
        return self.parse_text_to_nodes("\n".join(lines))


def settings(thing: Any) -> str:
    if inspect.isclass(thing):
        return table(thing)
    own = [one for one in vars(thing).values() if inspect.isclass(one) and one.__module__ == thing.__name__]
    found = [one for one in own if dataclasses.is_dataclass(one) and one.__annotations__]
    return "\n\n".join(f"{inspect.cleandoc(one.__doc__)}\n\n{table(one)}" for one in found)


def methods(registry: Any) -> str:
    """By file, in the order of the registry."""
    parts = []
    for module in dict.fromkeys(registry.METHODS.values()):
        names = ", ".join(f"`{name}`" for name, of in registry.METHODS.items() if of == module)
        file = registry.load(module)
        what = file.__doc__.splitlines()[0]
        listed = table(file.Settings) if dataclasses.fields(file.Settings) else "It has no settings."
        parts.append(f"**{names}** (`rcig/methods/{module}.py`)\n\n{what}\n\n{listed}")
    return "\n\n".join(parts)


def table(cls: Any) -> str:
    rows = [row(cls, field) for field in dataclasses.fields(cls)]
    return "\n".join(["| setting | default | unit | papers and their code | meaning |", "|---|---|---|---|---|", *rows])


def schema(described: Any) -> str:
    rows = [
        f"| `{name}` | {kind} | {', '.join(sizes.split()) or 'one'} |"
        for name, (kind, sizes) in described.arrays.items()
    ]
    return "\n".join(["| array | type | shape |", "|---|---|---|", *rows])


def differences(module: Any) -> str:
    """From the first number of the module's docstring on."""
    return re.search(r"^1\..*", module.__doc__, re.DOTALL | re.MULTILINE).group()


def published_steps(steps: Any) -> str:
    counts = sorted({count for of in steps.values() for count in of})
    head = [
        "| dataset | " + " | ".join(f"{count} per class" for count in counts) + " |",
        "|---" * (len(counts) + 1) + "|",
    ]
    return "\n".join(
        head
        + [
            f"| `{name}` | " + " | ".join(str(of.get(count, "")) for count in counts) + " |"
            for name, of in steps.items()
        ]
    )


MADE = {
    "settings": settings,
    "methods": methods,
    "schema": schema,
    "differences": differences,
    "published-steps": published_steps,
}


def row(cls: Any, field: Any) -> str:
    hint = typing.get_type_hints(cls, include_extras=True)[field.name]
    words = meaning(cls, field.name)
    theirs = "; ".join(OF_PAPERS.findall(words))
    what = OF_PAPERS.sub("", words).strip()
    cells = [f"`{field.name}`<br>{kind(hint)}", default(cls, field), unit(cls, field.name, hint), theirs, what]
    return "| " + " | ".join(cell.replace("|", r"\|").replace("\n", " ") for cell in cells) + " |"


def meaning(cls: Any, name: str) -> str:
    """The docstring below the field, in the class or in the one that it has it from."""
    for base in cls.__mro__:
        if dataclasses.is_dataclass(base):
            docs = ModuleAnalyzer.for_module(base.__module__).find_attr_docs()
            if (base.__name__, name) in docs:
                return " ".join(" ".join(docs[base.__name__, name]).split())
    LOG.warning("%s.%s.%s has no docstring; say what it means", cls.__module__, cls.__name__, name)
    return ""


def unit(cls: Any, name: str, hint: Any) -> str:
    if not has_number(hint):
        return ""
    for words, names in UNITS.items():
        if re.fullmatch(names, name):
            return words
    LOG.warning("%s.%s.%s: no unit is known of this name; add it to UNITS", cls.__module__, cls.__name__, name)
    return ""


def has_number(hint: Any) -> bool:
    if typing.get_origin(hint) is typing.Literal:
        return False
    return hint in (int, float) or any(map(has_number, typing.get_args(hint)))


def default(cls: Any, field: Any) -> str:
    """In words where there is none. Those of an experiment stand in rcig.plan."""
    if cls is Run and field.name in DEFAULTS:
        return shown(DEFAULTS[field.name])
    if field.default_factory is not dataclasses.MISSING:
        return shown(field.default_factory())
    return "no default" if field.default is dataclasses.MISSING else shown(field.default)


def shown(value: Any) -> str:
    """As params.yaml has it."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {shown(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(shown, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def kind(hint: Any) -> str:
    """A type in words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return f"{kind(arguments[0])}, {arguments[1].words}"
    if origin is typing.Literal:
        return " or ".join(f"`{one}`" for one in arguments)
    if origin in (typing.Union, types.UnionType):
        return ", or ".join(map(kind, arguments))
    if origin is tuple:
        return f"list of: {kind(arguments[0])}"
    if origin is dict:
        return f"mapping to: {kind(arguments[1])}"
    return KINDS.get(hint, "mapping")


def setup(app: Any) -> dict[str, bool]:
    app.add_directive("accuracies", Accuracies)
    for name in MADE:
        app.add_directive(name, FromCode)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

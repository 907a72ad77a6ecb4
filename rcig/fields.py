"""What a setting may be, said on its field: `learning_rate: Annotated[float, POSITIVE]`.

Settings are frozen dataclasses. `rcig.strict` checks the types and ranges of what people write. The settings in
plan.json have been checked; `build` makes them of it.
"""

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from rcig.errors import ParamsError


class Range(NamedTuple):
    """A range of numbers; in a message: expected NAME `words`, got VALUE."""

    words: str
    holds: Callable[[float], bool]


POSITIVE = Range("to be positive", lambda value: value > 0)
NOT_NEGATIVE = Range("not to be negative", lambda value: value >= 0)
FRACTION = Range("between 0 and 1", lambda value: 0 <= value <= 1)
BELOW_ONE = Range("from 0 to below 1", lambda value: 0 <= value < 1)
LIMIT = 2**31
"""what every number that has a range is below: counts are 32 bits wide, and infinity is no setting"""
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,79}", re.ASCII | re.IGNORECASE)
"""of a dataset, a size, an experiment or a study, which becomes part of commands and of paths"""


def build(hint: Any, value: Any) -> Any:
    """A value of the type from what JSON has made of it: dataclasses from mappings, tuples from lists.

    Raises TypeError or KeyError where it was made of another type.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return build(arguments[0], value)
    if dataclasses.is_dataclass(hint) and not isinstance(value, typing.cast(type, hint)):
        if not isinstance(value, Mapping):
            raise TypeError(f"{hint} of {value!r}")
        hints = typing.get_type_hints(hint, include_extras=True)
        return typing.cast(type, hint)(**{name: build(hints[name], item) for name, item in value.items()})
    if origin in (typing.Union, types.UnionType):
        return None if value is None else build(arguments[0], value)
    if origin is tuple:
        return tuple(build(arguments[0], item) for item in value)
    if origin is dict:
        return {key: build(arguments[1], item) for key, item in value.items()}
    return value


def known(where: str, what: str, given: Any, names: typing.Iterable[str]) -> str:
    """The given name, if it is one of these. Raises ParamsError that lists them."""
    if given not in (names := sorted(names)):
        raise ParamsError(f"{where}: unknown {what} {shown(given)}; known: {', '.join(names) or 'none'}")
    return str(given)


def check_name(where: str, name: str) -> None:
    """Raise ParamsError for a name that no command line and no path should meet."""
    if not NAME.fullmatch(name):
        raise ParamsError(
            f"{where}: expected names of at most 80 letters, digits, - and _, beginning with a letter or a digit,"
            f" got {shown(name)}; rename it"
        )


def shown(value: Any) -> str:
    """What was given, in a message: as Python writes it, on one line that is cut where it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 100 else f"{text[:99]}…"

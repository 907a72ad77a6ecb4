"""What people write, as frozen dataclasses. A typo, a wrong type or a number out of range is an error of one line."""

import dataclasses
import numbers
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from rcig.errors import ParamsError
from rcig.fields import LIMIT, Range, known, shown

T = TypeVar("T")

_WORDS = {
    tuple: "a list",
    dict: "a mapping",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
}
_LARGE = 2**63


def parse(cls: type[T], raw: Any, where: str) -> T:
    """A dataclass from a mapping, nested ones included; every field that has no default must be there."""
    values = given(cls, raw, where)
    for field in dataclasses.fields(typing.cast(Any, cls)):
        if field.name not in values and field.default is field.default_factory is dataclasses.MISSING:
            raise ParamsError(f"{_within(where, field.name)}: missing; add it, it has no default")
    try:
        return cls(**values)
    except ParamsError as error:
        raise ParamsError(f"{where}: {error}" if where else str(error)) from None


def given(cls: type, raw: Any, where: str) -> dict[str, Any]:
    """The fields that a mapping gives, each of its type and in its range; an unknown key is an error."""
    fields = [field.name for field in dataclasses.fields(cls)]
    if not isinstance(raw, Mapping):
        keys = f" with {', '.join(fields)}" if fields else ""
        raise ParamsError(f"{where or 'top level'}: expected a mapping{keys}, got {shown(raw)}")
    hints = typing.get_type_hints(cls, include_extras=True)
    for key in raw:
        known(_within(where, key), "key", str(key), fields)
    return {name: convert(hints[name], raw[name], _within(where, name)) for name in fields if name in raw}


def convert(hint: Any, value: Any, where: str) -> Any:
    """The value as that type. Raises ParamsError where it is none."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _in_range(arguments[1], convert(arguments[0], value, where), where)
    if dataclasses.is_dataclass(hint):
        return parse(typing.cast(type, hint), value, where)
    if hint is Any:
        return value
    if origin is Literal:
        if value in arguments:
            return value
        raise ParamsError(f"{where}: expected one of {', '.join(map(str, arguments))}, got {shown(value)}")
    if origin in (typing.Union, types.UnionType):
        return _one_of(arguments, value, where)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(convert(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict and isinstance(value, Mapping):
        key_type, value_type = arguments
        return {convert(key_type, k, where): convert(value_type, v, f"{where}.{k}") for k, v in value.items()}
    return _scalar(origin or hint, value, where)


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings on top of each other, the last on top; where two have a mapping under one key, these are merged too."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            below = result.get(key)
            both = isinstance(below, Mapping) and isinstance(value, Mapping)
            result[key] = merged(below, value) if both else value  # type: ignore[arg-type]
    return result


def _one_of(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    """Of a union: null, one of its words, or what its first type takes."""
    if value is None and type(None) in kinds:
        return None
    words = [word for kind in kinds if typing.get_origin(kind) is Literal for word in typing.get_args(kind)]
    if isinstance(value, str) and value in words:
        return value
    try:
        return convert(kinds[0], value, where)
    except ParamsError as error:
        others = [*words, *(["null"] if type(None) in kinds else [])]
        raise ParamsError(f"{error} (or give {', '.join(others)})") from None


def _in_range(limits: Range, value: Any, where: str) -> Any:
    if value is None or isinstance(value, str) or (limits.holds(value) and value < LIMIT):
        return value
    words = f"to be below {LIMIT}" if limits.holds(value) else limits.words
    raise ParamsError(f"{where}: expected {where.rpartition('.')[2]} {words}, got {value}")


def _scalar(hint: Any, value: Any, where: str) -> Any:
    if isinstance(value, numbers.Real) and not isinstance(value, int | float):
        value = int(value) if isinstance(value, numbers.Integral) else float(value)  # of NumPy, from a caller's code
    if isinstance(value, int) and not isinstance(value, bool) and hint in (int, float):
        if abs(value) >= _LARGE:
            raise ParamsError(f"{where}: expected a number of at most 64 bits, got one of {value.bit_length()}")
        return hint(value)
    if isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise ParamsError(f"{where}: expected {_WORDS[hint]}, got {shown(value)}")


def _within(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)

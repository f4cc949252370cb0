"""What a template can say: values as Go prints them, and the functions."""

import json
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from mirror.cli.output import escape

_VERB = re.compile(r"%([-+ 0#]*)(\d*)(?:\.(\d+))?([a-zA-Z%])")
_QUOTED = 60  # characters of a value in a message


class TemplateError(Exception):
    """A template that cannot be read, or not filled from this value; the message says where."""


class Safe(str):
    """Text of our own making: not to be escaped."""

    __slots__ = ()


def shown(value: Any) -> str:
    """As Go's fmt prints it with `%v`."""
    match value:
        case Safe():
            return value
        case str():
            return escape(value)
        case bool():
            return "true" if value else "false"
        case None:
            return "<no value>"
        case Mapping():
            return "map[" + " ".join(f"{shown(key)}:{shown(value[key])}" for key in sorted(value)) + "]"
        case list() | tuple():
            return "[" + " ".join(shown(item) for item in value) + "]"
        case _:
            return escape(str(value))


def below(value: Any, name: str) -> Any:
    """The field `name` of `value`."""
    if not isinstance(value, Mapping):
        raise TemplateError(f".{name}: {'nothing' if value is None else shown(value)[:_QUOTED]} has no fields")
    if name not in value:
        known = ", ".join(f".{key}" for key in value)
        raise TemplateError(f"there is no .{name}; there is {known or 'nothing'}")
    return value[name]


def _json(value: Any) -> Safe:
    plain = dict(value) if isinstance(value, Mapping) else value
    return Safe(json.dumps(plain, ensure_ascii=True, sort_keys=True, separators=(",", ":")).replace("\x7f", "\\u007f"))


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, (list, tuple, str)) and isinstance(key, int) and 0 <= key < len(value):
            value = value[key]
        else:
            raise TemplateError(f"index: there is no {shown(key)} in {shown(value)[:_QUOTED]}")
    return value


def _length(value: Any) -> int:
    if not isinstance(value, (str, list, tuple, Mapping)):
        raise TemplateError(f"len: {shown(value)} has no length")
    return len(value)


def _join(value: Any, separator: str = "") -> Safe:
    if not isinstance(value, (list, tuple)):
        raise TemplateError(f"join: {shown(value)} is no list")
    return Safe(shown(separator).join(shown(item) for item in value))


def _printf(pattern: str, *values: Any) -> Safe:
    """Go's verbs, of which Python lacks `%v`, `%q` and `%t`."""
    left = list(values)

    def place(match: re.Match[str]) -> str:
        flags, width, precision, verb = match.groups()
        if verb == "%":
            return "%"
        if not left:
            return f"%!{verb}(MISSING)"
        text = _json(left.pop(0)) if verb == "q" else shown(left.pop(0))
        text = text[: int(precision)] if precision else text
        filler = "0" if "0" in flags and verb == "d" else " "
        return text.ljust(int(width or 0)) if "-" in flags else text.rjust(int(width or 0), filler)

    return Safe(_VERB.sub(place, pattern))


def _and(*values: Any) -> Any:
    return next((value for value in values if not value), values[-1])


def _or(*values: Any) -> Any:
    return next((value for value in values if value), values[-1])


def _pad(value: Any, before: int, after: int) -> str:
    return " " * before + str(value) + " " * after if value else ""


FUNCTIONS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "json": _json,
        "upper": lambda value: str(value).upper(),
        "lower": lambda value: str(value).lower(),
        "title": lambda value: str(value).title(),
        "len": _length,
        "index": _index,
        "join": _join,
        "split": lambda value, separator: str(value).split(separator) if separator else list(str(value)),
        "truncate": lambda value, length: str(value)[:length],
        "pad": _pad,
        "print": lambda *values: Safe("".join(shown(value) for value in values)),
        "println": lambda *values: Safe(" ".join(shown(value) for value in values) + "\n"),
        "printf": _printf,
        "eq": lambda value, *others: any(value == other for other in others),
        "ne": lambda value, other: value != other,
        "not": lambda value: not value,
        "and": _and,
        "or": _or,
    }
)

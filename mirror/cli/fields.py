"""Reading an answer that a mirror of another version, or anybody, may have written: a value of the wrong kind is none.

Text comes as it is: what prints it escapes it.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, TypeGuard

from mirror.cli.output import human_duration, human_size

Row = Mapping[str, Any]

NOTHING = "-"
NONE = "<none>"
NOT_KNOWN = "N/A"
_ABSURD = 1e24  # no count, size or time of ours comes near it
_SHORT = 12
_LISTED = 3


def is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _ABSURD


def number(row: Row, key: str) -> float | None:
    value = row.get(key)
    return value if is_number(value) else None


def text(row: Row, key: str) -> str:
    """The value as text; empty where there is none."""
    value = row.get(key)
    return "" if value is None else str(value)


def row(values: Row, key: str) -> Row:
    value = values.get(key)
    return value if isinstance(value, Mapping) else {}


def rows(values: Row, key: str) -> list[Row]:
    value = values.get(key)
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []


def texts(values: Row, key: str) -> list[str]:
    value = values.get(key)
    return [str(entry) for entry in value] if isinstance(value, list) else []


def size(values: Row, key: str) -> str:
    """Bytes in docker's words, `-` where they are not known."""
    value = number(values, key)
    return NOTHING if value is None else human_size(value)


def ago(at: float | None, now: float, *, unknown: str) -> str:
    """`3 days ago`; docker's clock never runs backwards either."""
    return unknown if at is None else f"{human_duration(max(0.0, now - at))} ago"


def instant(value: object) -> float | None:
    """The wall time of an RFC 3339 timestamp; None for none, for what is no time, and for Go's zero time."""
    if not isinstance(value, str):
        return None
    try:
        read = datetime.fromisoformat(value)
        return read.timestamp() if read.year > 1 else None
    except (ValueError, OverflowError, OSError):
        return None


def short(identifier: str, *, whole: bool = False) -> str:
    """`sha256:…` as docker shows it: its first 12 digits; with `whole`, as it is."""
    _, colon, digits = identifier.partition(":")
    return digits[:_SHORT] if colon and not whole else identifier


def listed(items: Iterable[str], *, whole: bool) -> str:
    """Some of them and how many more, or with `whole` all."""
    items = list(items)
    if whole or len(items) <= _LISTED + 1:
        return ", ".join(items)
    return f"{', '.join(items[:_LISTED])} and {len(items) - _LISTED} more"


def split_name(name: str) -> tuple[str, str]:
    """The repository of a canonical name, and its tag, or digest where it has no tag."""
    name, at, digest = name.partition("@")
    start, colon, tag = name.rpartition(":")
    if colon and "/" not in tag:
        return start, tag
    return name, digest if at else ""


def repository_of(name: str) -> str:
    return split_name(name)[0]


def familiar(name: str) -> str:
    """A canonical name in docker's short form: `alpine:3.20`; a mirror's own repository without `local/`."""
    if not name.startswith(("docker.io/", "local/")):
        return name
    registry, _, rest = name.partition("/")
    if registry == "local":
        return rest
    bare = rest.removeprefix("library/")
    if bare != rest and "/" not in bare.partition("@")[0]:
        return bare
    first = rest.partition("/")[0]  # docker.io/my.org/app without its registry would be a repository of my.org
    return name if "." in first or ":" in first or first == "localhost" else rest

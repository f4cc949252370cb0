"""What a verb prints: results on standard output, everything else on standard error; docker's forms of sizes and times.

Text from registries, images and servers is printed with every character escaped that could steer a terminal or turn
the reading order: C0, C1, DEL, line and paragraph separators, lone surrogates, bidirectional controls.
"""

import contextlib
import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest

import click

from mirror.errors import MirrorError

_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_STEERING = frozenset({"Cc", "Cs", "Zl", "Zp"})
_SIZES = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_GAP = 3
_LEAST = 10


def escape(text: str) -> str:
    """`text` on one line, safe on a terminal: `\\x1b` and `\\u202e` in place of what they name."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(character) if _steers(character) else character for character in text)


def _steers(character: str) -> bool:
    return character in _BIDI or unicodedata.category(character) in _STEERING


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


class NotWritten(MirrorError):
    """Standard output takes nothing more."""


def result(text: str | bytes, *, end: bool = True) -> None:
    """A line, or several, of what was asked for; with no line's `end` as it is. `text` is escaped already where it is
    foreign. Raises `NotWritten`; where its reader has left `BrokenPipeError`, with which click ends the command."""
    if not _is_there():
        raise NotWritten("standard output cannot be written: it is closed")
    with _writing():
        click.echo(text, nl=end)


def flush() -> None:
    """Write what standard output still holds. Raises as `result`."""
    if _is_there():
        with _writing(), contextlib.suppress(ValueError):  # somebody closed it
            sys.stdout.flush()


def _is_there() -> bool:
    """Not where the process was started without one (`>&-`)."""
    stream: object = sys.stdout
    return stream is not None


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        _discard()
        raise NotWritten(f"standard output cannot be written: {error.strerror or error}") from error


def _discard() -> None:
    """Nobody is to try once more, at the end of the process, with what could not be written."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def note(text: str) -> None:
    """A remark: not part of the result."""
    click.echo(text, err=True)


def result_json(value: object) -> None:
    """One JSON document, ASCII only."""
    result(json.dumps(value, indent=2, ensure_ascii=True).replace("\x7f", "\\u007f"))


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Docker's columns: aligned, each at least ten wide with the three spaces that part it from the next, nothing
    cut. Cells are escaped here; a row may be shorter than the headers."""
    lines = [list(headers), *([escape(cell) for cell in row] for row in rows)]
    return align(lines)


def align(lines: Sequence[Sequence[str]]) -> str:
    """The same for cells that are escaped already."""
    measured = [[(cell, _width(cell)) for cell in line] for line in lines]
    widths = [max(column) for column in zip_longest(*([width for _, width in line] for line in measured), fillvalue=0)]
    places = [max(width + _GAP, _LEAST) for width in widths]
    return "\n".join(
        "".join(cell + " " * (place - width) for (cell, width), place in zip(line, places, strict=False)).rstrip()
        for line in measured
    )


def _width(text: str) -> int:
    """Columns on a terminal: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def human_size(count: float) -> str:
    """Bytes as docker prints them, three digits and decimal units: `41.2MB`."""
    size, place = float(count), 0
    while size >= 999.5 and place < len(_SIZES) - 1:
        size /= 1000
        place += 1
    return f"{size:.3g}{_SIZES[place]}" if size < 999.5 else f"{size:.0f}{_SIZES[place]}"


def human_duration(seconds: float) -> str:
    """A time span in docker's words: `About an hour`, `3 days`."""
    minutes, hours = int(seconds // 60), int(seconds / 3600 + 0.5)
    if seconds < 60:
        return _count(int(seconds), "second") if seconds >= 1 else "Less than a second"
    if minutes < 60:
        return "About a minute" if minutes == 1 else _count(minutes, "minute")
    if hours < 48:
        return "About an hour" if hours == 1 else _count(hours, "hour")
    for limit, unit, length in ((14, "day", 1), (60, "week", 7), (730, "month", 30)):
        if hours < 24 * limit:
            return _count(hours // 24 // length, unit)
    return _count(int(seconds // 3600) // 24 // 365, "year")


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"

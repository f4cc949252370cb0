"""Sizes in settings, written as docker prints them: "200MB" is 200,000,000 bytes, "200MiB" 209,715,200."""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, Field

from mirror.config.values import Allowed

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(i?)b?", re.ASCII | re.IGNORECASE)
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%", re.ASCII)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_NAMES = ("B", "kB", "MB", "GB", "TB", "PB")
_BINARY_NAMES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_MOST = 2**63 - 1  # what SQLite and the file system can count


@dataclass(frozen=True, slots=True)
class Reserve:
    """How much of a disk stays free: a share of it (0 to 1), or a number of bytes where `share` is None."""

    share: float | None
    size: int = 0

    def of(self, total: int) -> int:
        """Bytes that stay free on a disk of `total` bytes."""
        return self.size if self.share is None else int(self.share * total)

    def __str__(self) -> str:
        return format_size(self.size) if self.share is None else f"{self.share * 100:.10g}%"


def parse_size(value: object) -> int:
    """`"200MB"`, `"1.5TB"`, `"512MiB"` or a number of bytes, as bytes; anything else raises ValueError."""
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        if match is None or (match[3] and not match[2]):
            raise ValueError(_size_wanted(value))
        unit: int = (1024 if match[3] else 1000) ** _POWERS[match[2].lower()]
        size = int(Decimal(match[1]) * unit)
    elif isinstance(value, int) and not isinstance(value, bool):
        size = value
    else:
        raise ValueError(_size_wanted(value))
    if not 0 <= size <= _MOST:
        raise ValueError(_size_wanted(value))
    return size


def _size_wanted(value: object) -> str:
    return f'{value!r} is no size; write one such as "200MB", "1.5TB" or "512MiB", or a number of bytes'


def format_size(size: int) -> str:
    """The shortest text that `parse_size` reads as `size`: in whole units, decimal where both fit."""
    for base, names in ((1000, _NAMES), (1024, _BINARY_NAMES)):
        for power in range(len(names) - 1, 0, -1):
            if size and size % base**power == 0:
                return f"{size // base**power}{names[power]}"
    return f"{size}B"


def parse_reserve(value: object) -> Reserve:
    """`"5%"` of the disk, or a size. Raises ValueError."""
    if isinstance(value, Reserve):
        return value
    if isinstance(value, str) and (match := _PERCENT.fullmatch(value.strip())):
        if float(match[1]) > 90:
            raise ValueError(f"{value!r}: more than 90% of the disk cannot be kept free; max_size limits the mirror")
        return Reserve(float(match[1]) / 100)
    try:
        return Reserve(None, parse_size(value))
    except ValueError:
        raise ValueError(f'{value!r} is neither a share of the disk such as "5%" nor a size such as "20GB"') from None


def _check_max_size(value: object) -> int:
    size = parse_size(value)
    if size == 0:
        raise ValueError('0 leaves no room for anything; leave the key out for no limit, or write one such as "200MB"')
    return size


MaxSize = Annotated[
    int, BeforeValidator(_check_max_size), Field(gt=0), Allowed('a size such as "200MB", or a number of bytes')
]
MinFree = Annotated[
    Reserve, BeforeValidator(parse_reserve), Allowed('a share of the disk such as "5%", or a size such as "20GB"')
]

"""`Range` and `Content-Range` (RFC 9110, section 14), and the upload's own form of the latter.

Inside, a range is half open: `ByteRange(0, 100)` are the first hundred bytes. On the wire it is closed: `0-99`.
"""

import re
from dataclasses import dataclass

from mirror.errors import RangeNotSatisfiable, RequestInvalid

RANGES_LIMIT = 1024
"""Ranges in one header: what zstd:chunked and stargz send at most."""

_HEADER_LIMIT = 65536
_DIGITS_LIMIT = 18
_HUGE = 10**_DIGITS_LIMIT  # stands for every longer number; longer than any content

# RFC 9110, 14.1.1 and 14.1.2:
#   ranges-specifier = range-unit "=" range-set
#   range-set        = 1#range-spec
#   int-range        = first-pos "-" [ last-pos ]
#   suffix-range     = "-" suffix-length
_SPECIFIER = re.compile(r"[ \t]*bytes=(.*)", re.IGNORECASE | re.DOTALL)
_SPEC = re.compile(r"([0-9]*)-([0-9]*)")

# RFC 9110, 14.4:
#   Content-Range       = range-unit SP ( range-resp / unsatisfied-range )
#   range-resp          = incl-range "/" ( complete-length / "*" )
_CONTENT_RANGE = re.compile(r"bytes[ \t]+([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", re.IGNORECASE)

# distribution-spec, "Pushing a blob in chunks":
#   Content-Range: <range>, where <range> MUST match the following regular expression: ^[0-9]+-[0-9]+$
# Clients also write it as RFC 9110 does.
_UPLOAD_RANGE = re.compile(r"(?:bytes[ =\t]+)?([0-9]{1,18})-([0-9]{1,18})(?:/(?:[0-9]{1,18}|\*))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes from `start` up to, not including, `end`."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """How many bytes it has."""
        return self.end - self.start


def parse_ranges(header: str | None, size: int) -> tuple[ByteRange, ...]:
    """The ranges of a `Range` header over content of `size` bytes, in the order of the header.

    Empty where the whole content is to be sent: no header, another unit, one that is no range set (RFC 9110,
    14.2 lets a server ignore those), or content that is empty itself. Ends are clamped to `size`; of several
    ranges, the unsatisfiable ones are left out. Raises `RangeNotSatisfiable` where none is left, and
    `RequestInvalid` for more than `RANGES_LIMIT` ranges, or for ranges that together are more than twice the
    content (14.2: overlapping ranges are how a small request asks for a huge answer).
    """
    specifier = _SPECIFIER.fullmatch(header) if header is not None else None
    if specifier is None:
        return ()
    text = specifier[1]
    if len(text) > _HEADER_LIMIT or text.count(",") >= RANGES_LIMIT:
        raise RequestInvalid(f"too many ranges: at most {RANGES_LIMIT} in one request")
    # RFC 9110, 5.6.1.2: a recipient ignores empty list elements
    specs = [spec for element in text.split(",") if (spec := element.strip(" \t"))]
    ranges = [_range(spec, size) for spec in specs]
    asked = tuple(one for one in ranges if one is not None)
    if len(asked) < len(ranges) or not asked or size == 0:
        return ()
    satisfiable = tuple(one for one in asked if one.start < one.end)
    if not satisfiable:
        raise RangeNotSatisfiable(f"the range begins beyond the content of {size} bytes", size=size)
    if len(satisfiable) > 1 and sum(one.length for one in satisfiable) > 2 * size:
        raise RequestInvalid("the ranges overlap: together they are more than twice the content")
    return satisfiable


def parse_range(header: str | None, size: int) -> ByteRange | None:
    """The one range of a `Range` header; None where there is none, or several. Raises as `parse_ranges` does."""
    ranges = parse_ranges(header, size)
    return ranges[0] if len(ranges) == 1 else None


def content_range(sent: ByteRange, size: int) -> str:
    """The `Content-Range` of a 206."""
    return f"bytes {sent.start}-{sent.end - 1}/{size}"


def unsatisfied_range(size: int) -> str:
    """The `Content-Range` of a 416."""
    return f"bytes */{size}"


def parse_content_range(header: str) -> tuple[int, int, int | None] | None:
    """`Content-Range` of a 206: start, end (exclusive), and the whole length, None where it is `*`.

    None for anything malformed, contradictory, or of more than 18 digits: then the answer cannot be used.
    """
    match = _CONTENT_RANGE.fullmatch(header.strip(" \t"))
    if match is None:
        return None
    start, end = int(match[1]), int(match[2]) + 1
    total = None if match[3] == "*" else int(match[3])
    if start >= end or (total is not None and end > total):
        return None
    return start, end, total


def parse_upload_range(header: str) -> tuple[int, int] | None:
    """`Content-Range` of an upload's chunk: start and end (exclusive), or None where it is malformed."""
    match = _UPLOAD_RANGE.fullmatch(header.strip(" \t"))
    if match is None:
        return None
    start, end = int(match[1]), int(match[2]) + 1
    return (start, end) if start < end else None


def _range(spec: str, size: int) -> ByteRange | None:
    """One range-spec, clamped to `size`; empty where it cannot be satisfied, None where it is none."""
    match = _SPEC.fullmatch(spec)
    if match is None:
        return None
    first, last = match[1], match[2]
    if not first:
        return ByteRange(max(0, size - _number(last)), size) if last else None
    start = _number(first)
    if not last:
        return ByteRange(start, size)
    if _number(last) < start:
        return ByteRange(start, start)  # 14.1.2: invalid; 14.2 lets a server reject it, as distribution's suite wants
    return ByteRange(start, min(_number(last) + 1, size))


def _number(digits: str) -> int:
    """The number, or `_HUGE` for any longer one: `int` takes quadratic time, and refuses 4,300 digits."""
    significant = digits.lstrip("0")
    return int(significant or "0") if len(significant) <= _DIGITS_LIMIT else _HUGE

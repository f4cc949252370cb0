"""Ranges: RFC 9110 section 14, half open inside."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import RangeNotSatisfiable, RequestInvalid
from mirror.oci.ranges import (
    RANGES_LIMIT,
    ByteRange,
    content_range,
    parse_content_range,
    parse_range,
    parse_ranges,
    parse_upload_range,
    unsatisfied_range,
)

SIZE = 1000
HUGE = "9" * 5000  # more than int() reads
headers = st.text(alphabet="bytes=0123456789-,*/ \t", max_size=60) | st.text()
sizes = st.integers(0, 2**63 - 1)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-499", (0, 500)),
        ("bytes=500-", (500, 1000)),
        ("bytes=999-", (999, 1000)),
        ("bytes=-1", (999, 1000)),
        ("bytes=-1000", (0, 1000)),
        ("bytes=-5000", (0, 1000)),
        ("bytes=0-", (0, 1000)),
        ("bytes=0-999", (0, 1000)),
        ("bytes=990-2000", (990, 1000)),
        ("BYTES=1-2", (1, 3)),
        ("bytes= 1-2 ", (1, 3)),
        ("bytes=,1-2,", (1, 3)),
        ("bytes=0000000000000000000000001-2", (1, 3)),
        (f"bytes=1-{HUGE}", (1, 1000)),
        (f"bytes=-{HUGE}", (0, 1000)),
    ],
)
def test_one_range(header: str, expected: tuple[int, int]) -> None:
    assert parse_range(header, SIZE) == ByteRange(*expected)
    assert parse_ranges(header, SIZE) == (ByteRange(*expected),)


@pytest.mark.parametrize(
    "header",
    [None, "", "bytes", "bytes=", "bytes=,", "bytes=-", "bytes=a-b", "bytes=1", "bytes=1-2-3", "bytes=--1",
     "bytes=+1-2", "bytes=1 - 2", "bytes =1-2", "items=0-1", "bytes:0-1", "0-1", "bytes=0-1,x", "bytes=0-1;2-3",
     "bytes=\u0661-\u0662", "bytes=0-1\n", "bytes=0x0-0x1"],
)  # fmt: skip
def test_what_is_no_range_is_ignored(header: str | None) -> None:
    assert parse_range(header, SIZE) is None
    assert parse_ranges(header, SIZE) == ()


@pytest.mark.parametrize(
    "header",
    [
        "bytes=1000-",
        "bytes=1000-1001",
        "bytes=-0",
        f"bytes={HUGE}-",
        "bytes=1000-,2000-,-0",
        "bytes=2-1",
        f"bytes={HUGE}-1",
    ],
)
def test_beyond_the_content(header: str) -> None:
    for parse in (parse_range, parse_ranges):
        with pytest.raises(RangeNotSatisfiable) as caught:
            parse(header, SIZE)
        assert caught.value.size == SIZE


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=0-0", "bytes=-1", "bytes=5-", "bytes=-0"])
def test_empty_content_is_sent_whole(header: str) -> None:
    """A 206 cannot say "no bytes", and a 416 would fail clients that put a Range on everything (as Go's server)."""
    assert parse_ranges(header, 0) == ()


def test_several_ranges_stay_in_order() -> None:
    header = "bytes=900-999, 0-0,5000-,-10 ,\t500-509"
    assert parse_ranges(header, SIZE) == (
        ByteRange(900, 1000),
        ByteRange(0, 1),
        ByteRange(990, 1000),
        ByteRange(500, 510),
    )
    assert parse_range(header, SIZE) is None


def test_as_many_ranges_as_lazy_pullers_send() -> None:
    def header(count: int) -> str:
        return "bytes=" + ",".join(f"{n * 100}-{n * 100 + 9}" for n in range(count))

    assert len(parse_ranges(header(RANGES_LIMIT), 10**9)) == RANGES_LIMIT
    with pytest.raises(RequestInvalid):
        parse_ranges(header(RANGES_LIMIT + 1), 10**9)


@pytest.mark.parametrize("header", ["bytes=" + "," * 1_000_000, "bytes=" + " " * 100_000, "bytes=0-1," * 2000,
                                    "bytes=" + "1" * 1_000_000 + "-"])  # fmt: skip
def test_bombs_are_refused(header: str) -> None:
    with pytest.raises(RequestInvalid):
        parse_ranges(header, SIZE)


def test_overlapping_ranges_do_not_multiply_the_answer() -> None:
    assert len(parse_ranges("bytes=0-,0-", SIZE)) == 2
    with pytest.raises(RequestInvalid):
        parse_ranges("bytes=0-,0-,0-", SIZE)


@given(headers, sizes)
def test_hostile_headers_raise_nothing_else(header: str, size: int) -> None:
    for text in (header, "bytes=" + header):
        try:
            ranges = parse_ranges(text, size)
        except (RangeNotSatisfiable, RequestInvalid):
            continue
        assert all(0 <= one.start < one.end <= size for one in ranges)
        assert sum(one.length for one in ranges) <= 2 * size


@st.composite
def ranges_within(draw: st.DrawFn) -> tuple[ByteRange, int]:
    size = draw(st.integers(1, 10**15))
    start = draw(st.integers(0, size - 1))
    return ByteRange(start, draw(st.integers(start + 1, size))), size


@given(ranges_within())
def test_round_trips(case: tuple[ByteRange, int]) -> None:
    one, size = case
    assert parse_range(f"bytes={one.start}-{one.end - 1}", size) == one
    assert parse_content_range(content_range(one, size)) == (one.start, one.end, size)
    assert parse_upload_range(f"{one.start}-{one.end - 1}") == (one.start, one.end)


def test_content_range_of_answers() -> None:
    assert content_range(ByteRange(0, 100), 1234) == "bytes 0-99/1234"
    assert unsatisfied_range(1234) == "bytes */1234"
    assert re.fullmatch(r"bytes \*/\d+", unsatisfied_range(0))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes 0-99/100", (0, 100, 100)),
        ("bytes 0-99/*", (0, 100, None)),
        ("Bytes  5-5/6 ", (5, 6, 6)),
        ("", None),
        ("bytes */100", None),
        ("bytes 0-99", None),
        ("bytes 5-4/100", None),
        ("bytes 0-100/100", None),
        ("bytes=0-99/100", None),
        ("items 0-99/100", None),
        ("bytes 0-99/100, bytes 0-1/2", None),
        ("bytes -1-99/100", None),
        ("bytes \u0660-99/100", None),
        (f"bytes 0-99/{HUGE}", None),
        (f"bytes {HUGE}-{HUGE}/*", None),
    ],
)
def test_parse_content_range(header: str, expected: tuple[int, int, int | None] | None) -> None:
    assert parse_content_range(header) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("0-99", (0, 100)),
        (" 0-0 ", (0, 1)),
        ("bytes 0-99", (0, 100)),
        ("bytes=0-99", (0, 100)),
        ("bytes 100-199/200", (100, 200)),
        ("bytes 100-199/*", (100, 200)),
        ("", None),
        ("-99", None),
        ("0-", None),
        ("99-0", None),
        ("0-99-", None),
        ("0 - 99", None),
        ("bytes0-99", None),
        (f"0-{HUGE}", None),
    ],
)
def test_parse_upload_range(header: str, expected: tuple[int, int] | None) -> None:
    assert parse_upload_range(header) == expected


@given(headers)
def test_hostile_content_ranges_never_raise(header: str) -> None:
    for text in (header, "bytes " + header):
        found = parse_content_range(text)
        assert found is None or 0 <= found[0] < found[1]
        upload = parse_upload_range(text)
        assert upload is None or 0 <= upload[0] < upload[1]

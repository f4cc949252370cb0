import errno
import io
import json
import os
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.cli import output

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
ANY_CHARACTER = st.characters(exclude_categories=[])


@given(st.text(ANY_CHARACTER | st.sampled_from(BIDI + "\x00\x1b\x7f\x85\x9b\u2028\u2029\n\r\t")))
def test_nothing_that_steers_a_terminal_is_left(text: str) -> None:
    escaped = output.escape(text)
    assert not set(escaped) & set(BIDI)
    assert not {unicodedata.category(character) for character in escaped} & {"Cc", "Cs", "Zl", "Zp"}
    assert len(escaped.splitlines()) <= 1


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs", "M"], exclude_characters="\\")))
def test_what_steers_nothing_is_left_as_it_is(text: str) -> None:
    assert output.escape(text) == text


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a\x1b[31m", "a\\x1b[31m"),
        ("\u202ea", "\\u202ea"),
        ("\x9b", "\\x9b"),
        ("\ud800", "\\ud800"),
        ("ä 日本", "ä 日本"),
    ],
)
def test_what_is_escaped_says_what_it_was(text: str, escaped: str) -> None:
    assert output.escape(text) == escaped


def test_results_go_to_standard_output_and_notes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    output.result("one")
    output.note("two")
    output.result_json({"name": "\x1b\x7f\x9b\u202e"})
    captured = capsys.readouterr()
    assert captured.err == "two\n"
    document = captured.out.removeprefix("one\n")
    assert document.replace("\n", "").isprintable()
    assert document.isascii()
    assert json.loads(document) == {"name": "\x1b\x7f\x9b\u202e"}


class Full(io.StringIO):
    """A stream whose device takes nothing."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_standard_output_that_cannot_be_written_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(output.NotWritten, match=r"^standard output cannot be written: No space left on device$"):
        output.result("x")
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(output.NotWritten, match="it is closed"):
        output.result("x")
    output.flush()
    assert output.NotWritten.exit_code == 1


def test_bytes_are_written_as_they_are(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    output.result(b"\xff\n\n", end=False)
    output.flush()
    assert capfdbinary.readouterr() == (b"\xff\n\n", b"")


def test_a_table_is_aligned_as_docker_does() -> None:
    assert output.table(["NAME", "SIZE"], [["a", "1"], ["日本", "12"], ["e\u0301x", ""], ["x\x1b", "3"]]) == (
        "NAME      SIZE\n"  # at least ten columns; x\x1b becomes five columns wide
        "a         1\n"
        "日本      12\n"
        "e\u0301x\n"
        "x\\x1b     3"
    )


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1kB"),
        (1234, "1.23kB"),
        (41_200_000, "41.2MB"),
        (388_000_000, "388MB"),
        (999_499, "999kB"),
        (999_999, "1MB"),
        (999_999_999_999, "1TB"),
        (3.1e9, "3.1GB"),
        (5e21, "5000EB"),
    ],
)
def test_sizes_are_dockers(count: float, text: str) -> None:
    assert output.human_size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "Less than a second"),
        (1, "1 second"),
        (59.9, "59 seconds"),
        (60, "About a minute"),
        (120, "2 minutes"),
        (3599, "59 minutes"),
        (3600, "About an hour"),
        (2 * 3600, "2 hours"),
        (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (13 * 86400, "13 days"),
        (14 * 86400, "2 weeks"),
        (60 * 86400, "2 months"),
        (730 * 86400, "2 years"),
    ],
)
def test_durations_are_dockers(seconds: float, text: str) -> None:
    assert output.human_duration(seconds) == text


def test_rows_may_be_shorter_than_the_headers() -> None:
    assert (
        output.align([["A", "B", "C"], ["a long one here"], []]) == "A                 B         C\na long one here\n"
    )

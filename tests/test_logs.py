"""The log: text from outside stays one visible line."""

import json
import logging
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.logs import JsonFormatter, TextFormatter, escaped, human, set_up


def record(message: str, *args: object, level: int = logging.INFO, **more: object) -> logging.LogRecord:
    made = logging.LogRecord("mirror.x", level, __file__, 1, message, args, None)
    made.__dict__.update(more)
    return made


@pytest.mark.parametrize(("text", "shown"), [
    ("plain\ttext\n", "plain\ttext\n"),
    ("\x1b[2J\x07\r\x00\x7f", r"\x1b[2J\x07\x0d\x00\x7f"),
    ("\x9b31m\x85", r"\x9b31m\x85"),
    ("\u202eevil\u2066\u200f\u061c", r"\u202eevil\u2066\u200f\u061c"),
    ("café 漢字", "café 漢字"),
])  # fmt: skip
def test_control_characters_are_made_visible(text: str, shown: str) -> None:
    assert escaped(text) == shown


@given(st.text(max_size=300))
def test_a_line_of_text_is_one_line_without_control_characters(text: str) -> None:
    line = TextFormatter().format(record("%s", text))
    assert not re.search(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", line)
    assert re.match(r"\d\d:\d\d:\d\d ", line)


@pytest.mark.parametrize(("level", "said"), [
    (logging.INFO, ""), (logging.WARNING, "warning: "), (logging.ERROR, "error: "), (logging.DEBUG, "debug: "),
])  # fmt: skip
def test_the_level_is_said_where_it_is_not_info(level: int, said: str) -> None:
    assert TextFormatter().format(record("a %s", "message", level=level))[9:] == f"{said}a message"


def test_length_is_capped() -> None:
    assert len(TextFormatter().format(record("x" * 100_000))) < 5000
    assert len(JsonFormatter().format(record("x" * 100_000))) < 5000


def raised() -> logging.LogRecord:
    try:
        raise ValueError("\x1b[2J and\nmore")
    except ValueError:
        return record("broken", level=logging.ERROR, exc_info=sys.exc_info())


def test_tracebacks() -> None:
    text = TextFormatter().format(raised())
    assert text.splitlines()[0].endswith("error: broken")
    assert "test_logs.py" in text
    assert "\x1b" not in text
    assert "ValueError" in json.loads(JsonFormatter().format(raised()))["exception"]


@given(st.text(max_size=300))
def test_json_is_one_line_and_says_the_same(text: str) -> None:
    line = JsonFormatter().format(record("%s", text, fields={"image": text, "blobs": 3}))
    assert "\n" not in line
    entry = json.loads(line)
    assert entry["message"] == entry["image"] == text
    assert (entry["level"], entry["logger"], entry["blobs"]) == ("info", "mirror.x", 3)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", entry["time"])


@pytest.mark.parametrize("as_json", [False, True])
def test_set_up(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.getLogger("aiohttp").level
    try:
        for _ in range(2):  # twice gives no line twice
            set_up(as_json=as_json)
        logging.getLogger("mirror.y").info("told")
        logging.getLogger("mirror.y").debug("not told")
        logging.getLogger("aiohttp.access").info("not told either")
    finally:
        root.handlers[:], root.level = before[0], before[1]
        logging.getLogger("aiohttp").setLevel(before[2])
        root.setLevel(before[1])
    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = captured.err.splitlines()
    assert (json.loads(line)["message"] if as_json else line[9:]) == "told"


@pytest.mark.parametrize(("size", "text"), [
    (0, "0B"), (999, "999B"), (1000, "1kB"), (1234, "1.234kB"), (41_200_000, "41.2MB"), (5e9, "5GB"), (2.5e12, "2.5TB"),
    (1e15, "1PB"), (999_999, "1000kB"),
])  # fmt: skip
def test_sizes_as_docker_says_them(size: float, text: str) -> None:
    assert human(size) == text

import io
import json
import sys
import time
from typing import Any

import pytest

from mirror.cli import displays
from mirror.cli.displays import Json, Plain, Silent, Terminal
from mirror.cli.progress import Tracker
from tests.cli.samples import digest
from tests.cli.screen import Screen

NAME = "docker.io/library/alpine:3.20"


def layer(letter: str, state: str, done: float = 0, size: float = 1_000_000) -> dict[str, Any]:
    return {"event": "layer", "name": NAME, "digest": digest(letter), "size": size, "state": state, "done": done}


class Stream(io.StringIO):
    """A stream that says of itself that it is a terminal."""

    def isatty(self) -> bool:
        return True


def drawn(
    monkeypatch: pytest.MonkeyPatch, *, columns: int = 60, rows: int = 10, colour: bool = False
) -> tuple[Terminal, Screen]:
    """A display whose two streams are one screen."""
    screen = Screen(columns, rows)
    stream = Stream()

    def write(text: str) -> int:
        screen.feed(text.replace("\n", "\r\n"))
        return len(text)

    stream.write = write  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(displays, "_screen", lambda: (columns, rows))
    return Terminal(Tracker(), "pulling", colour=colour, clock=lambda: 0.0), screen


# --- drawn ------------------------------------------------------------------------------------------------


def test_one_bar_for_all_and_a_line_for_each_active_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, screen = drawn(monkeypatch)
    for event in (layer("a", "exists"), layer("b", "downloading", 500_000), layer("c", "waiting")):
        shown.take(event)
    shown._tick()
    assert screen.lines() == [
        "bbbbbbbbbbbb: Downloading [==========>          ] 500kB/1MB",
        "pulling [=====>               ] 500kB of 2MB, 1 of 3 layers",
    ]


def test_a_push_is_told_by_what_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, screen = drawn(monkeypatch)
    for event in (layer("a", "fetching", 500_000), layer("b", "pushing", 500_000), layer("c", "mounted")):
        shown.take(event)
    shown._tick()
    assert [line.split(" [")[0] for line in screen.lines()] == [
        "aaaaaaaaaaaa: Fetching",
        "bbbbbbbbbbbb: Pushing",
        "pulling",
    ]


def test_it_is_redrawn_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, screen = drawn(monkeypatch)
    for done in (100_000, 500_000, 900_000):
        shown.take(layer("b", "downloading", done))
        shown._tick()
    assert len(screen.lines()) == 2
    assert "900kB/1MB" in screen.lines()[0]


def test_results_stay_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, screen = drawn(monkeypatch)
    shown.take({"event": "image", "name": NAME})
    shown.take(layer("b", "downloading", 500_000))
    shown._tick()
    shown.result("aaaaaaaaaaaa: Already exists")
    lines = screen.lines()
    assert lines[:2] == ["3.20: Pulling from library/alpine", "aaaaaaaaaaaa: Already exists"]
    assert lines[2].startswith("bbbbbbbbbbbb: Downloading [")
    assert lines[3].startswith("pulling [")
    assert len(lines) == 4


@pytest.mark.parametrize("rows", [2, 3, 5, 24])
def test_it_is_never_taller_than_the_screen(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    shown, screen = drawn(monkeypatch, rows=rows)
    shown.result("first")
    for letter in "0123456789":
        shown.take(layer(letter, "downloading", 1))
    for _ in range(3):
        shown._tick()
    lines = screen.everything()
    assert lines.count("first") == 1
    assert sum(line.startswith("pulling") for line in lines) == 1  # nothing of it scrolled away
    assert len(screen.lines()) <= rows
    assert screen.lines()[-1].startswith("pulling")
    if rows == 5:
        assert "… and 8 more" in lines


def test_a_screen_of_one_row_has_no_room_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, screen = drawn(monkeypatch, rows=1)
    shown.take(layer("b", "downloading", 1))
    shown._tick()
    assert screen.everything() == []


@pytest.mark.parametrize("columns", [5, 20, 30, 45, 46, 60, 200])
def test_no_line_is_wider_than_the_screen(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    shown, _ = drawn(monkeypatch, columns=columns, colour=False)
    shown.take(layer("b", "downloading", 123))
    for line in shown._lines(columns - 1, 10):
        assert len(line) < columns
    bars = [line for line in shown._lines(columns - 1, 10) if "[" in line]
    assert bool(bars) == (columns >= 46)


def test_it_is_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, screen = drawn(monkeypatch)
    with shown:
        shown.take(layer("b", "downloading", 123))
        shown.result("kept")
        time.sleep(0.25)
    assert screen.lines() == ["kept"]
    assert screen.cursor() == (1, 0)


def test_colour_only_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    for colour in (True, False):
        shown, _ = drawn(monkeypatch, colour=colour)
        shown.take(layer("b", "downloading", 500_000))
        assert ("\x1b[36m" in "".join(shown._lines(60, 5))) is colour


def test_results_that_go_elsewhere_leave_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, screen = drawn(monkeypatch)
    file = io.StringIO()
    monkeypatch.setattr(sys, "stdout", file)
    shown.take(layer("b", "downloading", 1))
    shown._tick()
    before = screen.lines()
    shown.result("x")
    assert file.getvalue() == "x\n"
    assert screen.lines() == before


def test_a_reader_that_is_gone_ends_the_drawing_only(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, _ = drawn(monkeypatch)

    def broken(_: str) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(sys.stderr, "write", broken)
    with shown:
        time.sleep(0.25)


def test_the_screens_size_is_asked_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.get_terminal_size", lambda _: __import__("os").terminal_size((0, 0)))
    monkeypatch.setattr(sys, "stderr", open("/dev/null", "w"))  # noqa: SIM115
    assert displays._screen() == (80, 24)
    sys.stderr.close()
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setenv("COLUMNS", "33")
    monkeypatch.setenv("LINES", "7")
    assert displays._screen() == (33, 7)


# --- plain ------------------------------------------------------------------------------------------------


def test_plain_has_a_line_at_the_start_and_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with Plain(Tracker(), "pulling", clock=time.monotonic) as shown:
        shown.take({"event": "image", "name": NAME})
        shown.take(layer("b", "downloading", 123))
        shown.result("result")
        shown.take({"event": "pulled", "name": NAME, "bytes_fetched": 3_400_000, "bytes_held": 0})
        shown.take({"event": "error", "name": "ghcr.io/x:1"})
    captured = capsys.readouterr()
    assert captured.out == "result\n"
    assert captured.err == (
        "3.20: Pulling from library/alpine\nalpine:3.20: fetched 3.4MB, 0B were here already\nghcr.io/x:1: failed\n"
    )


def test_plain_has_a_heartbeat(capsys: pytest.CaptureFixture[str]) -> None:
    assert displays.HEARTBEAT_S == 30
    with Plain(Tracker(), "pulling", clock=lambda: 0.0, every=0.05) as shown:
        shown.take(layer("b", "downloading", 500_000))
        time.sleep(0.3)
    beats = capsys.readouterr().err.splitlines()
    assert set(beats) == {"pulling: 500kB of 1MB, 0 of 1 layers"}
    assert 2 <= len(beats) <= 7


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (NAME, "3.20: Pulling from library/alpine"),
        ("ghcr.io/me/x:1", "1: Pulling from me/x"),
        ("localhost:5000/x:1", "1: Pulling from x"),
        ("local/team/app:1", "1: Pulling from team/app"),
        (f"ghcr.io/x@{digest('a')}", f"{digest('a')}: Pulling from x"),
        ("a\x1b:1", "1: Pulling from a\\x1b"),
        ("x", "Pulling x"),
    ],
)
def test_dockers_sentence_on_a_start(name: str, line: str) -> None:
    assert displays._start({"event": "image", "name": name}) == line


# --- the others -------------------------------------------------------------------------------------------


def test_a_push_says_where_it_goes(capsys: pytest.CaptureFixture[str]) -> None:
    with displays.Plain(Tracker(), "pushing", clock=lambda: 0.0) as shown:
        shown.take({"event": "image", "name": "local/app:1", "target": "localhost:5000/me/app:1"})
        shown.take({"event": "pushed", "name": "local/app:1"})
    assert capsys.readouterr().err == "The push refers to repository [localhost:5000/me/app]\napp:1: pushed\n"


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with Json() as shown:
        shown.take(layer("b", "\x1b\x7f", 1))
        shown.result("x")
    captured = capsys.readouterr()
    assert captured.out == "x\n"
    assert json.loads(captured.err) == layer("b", "\x1b\x7f", 1)
    assert captured.err.strip().isprintable()


def test_silence(capsys: pytest.CaptureFixture[str]) -> None:
    with Silent() as shown:
        shown.take(layer("b", "complete", 1))
        shown.result("x")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("x\n", "")

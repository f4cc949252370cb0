"""The four ways to show progress: drawn on a terminal, plain lines, JSON lines, and not at all."""

import contextlib
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable
from typing import Self

from mirror.cli import output
from mirror.cli.fields import Row, familiar, number, repository_of, short, text
from mirror.cli.output import escape, human_size
from mirror.cli.progress import Layer, Tracker

HEARTBEAT_S = 30.0
_FRAME_S = 0.1
_BAR = (8, 50)  # least and most columns of a bar
_COLOUR, _PLAIN = "\x1b[36m", "\x1b[39m"
_DOING = {"fetching": "Fetching", "pushing": "Pushing"}
_ERASE_LINE, _ERASE_BELOW = "\x1b[K", "\x1b[J"


class Silent:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def take(self, event: Row) -> None:
        """Nothing."""

    def result(self, line: str) -> None:
        output.result(line)


class Json(Silent):
    """Every event as it came, one a line."""

    def take(self, event: Row) -> None:
        output.note(json.dumps(event, ensure_ascii=True).replace("\x7f", "\\u007f"))


class _Ticker:
    """Calls `tick` from time to time, under `lock`, in a thread: the verb waits for events meanwhile."""

    def __init__(self, every: float, lock: threading.Lock, tick: Callable[[], None]) -> None:
        self._every = every
        self._lock = lock
        self._tick = tick
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="progress")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # whoever reads it may be gone
            while not self._ended.wait(self._every):
                with self._lock:
                    self._tick()


class Plain:
    """A line when an image starts, one when it ends, and a heartbeat."""

    def __init__(self, tracker: Tracker, verb: str, *, clock: Callable[[], float], every: float | None = None) -> None:
        self._tracker = tracker
        self._verb = verb
        self._clock = clock
        self._lock = threading.Lock()
        self._ticker = _Ticker(HEARTBEAT_S if every is None else every, self._lock, self._tick)

    def __enter__(self) -> Self:
        self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ticker.stop()

    def take(self, event: Row) -> None:
        with self._lock:
            self._tracker.take(event)
            line = _start(event) or _end(event)
            if line:
                output.note(line)

    def result(self, line: str) -> None:
        output.result(line)

    def _tick(self) -> None:
        output.note(f"{self._verb}: {self._tracker.summary(self._clock())}")


class Terminal:
    """One bar for all and a line for each active layer, redrawn in place; never taller than the screen."""

    def __init__(self, tracker: Tracker, verb: str, *, colour: bool, clock: Callable[[], float]) -> None:
        self._tracker = tracker
        self._verb = verb
        self._colour = colour
        self._clock = clock
        self._drawn = 0  # lines
        self._lock = threading.Lock()
        self._ticker = _Ticker(_FRAME_S, self._lock, self._tick)

    def __enter__(self) -> Self:
        self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ticker.stop()
        with contextlib.suppress(OSError, ValueError):
            self._write(self._erased())

    def take(self, event: Row) -> None:
        with self._lock:
            self._tracker.take(event)
            line = _start(event)
            if line:
                self._write(self._erased() + line + "\n")
                self._tick()

    def result(self, line: str) -> None:
        with self._lock:
            if not sys.stdout.isatty():
                output.result(line)
                return
            self._write(self._erased())
            output.result(line)
            self._tick()

    def _tick(self) -> None:
        columns, rows = _screen()
        lines = self._lines(columns - 1, rows - 1) if rows > 1 else []
        up = f"\x1b[{self._drawn}A\r" if self._drawn else "\r"
        self._write(up + "".join(f"{line}{_ERASE_LINE}\n" for line in lines) + _ERASE_BELOW)
        self._drawn = len(lines)

    def _erased(self) -> str:
        """What takes away the lines drawn last."""
        up = f"\x1b[{self._drawn}A\r{_ERASE_BELOW}" if self._drawn else ""
        self._drawn = 0
        return up

    def _lines(self, columns: int, rows: int) -> list[str]:
        active = [(digest, layer) for digest, layer in self._tracker.layers.items() if layer.active]
        room = rows - 1
        hidden = len(active) - room + 1 if len(active) > room else 0
        shown = active[: len(active) - hidden] if room > 0 else []
        lines = [self._layer(digest, layer, columns) for digest, layer in shown]
        if hidden and room > 0:
            lines.append(f"… and {hidden} more"[:columns])
        return [*lines, self._line(self._verb, self._tracker.share, self._tracker.summary(self._clock()), columns)]

    def _layer(self, digest: str, layer: Layer, columns: int) -> str:
        share = min(1.0, layer.done / layer.size) if layer.size else 0.0
        return self._line(
            f"{escape(short(digest))}: {_DOING.get(layer.state, 'Downloading')}",
            share,
            f"{human_size(layer.done)}/{human_size(layer.size)}",
            columns,
        )

    def _line(self, name: str, share: float, said: str, columns: int) -> str:
        """`NAME [====>   ] SAID` within `columns`; without the bar where there is no room for one."""
        room = columns - len(name) - len(said) - 4
        if room < _BAR[0]:
            return f"{name} {said}"[:columns]
        width = min(room, _BAR[1])
        full = int(width * share)
        bar = "=" * full + (">" if full < width else "")
        drawn = f"{_COLOUR}{bar}{_PLAIN}" if self._colour else bar
        return f"{name} [{drawn}{' ' * (width - len(bar))}] {said}"

    def _write(self, drawn: str) -> None:
        if drawn:
            sys.stderr.write(drawn)
            sys.stderr.flush()


def _screen() -> tuple[int, int]:
    """Columns and rows of the terminal behind standard error, also right after they changed."""
    try:
        size = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError):
        size = shutil.get_terminal_size()
    return size.columns or 80, size.lines or 24


def _start(event: Row) -> str | None:
    """Docker's sentence on an image that it begins to pull, or to push."""
    if event.get("event") != "image":
        return None
    name = text(event, "name")
    if event.get("target"):
        return escape(f"The push refers to repository [{repository_of(text(event, 'target'))}]")
    registry, slash, path = name.partition("/")
    path = path if slash and ("." in registry or ":" in registry or registry in ("localhost", "local")) else name
    if "@" in path:
        repository, _, target = path.partition("@")
    else:
        repository, _, target = path.rpartition(":")
    return escape(f"{target}: Pulling from {repository}" if repository else f"Pulling {path}")


def _end(event: Row) -> str | None:
    name = escape(familiar(text(event, "name")))
    match event.get("event"):
        case "pulled":
            fetched, held = number(event, "bytes_fetched") or 0, number(event, "bytes_held") or 0
            return f"{name}: fetched {human_size(fetched)}, {human_size(held)} were here already"
        case "pushed":
            return f"{name}: pushed"
        case "error":
            return f"{name}: failed"
        case _:
            return None

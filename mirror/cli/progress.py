"""How far a long operation is: what its events add up to, and which way that is shown.

Progress is drawn on standard error, results go to standard output; `Progress.result` keeps the two apart on a
terminal that shows both. `--progress auto` draws where standard error is a terminal that can, and where it is not
a build's log (`CI`, `TERM=dumb`).
"""

import os
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, Self

from mirror.cli.fields import Row, number, text
from mirror.cli.output import human_duration, human_size

_WINDOW_S = 10.0  # over which a rate is measured
_LEAST_S = 1.0
_ACTIVE = ("downloading", "fetching", "pushing")
_HERE = ("exists", "mounted", "skipped")  # nothing crosses the wire for it
_ENDED = ("complete", "pushed", *_HERE)


@dataclass(slots=True)
class Layer:
    """A layer as its last event tells it; `here` since before, or, of a push, there."""

    size: float = 0
    done: float = 0
    state: str = "waiting"
    here: bool = False

    @property
    def active(self) -> bool:
        return self.state in _ACTIVE


@dataclass(slots=True)
class Tracker:
    """What the events so far add up to. A layer that several images share counts once."""

    layers: dict[str, Layer] = field(default_factory=dict)
    images: int = 0
    images_done: int = 0
    counted: tuple[float, float, float] | None = None  # blobs read, of how many, their bytes
    _samples: deque[tuple[float, float]] = field(default_factory=deque)

    def take(self, event: Row) -> None:
        match event.get("event"):
            case "image":
                self.images += 1
            case "pulled" | "pushed" | "error" | "plan":
                self.images_done += 1
            case "layer":
                self._layer(event)
            case "progress":
                self.counted = (number(event, "done") or 0, number(event, "total") or 0, number(event, "bytes") or 0)
            case _:
                pass

    def _layer(self, event: Row) -> None:
        digest, state = text(event, "digest"), text(event, "state")
        new = digest not in self.layers or self.layers[digest].state == "preparing"
        layer = self.layers.setdefault(digest, Layer())
        layer.size = number(event, "size") or layer.size
        layer.done = layer.size if state in _ENDED else (number(event, "done") or layer.done)
        layer.here = layer.here or (new and state in _HERE)
        layer.state = state

    @property
    def bytes_done(self) -> float:
        if self.counted:
            return self.counted[2]
        return sum(layer.done for layer in self.layers.values() if not layer.here and layer.state != "fetching")

    @property
    def bytes_asked(self) -> float:
        return sum(layer.size for layer in self.layers.values() if not layer.here)

    @property
    def share(self) -> float:
        """How much is done, from 0 to 1."""
        done, asked = self.counted[:2] if self.counted else (self.bytes_done, self.bytes_asked)
        return max(0.0, min(1.0, done / asked)) if asked > 0 else 0.0

    def rate(self, now: float) -> float:
        """Bytes in a second lately, as of `now` on a monotonic clock; 0 until that is known."""
        self._samples.append((now, self.bytes_done))
        while len(self._samples) > 1 and now - self._samples[0][0] > _WINDOW_S:
            self._samples.popleft()
        began, before = self._samples[0]
        return max(0.0, self.bytes_done - before) / (now - began) if now - began >= _LEAST_S else 0.0

    def summary(self, now: float) -> str:
        """`41.2MB of 388MB, 5 of 9 layers, 12MB/s, 29 seconds left`."""
        rate = self.rate(now)
        if self.counted:
            parts = [f"{self.counted[0]:,.0f} of {self.counted[1]:,.0f} blobs", human_size(self.bytes_done)]
        else:
            ended = sum(layer.state in _ENDED for layer in self.layers.values())
            parts = [f"{human_size(self.bytes_done)} of {human_size(self.bytes_asked)}"]
            parts += [f"{self.images_done} of {self.images} images"] if self.images > 1 else []
            parts += [f"{ended} of {len(self.layers)} layers"]
        if rate > 0:
            parts.append(f"{human_size(rate)}/s")
            left = (self.bytes_asked - self.bytes_done) / rate
            parts += [f"{human_duration(left).lower()} left"] if left >= 1 and not self.counted else []
        return ", ".join(parts)


class Progress(Protocol):
    """A way to show it, as a context manager: entered before the first event, left when all is done or lost."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def take(self, event: Row) -> None:
        """Show what an event tells."""

    def result(self, line: str) -> None:
        """A line of the result, on standard output. Foreign text in it is escaped already."""


def progress(mode: str, verb: str, environ: Mapping[str, str] | None = None) -> Progress:
    """The one that `--progress` names. `verb` says what goes on: `pulling`, `pushing`."""
    from mirror.cli import displays

    tracker = Tracker()
    if mode == "auto":
        mode = "tty" if _can_draw(os.environ if environ is None else environ) else "plain"
    match mode:
        case "tty":
            colour = not (os.environ if environ is None else environ).get("NO_COLOR")
            return displays.Terminal(tracker, verb, colour=colour, clock=time.monotonic)
        case "plain":
            return displays.Plain(tracker, verb, clock=time.monotonic)
        case "json":
            return displays.Json()
        case _:
            return displays.Silent()


def _can_draw(environ: Mapping[str, str]) -> bool:
    return sys.stderr.isatty() and not environ.get("CI") and environ.get("TERM", "dumb") != "dumb"

"""Rounds of measurements side by side, and the table of what came out."""

import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

_COLUMNS = "{:<46}  {:>10}  {:<22} {:>10}  {:>9}  {:>9}  {}"
HEADER = _COLUMNS.format("measure", "mirror", "beside it", "", "result", "at most", "").rstrip()


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison: our figure, a peer's if there is one, what came of them and the target (None: for the record)."""

    measure: str
    ours: str
    peer: str
    theirs: str
    result: float
    limit: float | None
    unit: str = "×"

    @property
    def missed(self) -> bool:
        return self.limit is not None and self.result > self.limit

    def __str__(self) -> str:
        verdict = "" if self.limit is None else "MISSED" if self.missed else "ok"
        digits = 0 if self.unit != "×" else 3 if self.result < 0.1 or 1 <= self.result < 1.1 else 2
        limit = "" if self.limit is None else f"{self.limit:g} {self.unit}"
        result = f"{self.result:.{digits}f} {self.unit}"
        return _COLUMNS.format(self.measure, self.ours, self.peer, self.theirs, result, limit, verdict).rstrip()


@dataclass(frozen=True, slots=True)
class Measure:
    """One line of the command line: a name, what it is about, and a function of "quick?" that gives rows."""

    name: str
    about: str
    run: Callable[[bool], Iterator[Row]]


def interleaved(count: int, contenders: Mapping[str, Callable[[], T]]) -> dict[str, list[T]]:
    """Let each have its turn in each round, so that what else the machine does meets all alike. What one left for the
    disk to write is written before the next one starts."""
    found: dict[str, list[T]] = {name: [] for name in contenders}
    for _ in range(count):
        for name, measured in contenders.items():
            os.sync()
            found[name].append(measured())
    return found


def compared(
    measure: str,
    figures: Mapping[str, Sequence[float]],
    limits: Mapping[str, float | None],
    show: Callable[[float], str],
) -> Iterator[Row]:
    """A row for each peer of `limits`: the ratio of the medians. Ours stands under "mirror"."""
    ours = statistics.median(figures["mirror"])
    for peer, limit in limits.items():
        theirs = statistics.median(figures[peer])
        yield Row(measure, show(ours), peer, show(theirs), ours / theirs, limit)


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"


def microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} µs"


def in_seconds(seconds: float) -> str:
    return f"{seconds:.2f} s"

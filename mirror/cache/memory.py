"""Two small memories: what was seen lately, and what was asked for in vain lately."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """The most recently used entries, bounded by the sum of their weights.

    `generation` changes with every `put` and `drop`: who reads the truth elsewhere and means to remember it here
    compares it before and after, and does not overwrite what changed meanwhile (design.md §6).
    """

    def __init__(self, capacity: int, weight: Callable[[V], int] = lambda _: 1) -> None:
        self.generation = 0
        self._capacity = capacity
        self._weight = weight
        self._total = 0
        self._entries: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The entry, now the most recently used, or None."""
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        self.drop(key)
        self._entries[key] = value
        self._total += self._weight(value)
        while self._total > self._capacity and len(self._entries) > 1:
            _, old = self._entries.popitem(last=False)
            self._total -= self._weight(old)

    def drop(self, key: K) -> None:
        self.generation += 1
        old = self._entries.pop(key, None)
        if old is not None:
            self._total -= self._weight(old)

    def drop_where(self, gone: Callable[[K], bool]) -> None:
        """Drop every entry whose key says so. Walks them all: for many at a time."""
        self.generation += 1
        for key in [key for key in self._entries if gone(key)]:
            self._total -= self._weight(self._entries.pop(key))


class Lately(Generic[K]):
    """Keys that are remembered for `seconds` (of the clock given), at most `capacity` of them."""

    def __init__(self, seconds: float, capacity: int, monotonic: Callable[[], float]) -> None:
        self._seconds = seconds
        self._capacity = capacity
        self._monotonic = monotonic
        self._until: OrderedDict[K, float] = OrderedDict()

    def add(self, key: K) -> None:
        self._until.pop(key, None)
        self._until[key] = self._monotonic() + self._seconds
        if len(self._until) > self._capacity:
            self._until.popitem(last=False)

    def discard(self, key: K) -> None:
        self._until.pop(key, None)

    def __contains__(self, key: K) -> bool:
        until = self._until.get(key)
        if until is None:
            return False
        if until > self._monotonic():
            return True
        del self._until[key]
        return False

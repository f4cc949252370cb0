"""`Recent` and `Lately`, held against models that are obviously right."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mirror.cache.memory import Lately, Recent

KEYS = st.sampled_from("abcdef")
CAPACITY = 10


class RecentMachine(RuleBasedStateMachine):
    """Against a list of (key, weight), the most recently used last."""

    def __init__(self) -> None:
        super().__init__()
        self.recent: Recent[str, int] = Recent(CAPACITY, lambda weight: weight)
        self.model: list[tuple[str, int]] = []

    @rule(key=KEYS, weight=st.integers(1, 14))
    def put(self, key: str, weight: int) -> None:
        before = self.recent.generation
        self.recent.put(key, weight)
        assert self.recent.generation != before
        self.model = [entry for entry in self.model if entry[0] != key] + [(key, weight)]
        while sum(weight for _, weight in self.model) > CAPACITY and len(self.model) > 1:
            self.model.pop(0)

    @rule(key=KEYS)
    def get(self, key: str) -> None:
        before = self.recent.generation
        expected = dict(self.model).get(key)
        assert self.recent.get(key) == expected
        if expected is not None:
            self.model = [entry for entry in self.model if entry[0] != key] + [(key, expected)]
        assert self.recent.generation == before

    @rule(key=KEYS)
    def drop(self, key: str) -> None:
        before = self.recent.generation
        self.recent.drop(key)
        assert self.recent.generation != before
        self.model = [entry for entry in self.model if entry[0] != key]

    @rule(keys=st.frozensets(KEYS))
    def drop_where(self, keys: frozenset[str]) -> None:
        before = self.recent.generation
        self.recent.drop_where(keys.__contains__)
        assert self.recent.generation != before
        self.model = [entry for entry in self.model if entry[0] not in keys]

    @invariant()
    def the_same_entries_in_the_same_order(self) -> None:
        assert list(self.recent._entries.items()) == self.model
        assert len(self.recent) == len(self.model)
        assert self.recent._total == sum(weight for _, weight in self.model)


class LatelyMachine(RuleBasedStateMachine):
    """Against a list of (key, deadline), the last added last."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.lately: Lately[str] = Lately(10.0, 3, lambda: self.now)
        self.model: list[tuple[str, float]] = []

    @rule(key=KEYS)
    def add(self, key: str) -> None:
        self.lately.add(key)
        self.model = [entry for entry in self.model if entry[0] != key] + [(key, self.now + 10.0)]
        self.model = self.model[-3:]

    @rule(key=KEYS)
    def discard(self, key: str) -> None:
        self.lately.discard(key)
        self.model = [entry for entry in self.model if entry[0] != key]

    @rule(seconds=st.sampled_from([0.0, 1.0, 4.0, 9.0, 10.0, 11.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(key=KEYS)
    def contains(self, key: str) -> None:
        alive = any(each == key and until > self.now for each, until in self.model)
        assert (key in self.lately) is alive
        if not alive:
            self.model = [entry for entry in self.model if entry[0] != key]

    @invariant()
    def bounded(self) -> None:
        assert len(self.lately._until) <= 3


TestRecent: Any = RecentMachine.TestCase
TestLately: Any = LatelyMachine.TestCase


@given(st.lists(st.tuples(KEYS, st.integers(1, 30)), min_size=1))
def test_a_single_entry_may_be_heavier_than_everything(puts: list[tuple[str, int]]) -> None:
    recent: Recent[str, int] = Recent(CAPACITY, lambda weight: weight)
    for key, weight in puts:
        recent.put(key, weight)
        assert recent.get(key) == weight  # what was just put is always there


def test_what_was_read_lately_stays() -> None:
    recent: Recent[str, str] = Recent(2)
    recent.put("a", "a")
    recent.put("b", "b")
    assert recent.get("a") == "a"
    recent.put("c", "c")
    assert [recent.get(key) for key in "abc"] == ["a", None, "c"]


def test_without_weights_entries_are_counted() -> None:
    recent: Recent[str, str] = Recent(2)
    for key in "abc":
        recent.put(key, key)
    assert [recent.get(key) for key in "abc"] == [None, "b", "c"]


def test_a_reader_of_the_truth_sees_that_it_changed_meanwhile() -> None:
    recent: Recent[str, str] = Recent(2)
    generation = recent.generation
    recent.put("a", "old")
    assert recent.generation != generation
    generation = recent.generation
    recent.drop("missing")
    assert recent.generation != generation

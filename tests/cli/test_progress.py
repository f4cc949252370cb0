import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.cli import displays
from mirror.cli.progress import Tracker, progress


def layer(digest: str, state: str, done: float = 0, size: float = 100, name: str = "x") -> dict[str, Any]:
    return {"event": "layer", "name": name, "digest": digest, "size": size, "state": state, "done": done}


def tracker(*events: dict[str, Any]) -> Tracker:
    made = Tracker()
    for event in events:
        made.take(event)
    return made


def test_what_was_here_is_not_counted_as_done() -> None:
    made = tracker(layer("a", "exists"), layer("b", "waiting"), layer("c", "downloading", 40))
    assert (made.bytes_done, made.bytes_asked, made.share) == (40, 200, 0.2)
    assert made.summary(0) == "40B of 200B, 1 of 3 layers"


def test_a_push_counts_what_crosses_the_wire() -> None:
    """What the registry has, or mounts, is not asked of anybody once that is known; what is fetched first is not sent
    by that."""
    made = tracker(*(layer(name, "preparing") for name in "abcd"))
    assert (made.bytes_done, made.bytes_asked) == (0, 400)
    for event in (layer("a", "exists"), layer("b", "mounted"), layer("c", "pushing", 40), layer("d", "fetching", 70)):
        made.take(event)
    assert (made.bytes_done, made.bytes_asked, made.share) == (40, 200, 0.2)
    assert [name for name, each in made.layers.items() if each.active] == ["c", "d"]
    made.take(layer("c", "pushed", 100))
    made.take(layer("d", "pushing", 10))
    assert made.summary(0) == "110B of 200B, 3 of 4 layers"
    made.take({"event": "image", "name": "x"})
    made.take({"event": "pushed", "name": "x"})
    assert (made.images, made.images_done) == (1, 1)


def test_a_layer_that_images_share_counts_once() -> None:
    made = tracker(
        {"event": "image", "name": "x"},
        {"event": "image", "name": "y"},
        layer("a", "complete", 100, name="x"),
        layer("a", "exists", 100, name="y"),
        {"event": "pulled", "name": "x"},
    )
    assert made.summary(0) == "100B of 100B, 1 of 2 images, 1 of 1 layers"


def test_the_rate_is_that_of_the_last_seconds() -> None:
    made = tracker(layer("a", "downloading", 0, 10_000))
    assert made.rate(100.0) == 0
    made.take(layer("a", "downloading", 1000, 10_000))
    assert made.rate(100.5) == 0  # too short a time to tell
    assert made.rate(102.0) == 500
    assert made.summary(102.0) == "1kB of 10kB, 0 of 1 layers, 500B/s, 18 seconds left"
    assert made.rate(200.0) == 0


def test_verify_counts_blobs() -> None:
    made = tracker({"event": "progress", "done": 30, "total": 1200, "bytes": 5000})
    assert made.share == 0.025
    assert made.summary(0) == "30 of 1,200 blobs, 5kB"


EVENT = st.fixed_dictionaries(
    {
        "event": st.sampled_from(["image", "layer", "pulled", "error", "progress", "other"]) | st.none(),
    },
    optional={
        "digest": st.sampled_from(["a", "b"]) | st.integers(),
        "size": st.integers(-5, 10**9) | st.text(max_size=2),
        "done": st.integers(-5, 10**9) | st.none(),
        "total": st.integers(-5, 10),
        "bytes": st.integers(0, 10),
        "state": st.sampled_from(
            ["exists", "waiting", "downloading", "complete", "preparing", "pushing", "mounted", "?"]
        ),
    },
)


@given(st.lists(EVENT, max_size=20))
def test_whatever_comes_it_adds_up_to_something(events: list[dict[str, Any]]) -> None:
    made = tracker(*events)
    assert 0 <= made.share <= 1
    assert made.summary(1.0)
    assert made.summary(100.0)


def test_a_count_below_nothing_is_nothing() -> None:
    assert tracker({"event": "progress", "done": -1, "total": 1}).share == 0


@pytest.mark.parametrize(
    ("mode", "terminal", "environ", "kind"),
    [
        ("auto", True, {"TERM": "xterm"}, displays.Terminal),
        ("auto", True, {"TERM": "dumb"}, displays.Plain),
        ("auto", True, {}, displays.Plain),
        ("auto", True, {"TERM": "xterm", "CI": "true"}, displays.Plain),
        ("auto", False, {"TERM": "xterm"}, displays.Plain),
        ("tty", False, {}, displays.Terminal),
        ("plain", True, {"TERM": "xterm"}, displays.Plain),
        ("json", True, {}, displays.Json),
        ("none", True, {"TERM": "xterm"}, displays.Silent),
    ],
)
def test_which_way(
    mode: str, terminal: bool, environ: dict[str, str], kind: type[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    assert type(progress(mode, "pulling", environ)) is kind


@pytest.mark.parametrize(("value", "colour"), [(None, True), ("", True), ("1", False)])
def test_no_color_is_honoured(value: str | None, colour: bool) -> None:
    shown = progress("tty", "pulling", {} if value is None else {"NO_COLOR": value})
    assert isinstance(shown, displays.Terminal)
    assert shown._colour is colour

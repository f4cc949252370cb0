import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.cli import fields
from mirror.errors import MirrorError
from mirror.oci.names import Reference

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(JSON)
def test_whatever_stands_there_can_be_read(value: object) -> None:
    row = {"x": value}
    assert isinstance(fields.text(row, "x"), str)
    assert isinstance(fields.size(row, "x"), str)
    assert fields.number(row, "x") is None or fields.number(row, "x") == value
    assert all(isinstance(entry, str) for entry in fields.texts(row, "x"))
    assert all(hasattr(entry, "get") for entry in fields.rows(row, "x"))
    assert fields.row(row, "x") == (value if isinstance(value, dict) else {})
    assert fields.instant(value) is None or isinstance(value, str)


def test_what_is_missing_is_nothing() -> None:
    assert fields.text({}, "x") == ""
    assert fields.number({"x": True}, "x") is None
    assert fields.number({"x": 1e30}, "x") is None
    assert fields.size({}, "x") == "-"
    assert fields.size({"x": 41_200_000}, "x") == "41.2MB"


@pytest.mark.parametrize(
    ("value", "at"),
    [
        ("1970-01-02T00:00:00Z", 86400.0),
        ("2024-05-22T18:18:12.052034407Z", 1716401892.052034),
        ("1970-01-01T02:00:00+01:00", 3600.0),
        ("0001-01-01T00:00:00Z", None),
        ("yesterday", None),
        ("", None),
        (7, None),
        (None, None),
    ],
)
def test_times_of_rfc_3339(value: object, at: float | None) -> None:
    assert fields.instant(value) == at


def test_how_long_ago() -> None:
    now = time.time()
    assert fields.ago(now - 7200, now, unknown="never") == "2 hours ago"
    assert fields.ago(now + 60, now, unknown="never") == "Less than a second ago"
    assert fields.ago(None, now, unknown="never") == "never"


def test_short_ids() -> None:
    assert fields.short("sha256:" + "ab" * 32) == "abababababab"
    assert fields.short("sha512:" + "ab" * 64) == "abababababab"
    assert fields.short("sha256:" + "ab" * 32, whole=True) == "sha256:" + "ab" * 32
    assert fields.short("<missing>") == "<missing>"


def test_lists_are_cut_where_that_saves_something() -> None:
    assert fields.listed("abcd", whole=False) == "a, b, c, d"
    assert fields.listed("abcde", whole=False) == "a, b, c and 2 more"
    assert fields.listed("abcde", whole=True) == "a, b, c, d, e"


@pytest.mark.parametrize(
    ("name", "familiar"),
    [
        ("docker.io/library/alpine:3.20", "alpine:3.20"),
        ("docker.io/library/alpine@sha256:" + "a" * 64, "alpine@sha256:" + "a" * 64),
        ("docker.io/grafana/grafana:1", "grafana/grafana:1"),
        ("docker.io/library/a/b:1", "library/a/b:1"),
        ("docker.io/my.org/app:1", "docker.io/my.org/app:1"),
        ("ghcr.io/library/x:1", "ghcr.io/library/x:1"),
        ("local/team/app:1", "team/app:1"),
        ("alpine", "alpine"),
        ("", ""),
    ],
)
def test_familiar_names(name: str, familiar: str) -> None:
    assert fields.familiar(name) == familiar


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("docker.io/library/alpine:3.20", ("docker.io/library/alpine", "3.20")),
        ("localhost:5000/x", ("localhost:5000/x", "")),
        ("localhost:5000/x@sha256:ab", ("localhost:5000/x", "sha256:ab")),
        ("localhost:5000/x:1@sha256:ab", ("localhost:5000/x", "1")),
        ("alpine", ("alpine", "")),
        ("", ("", "")),
    ],
)
def test_the_parts_of_a_name(name: str, parts: tuple[str, str]) -> None:
    assert fields.split_name(name) == parts
    assert fields.repository_of(name) == parts[0]


COMPONENT = st.from_regex(r"[a-z0-9]+([._-][a-z0-9]+)?", fullmatch=True)


@given(
    st.sampled_from(["docker.io", "ghcr.io", "localhost:5000"]),
    st.lists(COMPONENT, min_size=1, max_size=3),
    st.booleans(),
)
def test_familiar_names_are_those_of_the_grammar(registry: str, path: list[str], by_digest: bool) -> None:
    try:
        reference = Reference.parse(f"{registry}/{'/'.join(path)}" + ("@sha256:" + "a" * 64 if by_digest else ":1"))
    except MirrorError:
        return
    assert fields.familiar(str(reference)) == reference.familiar

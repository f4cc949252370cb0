"""Docker's filters, read and judged."""

import pytest

from mirror.errors import RequestInvalid
from mirror.oci.names import Repository
from mirror.operations import filters
from mirror.operations.filters import NamePattern
from mirror.store.inventory import ImageRow
from mirror.store.protocols import Link, Origin
from tests.store.samples import ALPINE, OWN, TOOL, digest_of

DIGEST = digest_of("x")
NOW = 1_700_000_000.0


def row(tag: str | None = "3.20", repository: Repository = ALPINE) -> ImageRow:
    return ImageRow(repository, tag, DIGEST, "", 0, Origin.UPSTREAM, Link(), 0, None, None, pinned=False)


@pytest.mark.parametrize(("text", "matches"), [
    ("alpine", True), ("al*", True), ("alpine:3*", True), ("*:3.20", True), ("*", True), ("alpin", False),
    ("alpine:3", False), ("*/*", False), ("library/alpine", False), ("docker.io/library/alpine", True),
    ("docker.io/library/alpine:3.20", True), ("docker.io/*/al*", True), ("docker.io/alpine", False),
])  # fmt: skip
def test_patterns_over_names_as_docker_prints_them(text: str, matches: bool) -> None:
    assert NamePattern(text).matches(row(), "alpine") is matches


def test_other_repositories_and_what_has_no_tag() -> None:
    assert NamePattern("ghcr.io/*/tool").matches(row("1", TOOL), "ghcr.io/team/tool")
    assert NamePattern("team/*").matches(row("1", OWN), "team/app")
    assert not NamePattern("team/*").matches(row("1", TOOL), "ghcr.io/team/tool")
    assert NamePattern("alpine").matches(row(None), "alpine")
    assert NamePattern(f"alpine@{DIGEST}").matches(row(None), "alpine")
    assert not NamePattern("alpine:*").matches(row(None), "alpine")


def test_filters_are_read() -> None:
    found = filters.read(
        ["label=a", "label=b=c=d", "before=alpine", "since=nginx:1", "until=10d", "dangling=true", "reference=a*"],
        now=NOW,
    )
    assert found.labels == (("a", None), ("b", "c=d"))
    assert (found.before, found.since, found.until) == (("alpine",), ("nginx:1",), (NOW - 864_000,))
    assert found.dangling is True
    assert len(found.references) == 1
    assert filters.read([], now=NOW) == filters.Filters()


@pytest.mark.parametrize(("texts", "says"), [
    (["colour=red"], "there are reference, label, before, since, until, dangling"),
    (["label"], "key=value"), (["label="], "key=value"), (["dangling=perhaps"], "true or false"),
    (["dangling=true", "dangling=0"], "true and false"), (["reference=["], "syntax error in pattern"),
    (["until=yesterday"], "is no time and no span"),
])  # fmt: skip
def test_what_cannot_be_meant(texts: list[str], says: str) -> None:
    with pytest.raises(RequestInvalid, match=says):
        filters.read(texts, now=NOW)


@pytest.mark.parametrize(("text", "expected"), [
    ("10s", NOW - 10), ("1h30m", NOW - 5400), ("1.5h", NOW - 5400), ("2w", NOW - 14 * 86400), ("500ms", NOW - 0.5),
    ("10", 10.0), ("1600000000", 1_600_000_000.0), ("1600000000.5", 1_600_000_000.5), ("2023-11-14T22:13:20Z", NOW),
    ("2023-11-14T22:13:20+00:00", NOW),
])  # fmt: skip
def test_moments(text: str, expected: float) -> None:
    assert filters.moment(text, now=NOW) == expected


@pytest.mark.parametrize("text", ["", "h", "10 s", "1x", "-5s", "9" * 40, "10s5", "2025-13-01", "1e9"])
def test_no_moments(text: str) -> None:
    with pytest.raises(RequestInvalid):
        filters.moment(text, now=NOW)


@pytest.mark.parametrize("text", [None, "", "soon", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59"])
def test_what_is_no_time_is_dockers_zero(text: str | None) -> None:
    assert filters.instant(text) == filters.ZERO_TIME


def test_instants() -> None:
    assert filters.instant("2023-11-14T22:13:20.123456789Z") == pytest.approx(NOW + 0.123456)

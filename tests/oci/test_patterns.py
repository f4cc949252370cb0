"""Patterns: what Go's `path.Match` says of the same texts (its own table), and a slow matcher under hypothesis."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import RequestInvalid
from mirror.oci.patterns import is_pattern, pattern

# Go 1.22, src/path/match_test.go, `matchTests`.
GO = [
    ("abc", "abc", True), ("*", "abc", True), ("*c", "abc", True), ("a*", "a", True), ("a*", "abc", True),
    ("a*", "ab/c", False), ("a*/b", "abc/b", True), ("a*/b", "a/c/b", False),
    ("a*b*c*d*e*/f", "axbxcxdxe/f", True), ("a*b*c*d*e*/f", "axbxcxdxexxx/f", True),
    ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", False), ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", False),
    ("a*b?c*x", "abxbbxdbxebxczzx", True), ("a*b?c*x", "abxbbxdbxebxczzy", False),
    ("ab[c]", "abc", True), ("ab[b-d]", "abc", True), ("ab[e-g]", "abc", False), ("ab[^c]", "abc", False),
    ("ab[^b-d]", "abc", False), ("ab[^e-g]", "abc", True), ("a\\*b", "a*b", True), ("a\\*b", "ab", False),
    ("a?b", "a☺b", True), ("a[^a]b", "a☺b", True), ("a???b", "a☺b", False), ("a[^a][^a][^a]b", "a☺b", False),
    ("[a-ζ]*", "α", True), ("*[a-ζ]", "A", False), ("a?b", "a/b", False), ("a*b", "a/b", False),
    ("[\\]a]", "]", True), ("[\\-]", "-", True), ("[x\\-]", "x", True), ("[x\\-]", "-", True),
    ("[x\\-]", "z", False), ("[\\-x]", "x", True), ("[\\-x]", "-", True), ("[\\-x]", "a", False),
    ("*x", "xxx", True), ("", "", True), ("", "a", False), ("[c-a]", "b", False), ("[^c-a]", "b", True),
]  # fmt: skip
BAD = ["[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[", "[^", "[^bc", "a[", "\\", "a\\", "[a-", "x" * 600]


@pytest.mark.parametrize(("text", "name", "matches"), GO)
def test_as_go_has_it(text: str, name: str, matches: bool) -> None:
    assert pattern(text)(name) is matches


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_pattern(text: str) -> None:
    with pytest.raises(RequestInvalid):
        pattern(text)


def test_what_is_meant_literally() -> None:
    assert not is_pattern("docker.io/library/alpine:3.20")
    assert all(is_pattern(text) for text in ("a*", "a?", "[a]", "\\a"))


@pytest.mark.parametrize("text", ["*" * 400 + "b", "*a" * 60 + "b", "*a?" * 40 + "b", "*[a-c]" * 60 + "b"])
def test_many_stars_take_no_time(text: str) -> None:
    """Fails by its time limit where what stands between two stars is tried at every place."""
    assert not pattern(text)("a" * 250)


def slow(text: str, name: str) -> bool:
    """`*` and `?` by definition."""
    if not text:
        return not name
    if text[0] == "*":
        return slow(text[1:], name) or (bool(name) and name[0] != "/" and slow(text, name[1:]))
    if not name:
        return False
    return (name[0] != "/" if text[0] == "?" else text[0] == name[0]) and slow(text[1:], name[1:])


@given(st.text("ab/*?.", max_size=9), st.text("ab/.", max_size=9))
def test_stars_and_marks(text: str, name: str) -> None:
    assert pattern(text)(name) is slow(text, name)


@given(st.text("ab/*?[]^-\\", max_size=8), st.text("ab/]-^", max_size=6))
def test_any_text_is_a_pattern_or_refused(text: str, name: str) -> None:
    try:
        matches = pattern(text)
    except RequestInvalid:
        return
    matches(name)


@given(st.text(max_size=20))
def test_what_has_nothing_special_matches_itself(text: str) -> None:
    if not is_pattern(text):
        assert pattern(text)(text)
        assert not pattern(text)(text + "x")

"""The parameters of a query: what each says, and which error names the one that is wrong."""

import pytest

from mirror.errors import DigestInvalid, ManifestInvalid, MirrorError, RequestInvalid
from mirror.oci import queries
from mirror.oci.digest import Digest

EMPTY = Digest.of(b"")


def test_of_a_repeated_parameter_the_first_counts() -> None:
    assert queries.read("n=1&n=2&l%61st=a+b") == {"n": "1", "last": "a b"}


def test_what_is_not_said_is_none() -> None:
    nothing = {"n": "", "digest": "", "last": ""}
    assert queries.count(nothing) is None
    assert queries.digest(nothing, "digest") is None
    assert queries.text_of(nothing, "last") is None
    assert queries.algorithm({}) is None
    assert queries.term({}) == ""


def test_what_is_said() -> None:
    assert queries.count({"n": "007"}) == 7
    assert queries.digest({"mount": str(EMPTY)}, "mount") == EMPTY
    assert queries.algorithm({"digest-algorithm": "sha512"}) == "sha512"
    assert queries.tags("tag=1&x=2&tag=3&tag=1") == ("1", "3")
    assert queries.term({"q": "caf\u00e9"}) == "caf\u00e9"


@pytest.mark.parametrize(("query", "error"), [
    ("ns=a&ns=b", RequestInvalid), ("a" * (queries.QUERY_LIMIT + 1), RequestInvalid), ("\u00e9=1", RequestInvalid),
])  # fmt: skip
def test_queries_that_are_none(query: str, error: type[MirrorError]) -> None:
    with pytest.raises(error):
        queries.read(query)


def test_parameters_that_are_wrong() -> None:
    with pytest.raises(RequestInvalid, match="n is not a number"):
        queries.count({"n": "-1"})
    with pytest.raises(DigestInvalid):
        queries.digest({"digest": "md5:00"}, "digest")
    with pytest.raises(DigestInvalid, match="sha256, sha512"):
        queries.algorithm({"digest-algorithm": "md5"})
    with pytest.raises(ManifestInvalid):
        queries.tags("tag=.x")
    with pytest.raises(RequestInvalid):
        queries.text_of({"last": "\x00"}, "last")
    with pytest.raises(RequestInvalid):
        queries.term({"q": "\x00"})

import re

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from mirror.cache.rights import LOOPBACK
from mirror.oci.names import Repository
from mirror.server.call import Call, warning

ALPINE = Repository("docker.io", "library/alpine")
TAG = "sha256:" + "a" * 64


def call(method: str = "GET", *, ns: bool = False, **headers: str) -> Call:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Call(make_mocked_request(method, "/v2/", headers=named), LOOPBACK, "127.0.0.1", "", ns)


def at(path: str, *, ns: bool = False) -> Call:
    return Call(make_mocked_request("POST", path), LOOPBACK, "127.0.0.1", "", ns)


@pytest.mark.parametrize(("path", "ns", "location"), [
    ("/v2/team/app/blobs/uploads/", False, "/v2/team/app/blobs/uploads/x"),
    ("/v2/team/app/blobs/uploads", False, "/v2/team/app/blobs/uploads/x"),
    ("/v2/team/app/blobs/uploads/?mount=sha256:a&from=b", False, "/v2/team/app/blobs/uploads/x"),
    ("/v2/GHCR.io/app/blobs/uploads/y?digest=sha256:a", False, "/v2/GHCR.io/app/blobs/uploads/x"),
    ("/ghcr.io/v2/app/blobs/uploads/", False, "/ghcr.io/v2/app/blobs/uploads/x"),
    ("/v2/%74eam/app/blobs/uploads/", False, "/v2/team/app/blobs/uploads/x"),
    ("/v2/blobs/uploads/a/blobs/uploads/y", False, "/v2/blobs/uploads/a/blobs/uploads/x"),
    ("/v2/app/blobs/uploads/?ns=docker.io", True, "/v2/app/blobs/uploads/x?ns=docker.io"),
    ("/v2/app/blobs/uploads/y?digest=sha256%3Aa&ns=host%3A5000", True, "/v2/app/blobs/uploads/x?ns=host:5000"),
])  # fmt: skip
def test_a_location_is_in_the_words_of_the_client(path: str, ns: bool, location: str) -> None:
    assert at(path, ns=ns).beside("/blobs/uploads", "/blobs/uploads/x") == location


def test_head() -> None:
    assert call("HEAD").head
    assert not call("GET").head


@pytest.mark.parametrize(("ns", "repository", "expected"), [
    (False, ALPINE, None), (True, ALPINE, "docker.io"), (True, None, None),
])  # fmt: skip
def test_the_namespace_is_said_where_it_was_used(ns: bool, repository: Repository | None, expected: str | None) -> None:
    headers = call(ns=ns).headers(repository)
    assert headers.get("OCI-Namespace") == expected
    assert headers["Docker-Distribution-Api-Version"] == "registry/2.0"


@pytest.mark.parametrize(("header", "matches"), [
    (f'"{TAG}"', True), (f'W/"{TAG}"', True), (f'"x",  W/"{TAG}" ', True), ("*", True), (TAG, True),
    ('"x"', False), ("", False), (f'"{TAG}x"', False),
])  # fmt: skip
def test_if_none_match(header: str, matches: bool) -> None:
    assert call(If_None_Match=header).matches(TAG) is matches


def test_never_without_being_asked() -> None:
    assert not call(If_Modified_Since="Tue, 24 Nov 2076 10:00:00 GMT").matches(TAG)


@given(st.text(max_size=500))
def test_a_warning_is_our_own_ascii_and_short(text: str) -> None:
    header = warning(text)
    assert len(header) <= 200
    assert re.fullmatch(r'299 - "[ !#-\[\]-~]*"', header)


def test_a_long_warning_is_cut() -> None:
    assert warning("x" * 1000) == f'299 - "{"x" * 180}"'


def test_a_warning_says_what_it_is_told() -> None:
    assert warning('a "quoted" café\r\nX: y') == "299 - \"a 'quoted' caf'''X: y\""

"""A registry's URLs: their form, their order, their rests."""

import pytest

from mirror.clock import Clock
from mirror.errors import ConfigInvalid, UpstreamLimited
from mirror.upstream.endpoints import Endpoint, Endpoints

URLS = ("https://one.test", "https://two.test", "https://three.test")


@pytest.mark.parametrize(
    ("text", "blob", "ping"),
    [
        ("https://host", "https://host/v2/a/b/blobs/x", "https://host/v2/"),
        ("https://host:8443/", "https://host:8443/v2/a/b/blobs/x", "https://host:8443/v2/"),
        ("https://host/prefix", "https://host/prefix/v2/a/b/blobs/x", "https://host/prefix/v2/"),
        ("https://host/v2/hub-proxy/", "https://host/v2/hub-proxy/a/b/blobs/x", "https://host/v2/"),
        ("https://host/x/v2", "https://host/x/v2/a/b/blobs/x", "https://host/x/v2/"),
        ("https://host/v2x", "https://host/v2x/v2/a/b/blobs/x", "https://host/v2x/v2/"),
        ("http://[::1]:5000", "http://[::1]:5000/v2/a/b/blobs/x", "http://[::1]:5000/v2/"),
    ],
)
def test_where_things_are(text: str, blob: str, ping: str) -> None:
    endpoint = Endpoint.parse(text)
    assert str(endpoint.url("a/b", "blobs", "x")) == blob
    assert str(endpoint.ping) == ping


@pytest.mark.parametrize(
    "text", ["ftp://host", "host", "https://", "https://u:p@host", "https://h?q", "https://h:99999"]
)
def test_what_is_no_url(text: str) -> None:
    with pytest.raises(ConfigInvalid):
        Endpoint.parse(text)


def test_a_registry_needs_a_url() -> None:
    with pytest.raises(ConfigInvalid, match=r"registry\.test"):
        Endpoints("registry.test", (), Clock())


def order(endpoints: Endpoints) -> list[str]:
    return [str(endpoint.origin.host).partition(".")[0] for endpoint in endpoints]


def test_the_last_good_one_comes_first_and_a_failed_one_last() -> None:
    clock = Clock()
    endpoints = Endpoints("registry.test", URLS, clock, rest=30)
    one, two, _ = endpoints.all
    assert order(endpoints) == ["one", "two", "three"]
    endpoints.failed(one)
    endpoints.answered(two)
    assert order(endpoints) == ["two", "three", "one"]
    clock.shift += 31
    assert order(endpoints) == ["two", "one", "three"]
    endpoints.failed(two)
    assert order(endpoints) == ["one", "three", "two"]


def test_all_failed_are_still_asked() -> None:
    endpoints = Endpoints("registry.test", URLS, Clock())
    for endpoint in endpoints.all:
        endpoints.failed(endpoint)
    assert len(order(endpoints)) == 3


def test_one_that_said_429_is_not_asked_before_its_time() -> None:
    clock = Clock()
    endpoints = Endpoints("registry.test", URLS[:2], clock)
    one, two = endpoints.all
    endpoints.limited(one, 100)
    assert order(endpoints) == ["two"]
    endpoints.check()
    endpoints.limited(two, 50)
    assert order(endpoints) == []
    with pytest.raises(UpstreamLimited) as caught:
        endpoints.check()
    assert 49 < caught.value.retry_after <= 50
    clock.shift += 51
    endpoints.check()
    assert order(endpoints) == ["two"]


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://a.test", "team/app"),
        ("https://a.test/prefix", "team/app"),
        ("https://a.test/v2/hosted", "hosted/team/app"),
        ("https://a.test/api/v2/x/y/", "x/y/team/app"),
    ],
)
def test_what_the_registry_calls_a_repository(url: str, name: str) -> None:
    assert Endpoint.parse(url).name("team/app") == name

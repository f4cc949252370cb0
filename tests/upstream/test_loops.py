"""A request that comes back to where it began is named, not followed."""

import pytest

from mirror.errors import UpstreamLoop, UpstreamUnreachable
from mirror.upstream.client import RegistrySource
from mirror.upstream.loops import LOOP, VIA, is_loop, parse_via, via, via_header
from tests.support.fake_registry import FakeCdn, FakeRegistry
from tests.support.fake_registry import behaviours as b
from tests.support.fake_registry.content import FakeImage
from tests.upstream.support import TAG, layer, read


async def test_every_request_says_where_it_comes_from(
    registry: FakeRegistry, image: FakeImage, cdn: FakeCdn, upstream: RegistrySource
) -> None:
    """To the token service and the store too: each of them may be this mirror again. Fails if one leaves it out."""
    registry.access.scheme = "bearer"
    token = via.set(("first", "second"))
    try:
        await read(upstream, layer(image)[0])
    finally:
        via.reset(token)
    assert {request.headers[VIA] for request in registry.requests + cdn.requests} == {"this-mirror, first, second"}


async def test_a_loop_is_named_at_once(registry: FakeRegistry, image: FakeImage, upstream: RegistrySource) -> None:
    """Fails if 508 passes for an outage: it would be asked again and again."""
    registry.script("*", b.status(508, headers={LOOP: "this-mirror"}), times=None)
    with pytest.raises(UpstreamLoop, match="leads back to this mirror"):
        await upstream.manifest(TAG)
    state = upstream.state()
    assert not state.up
    assert state.reason is not None
    assert "this mirror" in state.reason


async def test_another_508_is_an_outage(registry: FakeRegistry, image: FakeImage, upstream: RegistrySource) -> None:
    registry.script("*", b.status(508))
    with pytest.raises(UpstreamUnreachable):
        await upstream.manifest(TAG)


def test_ids() -> None:
    assert parse_via(None) == ()
    assert parse_via("a, b ,c") == ("a", "b", "c")
    assert parse_via("a b, <x>, ok, " + "y" * 65) == ("ok",)
    assert len(parse_via(",".join("abcdefghijklmnopqrstuvwxyz"))) == 16
    assert via_header("me") == "me"
    assert not is_loop(508, {})
    assert not is_loop(200, {LOOP: "x"})

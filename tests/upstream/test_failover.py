"""Several URLs, 429, and what is said of it all. What breaks a test is said in its docstring."""

import time
from collections.abc import AsyncIterator
from email.utils import formatdate

import pytest

from mirror.clock import Clock
from mirror.errors import UpstreamGone, UpstreamInvalid, UpstreamLimited, UpstreamUnreachable
from tests.support.fake_registry import Behaviour, FakeRegistry
from tests.support.fake_registry import behaviours as b
from tests.support.fake_registry.content import FakeImage
from tests.upstream.support import NAME, TAG, layer, read, read_until_broken, source, upstreams


@pytest.fixture
async def second(registry: FakeRegistry, image: FakeImage) -> AsyncIterator[FakeRegistry]:
    """Another URL with the same content."""
    async with FakeRegistry() as fake:
        fake.content = registry.content
        yield fake


@pytest.mark.parametrize("fault", [b.status(503), b.reset(), b.close(), b.garbage(), b.hang()], ids=range(5))
async def test_the_next_url_takes_over(
    registry: FakeRegistry, image: FakeImage, second: FakeRegistry, fault: Behaviour
) -> None:
    """And stays, while the other rests. Fails if each request tries the dead one first."""
    registry.script("*", fault, times=None)
    clock = Clock()
    async with source((registry.url, second.url), headers_seconds=0.3, clock=clock) as upstream:
        for _ in range(3):
            assert (await upstream.manifest(TAG)).raw == image.manifest.raw
        assert upstream.state().up
        asked = registry.count("GET */manifests/*")
        assert asked <= 2  # aiohttp sends once more what a connection ended under
        clock.shift += 31
        registry.unscript()
        await upstream.manifest(TAG)
        assert registry.count("GET */manifests/*") == asked  # the last good one stays first


async def test_in_the_middle_of_a_blob(registry: FakeRegistry, image: FakeImage, second: FakeRegistry) -> None:
    """The URL that broke off comes last. Fails if the download is resumed where it breaks again and again."""
    registry.script("GET */blobs/*", b.close_after(100_000), times=None)
    digest, data = layer(image)
    async with source((registry.url, second.url)) as upstream:
        arrived, _ = await read_until_broken(upstream, digest)
        assert await read(upstream, digest, len(arrived)) == data[len(arrived) :]
    assert second.count("GET */blobs/*") == 1


async def test_an_answer_is_an_answer(registry: FakeRegistry, image: FakeImage, second: FakeRegistry) -> None:
    """Fails if 404 or nonsense from the first URL makes the mirror shop around."""
    async with source((registry.url, second.url)) as upstream:
        for code, kind in ((404, UpstreamGone), (400, UpstreamInvalid)):
            registry.script("*", b.status(code))
            with pytest.raises(kind):
                await upstream.manifest(TAG)
    assert second.requests == []


async def test_all_dead(registry: FakeRegistry, image: FakeImage, second: FakeRegistry) -> None:
    for fake in (registry, second):
        fake.script("*", b.status(503), times=None)
    async with source((registry.url, second.url)) as upstream:
        with pytest.raises(UpstreamUnreachable, match="503"):
            await upstream.manifest(TAG)
        await upstream.probe()
        assert not upstream.state().up


async def test_the_time_over_all_urls_is_bounded(
    registry: FakeRegistry, image: FakeImage, second: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails if every URL gets its whole time: clients give up after 30 s."""
    monkeypatch.setattr("mirror.upstream.failover.OPERATION_SECONDS", 1.2)
    for fake in (registry, second):
        fake.script("*", b.hang(), times=None)
    async with source((registry.url, second.url), headers_seconds=1.0) as upstream:
        began = time.monotonic()
        with pytest.raises(UpstreamUnreachable):
            await upstream.manifest(TAG)
        assert time.monotonic() - began < 2
    assert second.count("GET */manifests/*") == 0


# --- 429 --------------------------------------------------------------------------------------------------


async def test_nothing_is_sent_before_retry_after(registry: FakeRegistry, image: FakeImage) -> None:
    """Of any kind. Fails if a limited registry is asked again, or probed."""
    clock = Clock()
    registry.script("GET */manifests/*", b.limited("120"))
    async with source(registry.url, clock=clock) as upstream:
        with pytest.raises(UpstreamLimited) as caught:
            await upstream.manifest(TAG)
        assert caught.value.retry_after == 120
        registry.forget()
        clock.shift += 119
        for ask in (upstream.manifest(TAG), upstream.head(TAG), read(upstream, layer(image)[0])):
            with pytest.raises(UpstreamLimited):
                await ask
        await upstream.probe()
        assert registry.requests == []
        state = upstream.state()
        assert not state.up
        assert state.limited
        assert state.retry_at is not None
        assert abs(state.retry_at - clock.wall() - 1) < 1
        clock.shift += 2
        assert upstream.state().up
        assert (await upstream.manifest(TAG)).raw == image.manifest.raw


@pytest.mark.parametrize(
    ("header", "seconds"), [(None, 60), ("999999999", 6 * 3600), ("date", 90)], ids=["none", "long", "date"]
)
async def test_how_long(registry: FakeRegistry, image: FakeImage, header: str | None, seconds: float) -> None:
    given = formatdate(time.time() + 90, usegmt=True) if header == "date" else header
    registry.script("*", b.limited(given))
    async with source(registry.url) as upstream:
        with pytest.raises(UpstreamLimited) as caught:
            await upstream.head(TAG)
    assert abs(caught.value.retry_after - seconds) < 2


async def test_a_limit_is_one_sources_and_one_urls(
    registry: FakeRegistry, image: FakeImage, second: FakeRegistry
) -> None:
    """Fails if a stranger's 429 stops our own requests, or one URL's those to the next."""
    registry.script("*", b.limited())
    async with upstreams(url=registry.url, username="alice", password="x") as made:
        with pytest.raises(UpstreamLimited):
            await made.source(NAME, anonymous=True).manifest(TAG)
        assert (await made.source(NAME, anonymous=False).manifest(TAG)).raw
    registry.script("*", b.limited())
    async with source((registry.url, second.url)) as upstream:
        for _ in range(2):
            assert (await upstream.manifest(TAG)).raw
        assert upstream.state().up
    assert registry.count("GET */manifests/*") == 3


async def test_a_429_to_the_ping(registry: FakeRegistry, image: FakeImage) -> None:
    registry.script("GET /v2/", b.limited("33"))
    async with source(registry.url) as upstream:
        await upstream.probe()
        assert upstream.state().limited
        with pytest.raises(UpstreamLimited):
            await upstream.manifest(TAG)


async def test_a_limited_store_limits_the_registry(registry: FakeRegistry, image: FakeImage) -> None:
    async with FakeRegistry() as store:
        store.script("*", b.limited("44"), times=None)
        registry.locate = lambda request: f"{store.url}{request.target}"
        async with source(registry.url) as upstream:
            with pytest.raises(UpstreamLimited):
                await read(upstream, layer(image)[0])

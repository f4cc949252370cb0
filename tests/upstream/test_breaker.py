"""The breaker, by itself and under a source. What breaks a test is said in its docstring."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable

import pytest

from mirror.clock import Clock
from mirror.errors import UpstreamError, UpstreamGone, UpstreamInvalid, UpstreamUnreachable
from mirror.tasks import Tasks
from mirror.upstream.breaker import Breaker
from tests.support.fake_registry import FakeRegistry, Gate
from tests.support.fake_registry import behaviours as b
from tests.support.fake_registry.content import FakeImage
from tests.upstream.support import NAME, TAG, read, source, upstreams

FAILURE = UpstreamUnreachable("registry.test: connection refused", registry=NAME)


class Ping:
    """Fails while `failure` is set; counts; may be held up."""

    def __init__(self) -> None:
        self.failure: UpstreamError | None = FAILURE
        self.count = 0
        self.gate: asyncio.Event | None = None

    async def __call__(self) -> None:
        self.count += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    made = Tasks()
    yield made
    await made.drain(0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def opened(ping: Ping, tasks: Tasks, clock: Clock) -> Breaker:
    breaker = Breaker(NAME, ping, clock=clock, tasks=tasks, interval=30)
    breaker.failed(FAILURE)
    await until(lambda: breaker.is_open)
    return breaker


async def test_it_opens_when_the_ping_fails_too(tasks: Tasks, caplog: pytest.LogCaptureFixture) -> None:
    clock, ping = Clock(), Ping()
    with caplog.at_level(logging.WARNING):
        breaker = await opened(ping, tasks, clock)
        with pytest.raises(UpstreamUnreachable, match="connection refused"):
            await breaker.check()
        breaker.succeeded()
    await breaker.check()
    assert [record.message for record in caplog.records] == [
        "registry.test: connection refused; it is asked again once it answers its ping",
        "registry.test is reachable again",
    ]


async def test_it_stays_closed_while_the_ping_answers(tasks: Tasks) -> None:
    """Fails if one broken answer shuts out everything else of the registry."""
    ping = Ping()
    for outcome in (None, UpstreamInvalid("an answer of a kind", registry=NAME)):
        ping.failure, ping.count = outcome, 0
        breaker = Breaker(NAME, ping, clock=Clock(), tasks=tasks)
        for _ in range(10):
            breaker.failed(FAILURE)
            await breaker.check()
        await until(lambda: ping.count == 1)
        await asyncio.sleep(0.05)
        assert not breaker.is_open
        assert ping.count == 1
        assert breaker.since is None


async def test_while_closed_a_ping_a_second_is_enough(tasks: Tasks) -> None:
    """Fails if answers that break by the hundred are pinged for by the hundred."""
    clock, ping = Clock(), Ping()
    ping.failure = None
    breaker = Breaker(NAME, ping, clock=clock, tasks=tasks)
    for _ in range(10):
        breaker.failed(FAILURE)
        await asyncio.sleep(0.01)
    assert ping.count == 1
    clock.shift += 1
    breaker.failed(FAILURE)
    await until(lambda: ping.count == 2)


async def test_while_open_at_most_one_probe_per_interval(tasks: Tasks) -> None:
    """Fails if every caller probes, or probes by itself in the background."""
    clock, ping = Clock(), Ping()
    breaker = await opened(ping, tasks, clock)
    for _ in range(3):
        ping.count = 0
        for _ in range(50):
            clock.shift += 0.5
            with pytest.raises(UpstreamUnreachable):
                await breaker.check()
        assert ping.count <= 1
        clock.shift += 10
    clock.shift += 300
    await asyncio.sleep(0.05)
    assert ping.count <= 1


async def test_the_caller_that_probes_waits_for_an_upstream_that_is_back(tasks: Tasks) -> None:
    """Fails if the first request after an outage is refused although the registry answers."""
    clock, ping = Clock(), Ping()
    breaker = await opened(ping, tasks, clock)
    ping.failure = None
    clock.shift += 31
    await breaker.check()
    assert not breaker.is_open


async def test_a_probe_that_hangs_holds_nobody_up(tasks: Tasks) -> None:
    clock, ping = Clock(), Ping()
    breaker = await opened(ping, tasks, clock)
    clock.shift += 31
    ping.gate = asyncio.Event()
    for longest in (0.9, 0.1, 0.1):
        began = time.monotonic()
        with pytest.raises(UpstreamUnreachable):
            await breaker.check()
        assert time.monotonic() - began < longest
    assert ping.count == 2
    ping.gate.set()


async def test_asking_for_a_probe(tasks: Tasks) -> None:
    clock, ping = Clock(), Ping()
    breaker = Breaker(NAME, ping, clock=clock, tasks=tasks, interval=30)
    await breaker.probe()
    assert breaker.is_open
    assert breaker.since is not None
    await breaker.probe()
    assert ping.count == 1
    assert breaker.retry_in is not None
    assert 29 < breaker.retry_in <= 30
    clock.shift += 31
    ping.failure = None
    await breaker.probe()
    assert not breaker.is_open
    assert breaker.retry_in is None


# --- under a source ---------------------------------------------------------------------------------------


async def test_a_dead_registry_costs_nothing_once_it_is_known(registry: FakeRegistry, image: FakeImage) -> None:
    """p99 below a second, and one probe per interval. Fails if calls go on to be sent."""
    clock = Clock()
    registry.script("*", b.hang(), times=None)
    async with source(registry.url, clock=clock, headers_seconds=0.2) as upstream:
        with pytest.raises(UpstreamUnreachable):
            await upstream.manifest(TAG)
        await until(lambda: not upstream.state().up)
        state = upstream.state()
        assert state.since is not None
        assert state.retry_at is not None
        assert state.reason is not None
        registry.forget()
        began = time.monotonic()
        for _ in range(200):
            with pytest.raises(UpstreamUnreachable):
                await upstream.manifest(TAG)
        assert time.monotonic() - began < 1
        assert registry.requests == []
        clock.shift += 31
        registry.unscript()
        assert (await upstream.manifest(TAG)).raw == image.manifest.raw
        assert upstream.state().up


async def test_broken_blobs_do_not_shut_out_manifests(registry: FakeRegistry, image: FakeImage) -> None:
    """Fails if the breaker opens although `GET /v2/` answers."""
    registry.script("GET */blobs/*", b.status(503), times=None)
    async with source(registry.url) as upstream:
        for _ in range(3):
            with pytest.raises(UpstreamUnreachable):
                await read(upstream, image.layers[0][0])
            assert (await upstream.manifest(TAG)).raw
        assert upstream.state().up


async def test_a_404_is_an_answer(registry: FakeRegistry, image: FakeImage) -> None:
    async with source(registry.url) as upstream:
        registry.script("*", b.status(404), times=None)
        with pytest.raises(UpstreamGone):
            await upstream.manifest(TAG)
        assert registry.count("GET /v2/") == 0


async def test_one_sources_outage_is_not_the_others(registry: FakeRegistry, image: FakeImage) -> None:
    """Fails if anonymous and credentialed requests share a breaker: a stranger's failures would stop ours."""
    gate = Gate()
    registry.script(lambda request: "Authorization" not in request.headers, b.hang(gate), times=None)
    registry.access.scheme = "basic"
    registry.access.users["alice"] = "x"
    async with upstreams(url=registry.url, username="alice", password="x", headers_seconds=0.2) as made:
        stranger, ours = made.source(NAME, anonymous=True), made.source(NAME, anonymous=False)
        with pytest.raises(UpstreamUnreachable):
            await stranger.manifest(TAG)
        await until(lambda: not made.states()[0].up)
        registry.unscript()
        assert (await ours.manifest(TAG)).raw == image.manifest.raw
        assert [state.up for state in made.states()] == [False, True]
        gate.release()

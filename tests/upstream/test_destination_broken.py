"""Uploads that break, stall or are slow, and how they go on. What breaks a test is said in its docstring."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Literal

import pytest

from mirror.errors import MirrorError, UpstreamGone, UpstreamInvalid, UpstreamRefused, UpstreamUnreachable
from mirror.upstream.destination import RegistryDestination
from mirror.upstream.protocols import Session
from tests.support.fake_registry import FakeRegistry, Gate, Intake
from tests.support.fake_registry import behaviours as b
from tests.upstream.pushing import DATA, DIGEST, UPLOADS, begun, chunks
from tests.upstream.support import REPOSITORY, destination

# --- interruptions ----------------------------------------------------------------------------------------


async def test_a_broken_upload_is_resumed_from_what_was_acknowledged(
    registry: FakeRegistry, target: RegistryDestination
) -> None:
    """Fails if it begins anew, or goes on from what was sent."""
    registry.script_intake("PATCH *", Intake(1_234_567))
    session = await begun(target)
    with pytest.raises(UpstreamUnreachable):
        await target.send(REPOSITORY, session, chunks(DATA), len(DATA))
    resumed = await target.resume(REPOSITORY, session.location)
    assert resumed is not None
    assert resumed.offset == 1_234_567
    rest = DATA[resumed.offset :]
    resumed = await target.send(REPOSITORY, resumed, chunks(rest), len(rest))
    await target.finish(REPOSITORY, resumed, DIGEST)
    assert registry.repository(REPOSITORY.path).blobs == {str(DIGEST): DATA}
    assert registry.seen("PATCH *")[1].headers["Content-Range"] == f"1234567-{len(DATA) - 1}"
    assert registry.received(UPLOADS) == len(DATA)


async def test_a_registry_that_takes_no_more(
    registry: FakeRegistry, target: RegistryDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirror.upstream.upload.STALL_SECONDS", 0.3)
    registry.script_intake("PATCH *", Intake(1000, "hang"))
    session = await begun(target)
    data = bytes(30_000_000)  # more than the sockets' buffers hold
    with pytest.raises(UpstreamUnreachable, match="took no more"):
        await target.send(REPOSITORY, session, chunks(data), len(data))


async def test_a_registry_that_does_not_answer_to_the_last_byte(
    registry: FakeRegistry, target: RegistryDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirror.upstream.upload.ANSWER_SECONDS", 0.3)
    registry.script("PATCH *", b.hang())
    session = await begun(target)
    with pytest.raises(UpstreamUnreachable, match="did not answer"):
        await target.send(REPOSITORY, session, chunks(DATA), len(DATA))
    resumed = await target.resume(REPOSITORY, session.location)
    assert resumed is not None
    assert resumed.offset == len(DATA)


async def test_slow_is_not_broken(registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow line, a slow source, a slow last word. Fails if any limit but that on a stall ends a push."""
    monkeypatch.setattr("mirror.upstream.upload.STALL_SECONDS", 0.4)

    async def slowly() -> AsyncIterator[bytes]:
        async for chunk in chunks(DATA, 2_500_000):
            await asyncio.sleep(0.6)
            yield chunk

    registry.script_intake("PATCH *", Intake(pace=8_000_000))
    gates = [Gate(), Gate()]
    registry.script("PATCH *", b.hang(gates[0]))
    registry.script("PUT *", b.hang(gates[1]))
    async with destination(registry.url, idle_timeout=0.2, headers_seconds=0.3) as target:
        session = await begun(target)
        loop = asyncio.get_running_loop()
        loop.call_later(2.6, gates[0].release)
        session = await target.send(REPOSITORY, session, slowly(), len(DATA))
        loop.call_later(0.6, gates[1].release)
        await target.finish(REPOSITORY, session, DIGEST)


async def test_silence_before_the_body(registry: FakeRegistry, unused_tcp_port: int) -> None:
    async with destination(registry.url, headers_seconds=0.3) as target:
        registry.script("POST *", b.hang())
        with pytest.raises(UpstreamUnreachable, match=r"did not answer within 0\.3 s"):
            await begun(target)
    async with destination(f"http://127.0.0.1:{unused_tcp_port}") as target:
        for _ in range(2):
            with pytest.raises(UpstreamUnreachable, match="could not be reached"):
                await begun(target)


async def test_what_the_source_raises_comes_as_it_is(registry: FakeRegistry, target: RegistryDestination) -> None:
    """Fails if a disk that cannot be read is taken for a registry that is not reachable."""

    async def broken() -> AsyncIterator[bytes]:
        yield DATA[:200_000]
        raise LookupError("the disk")

    with pytest.raises(LookupError, match="the disk"):
        await target.send(REPOSITORY, await begun(target), broken(), len(DATA))
    for said, really in ((len(DATA), len(DATA) - 1), (len(DATA) - 1, len(DATA))):
        with pytest.raises(MirrorError, match="what was to be sent"):
            await target.send(REPOSITORY, await begun(target), chunks(DATA[:really]), said)


@pytest.mark.parametrize("then", ["answer", "hang"])
async def test_the_source_may_be_closed_at_once(
    registry: FakeRegistry, target: RegistryDestination, then: Literal["answer", "hang"]
) -> None:
    """When `send` ends by an early answer, or is cancelled. Fails if a file is closed while it is read from."""
    left = False

    async def slow() -> AsyncGenerator[bytes, None]:
        nonlocal left
        yield DATA
        try:
            await asyncio.sleep(10)
        finally:
            await asyncio.sleep(0.1)
            left = True
        yield DATA

    registry.script_intake("PATCH *", Intake(len(DATA) - 1, then))
    registry.script("PATCH *", b.status(400))
    session, source = await begun(target), slow()
    with pytest.raises((UpstreamRefused, UpstreamUnreachable, TimeoutError)):
        async with asyncio.timeout(0.5):
            await target.send(REPOSITORY, session, source, 2 * len(DATA))
    assert left
    await source.aclose()  # RuntimeError while somebody reads


async def test_an_upload_that_is_known_no_more(registry: FakeRegistry, target: RegistryDestination) -> None:
    session = await begun(target)
    registry.pushes.uploads.clear()
    with pytest.raises(UpstreamGone):
        await target.send(REPOSITORY, session, chunks(b"abc"), 3)
    with pytest.raises(UpstreamGone):
        await target.finish(REPOSITORY, session, DIGEST)
    assert await target.resume(REPOSITORY, session.location) is None


@pytest.mark.parametrize("code", [400, 401, 403, 405, 416, 501])
async def test_what_cannot_be_resumed_is_begun_anew(
    registry: FakeRegistry, target: RegistryDestination, code: int
) -> None:
    session = await begun(target)
    registry.script("GET *", b.status(code), times=None)
    assert await target.resume(REPOSITORY, session.location) is None
    for location in ("", "ftp://x/", "https://[", "http:///"):
        assert await target.resume(REPOSITORY, location) is None


async def test_a_resume_that_gets_no_answer(registry: FakeRegistry, target: RegistryDestination) -> None:
    """Fails if an outage makes it begin anew."""
    session = await begun(target)
    registry.script("GET *", b.status(503))
    with pytest.raises(UpstreamUnreachable):
        await target.resume(REPOSITORY, session.location)
    registry.script("GET *", b.header("Range", None))
    assert await target.resume(REPOSITORY, session.location) is None  # from where?


async def test_another_part_than_the_registry_waits_for(registry: FakeRegistry, target: RegistryDestination) -> None:
    session = await begun(target)
    with pytest.raises(UpstreamInvalid, match="416"):
        await target.send(REPOSITORY, Session(session.location, 10), chunks(b"abc"), 3)


async def test_a_registry_that_resumes_nothing(registry: FakeRegistry, target: RegistryDestination) -> None:
    """As docker's own, which refuses the location from before the break; what it has acknowledged goes on, though."""
    registry.pushes.forgetful = True
    registry.script_intake("PATCH *", Intake(1_000_000))
    session = await begun(target)
    with pytest.raises(UpstreamUnreachable):
        await target.send(REPOSITORY, session, chunks(DATA), len(DATA))
    assert await target.resume(REPOSITORY, session.location) is None
    session = await target.send(REPOSITORY, await begun(target), chunks(DATA[:1000]), 1000)
    session = await target.send(REPOSITORY, session, chunks(DATA[1000:]), len(DATA) - 1000)
    await target.finish(REPOSITORY, session, DIGEST)
    assert registry.repository(REPOSITORY.path).blobs == {str(DIGEST): DATA}

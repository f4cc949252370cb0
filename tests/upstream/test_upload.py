"""The body of an upload, piece by piece."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

import pytest

from mirror.errors import MirrorError
from mirror.upstream.upload import ANSWER_SECONDS, PIECE, STALL_SECONDS, UploadBody


async def of(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def left(limit: asyncio.Timeout) -> float | None:
    """Seconds until the limit ends it all."""
    when = limit.when()
    return None if when is None else when - asyncio.get_running_loop().time()


async def test_small_pieces_and_every_byte() -> None:
    data = bytes(range(256)) * 1000
    async with asyncio.timeout(5) as limit:
        body = UploadBody(of(b"", data[:200_000], b"", data[200_000:]), len(data), limit)
        assert not body.begun
        pieces = [bytes(piece) async for piece in body]
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) == PIECE
    assert body.begun
    assert body.sent_all


async def test_the_limit_moves_along() -> None:
    """Fails if a slow source is held against the registry, or a long body ends at a fixed time."""
    limits: list[float | None] = []
    async with asyncio.timeout(5) as limit:

        async def watched() -> AsyncIterator[bytes]:
            limits.append(left(limit))
            yield b"x"

        body = UploadBody(watched(), 1, limit)
        assert bytes(await anext(body)) == b"x"
        limits.append(left(limit))
        assert body.sent_all
        with pytest.raises(StopAsyncIteration):
            await anext(body)
        limits.append(left(limit))
    assert limits[0] is None
    assert limits[1:] == pytest.approx([STALL_SECONDS, ANSWER_SECONDS], abs=2)


@pytest.mark.parametrize(("chunks", "count"), [((b"abc",), 4), ((), 1), ((b"ab", b"cd"), 3)])
async def test_another_length_than_promised(chunks: tuple[bytes, ...], count: int) -> None:
    """Fails if the registry waits for bytes that never come, or gets more than it was told."""
    async with asyncio.timeout(5) as limit:
        body = UploadBody(of(*chunks), count, limit)
        with pytest.raises(MirrorError, match="what was to be sent") as caught:
            [piece async for piece in body]
        assert body.failure is caught.value
        assert not body.sent_all


async def test_stop_waits_for_who_reads() -> None:
    """And lets nobody read afterwards, nor move a limit that is over. Fails if a file is closed under its reader."""
    reading, go = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncGenerator[bytes, None]:
        reading.set()
        await go.wait()
        yield b"x"

    source = slow()
    async with asyncio.timeout(5) as limit:
        body = UploadBody(source, 2, limit)
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(body.__anext__())
            await reading.wait()
            stopping = group.create_task(body.stop())
            await asyncio.sleep(0.01)
            assert not stopping.done()
            go.set()
            assert bytes(await reader) == b"x"
        with pytest.raises(ConnectionAbortedError):
            await anext(body)
    await source.aclose()

"""Small bodies: read whole with a cap, or read away."""

from typing import Any

import aiohttp
import pytest

from mirror.errors import UpstreamInvalid, UpstreamUnreachable
from mirror.upstream.bodies import drain, read_capped
from mirror.upstream.transport import Response
from tests.support.fake_registry import Behaviour, FakeRegistry
from tests.support.fake_registry import behaviours as b


@pytest.fixture
async def session() -> Any:
    async with aiohttp.ClientSession(response_class=Response) as made:
        yield made


async def get(session: aiohttp.ClientSession, registry: FakeRegistry, body: bytes, *more: Behaviour) -> Response:
    registry.script("*", b.both(b.status(200, body=body), *more))
    response = await session.get(f"{registry.url}/v2/")
    assert isinstance(response, Response)
    return response


async def test_up_to_the_cap(registry: FakeRegistry, session: aiohttp.ClientSession) -> None:
    for more in ((), (b.chunked(),)):
        response = await get(session, registry, b"x" * 1000, *more)
        assert await read_capped(response, 1000, registry="r", what="token") == b"x" * 1000
        response = await get(session, registry, b"x" * 1001, *more)
        with pytest.raises(UpstreamInvalid, match="larger than 1000 bytes"):
            await read_capped(response, 1000, registry="r", what="token")
        assert response.closed


async def test_a_break(registry: FakeRegistry, session: aiohttp.ClientSession) -> None:
    response = await get(session, registry, b"x" * 1000, b.close_after(10))
    with pytest.raises(UpstreamUnreachable, match="early"):
        await read_capped(response, 2000, registry="r", what="token")


async def test_reading_away_keeps_the_connection_where_that_is_cheap(
    registry: FakeRegistry, session: aiohttp.ClientSession
) -> None:
    """Fails if a large or endless body of an error is read to its end, or a small one costs a connection."""
    for _ in range(3):
        await drain(await get(session, registry, b"x" * 60_000))
    assert registry.connections == 1
    await drain(await get(session, registry, b"x" * 10_000_000))
    await drain(await get(session, registry, b"x" * 10_000_000, b.chunked()))
    await drain(await get(session, registry, b"x" * 1000, b.close_after(10)))
    assert registry.connections == 3
    assert registry.sent() < 10_000_000

"""One handler on real listeners, for tests of what lies below the registry."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiofastnet
from aiohttp import web
from aiohttp.http_parser import RawRequestMessage

from mirror.server.http import Connection
from mirror.server.listeners import Listeners


class Handling:
    """A handler that answers nothing at once."""

    def __init__(self, handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        self._handle = handle

    async def __call__(self, request: web.BaseRequest, /) -> web.StreamResponse:
        return await self._handle(request)

    def at_once(self, connection: Connection, message: RawRequestMessage, /) -> bytes | None:
        return None


async def empty(_: web.BaseRequest) -> web.StreamResponse:
    """An answer without a body."""
    return web.Response()


@asynccontextmanager
async def serving(
    handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], *addresses: str
) -> AsyncIterator[Listeners]:
    """Listeners with this handler, on a free port of 127.0.0.1 unless `addresses` say otherwise."""
    aiofastnet.patch_loop()
    listeners = Listeners()
    try:
        await listeners.listen(addresses or ["127.0.0.1:0"], Handling(handle))
        yield listeners
    finally:
        await listeners.close(1.0)

"""One connection's protocol, and responses that are written as they are.

`aiohttp.web.Server` is the low-level server: one handler for every path, no router, no middleware. Time limits that
it lacks stand here: a client that connects and sends no request is let go.
"""

import asyncio
import logging
from email.utils import formatdate
from time import time

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter

log = logging.getLogger(__name__)

FIRST_REQUEST_WITHIN = 30.0  # seconds from the connection to the whole head of the first request
KEEPALIVE = 75.0  # seconds that an idle connection is kept


class Date:
    """The `Date` header, formatted once a second (RFC 9110, 6.6.1)."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = 0
        self._text = b""

    def __call__(self) -> bytes:
        second = int(time())
        if second != self._second:
            self._second = second
            self._text = formatdate(second, usegmt=True).encode() + b"\r\n\r\n"
        return self._text


_date = Date()


class Prepared(web.StreamResponse):
    """A response whose bytes are ready but for their date: written in one go, past aiohttp's header handling.

    Only for a small body, HTTP/1.1 and a connection that stays open.
    """

    def __init__(self, head: bytes, body: bytes) -> None:
        super().__init__()
        self._head_bytes = head
        self._body_bytes = body
        self._keep_alive = True

    @staticmethod
    def suits(request: web.BaseRequest) -> bool:
        """Whether this request may be answered so."""
        return request.version == HttpVersion11 and request.keep_alive

    @property
    def size(self) -> int:
        """Body bytes."""
        return len(self._body_bytes)

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client left")
        transport.write(self._head_bytes + _date() + self._body_bytes)
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Everything went out in `prepare`."""


class Connection(web.RequestHandler):
    """aiohttp's protocol, with a limit for the first request."""

    __slots__ = ("_first",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        loop = asyncio.get_running_loop()
        self._first: asyncio.TimerHandle | None = loop.call_later(FIRST_REQUEST_WITHIN, self._too_slow)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._first is not None:
            self._first.cancel()
            self._first = None
        super().connection_lost(exc)

    def _too_slow(self) -> None:
        self._first = None
        if self._request_count == 0:
            self.force_close()

"""One connection's protocol, and answers that are written as they are.

`aiohttp.web.Server` is the low-level server: one handler for every path, no router, no middleware. Time limits that
it lacks stand here: a client that connects and sends no request is let go.
"""

import asyncio
import logging
from dataclasses import dataclass
from email.utils import formatdate
from time import time
from typing import Protocol

from aiohttp import web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD

from mirror.server.authentication import is_loopback

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


@dataclass(frozen=True, slots=True)
class Prepared:
    """A whole answer but for its date, which ends the head."""

    head: bytes
    body: bytes

    def now(self) -> bytes:
        """The answer as it goes out."""
        return self.head + _date() + self.body


class Handler(Protocol):
    """Answers requests."""

    async def __call__(self, request: web.BaseRequest, /) -> web.StreamResponse:
        """Any request, in a task of its own."""

    def at_once(self, connection: "Connection", message: RawRequestMessage, /) -> bytes | None:
        """The whole answer to a request without a body, where nothing has to be waited for; else None."""


class Connection(web.RequestHandler):
    """aiohttp's protocol, with a limit for the first request, and with answers at once where they can be had.

    `client` is the address at the other end, or "socket"; `local` says whether both ends are loopback.
    """

    __slots__ = ("_at_once", "_first", "client", "local")

    def __init__(self, server: web.Server, handler: Handler) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # aiohttp's own AppRunner documents None; its annotation lacks it
            keepalive_timeout=KEEPALIVE,
            max_field_size=65536,
            max_line_size=65536,
            auto_decompress=False,
            logger=logging.getLogger("mirror.server.connection"),
        )
        self._at_once = handler.at_once
        self._first: asyncio.TimerHandle | None = None
        self.client = ""
        self.local = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = self.peername
        self.client = peer[0] if isinstance(peer, tuple) else "socket"
        self.local = is_loopback(peer) and is_loopback(self.sockname)
        self._first = self._loop.call_later(FIRST_REQUEST_WITHIN, self._too_slow)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._first is not None:
            self._first.cancel()
            self._first = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Let aiohttp read; what came is answered here, or aiohttp's loop over requests is woken to have it answered.

        That loop waits on `_waiter` while no request is under way and none is queued: only then may this one be
        answered before anything else.
        """
        waiter = self._waiter
        if waiter is None or waiter.done() or self.writing_paused:
            super().data_received(data)
            return
        self._waiter = None  # else it would be woken now
        try:
            super().data_received(data)
        finally:
            self._waiter = waiter
        if self._messages and not self._answered_at_once():
            waiter.set_result(None)

    def _answered_at_once(self) -> bool:
        message, payload = self._messages[0]
        if (
            len(self._messages) > 1
            or payload is not EMPTY_PAYLOAD
            or not isinstance(message, RawRequestMessage)
            or message.should_close
            or message.upgrade
            or self.transport is None
            or self._parser is None
        ):
            return False
        answer = self._at_once(self, message)
        if answer is None:
            return False
        self.transport.write(answer)
        self._messages.clear()
        self._parser.message_consumed()
        self._next_keepalive_close_time = self._loop.time() + KEEPALIVE
        return True

    def _too_slow(self) -> None:
        self._first = None
        if self._request_count == 0:
            self.force_close()

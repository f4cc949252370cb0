"""One connection's protocol, and answers that are written as they are.

`aiohttp.web.Server` is the low-level server: one handler for every path, no router, no middleware. Time limits that
it lacks stand here: a client that connects and sends no request is let go.
"""

import asyncio
import logging
import socket
from dataclasses import dataclass
from email.utils import formatdate
from time import time
from typing import Any, Protocol

from aiohttp import HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD

from mirror.server.authentication import is_loopback

log = logging.getLogger(__name__)

FIRST_REQUEST_WITHIN = 30.0  # seconds from the connection to the whole head of the first request
STALLED = 300.0  # seconds for which a client may take nothing of what is sent to it
KEEPALIVE = 75.0  # seconds that an idle connection is kept
_HEADS = 4096
_LONGEST_HEAD = 2048
_HEAD_END = b"\r\n\r\n"


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


class Heads:
    """Requests without a body, byte for byte, and what they say.

    Clients of one kind ask for one thing in the very same words, and parsing these costs as much as answering.
    """

    def __init__(self) -> None:
        self._messages: dict[bytes, RawRequestMessage] = {}

    def get(self, data: bytes) -> RawRequestMessage | None:
        """What these bytes said when they were parsed, if they were one whole request."""
        return self._messages.get(data)

    def put(self, data: bytes, message: RawRequestMessage) -> None:
        """Remember it, unless it is long or tells a secret."""
        if len(data) > _LONGEST_HEAD or "Authorization" in message.headers:
            return
        if len(self._messages) >= _HEADS:
            self._messages.clear()
        self._messages[data] = message


class Connection(web.RequestHandler):
    """aiohttp's protocol, with a limit for the first request, and with answers at once where they can be had.

    `client` is the address at the other end, or "socket"; `local` says whether both ends are loopback.
    """

    __slots__ = ("_at_once", "_first", "_heads", "_in_step", "client", "local")

    def __init__(self, server: web.Server, handler: Handler, heads: Heads) -> None:
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
        self._heads = heads
        self._in_step = True
        self._first: asyncio.TimerHandle | None = None
        self.client = ""
        self.local = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = self.peername
        self.client = peer[0] if isinstance(peer, tuple) else "socket"
        self.local = is_loopback(peer) and is_loopback(self.sockname)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(STALLED * 1000))
        self._first = self._loop.call_later(FIRST_REQUEST_WITHIN, self._too_slow)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._first is not None:
            self._first.cancel()
            self._first = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Answer what can be answered at once; else wake aiohttp's loop over requests to have it answered.

        That loop waits on `_waiter` while no request is under way and none is queued: only then may this one be
        answered before anything else.
        """
        waiter = self._waiter
        if waiter is None or waiter.done() or self.writing_paused or self._close or self._force_close:
            self._parse(data)
            return
        if self._in_step:
            known = self._heads.get(data)
            if known is not None and self._answer(known):
                self._request_count += 1
                return
        self._waiter = None  # else it would be woken by what is parsed
        try:
            self._parse(data)
        finally:
            self._waiter = waiter
        message = self._plain()
        if message is not None and self._answer(message):
            self._messages.clear()
            if self._parser is not None:
                self._parser.message_consumed()
            if self._in_step:
                self._heads.put(data, message)
        elif self._messages:
            waiter.set_result(None)

    def _parse(self, data: bytes) -> None:
        """Queue the requests in `data`. `_in_step` stays true while every piece that came was one request without a
        body, from its first byte to its last: then the next piece begins a request."""
        before = self._request_count
        super().data_received(data)
        self._in_step = (
            self._in_step
            and self._request_count == before + 1
            and self._messages[-1][1] is EMPTY_PAYLOAD
            and data.find(_HEAD_END) == len(data) - len(_HEAD_END)
        )

    def _plain(self) -> RawRequestMessage | None:
        """The request in the queue, if it is the only one, has no body, and leaves the connection as it is."""
        if len(self._messages) != 1:
            return None
        message, payload = self._messages[0]
        if payload is not EMPTY_PAYLOAD or not isinstance(message, RawRequestMessage):
            return None
        if message.version != HttpVersion11:
            return None  # an older client wants to be told that the connection stays open
        return None if message.should_close or message.upgrade else message

    def _answer(self, message: RawRequestMessage) -> bool:
        """Whether it could be answered at once, and is."""
        answer = self._at_once(self, message)
        if answer is None or self.transport is None:
            return False
        self.transport.write(answer)
        self._next_keepalive_close_time = self._loop.time() + KEEPALIVE
        return True

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        """What is no HTTP is the client's mistake: nobody needs a traceback of it (podman tries TLS first)."""
        if isinstance(kwargs.get("exc_info"), HttpProcessingError):
            self.logger.debug(*args, **kwargs)
        else:
            super().log_exception(*args, **kwargs)

    def _too_slow(self) -> None:
        self._first = None
        if self._request_count == 0:
            self.force_close()

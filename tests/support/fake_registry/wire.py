"""A small HTTP/1.1 server over asyncio streams that can do wrong on purpose.

A web framework would repair what these tests need broken: a length that lies, a body that stops, a reset. Here an
`Answer` is data, and the knobs on it say how its sending goes wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import parse_qs, unquote

from multidict import CIMultiDict

from tests.support.fake_registry.intake import Gate, Intake, take

_SLICE = 1 << 16
_HEAD_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came over the wire; `target` is the request line's, byte for byte."""

    method: str
    target: str
    headers: CIMultiDict[str]
    body: bytes = b""
    peer: str = ""
    whole: bool = True  # False: an `Intake` left off before the body's end
    at: float = field(default_factory=time.monotonic)

    @property
    def path(self) -> str:
        """The decoded path without the query."""
        return unquote(self.target.partition("?")[0])

    @property
    def query(self) -> dict[str, list[str]]:
        """The decoded query."""
        return parse_qs(self.target.partition("?")[2], keep_blank_values=True)

    @property
    def line(self) -> str:
        """What `script` and `count` match: method and path."""
        return f"{self.method} {self.path}"

    def range(self, size: int) -> tuple[int, int] | None:
        """The single byte range asked for as [start, end), None without one. Raises ValueError where it cannot be."""
        header = self.headers.get("Range")
        if header is None:
            return None
        unit, _, spec = header.partition("=")
        first, _, last = spec.partition("-")
        if unit != "bytes" or "," in spec:
            raise ValueError(header)
        if not first:
            start, end = max(size - int(last), 0), size
        else:
            start, end = int(first), min(int(last) + 1, size) if last else size
        if start >= size or end <= start:
            raise ValueError(header)
        return start, end


@dataclass(slots=True)
class Answer:
    """What is sent back, and how the sending goes wrong.

    `length` overrides Content-Length (None: the true one; -1: none at all, the body ends with the connection).
    `stop_after` body bytes, `then` happens. `hold` delays the head, `hold_body` the point of `then="hang"`.
    """

    status: int = 200
    headers: CIMultiDict[str] = field(default_factory=CIMultiDict)
    body: bytes | Path = b""
    start: int = 0  # of a Path: the part [start, end) is the body
    end: int | None = None
    length: int | None = None
    chunked: bool = False
    stop_after: int | None = None
    then: Literal["close", "reset", "hang"] = "close"
    hold: Gate | None = None
    hold_body: Gate | None = None
    pace: float | None = None  # bytes per second
    raw: bytes | None = None  # sent instead of everything else
    reset_at_once: bool = False
    whole: Answer | None = None  # of a 206: what would have been sent without the Range
    effect: Callable[[], object] | None = None  # of a write: what the server does before it answers this

    @property
    def size(self) -> int:
        """The body's true length in bytes."""
        if isinstance(self.body, bytes):
            return len(self.body)
        return (self.body.stat().st_size if self.end is None else self.end) - self.start

    def with_range(self, start: int, end: int) -> Answer:
        """The same answer with only the bytes [start, end) of its body."""
        if isinstance(self.body, bytes):
            return replace(self, body=self.body[start:end])
        return replace(self, start=self.start + start, end=self.start + end)

    def slices(self) -> Iterator[bytes]:
        """The body in pieces."""
        if isinstance(self.body, bytes):
            for position in range(0, len(self.body), _SLICE):
                yield self.body[position : position + _SLICE]
            return
        descriptor = os.open(self.body, os.O_RDONLY)
        try:
            position, end = self.start, self.start + self.size
            while position < end:
                data = os.pread(descriptor, min(_SLICE, end - position), position)
                position += len(data)
                yield data
        finally:
            os.close(descriptor)


class _Severed(Exception):
    """The answer's script ended the connection."""


class FakeServer:
    """A server on a port of its own: `async with` in the running loop, or `in_thread()` for synchronous tests.

    `requests` holds every request in order, `body_bytes` and `taken_bytes` count bodies by path, out and in.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0) -> None:
        self.host = host
        self.port = port
        self.requests: list[Request] = []
        self.body_bytes: dict[str, int] = {}
        self.taken_bytes: dict[str, int] = {}
        self.connections = 0
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._handlers: set[asyncio.Task[None]] = set()
        self._thread: threading.Thread | None = None
        self._stop: Callable[[], object] = bool

    async def answer(self, request: Request) -> Answer:
        """What is said to `request`. Each kind of server says its own."""
        raise NotImplementedError

    def intake(self, request: Request) -> Intake:
        """How the body of `request`, of which only the head is there, is to be taken."""
        return Intake()

    @property
    def scheme(self) -> str:
        return "https" if self._tls else "http"

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return f"{self.scheme}://{self.host}:{self.port}"

    async def start(self) -> Self:
        """Listen. A stopped server starts again on the same port."""
        self._server = await asyncio.start_server(
            self._serve, self.host, self.port, ssl=self._tls, limit=_HEAD_LIMIT, reuse_address=True
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Close the port and every connection."""
        if self._server is not None:
            self._server.close()
            for task in list(self._handlers):
                task.cancel()
            await asyncio.gather(*self._handlers, return_exceptions=True)
            await self._server.wait_closed()
            self._server = None

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @contextlib.contextmanager
    def in_thread(self) -> Iterator[Self]:
        """Serve from a thread with a loop of its own."""
        ready = threading.Event()

        async def main() -> None:
            ended = asyncio.Event()
            loop = asyncio.get_running_loop()
            self._stop = lambda: loop.call_soon_threadsafe(ended.set)
            async with self:
                ready.set()
                await ended.wait()

        thread = threading.Thread(target=asyncio.run, args=(main(),), name="fake-server", daemon=True)
        thread.start()
        if not ready.wait(10):
            raise TimeoutError("the fake server did not start")
        try:
            yield self
        finally:
            self._stop()
            thread.join(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, EOFError, asyncio.LimitOverrunError, _Severed, asyncio.CancelledError):
            pass  # the client left, or the script severed the connection
        finally:
            self._handlers.discard(task)
            writer.transport.abort()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the connection may carry another."""
        request = await _read_request(reader, writer)
        if request is None:
            return False
        self.requests.append(request)
        if request.method == "CONNECT":
            await self.tunnel(request, reader, writer)
            return False
        intake = self.intake(request)
        request = await self._take(request, intake, reader)
        self.requests[-1] = request
        answer = await self.answer(request)
        if answer.effect is not None:
            answer.effect()
        if not request.whole:
            await self._leave_off(intake, writer)
        await self._send(request, answer, writer)
        if not request.whole:
            await _close_softly(writer)
        return answer.length is None and request.headers.get("Connection", "").lower() != "close"

    async def _take(self, request: Request, intake: Intake, reader: asyncio.StreamReader) -> Request:
        """The request with its body, or with as much of it as `intake` takes."""

        def count(taken: int) -> None:
            self.taken_bytes[request.path] = self.taken_bytes.get(request.path, 0) + taken

        body, whole = await take(reader, request.headers, intake, count)
        return replace(request, body=body, whole=whole)

    async def _leave_off(self, intake: Intake, writer: asyncio.StreamWriter) -> None:
        if intake.then == "hang":
            await (intake.gate or Gate()).wait()
        if intake.then != "answer":
            _reset(writer)  # what waits unread makes a RST of every close

    async def tunnel(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What CONNECT does: only a proxy knows."""
        writer.write(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async def _send(self, request: Request, answer: Answer, writer: asyncio.StreamWriter) -> None:
        if answer.hold is not None:
            await answer.hold.wait()
        if answer.reset_at_once:
            _reset(writer)
        if answer.raw is not None:
            writer.write(answer.raw)
            await writer.drain()
            raise _Severed
        writer.write(_head(answer))
        await writer.drain()
        if request.method != "HEAD" and answer.status not in (204, 304):
            await self._send_body(request, answer, writer)

    async def _send_body(self, request: Request, answer: Answer, writer: asyncio.StreamWriter) -> None:
        left = answer.stop_after
        for piece in answer.slices():
            data = piece if left is None else piece[:left]
            if data:
                writer.write(b"%x\r\n%b\r\n" % (len(data), data) if answer.chunked else data)
                self.body_bytes[request.path] = self.body_bytes.get(request.path, 0) + len(data)
                await writer.drain()
            if answer.pace is not None:
                await asyncio.sleep(len(data) / answer.pace)
            if left is not None:
                left -= len(data)
                if left <= 0:
                    await _break_off(answer, writer)
        if answer.stop_after is not None:
            await _break_off(answer, writer)
        if answer.chunked:
            writer.write(b"0\r\n\r\n")
        await writer.drain()
        if answer.length is not None:
            await _close_softly(writer)


async def _read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request | None:
    try:
        head = await reader.readexactly(1)
        if head == b"\x16":  # a TLS handshake at a port without TLS
            writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
            await _close_softly(writer)
        head += await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers: CIMultiDict[str] = CIMultiDict()
    for line in filter(None, lines):
        name, _, value = line.partition(":")
        headers.add(name, value.strip())
    return Request(method, target, headers, peer=str(writer.get_extra_info("peername")))


def _head(answer: Answer) -> bytes:
    headers = answer.headers.copy()
    if answer.chunked:
        headers["Transfer-Encoding"] = "chunked"
    elif answer.length != -1:
        headers.setdefault("Content-Length", str(answer.size if answer.length is None else answer.length))
    try:
        phrase = HTTPStatus(answer.status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [f"HTTP/1.1 {answer.status} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def _break_off(answer: Answer, writer: asyncio.StreamWriter) -> None:
    if answer.then == "hang":
        await (answer.hold_body or Gate()).wait()
    elif answer.then == "reset":
        await asyncio.sleep(0.02)  # a reset discards what the peer has not read yet
        _reset(writer)
    await _close_softly(writer)


async def _close_softly(writer: asyncio.StreamWriter) -> None:
    """Send what is buffered, then end the connection with a FIN."""
    await writer.drain()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    raise _Severed


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a RST."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    raise _Severed


Behaviour = Callable[[Request, Answer], Answer]
Match = str | Callable[[Request], bool]

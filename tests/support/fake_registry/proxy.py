"""A forward proxy: plain http by absolute URL, everything else by CONNECT (RFC 9110, 9.3.6)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from urllib.parse import urlsplit

from multidict import CIMultiDict

from tests.support.fake_registry.scripted import ScriptedServer
from tests.support.fake_registry.wire import Answer, Request

_HOP_BY_HOP = ("Proxy-Authorization", "Proxy-Connection", "Connection", "Keep-Alive")


class FakeProxy(ScriptedServer):
    """Forwards to `hosts` (name → (address, port)), or to where the URL says.

    `hosts` lets a test reach a fake registry under a public name that no resolver knows. `login` is
    (user, password) that must be shown, else 407.
    """

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__(host=host, port=port)
        self.hosts: dict[str, tuple[str, int]] = {}
        self.login: tuple[str, str] | None = None
        self.tunnels: list[str] = []

    async def answer(self, request: Request) -> Answer:
        if not self._admitted(request):
            return Answer(407, CIMultiDict({"Proxy-Authenticate": 'Basic realm="proxy"'}))
        url = urlsplit(request.target)
        if not url.hostname:
            return Answer(400)
        return await self._forward(request, url.hostname, url.port or 80, request.target)

    def honest(self, request: Request) -> Answer:
        raise NotImplementedError("a proxy forwards; see `answer`")

    async def tunnel(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tunnels.append(request.target)
        if not self._admitted(request):
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return
        name, _, port = request.target.rpartition(":")
        try:
            there, back = await asyncio.open_connection(*self.hosts.get(name, (name, int(port))))
        except OSError:
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await writer.drain()
        try:
            await asyncio.gather(_copy(reader, back), _copy(there, writer))
        finally:
            back.transport.abort()

    def _admitted(self, request: Request) -> bool:
        if self.login is None:
            return True
        expected = base64.b64encode(":".join(self.login).encode()).decode()
        return request.headers.get("Proxy-Authorization") == f"Basic {expected}"

    async def _forward(self, request: Request, name: str, port: int, target: str) -> Answer:
        """Relay one request; the answer's body is read whole."""
        reader, writer = await asyncio.open_connection(*self.hosts.get(name, (name, port)))
        path = "/" + target.split("://", 1)[1].partition("/")[2]
        headers = [f"{key}: {value}" for key, value in request.headers.items() if key.title() not in _HOP_BY_HOP]
        head = "\r\n".join([f"{request.method} {path} HTTP/1.1", *headers, "Connection: close"])
        try:
            writer.write(head.encode("latin-1") + b"\r\n\r\n" + request.body)
            await writer.drain()
            return Answer(raw=await reader.read(-1))
        finally:
            writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()

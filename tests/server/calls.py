"""Wire tests as data: what is sent, what comes back, header by header (the tables stand in `registry/test_*.py`).

A `Call` is run against a mirror in this process, in front of two scripted registries with the content of `Content`.
Texts may hold `{image}`, `{layer}` and so on: digests of that content. Answers are read by a client that takes nothing
for granted: after each, the same connection must answer another request, or the framing was wrong.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import EllipsisType
from typing import Any

from multidict import CIMultiDict

from tests.support.fake_registry import FakeRegistry
from tests.support.fake_registry.content import OCI_INDEX as OCI_INDEX
from tests.support.fake_registry.content import OCI_MANIFEST as OCI_MANIFEST
from tests.support.fake_registry.content import FakeImage, FakeManifest
from tests.support.mirror import Running, mirror_in_process

ABSENT = None
ANY = ...
NOWHERE = "sha256:" + "0" * 64

#: What every answer of the registry carries.
ALWAYS: Mapping[str, str] = {"Docker-Distribution-Api-Version": "registry/2.0"}


@dataclass(frozen=True, slots=True)
class Call:
    """One request and what must come back. A header of `headers` is exact, `ANY` (it is there) or `ABSENT`."""

    request: str
    status: int
    headers: Mapping[str, str | EllipsisType | None] = field(default_factory=dict)
    body: bytes | str | None = None  # exact; of a text: the error code
    json: object = None  # the body, parsed
    sent: Mapping[str, str] = field(default_factory=dict)
    first: tuple[str, ...] = ()  # requests before it, whose answers do not matter

    def __str__(self) -> str:
        sent = " ".join(f"{name}={value}" for name, value in self.sent.items())
        return f"{self.request} {sent}".strip()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, as it came."""

    status: int
    headers: CIMultiDict[str]
    body: bytes
    closed: bool

    @property
    def code(self) -> str:
        """The first error code."""
        return str(self.error["code"])

    @property
    def error(self) -> dict[str, Any]:
        """The first error, in the specified shape."""
        [found] = json.loads(self.body)["errors"]
        assert set(found) == {"code", "message", "detail"}
        assert found["message"]
        loaded: dict[str, Any] = found
        return loaded


class Content:
    """What the registries behind the mirror hold."""

    def __init__(self, hub: FakeRegistry, other: FakeRegistry) -> None:
        self.hub = hub
        self.other = other
        self.image: FakeImage = hub.add_image("library/alpine", "3", layers=[1000, 300_000])
        self.small = self.image.layers[0]
        self.large = self.image.layers[1]
        self.index: FakeManifest = hub.add_index("library/alpine", "index", [self.image])
        for number in range(5):
            hub.add_image("team/many", f"v{number}", layers=[10], seed="many")
        subject = {"mediaType": OCI_MANIFEST, "digest": self.image.digest, "size": len(self.image.manifest.raw)}
        self.signature = self._referrer("application/vnd.example.signature", subject)
        self.sbom = self._referrer("application/vnd.example.sbom", subject)
        self.tool: FakeImage = other.add_image("team/tool", "1", layers=[500], seed="tool")
        self.names = {
            "image": self.image.digest,
            "index": self.index.digest,
            "small": self.small[0],
            "large": self.large[0],
            "config": self.image.config[0],
            "signature": self.signature.digest,
            "sbom": self.sbom.digest,
            "tool": self.tool.digest,
            "nowhere": NOWHERE,
        }

    def _referrer(self, kind: str, subject: dict[str, object]) -> FakeManifest:
        extra = {"artifactType": kind, "subject": subject}
        return self.hub.add_image("library/alpine", None, layers=[b"{}"], extra=extra).manifest

    def filled(self, text: str) -> str:
        """`text` with names replaced by digests."""
        for name, digest in self.names.items():
            text = text.replace(f"{{{name}}}", digest)
        return text


class Wire:
    """A mirror, and a client that looks at every byte."""

    def __init__(self, mirror: Running, content: Content) -> None:
        self.mirror = mirror
        self.content = content

    async def ask(self, request: str, **sent: str) -> Answer:
        """One request. Underscores in header names stand for dashes."""
        return await self.send(request, {name.replace("_", "-"): value for name, value in sent.items()})

    async def send(self, request: str, sent: Mapping[str, str], body: bytes | None = None) -> Answer:
        method, _, target = self.content.filled(request).partition(" ")
        filled = {name: self.content.filled(value) for name, value in sent.items()}
        host, port = self.mirror.app.listeners.addresses[0]
        return await exchange(host, port, method, target, {"Host": self.mirror.authority, **filled}, body)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator["Raw"]:
        """A connection to the mirror, byte by byte."""
        host, port = self.mirror.app.listeners.addresses[0]
        async with connected(host, port) as raw:
            yield raw

    async def check(self, call: Call) -> Answer:
        """Run a call and hold the answer against it."""
        for request in call.first:
            await self.send(request, {})
        await self.mirror.idle()
        answer = await self.send(call.request, call.sent)
        assert answer.status == call.status, answer
        for name, value in call.headers.items():
            if value is ABSENT:
                assert name not in answer.headers, (name, answer)
            elif value is ANY:
                assert answer.headers.getall(name, []), (name, answer)
            else:
                assert answer.headers.getall(name, []) == [self.content.filled(str(value))], (name, answer)
        if isinstance(call.body, bytes):
            assert answer.body == call.body
        elif call.body is not None:
            assert (answer.code, answer.headers["Content-Type"]) == (call.body, "application/json")
        if call.json is not None:
            assert json.loads(answer.body) == json.loads(self.content.filled(json.dumps(call.json)))
        return answer


@asynccontextmanager
async def wire(data: Path, **settings: Any) -> AsyncIterator[Wire]:
    """A mirror of docker.io (the default) and ghcr.io."""
    async with FakeRegistry() as hub, FakeRegistry() as other:
        content = Content(hub, other)
        registries = {"docker.io": hub.url, "ghcr.io": other.url}
        async with mirror_in_process(data, registries, **settings) as mirror:
            yield Wire(mirror, content)


class Raw:
    """One connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def write(self, *requests: str, **sent: str) -> None:
        """Send requests, all in one piece. Underscores in header names stand for dashes."""
        named = {name.replace("_", "-"): value for name, value in sent.items()}
        parts = [request.partition(" ") for request in requests]
        self._writer.write(b"".join(head(method, target, named) for method, _, target in parts))

    def write_bytes(self, data: bytes) -> None:
        self._writer.write(data)

    def write_eof(self) -> None:
        """Nothing more is sent; the other side may go on."""
        self._writer.write_eof()

    async def answer(self, method: str = "GET") -> Answer:
        """The next answer."""
        return await _answer(self._reader, method)

    async def until_head(self) -> bytes:
        """The next head, as it is: an interim answer."""
        return await self._reader.readuntil(b"\r\n\r\n")

    async def rest(self) -> bytes:
        """What comes until the other side closes, or cuts the connection."""
        data = bytearray()
        with suppress(ConnectionError):
            while more := await self._reader.read(65536):
                data += more
        return bytes(data)


@asynccontextmanager
async def connected(host: str, port: int) -> AsyncIterator["Raw"]:
    """A connection."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def exchange(
    host: str, port: int, method: str, target: str, headers: Mapping[str, str], body: bytes | None = None
) -> Answer:
    """Send one request on a new connection, read the answer, and see that the connection is still in step. `body` is
    sent with its length, unless the headers say how it is framed."""
    async with connected(host, port) as raw:
        if body is not None and "Transfer-Encoding" not in headers:
            headers = {"Content-Length": str(len(body)), **headers}
        raw.write_bytes(head(method, target, headers) + (body or b""))
        answer = await raw.answer(method)
        if not answer.closed:
            raw.write_bytes(head("GET", "/healthz", {"Host": "x", "Connection": "close"}))
            after = await raw.answer()
            assert (after.status, after.body) == (200, b"ok\n"), after
            assert await raw.rest() == b""
        return answer


def head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """A request without a body."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


async def _answer(reader: asyncio.StreamReader, method: str) -> Answer:
    text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = text.removesuffix("\r\n\r\n").split("\r\n")
    version, status, _ = first.split(" ", 2)
    assert version == "HTTP/1.1"
    headers: CIMultiDict[str] = CIMultiDict()
    for line in lines:
        name, _, value = line.partition(": ")
        headers.add(name, value)
    closed = headers.get("Connection", "").lower() == "close"
    assert "Transfer-Encoding" not in headers, text  # every length here is known
    if method == "HEAD" or status in ("204", "304"):
        return Answer(int(status), headers, b"", closed)
    body = await reader.readexactly(int(headers["Content-Length"]))
    return Answer(int(status), headers, body, closed)

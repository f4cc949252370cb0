"""What the fault tests share: a mirror before a scripted registry, readers that stop in the middle, small disks.

Nothing here sleeps for a fixed time: `until` polls, `Gate`s hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest

from mirror.clock import Clock
from tests.support.fake_registry import FakeRegistry
from tests.support.mirror import Reply, Running, mirror_in_process
from tests.support.processes import run

T = TypeVar("T")
KIB = 1024
MIB = 1024 * 1024
HUB = "docker.io"
SECONDS = 20.0
"""How long anything may take before a test is given up; no test passes because of it."""
FOREIGN_HOST = "mirror.example"
"""A `Host` that is no loopback name: whoever sends it is a stranger (design.md §4)."""


@asynccontextmanager
async def hub(
    tmp_path: Path,
    *,
    clock: Clock | None = None,
    section: Mapping[str, object] | None = None,
    registry: FakeRegistry | None = None,
    **more: Any,
) -> AsyncIterator[tuple[FakeRegistry, Running]]:
    """A scripted docker.io and a mirror before it. `section` adds to the registry's settings, `more` to all of them."""
    async with (
        registry or FakeRegistry() as upstream,
        mirror_in_process(
            tmp_path / "data", {HUB: {"url": upstream.url, **(section or {})}}, clock=clock, **more
        ) as mirror,
    ):
        yield upstream, mirror


async def until(condition: Callable[[], object], what: str = "") -> None:
    """Poll until `condition` holds."""
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.005)
    assert condition(), what


def later(mirror: Running, seconds: float) -> None:
    """Both clocks go on."""
    mirror.clock.shift += seconds
    mirror.clock.wall_shift += seconds


def begin(coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start something that the test goes on beside."""
    return asyncio.get_running_loop().create_task(coroutine)


def staged(data: Path) -> list[str]:
    """Names of what lies in staging."""
    return sorted(os.listdir(data / "ingest"))


def stored(data: Path) -> dict[str, int]:
    """Hex digests of published blobs, with their sizes."""
    sizes = {}
    with os.scandir(data / "blobs" / "sha256") as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
                sizes[entry.name] = entry.stat().st_size
    return sizes


def warned(reply: Reply) -> str:
    """The `Warning` header, empty without one."""
    return reply.headers.get("Warning", "")


def cached(reply: Reply) -> str:
    """The `Mirror-Cache` header."""
    return reply.headers.get("Mirror-Cache", "")


async def stranger(mirror: Running, path: str, method: str = "GET", **headers: str) -> Reply:
    """A request of somebody who is not on this machine, as far as the mirror can tell."""
    return await mirror.get(path, method, Host=FOREIGN_HOST, **headers)


class Client:
    """One connection of a client that reads as much as it likes, over a plain socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.status = 0
        self.headers: dict[str, str] = {}

    @classmethod
    async def connect(cls, mirror: Running, *, buffer: int | None = None, unix: bool = False) -> Self:
        """`buffer` is the size of the socket's receive buffer: a small one lets the other side feel a slow reader.
        `unix`: over the mirror's own socket."""
        if unix:
            return cls(*await asyncio.open_unix_connection(str(mirror.app.listeners.socket)))
        host, _, port = mirror.authority.rpartition(":")
        sock = socket.socket()
        if buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
        limit = 1 << 16 if buffer is None else buffer
        return cls(*await asyncio.open_connection(sock=sock, limit=limit))

    async def ask(self, path: str, method: str = "GET", **headers: str) -> Self:
        """Send a request and read the answer's head."""
        lines = [f"{method} {path} HTTP/1.1"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in ({"Host": "127.0.0.1"} | headers).items()]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        await self.writer.drain()
        return await self.head()

    async def head(self) -> Self:
        """Read an answer's head."""
        async with asyncio.timeout(SECONDS):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *rest = head.split("\r\n")
        self.status = int(first.split(" ")[1])
        fields = (line.partition(":") for line in rest if line)
        self.headers = {name.lower(): value.strip() for name, _, value in fields}
        return self

    async def read(self, count: int) -> bytes:
        """Exactly `count` bytes of the body. Raises `IncompleteReadError` where the connection ends before."""
        async with asyncio.timeout(SECONDS):
            return await self.reader.readexactly(count)

    async def rest(self) -> bytes:
        """All of the body that comes before the connection ends or what was announced is there."""
        size = int(self.headers["content-length"])
        async with asyncio.timeout(SECONDS):
            try:
                return await self.reader.readexactly(size)
            except asyncio.IncompleteReadError as error:
                return error.partial
            except ConnectionError:
                return b""

    def reset(self) -> None:
        """Hang up with a RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def close(self) -> None:
        """Hang up."""
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


@asynccontextmanager
async def client(mirror: Running, path: str, *, buffer: int | None = None, **headers: str) -> AsyncIterator[Client]:
    """A client that has read the head of the answer to a GET of `path`."""
    connection = await Client.connect(mirror, buffer=buffer)
    try:
        yield await connection.ask(path, **headers)
    finally:
        await connection.close()


async def partial_body(mirror: Running, path: str) -> bytes:
    """As much of the answer's body as came before the connection ended."""
    async with client(mirror, path) as connection:
        return await connection.rest()


@contextmanager
def tmpfs(folder: Path, size: int) -> Iterator[Path]:
    """A file system of `size` bytes at `folder`, for root; without root the test is skipped, but never in CI."""
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("CI must run this test as root: it mounts a small tmpfs")
        pytest.skip("needs root: it mounts a small tmpfs")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "mirror-tests", str(folder)])
    try:
        yield folder
    finally:
        run(["umount", "--lazy", str(folder)])

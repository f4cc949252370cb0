"""How a request's body comes in, and where a server stops taking it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Literal

from multidict import CIMultiDict

_SLICE = 1 << 16


class Gate:
    """Something that waits until the test lets it go. `release` may be called from any thread."""

    def __init__(self) -> None:
        self._released = threading.Event()
        self.reached = threading.Event()  # somebody waits here

    def release(self) -> None:
        self._released.set()

    async def wait(self) -> None:
        self.reached.set()
        while not self._released.is_set():
            await asyncio.sleep(0.005)


@dataclass(slots=True)
class Intake:
    """How a request's body is taken: `count` bytes of it (which count as received), then `then` happens.

    "answer": as if that were all, and the rest is never read; "hang": nothing until `gate` is released, then "reset".
    `pace` is in bytes per second.
    """

    count: int | None = None
    then: Literal["reset", "hang", "answer"] = "reset"
    gate: Gate | None = None
    pace: float | None = None


async def take(
    reader: asyncio.StreamReader, headers: CIMultiDict[str], intake: Intake, taken: Callable[[int], None]
) -> tuple[bytes, bool]:
    """The body, and whether that is all of it: `intake` may leave off before, and so may the client."""
    body = bytearray()
    try:
        async for piece in _pieces(reader, headers):
            part = piece if intake.count is None else piece[: intake.count - len(body)]
            body += part
            taken(len(part))
            if intake.count is not None and len(body) >= intake.count:
                return bytes(body), False
            if intake.pace is not None:
                await asyncio.sleep(len(piece) / intake.pace)
    except (asyncio.IncompleteReadError, OSError):
        return bytes(body), False
    return bytes(body), True


async def _pieces(reader: asyncio.StreamReader, headers: CIMultiDict[str]) -> AsyncIterator[bytes]:
    """As they arrive. Raises IncompleteReadError where the client leaves off."""
    if "chunked" in headers.get("Transfer-Encoding", ""):
        while size := int((await reader.readline()).split(b";")[0], 16):
            yield await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readuntil(b"\r\n")
        return
    left = int(headers.get("Content-Length", "0"))
    while left:
        piece = await reader.read(min(left, _SLICE))
        if not piece:
            raise asyncio.IncompleteReadError(b"", left)
        left -= len(piece)
        yield piece

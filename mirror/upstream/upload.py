"""The body of an upload's PATCH: streamed once, in small pieces, with an eye on whether it gets on.

Nothing limits the whole, since a layer may take hours; but each piece has to be taken within `STALL_SECONDS`, and the
answer to follow within `ANSWER_SECONDS` of the last. The time that `chunks` itself takes is not the registry's.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import NoReturn

from mirror.errors import MirrorError

STALL_SECONDS = 60.0
ANSWER_SECONDS = 300.0
"""For a registry that checks or moves what it got before it answers."""
PIECE = 1 << 16


class UploadBody:
    """Exactly `count` bytes out of `chunks`, as aiohttp takes them. `limit` is the caller's, and is moved along.

    `failure` is what `chunks` raised, or that it held another number of bytes. `stop` before `chunks` is closed.
    """

    def __init__(self, chunks: AsyncIterator[bytes], count: int, limit: asyncio.Timeout) -> None:
        self._chunks = chunks
        self._left = count
        self._limit = limit
        self._chunk = memoryview(b"")
        self._reading = asyncio.Lock()
        self._stopped = False
        self.begun = False
        self.failure: Exception | None = None

    @property
    def sent_all(self) -> bool:
        """Whether every byte was handed to the connection."""
        return not self._left and not self._chunk

    def __aiter__(self) -> AsyncIterator[memoryview]:
        return self

    async def __anext__(self) -> memoryview:
        self.begun = True
        if self._stopped:
            raise ConnectionAbortedError
        if not self._chunk and self._left:
            await self._fill()
        if not self._chunk:
            self._allow(ANSWER_SECONDS)
            raise StopAsyncIteration
        piece, self._chunk = self._chunk[:PIECE], self._chunk[PIECE:]
        self._allow(STALL_SECONDS)
        return piece

    async def stop(self) -> None:
        """Take nothing more out of `chunks`; returns once nobody is in the middle of that."""
        self._stopped = True
        async with self._reading:
            pass

    async def _fill(self) -> None:
        self._allow(None)
        try:
            async with self._reading:
                chunk = await anext(self._chunks)
                while not chunk:
                    chunk = await anext(self._chunks)
        except StopAsyncIteration:
            self._fail(MirrorError(f"what was to be sent ended {self._left} bytes early"))
        except Exception as error:
            self.failure = error
            raise
        if len(chunk) > self._left:
            self._fail(MirrorError(f"what was to be sent is {len(chunk) - self._left} bytes or more too long"))
        self._left -= len(chunk)
        self._chunk = memoryview(chunk)

    def _fail(self, error: MirrorError) -> NoReturn:
        self.failure = error
        raise error

    def _allow(self, seconds: float | None) -> None:
        """From now on the registry has so long, until this is called again."""
        if not self._stopped and not self._limit.expired():
            self._limit.reschedule(None if seconds is None else asyncio.get_running_loop().time() + seconds)

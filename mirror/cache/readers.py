"""A blob as one reader sees it, where no file is at rest: following a flight, or straight through from upstream.

Both are `BlobReader`s, so that sending is one loop for hot, cold and remote blobs alike.
"""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol

from mirror.errors import MirrorError, UpstreamDigestMismatch, UpstreamError, UpstreamInvalid
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.store.protocols import Hash
from mirror.upstream.protocols import Source

_WITHHELD = 64 * 1024
_RESUMES = 5  # how often in a row, without a byte between, a pass-through asks upstream anew


class Through:
    """Bytes from `offset` to `end`, straight from upstream, in order, at most one chunk in memory.

    With a `hash` over everything before `offset` and `end` at the blob's end, the last bytes are withheld until the
    digest is verified. Without one (a range from the middle) they are the one thing that is sent unverified.
    """

    def __init__(
        self,
        source: Source,
        repository: Repository,
        digest: Digest,
        size: int,
        offset: int,
        end: int,
        hash_: Hash | None,
    ) -> None:
        self.digest = digest
        self.size = size
        self._source = source
        self._repository = repository
        self._end = end
        self._hash = hash_
        self._chunks: AsyncIterator[bytes] | None = None
        self._stack = AsyncExitStack()
        self._received = offset  # up to where bytes came from upstream
        self._held = bytearray()  # received and not yet read
        self._verified = hash_ is None

    async def ready(self, offset: int, end: int) -> int:
        """Wait for more. Raises an `UpstreamError` where upstream breaks for good, or the digest is wrong."""
        self._discard_before(offset)
        while self._releasable() <= offset:
            await self._receive()
            self._discard_before(offset)
        return min(self._releasable(), end)

    def fileno(self) -> int | None:
        return None

    async def read(self, offset: int, count: int) -> bytes:
        """What `ready` released; only forward."""
        start = self._received - len(self._held)
        if offset != start:
            raise RuntimeError(f"a pass-through is read in order: at {start}, asked for {offset}")
        count = min(count, self._releasable() - offset)
        data = bytes(self._held[:count])
        del self._held[:count]
        return data

    async def close(self) -> None:
        await self._stack.aclose()

    def _discard_before(self, offset: int) -> None:
        """A reader that begins later than the hash must still have everything hashed."""
        start = self._received - len(self._held)
        if start < offset:
            del self._held[: offset - start]

    def _releasable(self) -> int:
        return self._received if self._verified else min(self._received, self._end - _WITHHELD)

    async def _receive(self) -> None:
        for attempt in range(_RESUMES):
            try:
                if self._chunks is None:
                    await self._connect()
                await self._take()
                return
            except UpstreamDigestMismatch:
                raise
            except UpstreamError:
                await self._stack.aclose()
                self._chunks = None
                if attempt == _RESUMES - 1:
                    raise

    async def _connect(self) -> None:
        opening = self._source.open(self._repository, self.digest, self._received, self._end)
        download = await self._stack.enter_async_context(opening)
        self._chunks = skipping(download.chunks, self._received - download.offset)

    async def _take(self) -> None:
        if self._chunks is None:
            raise RuntimeError("not connected")
        async for chunk in self._chunks:
            wanted = chunk[: self._end - self._received]  # whatever more was sent
            self._received += len(wanted)
            self._held += wanted
            if self._hash is not None:
                self._hash.update(wanted)
            if self._received == self._end:
                self._verify()
            return
        raise UpstreamInvalid("the body ended early", registry=self._source.key[0])

    def _verify(self) -> None:
        if self._hash is not None and self._hash.hexdigest() != self.digest.hex:
            registry = self._source.key[0]
            raise UpstreamDigestMismatch(f"{registry} sent bytes that are not {self.digest}", registry=registry)
        self._verified = True


@asynccontextmanager
async def through(
    source: Source, repository: Repository, digest: Digest, size: int, offset: int, end: int
) -> AsyncIterator[Through]:
    """A range from the middle, unverified."""
    reader = Through(source, repository, digest, size, offset, end, None)
    try:
        yield reader
    finally:
        await reader.close()


class Followed(Protocol):
    """What a reader sees of a flight."""

    digest: Digest
    source: Source
    size: int | None
    available: int
    memory: bytes | None
    error: MirrorError | None

    @property
    def unstored(self) -> bool: ...
    def releasable(self, size: int, /) -> int: ...
    async def changed(self) -> None: ...
    def unstored_hash(self) -> Hash: ...
    def open_staged(self) -> int: ...


class FlightReader:
    """One reader of a flight: from memory, from its own descriptor on the staging file, or, where the disk could not
    take it, by itself from upstream after the staged part."""

    def __init__(self, flight: Followed, repository: Repository, size: int) -> None:
        self.digest = flight.digest
        self.size = size
        self._flight = flight
        self._repository = repository
        self._descriptor: int | None = None
        self._through: Through | None = None

    async def ready(self, offset: int, end: int) -> int:
        """Wait until the flight is past `offset`. Raises what the flight failed of."""
        while True:
            if self._through is not None:
                return await self._through.ready(offset, end)
            if self._flight.error is not None:
                raise self._flight.error
            released = self._flight.releasable(self.size)
            if released > offset:
                return min(released, end)
            if self._flight.size != self.size:
                registry = self._flight.source.key[0]
                raise UpstreamInvalid(f"{registry} announced {self.size} bytes that are not there", registry=registry)
            if self._flight.unstored:
                self._go_through()
            else:
                await self._flight.changed()

    def fileno(self) -> int | None:
        if self._through is not None or self._flight.memory is not None:
            return None
        return self._own_descriptor()

    async def read(self, offset: int, count: int) -> bytes:
        if self._through is not None:
            return await self._through.read(offset, count)
        if self._flight.memory is not None:
            return self._flight.memory[offset : offset + count]
        return os.pread(self._own_descriptor(), count, offset)  # just written: in the page cache

    async def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if self._through is not None:
            await self._through.close()

    def _own_descriptor(self) -> int:
        if self._descriptor is None:
            self._descriptor = self._flight.open_staged()
        return self._descriptor

    def _go_through(self) -> None:
        """The flight stays where it is. Its hash stands at `available`; every staged byte was released."""
        flight = self._flight
        hash_ = flight.unstored_hash()
        self._through = Through(
            flight.source, self._repository, self.digest, self.size, flight.available, self.size, hash_
        )


async def skipping(chunks: AsyncIterator[bytes], skip: int) -> AsyncIterator[bytes]:
    """`chunks` without their first `skip` bytes: a registry that ignores a range sends what is known once more."""
    if skip < 0:
        raise UpstreamInvalid("the answer begins beyond what was asked for", registry="")
    async for chunk in chunks:
        if skip >= len(chunk):
            skip -= len(chunk)
            continue
        yield chunk[skip:] if skip else chunk
        skip = 0

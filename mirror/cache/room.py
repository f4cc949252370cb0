"""The room that the mirror takes: `max_size`, `min_free`, counted as bytes arrive (design.md §5 and §6, "Room").

`RoomyStore` is the blob store with a bound. Before bytes are written it sees to it that they fit, also into staging;
where they do not, room is made (`eviction`), and where none can be made they are refused (`NoRoom`): a pull streams
through, a push fails. No promised length is believed: what fits is decided write by write.

The count is kept in memory. It may be a little too high (the same blob published twice), never too low, and is set
right whenever nothing is under way.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from mirror.clock import Clock
from mirror.errors import NoRoom, StoreFailed
from mirror.oci.digest import Digest
from mirror.store.protocols import BlobReader, BlobStore, Hash, Ingest

log = logging.getLogger(__name__)

LOOK_EVERY = 30.0  # seconds between two looks at whether there is too much
_SLACK = 20  # one part in so many more is freed than is needed at the moment: not every write is to begin an eviction
_DISK_LOOKED_AT_EVERY = 8 << 20  # bytes
_BLOCK = 4096  # what a file takes at least
_HOPELESS = 10.0  # seconds for which nothing more is tried where no room could be made
_ROUNDS = 5  # evictions in a row before it is looked again: a file that is still read frees nothing yet
_QUIET = 5.0  # seconds without a write after which the catalog knows of all that was published


class Catalog(Protocol):
    """What of the catalog is asked."""

    async def stored_bytes(self) -> int: ...


class Maker(Protocol):
    """Who makes room (`eviction`)."""

    async def make(self, wanted: int, why: str, /) -> int:
        """Free at least so many bytes if that can be; returns how many it did."""
        ...


@dataclass(frozen=True, slots=True)
class _Lack:
    """How many bytes had better go, and why; `refused`: before that nothing may come; `vain`: that all that is here
    went would not help."""

    wanted: int
    why: str
    refused: bool
    vain: bool = False


class Room:
    """How much there is, how much there may be. Bytes.

    `max_size` None: as much as the disk gives (`BlobStore.free`). `slack`: how much of that is had in hand, and freed
    beside what is needed. While `offline` nothing goes to make room for others on the disk: it could not come back.
    """

    def __init__(
        self,
        store: BlobStore,
        *,
        max_size: int | None,
        slack: int,
        clock: Clock,
        offline: Callable[[], bool] = lambda: False,
    ) -> None:
        self.max_size = max_size
        self.used = 0
        self.ingests: set[Ingest] = set()  # open ones
        self._store = store
        self._slack = slack
        self._clock = clock
        self._offline = offline
        self._maker: Maker | None = None
        self._granted = 0  # bytes that may be taken before the disk is looked at again
        self._making = asyncio.Lock()
        self._hopeless_until = 0.0
        self._moved_at = clock.monotonic() - _QUIET
        self._counted_at: float | None = None

    def made_by(self, maker: Maker) -> None:
        """From now on room is made."""
        self._maker = maker

    async def take(self, count: int) -> None:
        """Account for `count` bytes about to be written. Raises `NoRoom`, `StoreFailed`."""
        if await self._lack(count) is not None:
            await self._make(count)
        self.used += count  # nobody else had a turn since it was found to fit
        self._granted -= _rounded(count)
        self.moved()

    def moved(self) -> None:
        """Bytes are on their way: the catalog does not know of all of them just now."""
        self._moved_at = self._clock.monotonic()

    def fits(self, size: int) -> bool:
        """Whether a blob of this size could ever be held. Only to spare what is here: a promise is not believed."""
        return self.max_size is None or size <= self.max_size

    @property
    def _pending(self) -> int:
        """Accepted by open ingests and not on the disk yet."""
        return sum(ingest.offset - ingest.written for ingest in self.ingests)

    def found(self, count: int) -> None:
        """So many bytes were here that neither the catalog nor staging knew of."""
        self.used += count

    def give_back(self, count: int) -> None:
        """So many bytes were removed, or not written after all."""
        self.used = max(0, self.used - count)

    async def _lack(self, count: int) -> "_Lack | None":
        """What stands in the way of `count` more bytes; None where they fit."""
        if self._granted < _rounded(count):
            free = await self._store.free() - self._pending - _rounded(count)
            if free >= 0:
                self._granted = _rounded(count) + min(free // 2, _DISK_LOOKED_AT_EVERY)
            if free < self._slack:  # others write, too: not to the last byte
                wanted = 2 * self._slack - free
                return _Lack(wanted, "the disk is nearly full", refused=free < 0, vain=self._vain(-free))
        if self.max_size is not None and self.used + count > self.max_size:
            wanted = self.used + count - self.max_size + self.max_size // _SLACK
            return _Lack(wanted, "max_size is reached", refused=True)
        return None

    async def _make(self, count: int) -> None:
        """Make room for `count` bytes, one after the other. Raises `NoRoom` where they do not fit all the same."""
        async with self._making:
            lack = await self._lack(count)  # by now it may have been made for somebody else
            if lack is not None and not lack.vain and self._maker is not None and self.fits(count) and self._hopeful():
                freed = await self._maker.make(lack.wanted, lack.why)
                lack = await self._lack(count)
                if not freed or (lack is not None and lack.refused):
                    self._hopeless_until = self._clock.monotonic() + _HOPELESS
        if lack is not None and lack.refused:
            raise NoRoom(f"{lack.why}: nothing more can be stored until room is made")

    def _vain(self, missing: int) -> bool:
        """Whether the disk would lack so many bytes even without all that is here: others filled it."""
        return missing > self.used

    def _hopeful(self) -> bool:
        return self._clock.monotonic() >= self._hopeless_until

    # --- now and then --------------------------------------------------------------------------------------

    async def count(self, catalog: Catalog) -> None:
        """Count anew: at a start, and later where nothing was written lately, so that nothing is missed."""
        before = self._moved_at
        if before == self._counted_at or self._pending or self._clock.monotonic() - before < _QUIET:
            return
        staged = sum((await self._store.staging()).values())
        stored = await catalog.stored_bytes()
        if self._moved_at == before and not self._pending:
            self.used = staged + stored
            self._counted_at = before

    async def shrink(self) -> None:
        """Make room where there is too much, or too little free. Raises `StoreFailed`."""
        if self._maker is None:
            return
        async with self._making:
            for _ in range(_ROUNDS):
                missing = await self._missing_now()
                if missing is None or not await self._maker.make(*missing):
                    return

    async def _missing_now(self) -> tuple[int, str] | None:
        if self.max_size is not None and self.used > self.max_size:
            return self.used - self.max_size + self.max_size // _SLACK, "max_size is exceeded"
        missing = -await self._store.free()
        if missing >= 0 and not self._offline() and not self._vain(missing):
            return self._slack, "the disk has less than min_free free"
        return None

    async def watch(self, catalog: Catalog) -> None:
        """Keep to the bounds also where nobody writes: at a start, and when others fill the disk. Until cancelled."""
        while True:
            try:
                await self.count(catalog)
                await self.shrink()
            except StoreFailed as error:
                log.warning("room is made later: %s", error.message)
            await asyncio.sleep(LOOK_EVERY)


class RoomyStore:
    """`BlobStore` within `room`; all else is the inner store's."""

    def __init__(self, inner: BlobStore, room: Room) -> None:
        self._inner = inner
        self._room = room

    async def begin(self, on_written: Callable[[int], None], *, algorithm: str = "sha256") -> "RoomyIngest":
        return RoomyIngest(await self._inner.begin(on_written, algorithm=algorithm), self._room)

    async def resume(
        self, ingest_id: str, on_written: Callable[[int], None], *, algorithm: str = "sha256"
    ) -> "RoomyIngest | None":
        ingest = await self._inner.resume(ingest_id, on_written, algorithm=algorithm)
        return None if ingest is None else RoomyIngest(ingest, self._room)

    async def publish(self, ingest: Ingest, expected: Digest) -> str:
        if not isinstance(ingest, RoomyIngest):
            raise TypeError("an ingest is published by the store that began it")
        try:
            location = await self._inner.publish(ingest.inner, expected)
        except BaseException:
            ingest.ended(kept=False)
            raise
        ingest.ended(kept=True)
        return location

    async def put(self, data: bytes, expected: Digest) -> str:
        await self._room.take(len(data))
        try:
            return await self._inner.put(data, expected)
        except BaseException:
            self._room.give_back(len(data))
            raise
        finally:
            self._room.moved()

    def open(self, digest: Digest, location: str, size: int) -> AbstractAsyncContextManager[BlobReader]:
        return self._inner.open(digest, location, size)

    async def read(self, digest: Digest, location: str, size: int) -> bytes:
        return await self._inner.read(digest, location, size)

    async def delete(self, location: str) -> int:
        removed = await self._inner.delete(location)
        self._room.give_back(removed)
        return removed

    def walk(self) -> AsyncIterator[tuple[Digest, str, int]]:
        return self._inner.walk()

    def active(self) -> frozenset[str]:
        return self._inner.active()

    async def staged(self) -> Sequence[str]:
        return await self._inner.staged()

    async def staging(self) -> Mapping[str, int]:
        return await self._inner.staging()

    async def discard(self, ingest_id: str) -> int:
        removed = await self._inner.discard(ingest_id)
        self._room.give_back(removed)
        return removed

    async def free(self) -> int:
        return await self._inner.free()


class RoomyIngest:
    """`Ingest` that asks for room before it writes."""

    def __init__(self, inner: Ingest, room: Room) -> None:
        self.inner = inner
        self._room = room
        room.ingests.add(inner)

    @property
    def id(self) -> str:
        return self.inner.id

    @property
    def offset(self) -> int:
        return self.inner.offset

    @property
    def written(self) -> int:
        return self.inner.written

    def open_descriptor(self) -> int:
        return self.inner.open_descriptor()

    async def write(self, chunk: bytes) -> None:
        await self._room.take(len(chunk))
        before = self.inner.offset
        try:
            await self.inner.write(chunk)
        finally:
            self._room.give_back(len(chunk) - (self.inner.offset - before))  # what was not accepted

    async def verify(self, expected: Digest) -> None:
        await self.inner.verify(expected)

    async def hash_state(self) -> Hash:
        return await self.inner.hash_state()

    async def abort(self) -> None:
        await self.inner.abort()
        self.ended(kept=False)

    async def suspend(self) -> None:
        await self.inner.suspend()
        self.ended(kept=True)

    def ended(self, *, kept: bool) -> None:
        """It is open no more; `kept`: its bytes stay on the disk. Harmless when repeated."""
        if self.inner in self._room.ingests:
            self._room.ingests.discard(self.inner)
            self._room.moved()
            if not kept:
                self._room.give_back(self.inner.offset)


def _rounded(count: int) -> int:
    return -(-count // _BLOCK) * _BLOCK

"""One download of one digest from one source; any number of readers follow it (design.md §5, "GET blob").

A flight's task belongs to the application: clients that leave cancel nothing. Failure is a state (`states`), not an
event: whoever starts to wait afterwards sees it too. The last bytes are withheld until the digest is verified, so that
wrong bytes never make a whole blob.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from mirror.cache.landing import Catalog, Landing
from mirror.cache.leases import Leases
from mirror.cache.news import News
from mirror.cache.partial import Known, PartialDownload
from mirror.cache.readers import FlightReader, skipping
from mirror.cache.room import Room
from mirror.cache.states import State
from mirror.clock import Clock
from mirror.errors import (
    DigestInvalid,
    MirrorError,
    NoRoom,
    StoreFailed,
    UpstreamDigestMismatch,
    UpstreamError,
    UpstreamInvalid,
    UpstreamUnreachable,
)
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.store.protocols import BlobStore, Hash, Ingest, Proof
from mirror.upstream.protocols import Download, Source

log = logging.getLogger(__name__)

SMALL = 256 * 1024  # a blob up to this size is withheld whole anyway: verified in memory, answered from there
WITHHELD = 64 * 1024  # of a larger one, this much waits for the digest
PATIENCE = 120.0  # seconds without progress after which a broken download is given up
INVALID = 5  # answers in a row that cannot be used, after which it is given up sooner
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0


class Flight:
    """One download. `proven` are the repositories for which its source answered 2xx: all are linked at the end."""

    def __init__(
        self,
        digest: Digest,
        source: Source,
        repository: Repository,
        client: str,
        *,
        known: Known,
        store: BlobStore,
        room: Room,
        catalog: Catalog,
        leases: Leases,
        clock: Clock,
        owner: "Owner",
    ) -> None:
        self.digest = digest
        self.source = source
        self.client = client
        self.proven: list[Repository] = [repository]
        self.size: int | None = None
        self.available = 0  # bytes that readers may take, the withheld ones not counted off
        self.kept = 0  # bytes that an earlier flight had left behind
        self.memory: bytes | None = None  # a small blob, once verified
        self.ingest: Ingest | None = None
        self.state = State.OPENING
        self.error: MirrorError | None = None
        self.refusal: StoreFailed | None = None  # why the disk did not take it
        self.readers = 0
        self.joined = False  # whether somebody has it already: who comes later pays nothing for its bytes
        self.task: asyncio.Task[None] | None = None
        self._small = bytearray()
        self._hash: Hash | None = None
        self._room = room
        self._catalog = catalog
        self._clock = clock
        self._owner = owner
        self._landing = Landing(store=store, catalog=catalog, leases=leases, clock=clock)
        self._partial = PartialDownload(digest, source, known=known, store=store, catalog=catalog, clock=clock)
        self._news = News()

    # --- for those who ask ---------------------------------------------------------------------------------

    @property
    def proof(self) -> Proof:
        return Proof.ANONYMOUS if self.source.key[1] else Proof.CREDENTIALS

    @property
    def joinable(self) -> bool:
        """Whether a repository may still be added to `proven`."""
        return self.state in (State.OPENING, State.FLYING, State.VERIFIED)

    @property
    def downloading(self) -> bool:
        """Whether it still wants bytes from upstream. One that is verified only waits for the disk."""
        return self.state in (State.OPENING, State.FLYING)

    @property
    def landed(self) -> bool:
        """Whether it is stored and linked, as far as the disk took it."""
        return self.state is State.LANDED

    def stop(self, reason: str) -> None:
        """End it from outside; what is staged is kept for a later flight."""
        log.info("download of %s stopped: %s", self.digest, reason)
        if self.task is not None:
            self.task.cancel()

    async def start(self) -> int:
        """The blob's size. Returns before any byte is there; raises upstream's refusal, or why there is no answer.
        How long anybody waits for it is his own business (`proofs.in_time`)."""
        self.readers += 1  # who waits for the size attends to it as well
        try:
            while self.size is None:
                await self.changed()
        except BaseException:  # he gave up waiting, or it failed
            await self._left()
            raise
        self.readers -= 1  # he follows now
        return self.size

    async def changed(self) -> None:
        """Wait for the next change. Raises at once, and whenever it happens, if the flight failed."""
        if self.error is not None:
            raise self.error
        await self._news.wait()
        if self.error is not None:
            raise self.error

    @property
    def unstored(self) -> bool:
        return self.state is State.UNSTORED

    def releasable(self, size: int) -> int:
        """Up to where bytes may be sent now."""
        if self.state in (State.VERIFIED, State.LANDED):
            return min(size, self.available)
        if self.state is State.UNSTORED:
            return self.available  # what is missing is withheld by whoever fetches it
        return min(self.available, max(0, size - WITHHELD))

    async def landing(self, tell: Callable[[int], None]) -> None:
        """Wait until it has landed; meanwhile `tell` gets how many bytes are here, whenever that changes.

        Raises what it fails of, and the disk's refusal where it only streams through.
        """
        while not self.landed:
            if self.refusal is not None:
                raise self.refusal
            tell(self.available)
            await self.changed()

    def open_staged(self) -> int:
        """A descriptor of one's own on what is staged."""
        return self._staged().open_descriptor()

    def unstored_hash(self) -> Hash:
        """The hash over the `available` bytes of an unstored flight: where its readers go on."""
        return self.digest.hasher() if self._hash is None else self._hash.copy()

    @asynccontextmanager
    async def follow(self, repository: Repository) -> AsyncIterator[FlightReader]:
        """A reader of this flight for a repository that is proven."""
        if self.size is None:
            raise RuntimeError("start() comes first")
        reader = FlightReader(self, repository, self.size)
        self.readers += 1
        try:
            yield reader
        finally:
            await reader.close()
            await self._left()

    async def _left(self) -> None:
        """One reader less."""
        self.readers -= 1
        if not self.readers:
            if self.unstored:
                await self._drop_staging()
            elif self.downloading:
                self._owner.unattended(self)

    # --- the flight ----------------------------------------------------------------------------------------

    async def fly(self) -> None:
        """Download, verify, publish, link. Ends in one of the last three states; raises nothing but cancellation."""
        try:
            await self._download()
        except asyncio.CancelledError:
            await self._fail(UpstreamUnreachable("the download was stopped", registry=self.source.key[0]), keep=True)
            raise
        except StoreFailed as error:
            await self._give_up_storing(error)
            return
        except UpstreamDigestMismatch as error:
            log.warning("%s from %s: %s", self.digest, self.source.key[0], error.message)
            await self._fail(error, keep=False)
            return
        except MirrorError as error:
            await self._fail(error, keep=True)
            return
        except Exception as error:
            log.exception("download of %s broke", self.digest)
            await self._fail(UpstreamInvalid(f"internal: {error!r}", registry=self.source.key[0]), keep=False)
            return
        await self._land()

    async def _download(self) -> None:
        """Fetch until all bytes are verified, resuming where a connection broke."""
        self.ingest = await self._partial.resume(self._written)
        self.kept = self.reached
        if self.ingest is not None and await self._is_whole():  # all but its commit was done by an earlier process
            await self.source.size(self.proven[0], self.digest)  # the right to it
            self._verified()
            return
        pause, patience, invalid = _FIRST_PAUSE, self._clock.monotonic() + PATIENCE, 0
        while True:
            reached = self.reached
            try:
                async with self.source.open(self.proven[0], self.digest, reached) as download:
                    await self._opened(download)
                    if await self._pump(download):
                        return
                raise UpstreamInvalid("the body ended early", registry=self.source.key[0])
            except UpstreamDigestMismatch:
                raise
            except UpstreamError as error:
                if self.size is None:
                    await self._begin_anew(error)
                    continue
                if await self._is_whole():
                    self._verified()  # more was announced than there is: the digest decides
                    return
                if self.reached > reached:
                    pause, patience, invalid = _FIRST_PAUSE, self._clock.monotonic() + PATIENCE, 0
                invalid += isinstance(error, UpstreamInvalid)
                if self._clock.monotonic() >= patience or invalid >= INVALID:
                    raise
                log.info("%s from %s broke at %d: %s", self.digest, self.source.key[0], self.reached, error.message)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    async def _begin_anew(self, error: UpstreamError) -> None:
        """Nothing was promised to anybody yet: let the caller ask elsewhere; but what an earlier flight left behind,
        and upstream cannot go on from, must not stand in the way."""
        if self.ingest is None or not isinstance(error, UpstreamInvalid):
            raise error
        log.info("%s cannot be resumed, it begins anew: %s", self.digest, error.message)
        ingest, self.ingest, self.kept = self.ingest, None, 0
        await ingest.abort()
        await self._catalog.end_partial(ingest.id)

    async def _is_whole(self) -> bool:
        """Whether what is there is all there is."""
        try:
            if self.ingest is not None:
                await self.ingest.verify(self.digest)
                return True
        except DigestInvalid:
            return False
        return Digest.of(bytes(self._small), self.digest.algorithm) == self.digest

    @property
    def reached(self) -> int:
        return self.ingest.offset if self.ingest is not None else len(self._small)

    async def _opened(self, download: Download) -> None:
        size = download.size
        if size is None and self.size is None:
            size = await self._catalog.expected_size(self.proven[0], self.digest)
        if self.size is None and size is not None:
            if self.ingest is not None:
                self.available = self.ingest.written
            self.size = size
            self.state = State.FLYING
            self._news.tell()
        elif self.size is not None and download.size not in (None, self.size):
            # a URL that now serves something else: the digest cannot come out right any more
            raise UpstreamInvalid(
                f"the size changed from {self.size} to {download.size} bytes", registry=self.source.key[0]
            )

    async def _pump(self, download: Download) -> bool:
        """Take one connection's bytes. True when everything is there and verified."""
        small = self.size is not None and self.size <= SMALL and self.ingest is None
        ingest = None if small else self.ingest or await self._begin()
        async for chunk in skipping(download.chunks, self.reached - download.offset):
            if ingest is None:
                self._small += chunk
            else:
                await ingest.write(chunk)
            if self.size is not None and self.reached > self.size:
                raise self._mismatch()
        if self.size is not None and self.reached < self.size:
            return False
        if not await self._is_whole():
            raise self._mismatch()
        self._verified()
        return True

    def _verified(self) -> None:
        """All is there, and is what the digest names."""
        if self.ingest is None:
            self.memory = bytes(self._small)
            self._small.clear()
            self.size = self.available = len(self.memory)
        else:
            self.size = self.available = self.ingest.offset
        self.state = State.VERIFIED
        self._news.tell()

    async def _begin(self) -> Ingest:
        if self.size is not None and not self._room.fits(self.size):
            raise NoRoom(f"max_size is less than the {self.size} bytes of {self.digest}")
        self.ingest = await self._partial.begin(self._written)
        return self.ingest

    def _written(self, written: int) -> None:
        if self.state is State.FLYING:
            self.available = written
            self._news.tell()

    async def _land(self) -> None:
        """Publish and link: everybody proven, also those who prove themselves meanwhile."""
        data = self._staged() if self.memory is None else self.memory
        try:
            await self._landing.keep(self.digest, data, self.proven, self.proof)
        except MirrorError as error:
            # its readers have verified bytes and go on; only the next asker downloads again
            log.warning("%s was delivered but not kept: %s", self.digest, error.message)
        self.state = State.LANDED  # no await since the last look at `proven`: nobody proven is left out
        self._owner.ended(self)
        self._news.tell()
        await self._partial.forget(self.ingest)

    def _staged(self) -> Ingest:
        if self.ingest is None:
            raise RuntimeError("a verified flight has its bytes in memory or in staging")
        return self.ingest

    async def _fail(self, error: MirrorError, *, keep: bool) -> None:
        """Every reader is told; `keep` leaves the bytes for a later flight of the same source to resume."""
        self.state = State.FAILED
        self.error = error
        self._owner.ended(self)
        self._news.tell()
        if self.ingest is None:
            return
        if keep and self.ingest.offset > SMALL:
            await self.ingest.suspend()
        else:
            await self.ingest.abort()
            await self._partial.forget(self.ingest)

    async def _give_up_storing(self, error: StoreFailed) -> None:
        """The disk cannot take it: each reader goes on from upstream by itself, verifying as it goes."""
        if self.size is None:
            self.size = await self._catalog.expected_size(self.proven[0], self.digest)
        if self.size is None:
            await self._fail(error, keep=False)
            return
        full = "the disk is full" if isinstance(error, NoRoom) else error.message
        log.warning("%s streams through uncached: %s", self.digest, full)
        if self.ingest is not None:
            self._hash = await self.ingest.hash_state()
        self.available = self.ingest.written if self.ingest is not None else 0
        self.refusal = error
        self.state = State.UNSTORED
        self._owner.ended(self)
        self._news.tell()
        await self._partial.forget(self.ingest)
        if not self.readers:
            await self._drop_staging()

    async def _drop_staging(self) -> None:
        """Nobody reads the staged part of an unstored flight any more; a late reader goes through from the start."""
        ingest, self.ingest, self._hash = self.ingest, None, None
        self.available = 0
        if ingest is not None:
            await ingest.abort()

    def _mismatch(self) -> UpstreamDigestMismatch:
        registry = self.source.key[0]
        return UpstreamDigestMismatch(f"{registry} sent bytes that are not {self.digest}", registry=registry)


class Owner(Protocol):
    """Who keeps the table of flights."""

    def ended(self, flight: Flight, /) -> None: ...
    def unattended(self, flight: Flight, /) -> None: ...

"""Uploads that clients have begun (distribution-spec, "Pushing Blobs"): sessions over ingests.

A session belongs to one repository and to whoever began it; to everybody else there is none. Its bytes lie in staging
under its own id and its row in the catalog, so that it survives a restart; one that nobody goes on with is closed after
a while, opened again when it is asked for, and dropped after `UPLOAD_GRACE`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from mirror.cache.leases import Leases
from mirror.cache.rights import Principal
from mirror.clock import Clock
from mirror.errors import (
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    MirrorError,
    StoreFailed,
    TooManyRequests,
    UploadOutOfOrder,
)
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.store import pushing
from mirror.store.protocols import UPLOAD_GRACE, BlobStore, Ingest, Proof
from mirror.tasks import Tasks

log = logging.getLogger(__name__)

MOST_OPEN = 256  # files that stay open for uploads, those being written to not counted
MOST_EACH = 1000  # uploads that one principal may have begun
LOOK_EVERY = 60.0  # seconds between two looks at what nobody goes on with
_IDLE = 300.0  # seconds after which a session's file is closed
_BUSY = 10.0  # seconds that a request waits for another one of the same upload
_BATCH = 512 * 1024  # bytes handed over to the disk at once


class Catalog(pushing.Uploads, Protocol):
    """What of the catalog is needed here."""

    async def hold(
        self, digest: Digest, size: int, location: str, links: Sequence[tuple[Repository, Proof]], at: float
    ) -> None: ...


@dataclass(slots=True, eq=False)
class Session:
    """One upload. `offset`: bytes that were accepted."""

    id: str
    repository: Repository
    owner: str
    algorithm: str
    used_at: float  # of the monotonic clock
    ingest: Ingest | None = None
    ended: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(slots=True)
class Counters:
    """What clients have put here since the start."""

    blobs: int = 0
    bytes: int = 0


class Uploads:
    """The sessions. `made` is told of each repository that something was put into, once that is written down."""

    def __init__(
        self,
        *,
        store: BlobStore,
        catalog: Catalog,
        leases: Leases,
        made: Callable[[Repository], None],
        tasks: Tasks,
        clock: Clock,
    ) -> None:
        self.received = Counters()
        self._made = made
        self._store = store
        self._catalog = catalog
        self._leases = leases
        self._tasks = tasks
        self._clock = clock
        self._sessions: dict[str, Session] = {}
        self._known: dict[str, int] = {}  # owner → uploads begun

    async def recall(self) -> None:
        """Learn what an earlier process left. Called once, before the first request."""
        for row in await self._catalog.uploads():
            self._known[row.owner] = self._known.get(row.owner, 0) + 1

    # --- sessions --------------------------------------------------------------------------------------------

    async def begin(self, principal: Principal, repository: Repository, algorithm: str) -> Session:
        """A new upload. Raises `TooManyRequests` where he has begun too many, `NoRoom`, `StoreFailed`."""
        owner = owner_of(principal)
        if self._known.get(owner, 0) >= MOST_EACH:
            raise TooManyRequests(
                f"{MOST_EACH} uploads are begun and not ended: end or cancel some of them", retry_after=60.0
            )
        ingest = await self._store.begin(_nothing, algorithm=algorithm)
        try:
            row = pushing.Upload(ingest.id, repository, owner, algorithm, self._clock.wall())
            await self._catalog.begin_upload(row)
        except BaseException:
            await ingest.abort()
            raise
        self._known[owner] = self._known.get(owner, 0) + 1
        session = Session(ingest.id, repository, owner, algorithm, self._clock.monotonic(), ingest)
        self._sessions[session.id] = session
        await self._close_some()
        return session

    async def find(self, principal: Principal, repository: Repository, upload_id: str) -> Session:
        """His upload of that id. Raises `BlobUploadUnknown` where there is none, or it is not his, or not of there."""
        session = self._sessions.get(upload_id)
        if session is None:
            row = await self._catalog.upload(upload_id)
            if row is None:
                raise _unknown()
            session = Session(row.id, row.repository, row.owner, row.algorithm, self._clock.monotonic())
            session = self._sessions.setdefault(upload_id, session)  # another request may have been faster
        if (session.repository, session.owner) != (repository, owner_of(principal)):
            raise _unknown()
        return session

    async def offset(self, session: Session) -> int:
        """How many bytes were accepted. Does not wait for one that is just being written to."""
        if session.ingest is not None:
            return session.ingest.offset
        async with self._turn(session) as ingest:
            return ingest.offset

    async def write(self, session: Session, chunks: AsyncIterator[bytes], start: int | None) -> int:
        """Accept bytes, from `start` on where that is said; returns how many there are by then.

        Raises `UploadOutOfOrder` where others are expected, `NoRoom` or `StoreFailed` where the disk refuses: the
        upload is over then. A client that leaves in the middle finds what came of it.
        """
        async with self._turn(session) as ingest:
            await self._write(session, ingest, chunks, start)
            return ingest.offset

    async def finish(self, session: Session, digest: Digest, chunks: AsyncIterator[bytes], start: int | None) -> int:
        """Accept the last bytes, and let it be the blob `digest` of its repository; returns its size.

        Raises as `write`, and `DigestInvalid` where the bytes are others: nothing of them is kept then.
        """
        async with self._turn(session) as ingest:
            await self._write(session, ingest, chunks, start)
            size = ingest.offset
            await self._tasks.finish("upload", self._publish(session, ingest, digest))
            self.received.blobs += 1
            self.received.bytes += size
            return size

    async def put(self, repository: Repository, digest: Digest, data: bytes) -> None:
        """A whole small blob that came with the request. Raises `DigestInvalid`, `NoRoom`, `StoreFailed`."""
        if Digest.of(data, digest.algorithm) != digest:
            raise DigestInvalid(f"the content is not what {digest} names")
        await self._tasks.finish("upload", self._put(repository, digest, data))
        self.received.blobs += 1
        self.received.bytes += len(data)

    async def cancel(self, session: Session) -> None:
        """Drop it and its bytes."""
        async with self._turn(session):
            await self._tasks.finish("cancel", self._drop(session))

    async def abandon(self, session: Session) -> None:
        """Drop it, if it is not over, whoever is at it: nobody was told of it."""
        if not session.ended:
            await self._tasks.finish("cancel", self._drop(session))

    # --- one at a time ---------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _turn(self, session: Session) -> AsyncIterator[Ingest]:
        """Its ingest, for one request alone."""
        try:
            async with asyncio.timeout(_BUSY):
                await session.lock.acquire()
        except TimeoutError:
            raise BlobUploadInvalid("another request is writing to this upload") from None
        try:
            if session.ended:
                raise _unknown()
            ingest = session.ingest or await self._reopen(session)
            yield ingest
        finally:
            session.used_at = self._clock.monotonic()
            session.lock.release()

    async def _reopen(self, session: Session) -> Ingest:
        ingest = await self._store.resume(session.id, _nothing, algorithm=session.algorithm)
        if ingest is None:  # its bytes are gone
            await self._forget(session)
            raise _unknown()
        session.ingest = ingest
        await self._close_some()
        return ingest

    async def _write(self, session: Session, ingest: Ingest, chunks: AsyncIterator[bytes], start: int | None) -> None:
        if start is not None and start != ingest.offset:
            raise UploadOutOfOrder(f"the upload goes on at byte {ingest.offset}, not {start}", offset=ingest.offset)
        try:
            await _take(ingest, chunks)
        except StoreFailed:
            await self._tasks.finish("cancel", self._drop(session))
            raise

    async def _publish(self, session: Session, ingest: Ingest, digest: Digest) -> None:
        """From here on nobody's leaving changes anything. Whatever goes wrong ends the upload."""
        size = ingest.offset
        session.ended = True
        try:
            async with self._leases.hold(digest):
                location = await self._store.publish(ingest, digest)
                await self._catalog.finish_upload(
                    session.id, session.repository, digest, size, location, self._clock.wall()
                )
        except MirrorError:
            await self._forget(session)
            raise
        self._leave(session)
        self._made(session.repository)

    async def _put(self, repository: Repository, digest: Digest, data: bytes) -> None:
        async with self._leases.hold(digest):
            location = await self._store.put(data, digest)
            await self._catalog.hold(digest, len(data), location, [(repository, Proof.PUSHED)], self._clock.wall())
        self._made(repository)

    # --- ending ----------------------------------------------------------------------------------------------

    async def _drop(self, session: Session) -> None:
        session.ended = True
        if session.ingest is not None:
            await session.ingest.abort()
        else:
            await self._store.discard(session.id)
        await self._forget(session)

    async def _forget(self, session: Session) -> None:
        session.ended = True
        self._leave(session)
        try:
            await self._catalog.end_upload(session.id)
        except StoreFailed as error:  # the row finds no file, and goes later
            log.warning("the end of an upload is not written down: %s", error.message)

    def _leave(self, session: Session) -> None:
        if self._sessions.pop(session.id, None) is None:
            return
        left = self._known.get(session.owner, 0) - 1
        if left > 0:
            self._known[session.owner] = left
        else:
            self._known.pop(session.owner, None)

    async def _close_some(self) -> None:
        """Close the files that were not written to for longest, where there are too many."""
        idle = [each for each in self._sessions.values() if each.ingest is not None and not each.lock.locked()]
        for session in sorted(idle, key=lambda each: each.used_at)[: max(0, len(idle) - MOST_OPEN)]:
            await self._suspend(session)

    async def _suspend(self, session: Session) -> None:
        async with session.lock:
            if session.ended or session.ingest is None:
                return
            ingest, session.ingest = session.ingest, None
            await ingest.suspend()
            await self._catalog.touch_upload(session.id, self._clock.wall())

    async def purge(self) -> None:
        """Close what nobody has written to for a while, and drop what nobody goes on with at all."""
        now = self._clock.monotonic()
        for session in list(self._sessions.values()):
            if session.lock.locked() or now - session.used_at < _IDLE:
                continue
            if session.ingest is not None:
                await self._suspend(session)
            else:  # nobody is at it: whoever comes finds its row
                self._sessions.pop(session.id, None)
        for row in await self._catalog.uploads():
            if self._clock.wall() - row.touched_at < UPLOAD_GRACE:
                break
            if row.id not in self._sessions:
                session = Session(row.id, row.repository, row.owner, row.algorithm, now)
                self._sessions[row.id] = session
                await self._drop(session)

    async def watch(self) -> None:
        """`purge` now and then, until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                await self.purge()
            except StoreFailed as error:
                log.warning("uploads are purged later: %s", error.message)


async def _take(ingest: Ingest, chunks: AsyncIterator[bytes]) -> None:
    """Write them, a larger piece at a time."""
    parts: list[bytes] = []
    size = 0
    try:
        async for chunk in chunks:
            parts.append(chunk)
            size += len(chunk)
            if size >= _BATCH:
                batch, parts, size = b"".join(parts), [], 0
                await ingest.write(batch)
    finally:  # also where the client leaves in the middle: what came is kept for when it comes back
        if parts:
            await ingest.write(b"".join(parts))


def owner_of(principal: Principal) -> str:
    """Who may go on with what this principal began."""
    return f"user {principal.user}" if principal.user is not None else str(principal.role)


def _unknown() -> BlobUploadUnknown:
    return BlobUploadUnknown("there is no such upload here: it was ended, cancelled, or never begun by you")


def _nothing(_: int) -> None:
    """Nobody follows an upload."""

"""One blob on its way to one repository of a registry: mounted, else uploaded (distribution-spec, "Push").

Whoever wants the same blob in the same repository meanwhile shares it. The upload is written down before a byte is
sent, so that it goes on where the registry has acknowledged it: after a broken connection, and after a restart. Its
task ends with the last who waits for it; the upload stays open at the registry for whoever comes next.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from mirror.cache.content import quarantine
from mirror.cache.leases import Leases
from mirror.cache.policy import Policy
from mirror.clock import Clock
from mirror.errors import (
    BlobUnknown,
    ManifestBlobUnknown,
    Offline,
    StoreFailed,
    Unavailable,
    UpstreamError,
    UpstreamGone,
    UpstreamInvalid,
    UpstreamLimited,
    UpstreamNoAnswer,
    UpstreamRefused,
    UpstreamUnreachable,
)
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.store import forwarding, protocols
from mirror.store.protocols import BlobReader, BlobStore
from mirror.tasks import Tasks
from mirror.upstream.protocols import Destination, Session

log = logging.getLogger(__name__)

AT_ONCE = 6  # uploads, over all registries
PIECE = 1 << 20  # bytes read at a time
PATIENCE = 120.0  # seconds without progress after which a broken upload is given up
INVALID = 5  # answers in a row that cannot be used, after which it is given up sooner
ANEW = 3  # times that it begins anew because the registry has forgotten it
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0
_MOUNTS = 3  # repositories that a mount is tried from


class Catalog(protocols.Links, forwarding.Forwarding, Protocol):
    """The parts of the catalog that deliveries use."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """How a blob came there. `sent`: bytes that went out for it."""

    mounted_from: Repository | None = None
    sent: int = 0


@dataclass(frozen=True, slots=True)
class Means:
    """What every delivery uses. `count` hears of all bytes that go out: the registry's name and how many."""

    store: BlobStore
    catalog: Catalog
    leases: Leases
    policy: Policy
    clock: Clock
    slots: asyncio.Semaphore
    count: Callable[[str, int], None]


class Deliveries:
    """Deliveries under way."""

    def __init__(
        self,
        *,
        store: BlobStore,
        catalog: Catalog,
        leases: Leases,
        policy: Policy,
        tasks: Tasks,
        clock: Clock,
        count: Callable[[str, int], None],
    ) -> None:
        self._means = Means(store, catalog, leases, policy, clock, asyncio.Semaphore(AT_ONCE), count)
        self._tasks = tasks
        self._under_way: dict[tuple[Repository, Digest], Delivery] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    async def deliver(
        self, destination: Destination, repository: Repository, digest: Digest, tell: Callable[[int, int], None]
    ) -> tuple[Delivered, bool]:
        """Have a held blob in `repository`, which does not have it. `tell` hears how many of how many bytes are there.
        How it came there, and whether somebody else's delivery brought it.

        Raises `ManifestBlobUnknown` where it is not held, `UpstreamRefused`, an `UpstreamNoAnswer`, `Offline`,
        `StoreFailed`.
        """
        key = (repository, digest)
        while (delivery := self._under_way.get(key)) is not None and delivery.left:
            await asyncio.wait([delivery.task])  # two would write into one upload
        joined = delivery is not None
        if delivery is None:
            delivery = self._under_way[key] = Delivery(destination, repository, digest, self._means)
            delivery.task = self._tasks.spawn(f"send {digest.short}", delivery.run())
            delivery.task.add_done_callback(lambda _: self._under_way.pop(key, None))
        return await delivery.follow(tell), joined


class Delivery:
    """One of them."""

    task: "asyncio.Task[Delivered]"

    def __init__(self, destination: Destination, repository: Repository, digest: Digest, means: Means) -> None:
        self.left = False  # by everybody: it ends
        self._destination = destination
        self._repository = repository
        self._digest = digest
        self._means = means
        self._followers: list[Callable[[int, int], None]] = []
        self._size = 0
        self._done = 0
        self._sent = 0
        self._begun = False
        self._session: Session | None = None  # None: it has to be found out where the upload stands
        self._location: str | None = None  # the last one noted
        self._acknowledged = 0
        self._whole = True  # whether the upload was sent in one go, by this delivery
        self._anew = 0
        self._patience = Patience(means.clock)

    # --- for those who wait ---------------------------------------------------------------------------------

    async def follow(self, tell: Callable[[int, int], None]) -> Delivered:
        """Wait until it is there. Raises what it fails of."""
        self._followers.append(tell)
        if self._done:
            tell(self._done, self._size)
        try:
            await asyncio.wait([self.task])
        finally:
            self._followers.remove(tell)
            if not self._followers:
                self.left = True
                self.task.cancel()
        if self.task.cancelled():
            raise Unavailable("this mirror is ending; what was sent is resumed")
        return self.task.result()

    def _reached(self, done: int) -> None:
        self._done = done
        for tell in self._followers:
            tell(done, self._size)

    # --- the way there --------------------------------------------------------------------------------------

    async def run(self) -> Delivered:
        """Deliver it, and note that the registry has it."""
        means = self._means
        async with means.leases.hold(self._digest):
            holding = await means.catalog.holding(self._repository, self._digest, is_manifest=False)
            if holding is None:
                raise not_held(self._digest)
            self._size = holding.size
            try:
                async with means.store.open(self._digest, holding.location, holding.size) as reader:
                    delivered = await self._deliver(reader)
            except BlobUnknown:
                await quarantine(means.catalog, self._digest)
                raise not_held(self._digest) from None
        await self._quietly(means.catalog.at_upstream(self._repository, self._digest, means.clock.wall()))
        return delivered

    async def _deliver(self, reader: BlobReader) -> Delivered:
        """Once it was begun, whatever breaks is tried again for a while; what is refused is not."""
        while True:
            try:
                async with self._means.slots:
                    return await self._try(reader)
            except UpstreamGone as error:
                self._lose(error)
            except UpstreamRefused as error:
                await self._judge(error, reader)
                self._lose(error)
            except (UpstreamUnreachable, UpstreamInvalid, UpstreamLimited) as error:
                if not self._begun:
                    raise
                registry = self._destination.registry
                log.info("%s to %s broke at %d: %s", self._digest, registry, self._acknowledged, error.message)
                self._session = None
                await self._patience.wait(error)
                if self._means.policy.offline:
                    raise Offline(f"this mirror is offline: nothing is sent to {registry}") from error

    async def _try(self, reader: BlobReader) -> Delivered:
        if not self._begun:
            home = await self._open()
            if home is not None:
                return Delivered(home)
        elif self._session is None and await self._is_over():
            return Delivered(sent=self._sent)
        await self._send(reader)
        await self._quietly(self._means.catalog.end_session(self._repository, self._digest))
        return Delivered(sent=self._sent)

    async def _open(self) -> Repository | None:
        """Go on with the upload that an earlier delivery left open; else mount the blob from where the registry is
        known to have it, and return from where; else begin an upload."""
        known = await self._means.catalog.session(self._repository, self._digest, self._means.clock.wall())
        if known is not None:
            self._location = known.location
            if await self._resume():
                return None
        session: Session | None = None
        registry = self._destination.registry
        homes = await self._means.catalog.mountable(registry, self._digest, _MOUNTS + 1)
        for home in [home for home in homes if home != self._repository][:_MOUNTS]:
            session = await self._destination.begin(self._repository, self._digest, mount_from=home)
            if session is None:
                return home
        if session is not None:  # a registry that does not mount has begun an upload instead
            await self._note(session)
        else:
            await self._begin()
        return None

    async def _begin(self) -> None:
        self._whole = True
        self._acknowledged = 0
        session = await self._destination.begin(self._repository, self._digest)
        if session is None:
            registry = self._destination.registry
            raise UpstreamInvalid(f"{registry} mounted what it was not asked to mount", registry=registry)
        await self._note(session)

    async def _resume(self) -> bool:
        """Find out where the upload stands; False where it does not go on."""
        if self._location is None:
            return False
        session = await self._destination.resume(self._repository, self._location)
        if session is None or session.offset > self._size:
            self._location = None
            return False
        self._whole = False
        await self._note(session)
        return True

    async def _note(self, session: Session) -> None:
        """From now on the upload is found here, also by the next process. What is acknowledged is progress."""
        self._begun = True
        self._session = session
        if session.location != self._location:
            self._location = session.location
            now = self._means.clock.wall()
            await self._quietly(self._means.catalog.note_session(self._repository, self._digest, session.location, now))
        if session.offset > self._acknowledged:
            self._acknowledged = session.offset
            self._patience.progress()
        self._reached(session.offset)

    async def _is_over(self) -> bool:
        """After a break: whether the blob is there all the same. Else there is an upload to go on with."""
        if await self._resume():
            return False
        try:
            await self._destination.size(self._repository, self._digest)
        except UpstreamGone:
            await self._begin_anew()
            return False
        return True

    async def _begin_anew(self) -> None:
        self._anew += 1
        if self._anew > ANEW:
            self._begun = False  # there is nothing to go on with
            registry = self._destination.registry
            raise UpstreamUnreachable(f"{registry} keeps nothing of an upload that breaks", registry=registry)
        await self._begin()

    async def _send(self, reader: BlobReader) -> None:
        session = self._session
        if session is None:
            raise RuntimeError("an upload is opened first")
        while (reached := session.offset) < self._size:
            pieces = self._pieces(reader, reached)
            session = await self._destination.send(self._repository, session, pieces, self._size - reached)
            await self._note(session)
            if not reached < session.offset <= self._size:
                registry = self._destination.registry
                raise UpstreamInvalid(
                    f"{registry} says that it has {session.offset} of {self._size} bytes", registry=registry
                )
        await self._destination.finish(self._repository, session, self._digest)

    async def _pieces(self, reader: BlobReader, offset: int) -> AsyncIterator[bytes]:
        while offset < self._size:
            end = await reader.ready(offset, min(offset + PIECE, self._size))
            data = await reader.read(offset, end - offset)
            offset += len(data)
            self._sent += len(data)
            self._means.count(self._destination.registry, len(data))
            self._reached(offset)
            yield data

    # --- what goes wrong ------------------------------------------------------------------------------------

    def _lose(self, error: UpstreamError) -> None:
        """The upload is not there any more, or no good: the next one begins anew."""
        self._session = self._location = None
        if not self._begun:
            raise error

    async def _judge(self, error: UpstreamRefused, reader: BlobReader) -> None:
        """Raises where it is no use to begin anew: the registry does not want it, or our own bytes are bad."""
        if not self._begun or not self._whole:
            return
        await self._quietly(self._means.catalog.end_session(self._repository, self._digest))
        hasher = self._digest.hasher()
        offset = 0
        while self._acknowledged == self._size and offset < self._size:
            data = await reader.read(offset, min(PIECE, self._size - offset))
            await asyncio.to_thread(hasher.update, data)
            offset += len(data)
        if offset and hasher.hexdigest() != self._digest.hex:
            await quarantine(self._means.catalog, self._digest)
            raise not_held(self._digest) from error
        raise error

    async def _quietly(self, writing: Awaitable[None]) -> None:
        """A full disk does not keep anything from being sent: what is not written down is sent or asked once more."""
        try:
            await writing
        except StoreFailed as error:
            log.warning("what is sent of %s is not written down: %s", self._digest, error.message)


class Patience:
    """How long something that breaks is tried again, and how fast."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.progress()

    def progress(self) -> None:
        """It got on: it begins to count anew at the next break."""
        self._until: float | None = None
        self._pause = _FIRST_PAUSE
        self._invalid = 0

    async def wait(self, error: UpstreamNoAnswer) -> None:
        """Wait before the next try. Raises `error` where there is none."""
        now = self._clock.monotonic()
        if self._until is None:
            self._until = now + PATIENCE
        self._invalid += isinstance(error, UpstreamInvalid)
        rest = error.retry_after if isinstance(error, UpstreamLimited) else 0.0
        if now + rest >= self._until or self._invalid >= INVALID:
            raise error
        await asyncio.sleep(max(rest, self._pause))
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)


def not_held(digest: Digest) -> ManifestBlobUnknown:
    return ManifestBlobUnknown(f"{digest} is not held here: pull it, or push it again", detail={"digest": str(digest)})

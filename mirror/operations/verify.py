"""`verify`: read everything that is stored and compare it with its digest; what is bad is served no more, and fetched
anew where a registry still has it (faults.md, "blob removed or rotten").

What was found bad earlier counts, too, for as long as it is. Files that the catalog does not know (a crash between
rename and commit) are told, and with `repair` removed.
"""

import asyncio
import errno
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from mirror.cache.leases import Leases
from mirror.cache.rights import Principal
from mirror.cache.sweep import Sweep
from mirror.clock import Clock
from mirror.errors import BlobUnknown, MirrorError, StoreFailed
from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest
from mirror.operations import repair
from mirror.operations.composition import edges_below
from mirror.operations.events import End, Failed, failed
from mirror.operations.hashing import WORKERS, Hashing
from mirror.operations.repair import Repair
from mirror.operations.resolve import Resolver
from mirror.operations.stream import Feed, streamed
from mirror.store.inventory import Edge
from mirror.store.protocols import BlobStore, Totals
from mirror.tasks import Tasks, each

log = logging.getLogger(__name__)

_PAGE = 200
_EVERY = 0.2  # seconds between two words on how far it is
_LOOKS = 2  # before something is called bad: memory or a cable may err once
_DAMAGED = frozenset({errno.EIO, errno.EBADMSG, errno.EUCLEAN})

Item = tuple[Digest, str, int]
"""Digest, location, size."""


@dataclass(frozen=True, slots=True)
class Progress:
    """So many of `total` blobs are read, with so many bytes."""

    done: int
    total: int
    bytes: int
    event: Literal["progress"] = "progress"


@dataclass(frozen=True, slots=True)
class Bad:
    """A blob is not what its digest names, or is not there. `quarantined`: it is served no more; `healed`: it is here
    again; `lost`: it could not be had. `names`: the images that need it."""

    digest: str
    names: tuple[str, ...]
    state: Literal["healed", "lost", "quarantined"]
    reason: str
    event: Literal["bad"] = "bad"


@dataclass(frozen=True, slots=True)
class Unknown:
    """Files among the blobs that the catalog does not know: nothing needs them."""

    files: int
    bytes: int
    removed: bool
    event: Literal["unknown"] = "unknown"


Event = Progress | Bad | Unknown | Failed | End


class Catalog(repair.Catalog, Protocol):
    """What of the catalog is needed here."""

    async def totals(self) -> Totals: ...
    async def manifest_type(self, digest: Digest) -> str | None: ...


class Verify:
    """The verb."""

    def __init__(
        self,
        *,
        store: BlobStore,
        catalog: Catalog,
        leases: Leases,
        sweep: Sweep,
        repair: Repair,
        resolver: Resolver,
        tasks: Tasks,
        clock: Clock,
    ) -> None:
        self.store = store
        self.catalog = catalog
        self.repair = repair
        self.resolver = resolver
        self.leases = leases
        self.sweep = sweep
        self.clock = clock
        self._tasks = tasks

    def verify(self, principal: Principal, references: Sequence[str], *, repair: bool) -> AsyncGenerator[Event, None]:
        """Everything that is held, or what these images are made of. The last event is an `End`."""

        async def work(feed: Feed[Event]) -> None:
            with Hashing() as hashing:
                await _Run(self, principal, feed, hashing, repair=repair).run(references)

        return streamed(self._tasks, "verify", work)


class _Run:
    """One verification."""

    def __init__(
        self, verb: Verify, principal: Principal, feed: Feed[Event], hashing: Hashing, *, repair: bool
    ) -> None:
        self._store = verb.store
        self._catalog = verb.catalog
        self._mending = verb.repair
        self._resolver = verb.resolver
        self._leases = verb.leases
        self._sweep = verb.sweep
        self._clock = verb.clock
        self._principal = principal
        self._feed = feed
        self._hashing = hashing
        self._repair = repair
        self._total = self._done = self._bytes = self._sound = self._failed = 0
        self._said_at = -_EVERY
        self._healed: set[Digest] = set()  # counted already, and held again

    async def run(self, references: Sequence[str]) -> None:
        if references:
            await self._some(await self._below(references))
        else:
            await self._everything()
        await self._feed.tell(self._progress())
        await self._feed.tell(End(self._sound, self._failed))

    # --- what is looked at -----------------------------------------------------------------------------------

    async def _everything(self) -> None:
        bad = [item async for page in self._pages(self._catalog.quarantined) for item in page]
        self._total = (await self._catalog.totals()).blobs + len(bad)
        await self._feed.tell(self._progress())
        for start in range(0, len(bad), _PAGE):
            await each(bad[start : start + _PAGE], self._found_earlier, WORKERS)
        async for page in self._pages(self._catalog.unverified):
            await self._page([item for item in page if item[0] not in self._healed])
        await self._look_for_unknown()

    async def _some(self, digests: set[Digest]) -> None:
        bad = [item async for page in self._pages(self._catalog.quarantined) for item in page if item[0] in digests]
        known = [(digest, await self._mending.holding(digest)) for digest in sorted(digests)]
        held = [(digest, found.location, found.size) for digest, found in known if found is not None]
        self._total = len(bad) + len(held)
        await self._feed.tell(self._progress())
        await each(bad, self._found_earlier, WORKERS)
        for start in range(0, len(held), _PAGE):
            await self._page(held[start : start + _PAGE])

    async def _below(self, references: Sequence[str]) -> set[Digest]:
        """All that these images are made of; a name that is none is told, and the others go on."""
        roots: set[Digest] = set()
        for text in references:
            try:
                roots.update(row.manifest for row in (await self._resolver.find(self._principal, text)).rows)
            except MirrorError as error:
                await self._fail(text, error)
        edges = await edges_below(self._catalog, roots)
        return roots | {edge.child for some in edges.values() for edge in some}

    async def _pages(self, read: "_Read") -> AsyncIterator[Sequence[Item]]:
        after: Digest | None = None
        while page := await read(after, _PAGE):
            yield page
            after = page[-1][0]

    async def _page(self, page: Sequence[Item]) -> None:
        sound = await each(page, self._held, WORKERS)
        good = [item for item, is_sound in zip(page, sound, strict=True) if is_sound]
        self._sound += len(good)
        try:
            await self._catalog.verified([digest for digest, _, _ in good], self._clock.wall())
        except StoreFailed as error:
            log.warning("that blobs were verified is not written down: %s", error.message)
        await self._check_manifests(good)

    # --- one blob --------------------------------------------------------------------------------------------

    async def _held(self, item: Item) -> bool:
        """Look at what is held; True where it is sound."""
        digest = item[0]
        try:
            reason = await self._examine(item, self._read)
            if reason is not None and not await self._is_here(item):
                reason = None  # it was removed meanwhile, or came anew
            if reason is not None:
                names = await self._mending.names(self._principal, digest)
                await self._catalog.quarantine(digest)
                log.warning("%s is damaged (%s) and is served no more", digest, reason)
                await self._mend(digest, names, reason)
        except MirrorError as error:
            await self._fail(str(digest), error)
            return False
        finally:
            self._step()
        return reason is None

    async def _found_earlier(self, item: Item) -> None:
        """Look at what is quarantined: it may be sound by now."""
        digest, location, size = item
        try:
            names = await self._mending.names(self._principal, digest)
            async with self._leases.hold(digest):
                reason = await self._examine(item, self._read)
                if reason is None and self._repair:
                    await self._catalog.hold(digest, size, location, [], self._clock.wall())
            if reason is None and self._repair:
                await self._tell_bad(digest, names, "healed", "it was found damaged earlier, and can be read now")
            else:
                await self._mend(digest, names, reason or "it was found damaged earlier")
        except MirrorError as error:
            await self._fail(str(digest), error)
        finally:
            self._step()

    async def _examine(self, item: Item, tell: "_Tell") -> str | None:
        """Why it is bad, None where it is sound. Raises `StoreFailed` where that cannot be known."""
        reason: str | None = None
        for look in range(_LOOKS):
            reason = await self._look(item, tell if look == 0 else lambda _: None)
            if reason is None:
                break
        return reason

    async def _look(self, item: Item, tell: "_Tell") -> str | None:
        digest, location, size = item
        try:
            async with self._store.open(digest, location, size) as reader:
                actual = await self._hashing.digest(reader, tell)
        except BlobUnknown as error:
            return error.message
        except StoreFailed as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in _DAMAGED:
                return error.message
            raise
        return None if actual == digest else "its bytes have changed"

    async def _is_here(self, item: Item) -> bool:
        found = await self._mending.holding(item[0])
        return found is not None and (found.location, found.size) == item[1:]

    async def _mend(self, digest: Digest, names: tuple[str, ...], reason: str) -> None:
        if not self._repair:
            await self._tell_bad(digest, names, "quarantined", reason)
            return
        why = await self._mending.heal(digest)
        if why is None:
            await self._tell_bad(digest, names, "healed", reason)
        else:
            await self._tell_bad(digest, names, "lost", f"{reason}; {why}")

    async def _tell_bad(
        self, digest: Digest, names: tuple[str, ...], state: Literal["healed", "lost", "quarantined"], reason: str
    ) -> None:
        if state == "healed":
            self._healed.add(digest)
        await self._feed.tell(Bad(str(digest), names, state, reason))

    # --- what the catalog says of it -------------------------------------------------------------------------

    async def _check_manifests(self, page: Sequence[Item]) -> None:
        """The catalog's rows about manifests are what their bytes say."""
        by_parent: dict[Digest, list[Edge]] = {}
        for edge in await self._catalog.edges([digest for digest, _, _ in page]):
            by_parent.setdefault(edge.parent, []).append(edge)
        for digest, location, size in page:
            if digest not in by_parent:
                continue
            try:
                raw = await self._store.read(digest, location, size)
                declared = await self._catalog.manifest_type(digest)
                manifest = await asyncio.to_thread(Manifest.parse, raw, declared=declared, digest=digest)
                if _said(manifest) != [_row(edge) for edge in by_parent[digest]]:
                    raise StoreFailed("the catalog says otherwise of this manifest than its bytes: remove it, pull it")
            except BlobUnknown:
                continue  # removed meanwhile
            except MirrorError as error:
                self._sound -= 1
                await self._fail(str(digest), error)

    async def _look_for_unknown(self) -> None:
        """Nobody is publishing what is found here: whoever does holds a lease."""
        if self._repair:
            removed = await self._sweep.remove_strays()
        else:
            removed = [stray async for stray in self._strays()]
        if removed:
            size = sum(count for _, count in removed)
            await self._feed.tell(Unknown(len(removed), size, removed=self._repair))

    async def _strays(self) -> AsyncIterator[tuple[Digest, int]]:
        batch: dict[Digest, int] = {}
        async for digest, _, size in self._store.walk():
            batch[digest] = size
            if len(batch) == _PAGE:
                for stray in await self._unknown(batch):
                    yield stray
                batch = {}
        for stray in await self._unknown(batch):
            yield stray

    async def _unknown(self, found: Mapping[Digest, int]) -> list[tuple[Digest, int]]:
        known = await self._catalog.states(list(found))
        taken = self._leases.take(digest for digest in found if digest not in known)
        try:
            known = await self._catalog.states(taken)
            return [(digest, found[digest]) for digest in taken if digest not in known]
        finally:
            self._leases.give_back(taken)

    # --- how far it is ---------------------------------------------------------------------------------------

    def _read(self, count: int) -> None:
        self._bytes += count
        self._hint()

    def _step(self) -> None:
        self._done += 1
        self._hint()

    def _hint(self) -> None:
        now = self._clock.monotonic()
        if now - self._said_at >= _EVERY:
            self._said_at = now
            self._feed.hint(self._progress())

    def _progress(self) -> Progress:
        return Progress(self._done, max(self._total, self._done), self._bytes)

    async def _fail(self, name: str, error: MirrorError) -> None:
        self._failed += 1
        await self._feed.tell(failed(name, error))


class _Tell(Protocol):
    def __call__(self, count: int, /) -> None: ...


class _Read(Protocol):
    async def __call__(self, after: Digest | None, limit: int, /) -> Sequence[Item]: ...


_Said = tuple[str, Digest, str, int, str | None]


def _said(manifest: Manifest) -> list[_Said]:
    return [
        (child.role, child.descriptor.digest, child.descriptor.media_type, child.descriptor.size, child.platform)
        for child in manifest.children()
    ]


def _row(edge: Edge) -> _Said:
    return edge.role, edge.child, edge.media_type, edge.size, edge.platform

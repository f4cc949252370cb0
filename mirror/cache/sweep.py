"""Collection: bytes that nothing needs are deleted while everything else goes on (design.md §6).

The order is `begin_delete` (roots checked in that transaction) → unlink → `deleted`; a digest that somebody is just at
(`leases`) is left for the next time. What was only just used is left alone for `GRACE` seconds, and nothing is
collected for as long after a start: a client that was told of a blob before it may still be about to need it. Whoever
deletes on purpose (eviction, `rmi`, `prune`) does not wait: there the roots and the leases decide alone, right after a
start, too. An upload waits `UPLOAD_GRACE` for its manifest whatever happens.
"""

import asyncio
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mirror.cache.leases import Leases
from mirror.cache.room import Room
from mirror.clock import Clock
from mirror.errors import StoreFailed
from mirror.logs import human
from mirror.oci.digest import Digest
from mirror.store.inventory import Collection, Edge
from mirror.store.protocols import BlobStore, Deletion
from mirror.tasks import Tasks

log = logging.getLogger(__name__)

GRACE = 3600.0  # seconds for which nothing is collected after it was last used
SWEEP_EVERY = 600.0  # seconds between two looks at what nothing needs
STRAYS_EVERY = 24 * 3600.0  # … and between two walks over the files
_AT_ONCE = 100  # blobs deleted together: others write to the catalog in between
_EDGES_AT_ONCE = 400  # manifests
_WALKED_AT_ONCE = 500
_LISTED = 100_000
_CLOCKS_DRIFT = 60.0  # seconds by which the wall clock may move otherwise than time itself


class Catalog(Collection, Deletion, Protocol):
    """The parts of the catalog that collection uses."""

    async def edges(self, manifests: Sequence[Digest]) -> Sequence[Edge]: ...


@dataclass(slots=True)
class Counters:
    """What was deleted since the start."""

    blobs: int = 0
    bytes: int = 0


class Sweep:
    """Deletes."""

    def __init__(
        self, *, store: BlobStore, room: Room, catalog: Catalog, leases: Leases, tasks: Tasks, clock: Clock
    ) -> None:
        self.deleted = Counters()
        self._store = store
        self._room = room
        self._catalog = catalog
        self._leases = leases
        self._tasks = tasks
        self._clock = clock
        self._began = clock.monotonic()
        self._offset = clock.wall() - self._began  # between the two clocks
        self._walk_at = self._began

    # --- deleting ------------------------------------------------------------------------------------------

    async def collect(
        self, digests: Iterable[Digest], *, used_before: float | None = None
    ) -> Sequence[tuple[Digest, int]]:
        """Delete those of these blobs that nothing needs now and nobody is at, and what is not needed any more once
        they are gone. Which they were, with the bytes that this freed.

        What names others comes first. `used_before`: wall time since which they may not have been used; without it
        whatever is not needed goes, but for uploads that wait for their manifest. Raises `StoreFailed` where the
        catalog does not take it; a file that cannot be removed is tried again by the next sweep.
        """
        gone: list[tuple[Digest, int]] = []
        wave = list(dict.fromkeys(digests))
        while wave:
            below: dict[Digest, None] = {}
            for start in range(0, len(wave), _AT_ONCE):
                batch = wave[start : start + _AT_ONCE]
                children = await self._children(batch)
                # In a task of its own: whoever waits may leave, and no batch is torn by it.
                deleted = await asyncio.shield(self._tasks.spawn("collect", self._delete(batch, used_before)))
                gone += deleted
                for digest, _ in deleted:
                    below.update(dict.fromkeys(children.get(digest, ())))
            wave = list(below)
        return gone

    async def _children(self, digests: Sequence[Digest]) -> dict[Digest, list[Digest]]:
        found: dict[Digest, list[Digest]] = {}
        for start in range(0, len(digests), _EDGES_AT_ONCE):
            for edge in await self._catalog.edges(digests[start : start + _EDGES_AT_ONCE]):
                found.setdefault(edge.parent, []).append(edge.child)
        return found

    async def _delete(self, digests: Sequence[Digest], used_before: float | None) -> list[tuple[Digest, int]]:
        """One batch, in parallel; the catalog writes it together."""
        taken = self._leases.take(digests)
        try:
            now = self._clock.wall()
            begun = await asyncio.gather(
                *(self._catalog.begin_delete(digest, used_before, now=now) for digest in taken), return_exceptions=True
            )
            found = zip(taken, begun, strict=True)
            gone = await self._finish([(digest, location) for digest, location in found if isinstance(location, str)])
            for outcome in begun:
                if isinstance(outcome, BaseException):
                    raise outcome
            return gone
        finally:
            self._leases.give_back(taken)

    async def _finish(self, deleting: Sequence[tuple[Digest, str]]) -> list[tuple[Digest, int]]:
        sizes = await asyncio.gather(*(self._unlink(digest, location) for digest, location in deleting))
        gone = [(digest, size) for (digest, _), size in zip(deleting, sizes, strict=True) if size is not None]
        await asyncio.gather(*(self._catalog.deleted(digest) for digest, _ in gone))
        self.deleted.blobs += len(gone)
        self.deleted.bytes += sum(size for _, size in gone)
        return gone

    async def _unlink(self, digest: Digest, location: str) -> int | None:
        try:
            return await self._store.delete(location)
        except StoreFailed as error:
            log.warning("%s could not be deleted, the next sweep tries again: %s", digest, error.message)
            return None

    # --- what nothing needs --------------------------------------------------------------------------------

    async def collect_loose(self, used_before: float | None = None) -> Sequence[tuple[Digest, int]]:
        """Delete all that nothing needs and that was not used since then; as `collect` without it."""
        before = math.inf if used_before is None else used_before
        gone: list[tuple[Digest, int]] = []
        while True:
            found = await self._catalog.unreferenced(before, _LISTED)
            deleted = await self.collect([digest for digest, _ in found], used_before=used_before)
            gone += deleted
            if len(found) < _LISTED or not deleted:
                return gone

    async def finish(self) -> None:
        """Complete what was begun and could not be: its file would not go."""
        begun = dict(await self._catalog.deleting())
        taken = self._leases.take(begun)
        try:
            await self._finish([(digest, begun[digest]) for digest in taken])
        finally:
            self._leases.give_back(taken)

    async def remove_strays(self) -> Sequence[tuple[Digest, int]]:
        """Remove files that the catalog does not know: a crash, or a refused write, came between rename and `hold`.

        In this process whoever is between the two holds a lease. Which they were, and their sizes.
        """
        strays: list[tuple[Digest, int]] = []
        batch: dict[Digest, tuple[str, int]] = {}
        async for digest, location, size in self._store.walk():
            batch[digest] = (location, size)
            if len(batch) == _WALKED_AT_ONCE:
                strays += await self._remove_unknown(batch)
                batch = {}
        return [*strays, *await self._remove_unknown(batch)]

    async def _remove_unknown(self, found: dict[Digest, tuple[str, int]]) -> list[tuple[Digest, int]]:
        known = await self._catalog.states(list(found))
        taken = self._leases.take(digest for digest in found if digest not in known)
        try:
            known = await self._catalog.states(taken)  # once more: by now nobody can be publishing it
            unknown = [digest for digest in taken if digest not in known]
            self._room.found(sum(found[digest][1] for digest in unknown))  # nobody has counted them
            sizes = await asyncio.gather(*(self._unlink(digest, found[digest][0]) for digest in unknown))
            return [(digest, size) for digest, size in zip(unknown, sizes, strict=True) if size]
        finally:
            self._leases.give_back(taken)

    # --- now and then --------------------------------------------------------------------------------------

    async def sweep(self) -> Sequence[tuple[Digest, int]]:
        """What has been due since the last time; nothing for `GRACE` seconds after a start, or after the machine's
        clock was set: what is written down cannot be compared with it then. Raises `StoreFailed`."""
        now, wall = self._clock.monotonic(), self._clock.wall()
        if abs(wall - now - self._offset) > _CLOCKS_DRIFT:
            self._began, self._offset = now, wall - now
        if now - self._began < GRACE:
            return []
        await self.finish()
        gone = list(await self.collect_loose(wall - GRACE))
        if now >= self._walk_at:
            self._walk_at = now + STRAYS_EVERY
            gone += await self.remove_strays()
        return gone

    async def watch(self) -> None:
        """Sweep now and then, until it is cancelled."""
        while True:
            await asyncio.sleep(SWEEP_EVERY)
            try:
                gone = await self.sweep()
            except StoreFailed as error:
                log.warning("collection goes on later: %s", error.message)
                continue
            if gone:
                log.info("collected %d blobs, %s: nothing needed them", len(gone), human(sum(size for _, size in gone)))

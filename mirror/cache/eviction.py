"""Eviction: the least recently used images go, so that what is asked for now finds room (design.md §6, "Room").

Never what was pushed or pinned, what its registry no longer has, what waits to be sent, and no layer that a kept image
needs: the catalog lists the others and checks each once more as it goes. Nor an image of which something is just being
downloaded: it would be fetched only to be thrown away.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol

from mirror.cache.manifests import Manifests
from mirror.cache.sweep import Sweep
from mirror.cache.tags import Tags
from mirror.cache.uses import Uses
from mirror.clock import Clock
from mirror.logs import human
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.store.inventory import Candidate, Collection, ImageRow, Weight

log = logging.getLogger(__name__)

_LISTED = 200
_LISTED_AT_MOST = 1_000_000
_TOGETHER = 50  # images in one go
_SHARING = 1000  # images that a layer under way may belong to


class Catalog(Collection, Protocol):
    """The parts of the catalog that eviction uses."""

    async def sharing(self, digest: Digest, limit: int) -> Sequence[ImageRow]: ...
    async def weigh(self, manifests: Sequence[Digest]) -> Mapping[Digest, Weight]: ...


@dataclass(slots=True)
class Counters:
    """What had to make room since the start."""

    images: int = 0
    bytes: int = 0


class Eviction:
    """Makes room. `flying` are the digests of downloads under way."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        sweep: Sweep,
        uses: Uses,
        tags: Tags,
        manifests: Manifests,
        flying: Callable[[], AbstractSet[Digest]],
        clock: Clock,
    ) -> None:
        self.evicted = Counters()
        self._catalog = catalog
        self._sweep = sweep
        self._uses = uses
        self._tags = tags
        self._manifests = manifests
        self._flying = flying
        self._clock = clock

    async def make(self, wanted: int, why: str) -> int:
        """Evict until so many bytes are free, or nothing is left that may go; then, whatever its age, what nothing
        needs at all. Returns how many bytes that freed. Raises `StoreFailed`."""
        await self._uses.flush()  # an image that is just being pulled is not the least recently used
        images = freed = 0
        passed: set[tuple[Repository, Digest]] = set()
        needing: dict[Digest, set[Digest]] = {}
        while freed < wanted:
            group = await self._next(wanted - freed, passed, needing)
            if not group:
                break
            passed.update((each.repository, each.manifest) for each in group)
            gone, deleted = await self.evict(group)
            images += len(gone)
            freed += sum(size for _, size in deleted)
            self.evicted.images += len(gone)
            self.evicted.bytes += sum(size for _, size in deleted)
        if freed < wanted:
            freed += sum(size for _, size in await self._sweep.collect_loose())
        if freed:
            log.info("evicted %d image%s, %s freed: %s", images, "" if images == 1 else "s", human(freed), why)
        else:
            log.warning("nothing can be evicted: %s, and all that is here was pushed, pinned or is in use", why)
        return freed

    async def evict(self, group: Sequence[Candidate]) -> tuple[Sequence[Candidate], Sequence[tuple[Digest, int]]]:
        """Evict those of these that still may go and were not used meanwhile, and delete what nothing needs then.
        Returns which images went, and which blobs, with the bytes that this freed. Raises `StoreFailed`."""
        gone: list[Candidate] = []
        try:
            for each in group:
                used_before = math.nextafter(each.used_at, math.inf)
                if await self._catalog.evict(each.repository, each.manifest, used_before, self._clock.wall()):
                    gone.append(each)
        finally:  # also where it was cut short
            self._forget({each.repository for each in group})
        return gone, await self._sweep.collect(each.manifest for each in gone)

    def _forget(self, repositories: AbstractSet[Repository]) -> None:
        """Nothing that memory has of these is served any more before the catalog was asked again."""
        self._tags.forget_all(repositories)
        self._manifests.forget_all(repositories)

    async def _next(
        self, wanted: int, passed: AbstractSet[tuple[Repository, Digest]], needing: dict[Digest, set[Digest]]
    ) -> list[Candidate]:
        """The next ones to go: as few as are sure to free so much."""
        found = await self._candidates(passed, needing)
        weights = await self._catalog.weigh([each.manifest for each in found])
        group: list[Candidate] = []
        for each in found:
            group.append(each)
            weight = weights.get(each.manifest)
            wanted -= weight.unique if weight is not None else 0
            if wanted <= 0:
                break
        return group

    async def _candidates(
        self, passed: AbstractSet[tuple[Repository, Digest]], needing: dict[Digest, set[Digest]]
    ) -> list[Candidate]:
        limit = _LISTED
        while True:
            listed = await self._catalog.candidates(limit)
            busy = await self._busy(needing)
            found = [
                each for each in listed if each.manifest not in busy and (each.repository, each.manifest) not in passed
            ]
            if found or len(listed) < limit or limit >= _LISTED_AT_MOST:
                return found[:_TOGETHER]
            limit *= 4

    async def _busy(self, needing: dict[Digest, set[Digest]]) -> set[Digest]:
        """Images of which something is just being downloaded. `needing`: who needs what, as far as it was asked."""
        busy: set[Digest] = set()
        for digest in self._flying():
            if digest not in needing:
                needing[digest] = {row.manifest for row in await self._catalog.sharing(digest, _SHARING)}
            busy |= needing[digest]
        return busy

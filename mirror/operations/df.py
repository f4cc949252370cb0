"""`df`: what the disk holds, what sharing saves, what `prune --all` would free.

Every byte stands in one line: below an image, in no image, in staging, in the catalog. So the sizes on disk add up to
what the data directory takes.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mirror.cache.rights import Principal
from mirror.clock import Clock
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.operations.images import Image, Page, Wanted
from mirror.store.inventory import Candidate, ImageRow, Usage, Weight
from mirror.store.protocols import BlobStore

EVERY = 1_000_000
"""More than there are."""

_PAGE = 5000


class Catalog(Protocol):
    """What of the catalog is counted."""

    async def images(
        self, *, repository: Repository | None, registry: str | None, cursor: str | None, limit: int
    ) -> tuple[Sequence[ImageRow], str | None]: ...
    async def candidates(self, limit: int) -> Sequence[Candidate]: ...
    async def sizes(self) -> Mapping[Digest, Weight]: ...
    async def usage(self) -> Usage: ...
    async def foresee_freed(self, evictions: Sequence[tuple[Repository, Digest]], at: float) -> tuple[int, int]: ...


class Images(Protocol):
    """The list of images (`images`)."""

    async def page(self, principal: Principal, wanted: Wanted, *, limit: int, cursor: str | None) -> Page: ...


@dataclass(frozen=True, slots=True)
class Type:
    """One line; sizes in bytes. `active`: what `prune --all` keeps. `logical`: what it would take without sharing;
    `reclaimable`: what `prune --all` frees of `on_disk`."""

    type: str
    total: int
    active: int
    logical: int
    on_disk: int
    saved: int
    reclaimable: int


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """All lines; and, where they were asked for, the images that he may see."""

    types: tuple[Type, ...]
    images: tuple[Image, ...] = ()


class Df:
    """The report. `catalog_size` tells how many bytes the catalog's own files take."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        store: BlobStore,
        images: Images,
        catalog_size: Callable[[], Awaitable[int]],
        clock: Clock,
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._images = images
        self._catalog_size = catalog_size
        self._clock = clock

    async def report(self, principal: Principal, *, verbose: bool) -> DiskUsage:
        """Everything there is, also what he may not see: as sums it names nothing."""
        types = (*await self._blobs(), await self._staging(), await self._files())
        return DiskUsage(types, await self._every_image(principal) if verbose else ())

    async def _blobs(self) -> tuple[Type, Type]:
        """What belongs to images, and what does not: uploads without their manifest, what is damaged, leftovers."""
        usage = await self._catalog.usage()
        weights = await self._catalog.sizes()
        # On a thread: there may be a hundred thousand, and each is hashed.
        candidates, evictable = await asyncio.to_thread(_evictable, await self._catalog.candidates(EVERY))
        at = self._clock.wall()
        _, free = await self._catalog.foresee_freed(candidates, at)
        loose, free_loose = await self._catalog.foresee_freed([], at)
        total = active = logical = 0
        async for row in every_row(self._catalog):
            total += 1
            active += (row.repository, row.manifest) not in evictable
            logical += weights[row.manifest].size if row.manifest in weights else 0
        others, bytes_ = usage.blobs - usage.image_blobs, usage.bytes - usage.image_bytes
        return (
            Type("Images", total, active, logical, usage.image_bytes, logical - usage.image_bytes, free - free_loose),
            Type("Loose layers", others, max(0, others - loose), bytes_, bytes_, 0, free_loose),
        )

    async def _staging(self) -> Type:
        sizes = await self._store.staging()
        open_ = self._store.active()
        whole = sum(sizes.values())
        idle = sum(size for ingest_id, size in sizes.items() if ingest_id not in open_)
        active = sum(ingest_id in open_ for ingest_id in sizes)
        return Type("Staging", len(sizes), active, whole, whole, 0, idle)

    async def _files(self) -> Type:
        size = await self._catalog_size()
        return Type("Catalog", 1, 1, size, size, 0, 0)

    async def _every_image(self, principal: Principal) -> tuple[Image, ...]:
        images: list[Image] = []
        cursor: str | None = None
        while True:
            page = await self._images.page(principal, Wanted(), limit=_PAGE, cursor=cursor)
            images += page.images
            cursor = page.next
            if cursor is None:
                return tuple(images)


def _evictable(
    candidates: Sequence[Candidate],
) -> tuple[Sequence[tuple[Repository, Digest]], frozenset[tuple[Repository, Digest]]]:
    """Which images `prune --all` would take, in order and to look up."""
    named = [(each.repository, each.manifest) for each in candidates]
    return named, frozenset(named)


async def every_row(catalog: Catalog) -> AsyncIterator[ImageRow]:
    """All images, whoever may see them."""
    cursor: str | None = None
    while True:
        rows, cursor = await catalog.images(repository=None, registry=None, cursor=cursor, limit=_PAGE)
        for row in rows:
            yield row
        if cursor is None:
            return

"""Where a flight ends: its blob is published, and linked wherever it is proven (design.md §3, commit order)."""

from collections.abc import Sequence
from typing import Protocol

from mirror.cache.leases import Leases
from mirror.clock import Clock
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.store.protocols import BlobStore, Ingest, Links, Partials, Proof


class Catalog(Links, Partials, Protocol):
    """The parts of the catalog that a flight writes."""


class Landing:
    """Puts verified bytes where they stay."""

    def __init__(self, *, store: BlobStore, catalog: Catalog, leases: Leases, clock: Clock) -> None:
        self._store = store
        self._catalog = catalog
        self._leases = leases
        self._clock = clock

    async def keep(self, digest: Digest, data: bytes | Ingest, proven: Sequence[Repository], proof: Proof) -> None:
        """Publish `data`, link it in each of `proven`: also in those who are added until this returns, for it does not
        wait after its last look at them.

        Raises `NoRoom` or `StoreFailed` where the disk does not take it.
        """
        async with self._leases.hold(digest):
            if isinstance(data, bytes):
                size, location = len(data), await self._store.put(data, digest)
            else:
                size, location = data.offset, await self._store.publish(data, digest)
            linked = 0
            while linked < len(proven):
                batch = proven[linked:]
                linked += len(batch)
                links = [(repository, proof) for repository in batch]
                await self._catalog.hold(digest, size, location, links, self._clock.wall())

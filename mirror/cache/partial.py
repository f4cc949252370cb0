"""What a download leaves in staging, for a later one of the same source to go on with.

A hostile registry must not finish what another one began: a partial download is found by its digest and its source
together (design.md §4).
"""

import logging
from collections.abc import Callable

from mirror.clock import Clock
from mirror.errors import StoreFailed
from mirror.oci.digest import Digest
from mirror.store.protocols import BlobStore, Ingest, Partial, Partials
from mirror.upstream.protocols import Source

log = logging.getLogger(__name__)


class Known:
    """Which partial downloads there may be: looked up for every flight, without asking the catalog each time.

    It may hold some that are gone meanwhile; the catalog decides about those.
    """

    def __init__(self) -> None:
        self._keys: set[tuple[Digest, str, bool]] = set()

    async def recall(self, catalog: Partials) -> None:
        """What an earlier process left behind. Called once, before the first flight."""
        self._keys.update((each.digest, each.registry, each.anonymous) for each in await catalog.partials())

    def __contains__(self, key: tuple[Digest, str, bool]) -> bool:
        return key in self._keys

    def add(self, key: tuple[Digest, str, bool]) -> None:
        self._keys.add(key)

    def discard(self, key: tuple[Digest, str, bool]) -> None:
        self._keys.discard(key)


class PartialDownload:
    """The staged part of one digest from one source, and the catalog's record of it."""

    def __init__(
        self, digest: Digest, source: Source, *, known: Known, store: BlobStore, catalog: Partials, clock: Clock
    ) -> None:
        self._digest = digest
        self._registry, self._anonymous = source.key
        self._key = (digest, *source.key)
        self._known = known
        self._store = store
        self._catalog = catalog
        self._clock = clock

    async def resume(self, on_written: Callable[[int], None]) -> Ingest | None:
        """What an earlier download left, opened again; None where there is nothing, or it cannot be read."""
        if self._key not in self._known:
            return None
        partial = await self._catalog.partial(self._digest, self._registry, anonymous=self._anonymous)
        if partial is None:
            return None
        try:
            ingest = await self._store.resume(partial.id, on_written, algorithm=self._digest.algorithm)
        except StoreFailed:
            ingest = None
        if ingest is None:
            await self._catalog.end_partial(partial.id)
        return ingest

    async def begin(self, on_written: Callable[[int], None]) -> Ingest:
        """A new ingest, recorded. Raises `StoreFailed` where the disk does not take it."""
        ingest = await self._store.begin(on_written, algorithm=self._digest.algorithm)
        record = Partial(ingest.id, self._digest, self._registry, self._anonymous, self._clock.wall())
        self._known.add(self._key)
        try:
            await self._catalog.begin_partial(record)
        except StoreFailed as error:
            log.debug("not resumable after a restart: %s", error.message)
        return ingest

    async def forget(self, ingest: Ingest | None) -> None:
        """It is published, or dropped: nobody will go on with it. None: it was in memory."""
        if ingest is None:
            return
        self._known.discard(self._key)
        try:
            await self._catalog.end_partial(ingest.id)
        except StoreFailed as error:
            log.debug("%s: its staging record stays until it is cleaned: %s", self._digest, error.message)

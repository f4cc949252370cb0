"""Open what may be seen: a blob at rest, one that is flying, one that has to be fetched (design.md §5, "GET blob")."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from enum import StrEnum
from typing import Protocol

from mirror.cache.flight import Flight
from mirror.cache.flights import Flights
from mirror.cache.leases import Leases
from mirror.cache.misses import noting
from mirror.cache.proofs import Proofs, in_time, proof_of
from mirror.cache.readers import through
from mirror.cache.rights import Principal
from mirror.cache.uses import Uses
from mirror.clock import Clock
from mirror.errors import BlobUnknown, StoreFailed, UpstreamGone
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.store.protocols import BlobReader, BlobStore, Holding, Links, Misses
from mirror.upstream.protocols import Source

log = logging.getLogger(__name__)


class Cache(StrEnum):
    """How an answer came to be: the `Mirror-Cache` header."""

    HIT = "hit"
    MISS = "miss"
    STALE = "stale"
    REVALIDATED = "revalidated"


class Blob:
    """An open blob: its size is known, and its bytes can be read for as long as it is open."""

    def __init__(
        self,
        size: int,
        cache: Cache,
        *,
        held: BlobReader | None = None,
        flight: Flight | None = None,
        joined: bool = False,
    ) -> None:
        self.size = size
        self.cache = cache
        self.joined = joined  # somebody else's download: its bytes are counted there
        self._held = held
        self._flight = flight

    @property
    def flight(self) -> Flight | None:
        """The download that it comes from, where it is not at rest."""
        return self._flight

    @asynccontextmanager
    async def reader(self, repository: Repository, start: int, end: int) -> AsyncIterator[BlobReader]:
        """Bytes from `start` to `end` (exclusive).

        A range that begins beyond what a flight has reached goes straight through from upstream, while the flight
        goes on: lazy pullers read the tail first.
        """
        if self._held is not None:
            yield self._held
        elif self._flight is not None and start <= self._flight.available:
            async with self._flight.follow(repository) as follower:
                yield follower
        elif self._flight is not None:
            flight = self._flight
            async with through(flight.source, repository, flight.digest, self.size, start, end) as passing:
                yield passing


class Catalog(Links, Misses, Protocol):
    """The parts of the catalog that content uses."""


class _LandedError(Exception):
    """The blob landed before it was asked for."""


async def quarantine(catalog: Links, digest: Digest) -> None:
    """Its file is missing, cut or rotten: never served again, fetched anew. Where that cannot be written down (a full
    disk) the next one who asks finds out again."""
    try:
        await catalog.quarantine(digest)
    except StoreFailed as error:
        log.warning("%s cannot be used, and that is not written down: %s", digest, error.message)


class Content:
    """Blobs, for whoever may see them."""

    def __init__(
        self,
        *,
        store: BlobStore,
        catalog: Catalog,
        leases: Leases,
        uses: Uses,
        flights: Flights,
        proofs: Proofs,
        clock: Clock,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._leases = leases
        self._uses = uses
        self._flights = flights
        self._proofs = proofs
        self._clock = clock

    @asynccontextmanager
    async def open(
        self, principal: Principal, repository: Repository, digest: Digest, client: str
    ) -> AsyncIterator[Blob]:
        """The blob, if this principal may see it under this repository: held, or from upstream.

        `client` answers for a download that this begins. Raises `BlobUnknown` where his registry says that there is
        none, an `UpstreamNoAnswer` or `Offline` where that cannot be known.
        """
        trusted = self._proofs.trusted(principal, repository)
        async with AsyncExitStack() as stack:
            async with noting(self._catalog, f"{repository}@{digest}", self._clock), in_time(repository.registry):
                blob = await self._found(stack, repository, digest, client, trusted=trusted)
            yield blob

    async def bring(
        self,
        principal: Principal,
        repository: Repository,
        digest: Digest,
        client: str,
        tell: Callable[[int], None] = lambda _: None,
    ) -> int | None:
        """Have it here, stored and linked in this repository, as if he had read it; no byte passes through.

        Returns how many bytes were downloaded, None where it was at rest already. `tell` gets the bytes that are here,
        as they come. Raises as `open`, and `StoreFailed` where the disk does not take it.
        """
        async with self.open(principal, repository, digest, client) as blob:
            if blob.flight is None:
                return None
            async with blob.flight.follow(repository):
                await blob.flight.landing(tell)
        if await self._catalog.holding(repository, digest, is_manifest=False) is None:
            raise StoreFailed(f"{digest} was downloaded, and could not be kept: the mirror's log says why")
        return blob.size - blob.flight.kept

    async def held(self, principal: Principal, repository: Repository, digest: Digest) -> bool:
        """Whether it is here and he may see it under this repository, as far as that is known without asking."""
        holding = await self._catalog.holding(repository, digest, is_manifest=False)
        if holding is None:
            return False
        trusted = self._proofs.trusted(principal, repository)
        return await self._proofs.blob_visible(holding, repository, trusted=trusted)

    async def here(self, principal: Principal, repository: Repository, digest: Digest) -> bool:
        """Whether nothing has to be downloaded for `bring`: what is held for another repository of the same registry
        costs one HEAD. Raises as `open`."""
        trusted = self._proofs.trusted(principal, repository)
        return await self._visible(repository, digest, trusted=trusted) is not None

    async def stat(self, principal: Principal, repository: Repository, digest: Digest) -> tuple[int | None, Cache]:
        """What a HEAD tells: the size (None: upstream has it and does not say). Downloads nothing. Raises as `open`."""
        async with in_time(repository.registry):
            return await self._stat(repository, digest, trusted=self._proofs.trusted(principal, repository))

    async def _stat(self, repository: Repository, digest: Digest, *, trusted: bool) -> tuple[int | None, Cache]:
        holding = await self._visible(repository, digest, trusted=trusted)
        if holding is not None:
            return holding.size, Cache.HIT

        async def ask(source: Source) -> int | None:
            return await source.size(repository, digest)

        sources = await self._proofs.sources(repository, trusted=trusted)
        try:
            size, _ = await self._proofs.first(sources, repository, ("blob", digest), ask)
        except UpstreamGone as error:
            raise BlobUnknown(f"blob {digest} is not known in {repository}") from error
        return size if size is not None else await self._catalog.expected_size(repository, digest), Cache.MISS

    async def _visible(self, repository: Repository, digest: Digest, *, trusted: bool) -> Holding | None:
        """What is held, once the right to it is established: by its link, by being public, or by one HEAD to a
        registry that supplied the bytes. Another registry's yes proves nothing."""
        holding = await self._catalog.holding(repository, digest, is_manifest=False)
        if holding is None:
            return None
        if await self._proofs.blob_visible(holding, repository, trusted=trusted):
            return holding
        if not await self._catalog.supplied(repository.registry, digest, is_manifest=False):
            return None

        async def ask(source: Source) -> int | None:
            return await source.size(repository, digest)

        sources = await self._proofs.sources(repository, trusted=trusted)
        try:
            _, source = await self._proofs.first(sources, repository, ("blob", digest), ask)
        except UpstreamGone as error:
            raise BlobUnknown(f"blob {digest} is not known in {repository}") from error
        try:
            linked = await self._catalog.link(
                repository, digest, proof_of(source), self._clock.wall(), is_manifest=False
            )
        except StoreFailed as error:  # the right is established all the same
            log.warning("the proof for %s is not written down: %s", repository, error.message)
            return holding
        return holding if linked else None

    async def _found(
        self, stack: AsyncExitStack, repository: Repository, digest: Digest, client: str, *, trusted: bool
    ) -> Blob:
        """Held, or from a flight. Whoever finds it neither held nor flying because it landed in between looks again."""
        while True:
            landing = self._flights.landing(digest)
            blob = await self._open_held(stack, repository, digest, trusted=trusted)
            if blob is None:
                blob = await self._fetch(stack, repository, digest, client, landing, trusted=trusted)
            if blob is not None:
                return blob

    async def _open_held(
        self, stack: AsyncExitStack, repository: Repository, digest: Digest, *, trusted: bool
    ) -> Blob | None:
        async with self._leases.hold(digest):  # until it is open: then it may be deleted under the reader
            holding = await self._visible(repository, digest, trusted=trusted)
            if holding is None:
                return None
            try:
                reader = await stack.enter_async_context(self._store.open(digest, holding.location, holding.size))
            except BlobUnknown:
                await quarantine(self._catalog, digest)
                return None
            except StoreFailed as error:
                log.warning("%s is held and cannot be read; it is fetched: %s", digest, error.message)
                return None
        self._uses.blob(digest)
        return Blob(holding.size, Cache.HIT, held=reader)

    async def _fetch(
        self,
        stack: AsyncExitStack,
        repository: Repository,
        digest: Digest,
        client: str,
        landing: int,
        *,
        trusted: bool,
    ) -> Blob | None:
        """From a flight; None where one landed after `landing` was looked at: it may be held now."""

        async def ask(source: Source) -> Flight | None:
            if self._flights.landing(digest) != landing and self._flights.flying(digest, source) is None:
                raise _LandedError  # past `first`: the registry has said nothing
            return await self._flights.join(digest, source, repository, client)

        sources = await self._proofs.sources(repository, trusted=trusted)
        try:
            flight, _ = await self._proofs.first(sources, repository, ("blob", digest), ask)
        except _LandedError:
            return None
        except UpstreamGone as error:
            raise BlobUnknown(f"blob {digest} is not known in {repository}") from error
        if flight is None or flight.size is None:
            return None
        joined, flight.joined = flight.joined, True
        return Blob(flight.size, Cache.MISS, flight=flight, joined=joined)

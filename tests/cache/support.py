"""The cache around scripted registries: flights and tags are tested without sockets or real time.

world = World(credentials=["docker.io"])
layer = world.hub.add(ALPINE, b"…")                  # the registry has it
assert await world.pull(ALPINE, layer) == b"…"
"""

import asyncio
import os
from collections.abc import Callable, Iterable

from mirror.cache.content import Content
from mirror.cache.eviction import Eviction
from mirror.cache.flights import Flights
from mirror.cache.leases import Leases
from mirror.cache.listings import Listings
from mirror.cache.manifests import Manifests
from mirror.cache.policy import Policy
from mirror.cache.proofs import Proofs
from mirror.cache.rights import LOOPBACK, Principal, Rights
from mirror.cache.room import Room, RoomyStore
from mirror.cache.sweep import Sweep
from mirror.cache.tags import Tags
from mirror.cache.uses import Uses
from mirror.clock import Clock
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.store.catalog import Catalog
from mirror.store.memory import MemoryBlobStore, MemoryCatalog, MemoryIngest
from mirror.store.protocols import BlobReader, Ingest
from mirror.tasks import Tasks
from tests.cache.scripted import ScriptedRegistry, ScriptedUpstreams

CLIENT = "192.0.2.7"


class StillClock(Clock):
    """Time that stands still until a test moves it."""

    def monotonic(self) -> float:
        return 1000.0 + self.shift

    def wall(self) -> float:
        return 1_700_000_000.0 + self.wall_shift

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass on both clocks."""
        self.shift += seconds
        self.wall_shift += seconds


class Store(MemoryBlobStore):
    """The store in memory; as on disk, an ingest can be opened after its publish too."""

    async def publish(self, ingest: Ingest, expected: Digest) -> str:
        location = await super().publish(ingest, expected)
        assert isinstance(ingest, StoreIngest)
        ingest.published = self.blobs[location]
        return location

    def _ingest(self, ingest_id: str, data: bytes, algorithm: str, on_written: Callable[[int], None]) -> "StoreIngest":
        ingest = self._active[ingest_id] = StoreIngest(self, ingest_id, data, algorithm, on_written)
        return ingest


class StoreIngest(MemoryIngest):
    published: bytes | None = None

    def open_descriptor(self) -> int:
        if self.published is None:
            return super().open_descriptor()
        descriptor = os.memfd_create("published")
        os.pwrite(descriptor, self.published, 0)
        return descriptor


def nobody(_: Repository) -> bool:
    """No repository is shared."""
    return False


class World:
    """The cache's parts around scripted registries, a store in memory and time that stands still."""

    def __init__(
        self,
        *,
        credentials: Iterable[str] = (),
        policy: Policy | None = None,
        shared: Callable[[Repository], bool] = nobody,
        limit: int = 1 << 40,
        max_size: int | None = None,
        catalog: Catalog | None = None,
        rights: Rights | None = None,
    ) -> None:
        self.clock = StillClock()
        self.policy = policy or Policy()
        self.hub = ScriptedRegistry("docker.io")
        self.other = ScriptedRegistry("ghcr.io")
        self.upstreams = ScriptedUpstreams([self.hub, self.other], credentials)
        self.store = Store(limit=limit)
        self.catalog: Catalog = catalog if catalog is not None else MemoryCatalog()
        self.tasks = Tasks()
        self.rights = rights if rights is not None else Rights(shared=shared)
        self.proofs = Proofs(
            catalog=self.catalog, upstreams=self.upstreams, rights=self.rights, policy=self.policy, clock=self.clock
        )
        self.room = Room(self.store, max_size=max_size, slack=0, clock=self.clock)
        self.roomy = RoomyStore(self.store, self.room)
        self.leases = Leases()
        self.uses = Uses(catalog=self.catalog, clock=self.clock)
        self.flights = Flights(
            store=self.roomy,
            room=self.room,
            catalog=self.catalog,
            leases=self.leases,
            tasks=self.tasks,
            clock=self.clock,
        )
        self.content = Content(
            store=self.roomy,
            catalog=self.catalog,
            leases=self.leases,
            uses=self.uses,
            flights=self.flights,
            proofs=self.proofs,
            clock=self.clock,
        )
        self.sweep = Sweep(
            store=self.roomy,
            room=self.room,
            catalog=self.catalog,
            leases=self.leases,
            tasks=self.tasks,
            clock=self.clock,
        )
        self.restart()

    def restart(self) -> None:
        """Forget what is only in memory, as a new process would; the downloads under way stay."""
        self.manifests = Manifests(
            store=self.roomy,
            catalog=self.catalog,
            leases=self.leases,
            uses=self.uses,
            proofs=self.proofs,
            policy=self.policy,
            tasks=self.tasks,
            clock=self.clock,
        )
        self.tags = Tags(
            catalog=self.catalog,
            uses=self.uses,
            manifests=self.manifests,
            proofs=self.proofs,
            policy=self.policy,
            tasks=self.tasks,
            clock=self.clock,
        )
        self.listings = Listings(
            catalog=self.catalog, manifests=self.manifests, proofs=self.proofs, policy=self.policy, clock=self.clock
        )
        self.eviction = Eviction(
            catalog=self.catalog,
            sweep=self.sweep,
            uses=self.uses,
            tags=self.tags,
            manifests=self.manifests,
            flying=self.flights.digests,
            clock=self.clock,
        )
        self.room.made_by(self.eviction)

    async def pull(self, repository: Repository, digest: Digest, principal: Principal = LOOPBACK) -> bytes:
        """A whole blob, as a client gets it."""
        async with (
            self.content.open(principal, repository, digest, CLIENT) as blob,
            blob.reader(repository, 0, blob.size) as reader,
        ):
            return await read(reader, 0, blob.size)

    async def idle(self) -> None:
        """Wait until no task is left."""
        await settled(lambda: not len(self.tasks))


async def read(reader: BlobReader, start: int, end: int) -> bytes:
    """What a reader gives from `start` to `end`, as `server/send.py` takes it without sendfile."""
    found = bytearray()
    while start + len(found) < end:
        offset = start + len(found)
        ready = await reader.ready(offset, end)
        assert offset < ready <= end
        data = await reader.read(offset, ready - offset)
        assert data
        found += data
    return bytes(found)


async def released_before(error: type[Exception], reader: BlobReader, start: int, end: int) -> int:
    """Up to where a reader was given bytes before it failed, with `error`."""
    try:
        while start < end:
            start = await reader.ready(start, end)
    except error:
        return start
    raise AssertionError(f"no {error.__name__}")


async def settled(condition: Callable[[], bool]) -> None:
    """Let everybody run until `condition` holds; fails where it never does."""
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came about")

"""A process whose children evict and collect, and die at the Nth step: as `tests.store.crashing`, which see.

Run as `python -m tests.cache.evicting`.
"""

import asyncio
import math
from pathlib import Path

from mirror.cache.leases import Leases
from mirror.cache.room import Room, RoomyStore
from mirror.cache.sweep import Sweep
from mirror.clock import Clock
from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest
from mirror.oci.names import Reference, Repository
from mirror.store.disk import DiskStore
from mirror.store.lock import DataDirectory
from mirror.store.protocols import Origin, Proof
from mirror.store.sqlite import SqliteCatalog
from mirror.tasks import Tasks
from tests.store import crashing
from tests.store.samples import ALPINE, CONFIG, NGINX, TOOL, image, index

BASE = "base" * 100_000
PINNED = image(BASE)
PLAIN = image(BASE, "plain")
CHILD = image("child")
INDEX = index([CHILD])
LOOSE = b"loose"


def sweep_of(store: DiskStore, catalog: SqliteCatalog) -> Sweep:
    """A collector of its own."""
    clock = Clock()
    room = Room(store, max_size=None, slack=0, clock=clock)
    return Sweep(store=RoomyStore(store, room), room=room, catalog=catalog, leases=Leases(), tasks=Tasks(), clock=clock)


async def fill(data: Path) -> None:
    """Three images of which one is pinned, and a blob that belongs to none."""
    store = await DiskStore.start(data)
    catalog = await SqliteCatalog.start(data / "mirror.db")

    async def hold(home: Repository, tag: str | None, manifest: Manifest, *texts: str) -> None:
        for raw in (CONFIG, *(text.encode() for text in texts)):
            location = await store.put(raw, Digest.of(raw))
            await catalog.hold(Digest.of(raw), len(raw), location, [(home, Proof.ANONYMOUS)], 1)
        location = await store.put(manifest.raw, manifest.descriptor.digest)
        await catalog.hold_manifest(home, manifest, location, Proof.ANONYMOUS, 1)
        if tag is not None:
            await catalog.move_tag(home, tag, None, manifest.descriptor.digest, Origin.UPSTREAM, 1, "upstream")

    await hold(ALPINE, "3", PINNED, BASE)
    await catalog.pin(Reference(ALPINE, "3", None), "me", 1)
    await hold(NGINX, "1", PLAIN, BASE, "plain")
    await hold(TOOL, None, CHILD, "child")
    await hold(TOOL, "2", INDEX)
    await catalog.hold(Digest.of(LOOSE), len(LOOSE), await store.put(LOOSE, Digest.of(LOOSE)), [], 1)
    await catalog.close()
    await store.close()


async def evict_all(data: Path) -> None:
    """What eviction does where everything that can must go."""
    directory = await asyncio.to_thread(DataDirectory.acquire, data)
    store = await DiskStore.start(data)
    catalog = await SqliteCatalog.start(data / "mirror.db")
    sweep = sweep_of(store, catalog)
    for candidate in await catalog.candidates(10):
        assert await catalog.evict(candidate.repository, candidate.manifest, math.inf, 2)
        crashing.acknowledge(f"evicted {candidate.repository}")
        await sweep.collect([candidate.manifest])
    await sweep.collect_loose()
    crashing.acknowledge("collected")
    await catalog.close()
    await store.close()
    await asyncio.to_thread(directory.release)


if __name__ == "__main__":
    crashing.store_an_image = evict_all
    crashing.main()

"""`Landing` by itself; how a flight ends with it is in `test_flight`."""

from collections.abc import Sequence

import pytest

from mirror.cache.landing import Landing
from mirror.cache.leases import Leases
from mirror.clock import Clock
from mirror.errors import NoRoom
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.store.memory.blobs import MemoryBlobStore
from mirror.store.memory.catalog import MemoryCatalog
from mirror.store.protocols import Proof
from tests.store.samples import ALPINE, NGINX, TOOL

DATA = b"what was downloaded"
DIGEST = Digest.of(DATA)


class Joined(MemoryCatalog):
    """Somebody proves himself while the first ones are being linked."""

    def __init__(self, proven: list[Repository], late: Sequence[Repository]) -> None:
        super().__init__()
        self._proven = proven
        self._late = list(late)

    async def hold(
        self, digest: Digest, size: int, location: str, links: Sequence[tuple[Repository, Proof]], at: float
    ) -> None:
        await super().hold(digest, size, location, links, at)
        if self._late:
            self._proven.append(self._late.pop(0))


def landing(store: MemoryBlobStore, catalog: MemoryCatalog, leases: Leases | None = None) -> Landing:
    return Landing(store=store, catalog=catalog, leases=leases or Leases(), clock=Clock())


@pytest.mark.parametrize("staged", [False, True])
async def test_it_is_published_and_linked(staged: bool) -> None:
    store, catalog = MemoryBlobStore(), MemoryCatalog()
    ingest = await store.begin(lambda _: None)
    await ingest.write(DATA)
    await ingest.verify(DIGEST)
    await landing(store, catalog).keep(DIGEST, ingest if staged else DATA, [ALPINE, NGINX], Proof.ANONYMOUS)
    for home in (ALPINE, NGINX):
        holding = await catalog.holding(home, DIGEST, is_manifest=False)
        assert holding is not None
        assert holding.size == len(DATA)
        assert holding.link is not None
        assert holding.link.anonymous_at is not None
        assert await store.read(DIGEST, holding.location, holding.size) == DATA


async def test_whoever_is_proven_meanwhile_is_linked_too() -> None:
    """Breaks where the proven are looked at once only."""
    proven = [ALPINE]
    catalog = Joined(proven, [NGINX, TOOL])
    await landing(MemoryBlobStore(), catalog).keep(DIGEST, DATA, proven, Proof.CREDENTIALS)
    assert [home for home, _ in await catalog.homes(DIGEST, 10)] == [ALPINE, NGINX, TOOL]


async def test_it_is_leased_until_it_is_linked() -> None:
    """Breaks where the lease ends with the publication: it could be collected before anybody names it."""
    leases = Leases()
    taken: list[Digest] = []

    class Looking(MemoryCatalog):
        async def hold(self, digest: Digest, *arguments: object) -> None:
            taken.extend(leases.take([digest]))

    await landing(MemoryBlobStore(), Looking(), leases).keep(DIGEST, DATA, [ALPINE], Proof.ANONYMOUS)
    assert taken == []
    assert leases.take([DIGEST]) == [DIGEST]


async def test_what_the_disk_does_not_take_is_linked_nowhere() -> None:
    class Full(MemoryBlobStore):
        async def put(self, data: bytes, expected: Digest) -> str:
            raise NoRoom("the disk is full")

    catalog = MemoryCatalog()
    with pytest.raises(NoRoom):
        await landing(Full(), catalog).keep(DIGEST, DATA, [ALPINE], Proof.ANONYMOUS)
    assert await catalog.holding(ALPINE, DIGEST, is_manifest=False) is None

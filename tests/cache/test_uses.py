import asyncio
from collections.abc import Sequence

import pytest

from mirror.cache import uses as module
from mirror.cache.rights import LOOPBACK, STRANGER
from mirror.cache.uses import Uses
from mirror.errors import StoreFailed
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from tests.cache.support import StillClock, World
from tests.store.samples import ALPINE, NGINX, image, index

ONE = Digest.of(b"one")


class Catalog:
    """Notes what is written."""

    def __init__(self) -> None:
        self.written: list[tuple[list[tuple[Repository, str | Digest]], list[Digest], float]] = []
        self.fails = False

    async def touch(self, used: Sequence[tuple[Repository, str | Digest]], blobs: Sequence[Digest], at: float) -> None:
        if self.fails:
            raise StoreFailed("no")
        self.written.append((list(used), list(blobs), at))


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


async def test_what_was_used_at_once_is_written_together(clock: StillClock) -> None:
    catalog = Catalog()
    uses = Uses(catalog=catalog, clock=clock)
    await uses.flush()
    assert (catalog.written, uses.round) == ([], 1)
    first = clock.wall()
    uses.image(ALPINE, "3")
    uses.image(ALPINE, "3")
    clock.advance(0.01)
    uses.blob(ONE)
    clock.advance(5)
    uses.image(NGINX, ONE)
    await uses.flush()
    assert catalog.written == [
        ([(ALPINE, "3")], [ONE], first + 0.01),
        ([(NGINX, ONE)], [], first + 5.01),
    ]
    assert uses.round == 2
    await uses.flush()
    assert len(catalog.written) == 2


async def test_a_refused_write_is_no_failure(clock: StillClock, caplog: pytest.LogCaptureFixture) -> None:
    catalog = Catalog()
    uses = Uses(catalog=catalog, clock=clock)
    catalog.fails = True
    uses.image(ALPINE, "3")
    await uses.flush()
    assert "not written down" in caplog.text


async def test_names_that_are_noted_are_bounded(clock: StillClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 2)
    catalog = Catalog()
    uses = Uses(catalog=catalog, clock=clock)
    for number in range(5):
        uses.image(ALPINE, str(number))
        uses.blob(Digest.of(bytes([number])))
    await uses.flush()
    assert [(len(used), len(blobs)) for used, blobs, _ in catalog.written] == [(2, 2)]


async def test_it_is_written_now_and_then(clock: StillClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROUND", 0.001)
    catalog = Catalog()
    uses = Uses(catalog=catalog, clock=clock)
    flushing = asyncio.get_running_loop().create_task(uses.keep_flushing())
    for _ in range(2):
        catalog.written.clear()
        uses.image(ALPINE, "3")
        while not catalog.written:
            await asyncio.sleep(0.001)
    flushing.cancel()
    await asyncio.wait([flushing])


# --- who notes what -------------------------------------------------------------------------------------------------


async def test_pulls_are_noted_and_nothing_is_written_meanwhile() -> None:
    """Breaks if an answer from memory is not noted, or only the first time."""
    world = World()
    manifest = image("a")
    world.hub.push(ALPINE, manifest, "3")
    await world.tags.by_tag(LOOPBACK, ALPINE, "3")
    await world.manifests.by_digest(LOOPBACK, ALPINE, manifest.descriptor.digest)
    for _ in range(2):
        await world.uses.flush()
        before = await last_used(world, ALPINE)
        world.clock.advance(20)
        assert world.tags.remembered(STRANGER, ALPINE, "3") is not None
        assert await last_used(world, ALPINE) == before
        await world.uses.flush()
        assert await last_used(world, ALPINE) == (world.clock.wall(), world.clock.wall())
        world.clock.advance(5)
        assert world.manifests.remembered(STRANGER, ALPINE, manifest.descriptor.digest) is not None
        await world.uses.flush()
        assert await last_used(world, ALPINE) == (world.clock.wall(), world.clock.wall() - 5)
    world.clock.advance(1000)
    await world.tags.by_tag(LOOPBACK, ALPINE, "3")  # its registry is asked anew
    await world.uses.flush()
    assert await last_used(world, ALPINE) == (world.clock.wall(), world.clock.wall())
    world.restart()
    world.clock.advance(1000)
    await world.manifests.by_digest(LOOPBACK, ALPINE, manifest.descriptor.digest)  # from the store
    await world.uses.flush()
    assert await last_used(world, ALPINE) == (world.clock.wall(), world.clock.wall() - 1000)
    await world.tasks.drain(0)


async def test_a_blob_that_is_read_is_noted() -> None:
    world = World()
    digest = world.hub.add(ALPINE, b"a")
    await world.pull(ALPINE, digest)
    await world.idle()
    world.clock.advance(1000)
    assert await world.catalog.unreferenced(world.clock.wall(), 10) == [(digest, 1)]
    await world.pull(ALPINE, digest)
    await world.uses.flush()
    assert await world.catalog.unreferenced(world.clock.wall(), 10) == []
    await world.tasks.drain(0)


async def last_used(world: World, home: Repository) -> tuple[float, float | None]:
    """When its first manifest was, and when its first tag was."""
    (candidate,) = [each for each in await world.catalog.candidates(10) if each.repository == home]
    rows, _ = await world.catalog.images(repository=home, registry=None, cursor=None, limit=1)
    return candidate.used_at, rows[0].used_at


async def test_a_pull_of_a_child_uses_its_index() -> None:
    world = World()
    child = image("a")
    top = index([child])
    world.hub.push(ALPINE, child)
    world.hub.push(ALPINE, top, "3")
    await world.tags.by_tag(LOOPBACK, ALPINE, "3")
    await world.manifests.by_digest(LOOPBACK, ALPINE, child.descriptor.digest)
    world.clock.advance(1000)
    await world.uses.flush()
    await world.manifests.by_digest(LOOPBACK, ALPINE, child.descriptor.digest)
    await world.uses.flush()
    (candidate,) = await world.catalog.candidates(10)
    assert (candidate.manifest, candidate.used_at) == (top.descriptor.digest, world.clock.wall())
    await world.tasks.drain(0)

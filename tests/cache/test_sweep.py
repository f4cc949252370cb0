"""Collection: what nothing needs goes after its grace, and never under anybody's hands."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mirror.cache import sweep as module
from mirror.cache.rights import LOOPBACK
from mirror.cache.sweep import GRACE, STRAYS_EVERY
from mirror.errors import StoreFailed
from mirror.oci.digest import Digest
from mirror.store.protocols import UPLOAD_GRACE, Proof
from tests.cache.scripted import Body, Gate
from tests.cache.support import World, settled
from tests.store.samples import ALPINE, CONFIG, TOOL, digest_of, image, index


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.tasks.drain(0)


async def keep(world: World, text: str, proof: Proof = Proof.ANONYMOUS) -> Digest:
    """A blob, published and held."""
    data = text.encode()
    location = await world.roomy.put(data, Digest.of(data))
    await world.catalog.hold(Digest.of(data), len(data), location, [(ALPINE, proof)], world.clock.wall())
    return Digest.of(data)


async def keep_image(world: World, *layers: str, tag: str = "3") -> Digest:
    """An image, pulled whole."""
    manifest = image(*layers)
    world.hub.push(ALPINE, manifest, tag)
    for data in (CONFIG, *(text.encode() for text in layers)):
        await world.pull(ALPINE, world.hub.add(ALPINE, data))
    await world.tags.by_tag(LOOPBACK, ALPINE, tag)
    await world.idle()
    return manifest.descriptor.digest


def on_disk(world: World) -> set[Digest]:
    return {Digest.of(data) for data in world.store.blobs.values()}


# --- deleting on purpose --------------------------------------------------------------------------------------------


async def test_an_image_goes_from_the_top_down(world: World) -> None:
    digest = await keep_image(world, "a", "bb")
    assert await world.sweep.collect([digest, digest_of("a")]) == []
    await world.catalog.remove_manifest(ALPINE, digest, world.clock.wall(), "me")
    gone = await world.sweep.collect([digest])
    assert gone[0] == (digest, image("a", "bb").descriptor.size)
    assert sorted(gone[1:]) == sorted([(digest_of("a"), 1), (digest_of("bb"), 2), (Digest.of(CONFIG), len(CONFIG))])
    assert (on_disk(world), await world.catalog.stored_bytes()) == (set(), 0)
    assert (world.sweep.deleted.blobs, world.sweep.deleted.bytes) == (4, sum(size for _, size in gone))


async def test_what_another_image_needs_stays(world: World) -> None:
    one, two = await keep_image(world, "a", "b"), await keep_image(world, "b", "c", tag="4")
    await world.catalog.remove_manifest(ALPINE, one, world.clock.wall(), "me")
    assert {digest for digest, _ in await world.sweep.collect([one])} == {one, digest_of("a")}
    assert on_disk(world) == {two, digest_of("b"), digest_of("c"), Digest.of(CONFIG)}


async def test_indices_go_with_all_that_is_below_them(world: World) -> None:
    children = [image("a"), image("a", "b")]
    top = index([index(children), *children])
    for manifest in (*children, index(children), top):
        world.hub.push(ALPINE, manifest)
        await world.manifests.by_digest(LOOPBACK, ALPINE, manifest.descriptor.digest)
    for data in (b"a", b"b", CONFIG):
        await world.pull(ALPINE, world.hub.add(ALPINE, data))
    await world.idle()
    await world.catalog.remove_manifest(ALPINE, top.descriptor.digest, world.clock.wall(), "me")
    assert len(await world.sweep.collect([top.descriptor.digest])) == 7
    assert on_disk(world) == set()


async def test_what_was_just_used_goes_too_but_no_upload(world: World) -> None:
    fresh, upload = await keep(world, "fresh"), await keep(world, "upload", Proof.PUSHED)
    assert await world.sweep.collect([fresh, upload, digest_of("unknown")]) == [(fresh, 5)]
    assert await world.sweep.collect_loose() == []
    world.clock.advance(UPLOAD_GRACE)
    assert await world.sweep.collect_loose() == []
    world.clock.advance(1)
    assert await world.sweep.collect_loose() == [(upload, 6)]


async def test_more_than_one_batch(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 3)
    monkeypatch.setattr(module, "_LISTED", 4)
    monkeypatch.setattr(module, "_EDGES_AT_ONCE", 2)
    for number in range(20):
        await keep(world, str(number))
    assert len(await world.sweep.collect_loose()) == 20
    assert on_disk(world) == set()


# --- with others at it ----------------------------------------------------------------------------------------------


async def test_what_somebody_is_at_is_left_alone(world: World) -> None:
    digest = await keep(world, "a")
    async with world.leases.hold(digest):
        assert await world.sweep.collect_loose() == []
        assert await world.sweep.collect([digest]) == []
    assert await world.sweep.collect([digest]) == [(digest, 1)]


async def test_a_pull_that_meets_a_deletion_waits_and_wins(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks without leases: the pull's `hold` would be refused, or its file unlinked after its rename."""
    digest = world.hub.add(ALPINE, b"a")
    await world.pull(ALPINE, digest)
    await world.idle()
    reached, go = asyncio.Event(), asyncio.Event()
    delete = world.store.delete

    async def slowly(location: str) -> int:
        reached.set()
        await go.wait()
        return await delete(location)

    monkeypatch.setattr(world.store, "delete", slowly)
    deleting = asyncio.get_running_loop().create_task(world.sweep.collect([digest]))
    await reached.wait()
    pulling = asyncio.get_running_loop().create_task(world.pull(ALPINE, digest))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not pulling.done()
    go.set()
    assert await deleting == [(digest, 1)]
    assert await pulling == b"a"
    await world.idle()
    assert on_disk(world) == {digest}
    holding = await world.catalog.holding(ALPINE, digest, is_manifest=False)
    assert holding is not None
    assert holding.link is not None


async def test_a_flight_that_lands_on_a_deletion_waits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same digest came from elsewhere while it flew, and is just being deleted."""
    data = b"l" * 400_000
    digest, gate = world.hub.add(ALPINE, data), Gate()
    world.hub.anonymous.bodies.append(Body([1000, gate]))
    pulling = world.tasks.spawn("pull", world.pull(ALPINE, digest))
    await gate.reached.wait()
    location = await world.roomy.put(data, digest)
    await world.catalog.hold(digest, len(data), location, [(TOOL, Proof.ANONYMOUS)], world.clock.wall())
    reached, go = asyncio.Event(), asyncio.Event()
    delete = world.store.delete

    async def slowly(location: str) -> int:
        reached.set()
        await go.wait()
        return await delete(location)

    monkeypatch.setattr(world.store, "delete", slowly)
    deleting = world.tasks.spawn("delete", world.sweep.collect([digest]))
    await reached.wait()
    gate.release()
    assert await pulling == data  # its reader waits for no disk
    go.set()
    assert await deleting == [(digest, len(data))]
    await world.idle()
    assert on_disk(world) == {digest}
    holding = await world.catalog.holding(ALPINE, digest, is_manifest=False)
    assert holding is not None
    assert holding.link is not None


async def test_a_manifest_that_is_just_being_stored_is_not_deleted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = await keep_image(world, "a")
    await world.catalog.remove_manifest(ALPINE, digest, world.clock.wall(), "me")
    world.manifests.forget(ALPINE, digest)
    put = world.store.put

    async def meanwhile(data: bytes, expected: Digest) -> str:
        location = await put(data, expected)
        assert await world.sweep.collect([digest]) == []
        return location

    monkeypatch.setattr(world.store, "put", meanwhile)
    await world.manifests.keep(ALPINE, image("a"), Proof.ANONYMOUS)
    assert on_disk(world) == {digest, digest_of("a"), Digest.of(CONFIG)}


async def test_whoever_waits_may_leave_and_the_batch_is_whole(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = await keep(world, "a")
    reached, go = asyncio.Event(), asyncio.Event()
    delete = world.store.delete

    async def slowly(location: str) -> int:
        reached.set()
        await go.wait()
        return await delete(location)

    monkeypatch.setattr(world.store, "delete", slowly)
    deleting = asyncio.get_running_loop().create_task(world.sweep.collect([digest]))
    await reached.wait()
    deleting.cancel()
    await asyncio.wait([deleting])
    go.set()
    await settled(lambda: not len(world.tasks))
    assert (on_disk(world), await world.catalog.deleting()) == (set(), [])


async def test_a_file_that_will_not_go_is_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = await keep(world, "one"), await keep(world, "two")
    delete = world.store.delete

    async def refused(location: str) -> int:
        if str(one) in location:
            raise StoreFailed("read-only")
        return await delete(location)

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "delete", refused)
        assert await world.sweep.collect([one, two]) == [(two, 3)]
    assert "the next sweep tries again" in caplog.text
    assert [digest for digest, _ in await world.catalog.deleting()] == [one]
    await world.sweep.finish()
    assert (on_disk(world), await world.catalog.deleting()) == (set(), [])


async def test_a_catalog_that_refuses_stops_nothing_half_way(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was begun is finished, and whoever asked is told."""
    one, two = await keep(world, "one"), await keep(world, "two")
    begin: Any = world.catalog.begin_delete

    async def refused(digest: Digest, used_before: float | None = None, *, now: float) -> str | None:
        if digest == one:
            raise StoreFailed("no")
        found: str | None = await begin(digest, used_before, now=now)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(world.catalog, "begin_delete", refused)
        with pytest.raises(StoreFailed):
            await world.sweep.collect([one, two])
    assert on_disk(world) == {one}
    assert await world.sweep.collect([one]) == [(one, 3)]  # it was given back


# --- now and then ---------------------------------------------------------------------------------------------------


async def test_nothing_is_collected_for_a_grace_after_the_start(world: World) -> None:
    old = await keep(world, "old")
    world.clock.advance(GRACE - 1)
    young = await keep(world, "young")
    assert await world.sweep.sweep() == []
    world.clock.advance(2)
    assert await world.sweep.sweep() == [(old, 3)]
    assert await world.sweep.sweep() == []
    world.clock.advance(GRACE)
    assert await world.sweep.sweep() == [(young, 5)]


async def test_a_clock_that_is_set_begins_the_grace_anew(world: World) -> None:
    """Breaks if ages are believed across a jump: all that was held before would look old."""
    world.clock.advance(GRACE + 1)
    await keep(world, "a")
    world.clock.wall_shift += 10 * 86400
    assert await world.sweep.sweep() == []
    world.clock.advance(GRACE + 1)
    assert len(await world.sweep.sweep()) == 1


async def test_files_that_the_catalog_does_not_know_go(world: World) -> None:
    """A crash between rename and `hold`. What is only quarantined is known; what is being published is leased."""
    kept, rotten = await keep(world, "kept"), await keep(world, "rotten", Proof.PUSHED)
    await world.catalog.quarantine(rotten)
    for text in ("stray", "passing"):
        await world.store.put(text.encode(), digest_of(text))
    counted = world.room.used
    async with world.leases.hold(digest_of("passing")):
        assert await world.sweep.remove_strays() == [(digest_of("stray"), 5)]
    assert world.room.used == counted  # nobody had counted it
    assert on_disk(world) == {kept, rotten, digest_of("passing")}
    world.clock.advance(GRACE + 1)
    assert (digest_of("passing"), 7) in await world.sweep.sweep()
    await world.store.put(b"stray", digest_of("stray"))
    world.clock.advance(STRAYS_EVERY - 1)
    assert (digest_of("stray"), 5) not in await world.sweep.sweep()
    world.clock.advance(1)
    assert (digest_of("stray"), 5) in await world.sweep.sweep()


async def test_a_stray_that_is_held_just_now_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the first look at the catalog and the taking somebody published it."""
    await world.store.put(b"a", digest_of("a"))
    states: Any = world.catalog.states

    async def and_then(digests: list[Digest]) -> dict[Digest, str]:
        found: dict[Digest, str] = await states(digests)
        await keep(world, "a")
        return found

    monkeypatch.setattr(world.catalog, "states", and_then)
    assert await world.sweep.remove_strays() == []
    assert on_disk(world) == {digest_of("a")}


async def test_it_sweeps_by_itself(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "SWEEP_EVERY", 0.001)
    caplog.set_level("INFO")
    await keep(world, "a")
    refused = 2

    async def unreferenced(used_before: float, limit: int) -> list[tuple[Digest, int]]:
        nonlocal refused
        refused -= 1
        if refused >= 0:
            raise StoreFailed("not now")
        return [(digest_of("a"), 1)] if on_disk(world) else []

    monkeypatch.setattr(world.catalog, "unreferenced", unreferenced)
    world.clock.advance(GRACE + 1)
    watching = asyncio.get_running_loop().create_task(world.sweep.watch())
    while on_disk(world):
        await asyncio.sleep(0.001)
    await settled(lambda: "collected 1 blobs" in caplog.text)
    assert "collection goes on later: not now" in caplog.text
    watching.cancel()
    await asyncio.wait([watching])

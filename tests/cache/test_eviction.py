"""Eviction: who goes, who stays, and that memory forgets who went."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from mirror.cache import eviction as module
from mirror.cache.content import Cache
from mirror.cache.rights import LOOPBACK
from mirror.errors import StoreFailed
from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest
from mirror.oci.names import Reference, Repository
from mirror.store.inventory import View
from mirror.store.protocols import Proof
from tests.cache.scripted import Body, Gate
from tests.cache.support import World, settled
from tests.store.samples import ALPINE, CONFIG, NGINX, OWN, TOOL, digest_of, image, index

EVERYTHING = 1 << 40


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.tasks.drain(0)


async def pull(world: World, home: Repository, tag: str, *layers: str) -> Manifest:
    """An image of these layers, offered by its registry and pulled whole; then a second goes by."""
    manifest = image(*layers)
    registry = world.hub if home.registry == "docker.io" else world.other
    registry.push(home, manifest, tag)
    for data in (CONFIG, *(text.encode() for text in layers)):
        registry.add(home, data)
    await world.tags.by_tag(LOOPBACK, home, tag)
    for child in manifest.children():
        await world.pull(home, child.descriptor.digest)
    await world.idle()
    world.clock.advance(1)
    return manifest


async def held(world: World) -> set[tuple[Repository, str | None]]:
    """Images by their names."""
    rows, _ = await world.catalog.images(repository=None, registry=None, cursor=None, limit=1000)
    return {(row.repository, row.tag) for row in rows}


def on_disk(world: World) -> set[Digest]:
    return {Digest.of(data) for data in world.store.blobs.values()}


async def test_the_least_recently_used_goes_and_no_more_than_needed(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    first = await pull(world, ALPINE, "3", "a" * 1000)
    await pull(world, NGINX, "1", "b" * 1000)
    await pull(world, TOOL, "2", "c" * 1000)
    await world.uses.flush()
    assert world.tags.remembered(LOOPBACK, ALPINE, "3") is not None  # used once more
    freed = await world.eviction.make(500, "for a test")
    assert await held(world) == {(ALPINE, "3"), (TOOL, "2")}
    assert freed == 1000 + image("b" * 1000).descriptor.size
    assert on_disk(world) >= {first.descriptor.digest, digest_of("a" * 1000), Digest.of(CONFIG)}
    assert digest_of("b" * 1000) not in on_disk(world)
    assert f"evicted 1 image, {freed / 1000:.4g}kB freed: for a test" in caplog.text
    assert (world.eviction.evicted.images, world.eviction.evicted.bytes) == (1, freed)


async def test_what_must_stay_stays(world: World, caplog: pytest.LogCaptureFixture) -> None:
    await pull(world, ALPINE, "pinned", "a", "base")
    await world.catalog.pin(Reference(ALPINE, "pinned", None), "me", 1)
    await pull(world, ALPINE, "gone", "b")
    await world.catalog.tag_gone(ALPINE, "gone", world.clock.wall())
    named = await pull(world, NGINX, "1", "c")
    await world.catalog.set_tag(
        OWN, "mine", named.descriptor.digest, world.clock.wall(), "me", View(NGINX, trusted=False)
    )
    pushed = await pull(world, TOOL, "2", "d")
    await world.catalog.link(TOOL, pushed.descriptor.digest, Proof.PUSHED, world.clock.wall(), is_manifest=True)
    await pull(world, ALPINE, "goes", "base", "e")
    upload = b"upload"
    location = await world.roomy.put(upload, Digest.of(upload))
    await world.catalog.hold(Digest.of(upload), 6, location, [(OWN, Proof.PUSHED)], world.clock.wall())
    before = on_disk(world)
    freed = await world.eviction.make(EVERYTHING, "for a test")
    assert await held(world) == {(ALPINE, "pinned"), (ALPINE, "gone"), (OWN, "mine"), (TOOL, "2")}
    assert before - on_disk(world) == {image("base", "e").descriptor.digest, digest_of("e")}
    assert freed == image("base", "e").descriptor.size + 1
    assert await world.eviction.make(EVERYTHING, "for a test") == 0
    assert "nothing can be evicted: for a test" in caplog.text


async def test_an_image_that_is_just_being_pulled_is_left_alone(world: World) -> None:
    """Breaks if its first layers are thrown away to make room for its last."""
    older = await pull(world, NGINX, "1", "x")
    gate = Gate()
    large = b"l" * 400_000
    children = [image("a"), image("a", "l" * 400_000)]
    top = index(children)
    for manifest in (*children, top):
        world.hub.push(ALPINE, manifest, *(["3"] if manifest is top else []))
    for data in (CONFIG, b"a"):
        world.hub.add(ALPINE, data)
    await world.tags.by_tag(LOOPBACK, ALPINE, "3")
    for child in children:
        await world.manifests.by_digest(LOOPBACK, ALPINE, child.descriptor.digest)
    await world.pull(ALPINE, world.hub.add(ALPINE, b"a"))
    digest = world.hub.add(ALPINE, large)
    world.hub.anonymous.bodies.append(Body([100, gate]))
    pulling = world.tasks.spawn("pull", world.pull(ALPINE, digest))
    await gate.reached.wait()
    await world.catalog.touch([(NGINX, "1")], [], world.clock.wall() + 100)  # so the other is the oldest
    await world.eviction.make(EVERYTHING, "for a test")
    assert await held(world) == {(ALPINE, "3")}
    assert older.descriptor.digest not in on_disk(world)
    gate.release()
    assert await pulling == large
    await world.idle()
    await world.eviction.make(EVERYTHING, "for a test")
    assert await held(world) == set()
    assert on_disk(world) == set()


async def test_memory_forgets(world: World) -> None:
    """Breaks if an image that was evicted is still served by its tag or its digest without asking anybody."""
    manifest = await pull(world, ALPINE, "3", "a")
    other = await pull(world, NGINX, "1", "b")
    world.hub.anonymous.asked.clear()
    await world.catalog.pin(Reference(NGINX, "1", None), "me", 1)
    await world.eviction.make(EVERYTHING, "for a test")
    assert world.tags.remembered(LOOPBACK, ALPINE, "3") is None
    assert world.manifests.remembered(LOOPBACK, ALPINE, manifest.descriptor.digest) is None
    assert world.tags.remembered(LOOPBACK, NGINX, "1") is not None
    assert world.manifests.remembered(LOOPBACK, NGINX, other.descriptor.digest) is not None
    assert (await world.tags.by_tag(LOOPBACK, ALPINE, "3")).cache is Cache.MISS
    for child in manifest.children():
        await world.pull(ALPINE, child.descriptor.digest)
    await world.idle()
    assert await held(world) == {(ALPINE, "3"), (NGINX, "1")}


async def test_children_of_an_index_are_forgotten_too(world: World) -> None:
    children = [image("a"), image("b")]
    top = index(children)
    for manifest in (*children, top):
        world.hub.push(ALPINE, manifest)
        await world.manifests.by_digest(LOOPBACK, ALPINE, manifest.descriptor.digest)
    await world.eviction.make(EVERYTHING, "for a test")
    for manifest in (*children, top):
        assert world.manifests.remembered(LOOPBACK, ALPINE, manifest.descriptor.digest) is None


@pytest.mark.parametrize("when", ["before the registry answers", "before it is written down"])
async def test_what_is_evicted_while_its_registry_is_asked_comes_back_whole(
    world: World, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Breaks if a revalidation confirms a tag that is not there any more: half of it would be served, and lost with
    the next outage."""
    manifest = await pull(world, ALPINE, "3", "a")
    world.clock.advance(1000)
    asked = world.hub.anonymous
    head: Any = asked.head
    confirm: Any = world.catalog.confirm_tag

    async def evicted_first(reference: Reference) -> object:
        await world.eviction.make(EVERYTHING, "for a test")
        return await head(reference)

    async def evicted_at_last(*arguments: Any) -> bool:
        await world.eviction.make(EVERYTHING, "for a test")
        found: bool = await confirm(*arguments)
        return found

    if when == "before the registry answers":
        monkeypatch.setattr(type(asked), "head", lambda _, reference: evicted_first(reference))
    else:
        monkeypatch.setattr(world.catalog, "confirm_tag", evicted_at_last)
    answer = await world.tags.by_tag(LOOPBACK, ALPINE, "3")
    assert answer.kept.manifest.raw == manifest.raw
    assert await held(world) == {(ALPINE, "3")}
    assert manifest.descriptor.digest in on_disk(world)


async def test_what_is_used_meanwhile_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await pull(world, ALPINE, "3", "a")
    weigh: Any = world.catalog.weigh

    async def and_pulled(manifests: list[Digest]) -> object:
        await world.catalog.touch([(ALPINE, "3")], [], world.clock.wall() + 1)
        return await weigh(manifests)

    monkeypatch.setattr(world.catalog, "weigh", and_pulled)
    await world.eviction.make(1, "for a test")
    assert await held(world) == {(ALPINE, "3")}


async def test_a_long_list_of_busy_images_is_passed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LISTED", 2)
    monkeypatch.setattr(module, "_TOGETHER", 3)
    for number in range(8):
        await pull(world, ALPINE, str(number), f"layer {number}")
    busy = {digest_of(f"layer {number}") for number in range(6)}
    monkeypatch.setattr(world.eviction, "_flying", lambda: busy)
    await world.eviction.make(EVERYTHING, "for a test")
    assert await held(world) == {(ALPINE, str(number)) for number in range(6)}


async def test_leftovers_go_where_images_do_not_suffice(world: World) -> None:
    await pull(world, ALPINE, "3", "a")
    await world.pull(ALPINE, world.hub.add(ALPINE, b"loose"))
    await world.idle()
    await world.eviction.make(1, "for a test")
    assert digest_of("loose") in on_disk(world)
    await world.eviction.make(1, "for a test")
    assert on_disk(world) == set()


async def test_it_forgets_also_where_it_is_cut_short(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await pull(world, ALPINE, "3", "a")
    await pull(world, NGINX, "1", "b")
    evict: Any = world.catalog.evict

    async def once(home: Repository, *arguments: Any) -> bool:
        if home == NGINX:
            raise StoreFailed("no")
        found: bool = await evict(home, *arguments)
        return found

    monkeypatch.setattr(world.catalog, "evict", once)
    with pytest.raises(StoreFailed):
        await world.eviction.make(EVERYTHING, "for a test")
    assert world.tags.remembered(LOOPBACK, ALPINE, "3") is None


# --- with a bound ---------------------------------------------------------------------------------------------------


async def test_a_pull_finds_room(world: World) -> None:
    world.room.max_size = 10_000
    for number in range(30):
        await pull(world, ALPINE, str(number), str(number % 10) * 1000 + str(number))
        assert world.room.used == sum(map(len, world.store.blobs.values())) <= 10_000
    assert {(ALPINE, str(number)) for number in range(25, 30)} <= await held(world)


async def test_a_pull_beyond_room_streams_through_and_leaves_what_is_here(world: World) -> None:
    """Breaks if the cache is emptied for a layer that could never be held."""
    world.room.max_size = 600_000
    await pull(world, NGINX, "1", "b")
    large = b"l" * 700_000
    assert await world.pull(ALPINE, world.hub.add(ALPINE, large)) == large
    await world.idle()
    assert await held(world) == {(NGINX, "1")}
    await world.catalog.pin(Reference(NGINX, "1", None), "me", 1)
    half = [b"%d" % number * 290_000 for number in range(2)]
    for data in half:
        assert await world.pull(ALPINE, world.hub.add(ALPINE, data)) == data
        await world.idle()
    await settled(lambda: not world.store.active())
    assert world.room.used <= 600_000
    await world.tasks.drain(0)

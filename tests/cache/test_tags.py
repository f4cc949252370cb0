"""Manifests by tag: fresh, revalidated, moved (design.md §5, "GET manifest by tag")."""

import re

import pytest

from mirror.cache.content import Cache
from mirror.cache.policy import Policy, RegistryPolicy
from mirror.cache.rights import LOOPBACK
from mirror.oci.manifest import Manifest
from mirror.oci.names import Repository
from mirror.store.protocols import Origin, Proof
from tests.cache.scripted import Gate
from tests.cache.support import World
from tests.cache.tagging import ONE, THREE, TTL, TWO, asked, by_tag, row, seen
from tests.store.samples import ALPINE, NGINX


async def pushed(world: World, manifest: Manifest, expected: Manifest | None) -> None:
    """Somebody pushes here: the tag is this mirror's own from now on."""
    location = await world.store.put(manifest.raw, manifest.descriptor.digest)
    await world.catalog.hold_manifest(ALPINE, manifest, location, Proof.PUSHED, world.clock.wall())
    was = expected.descriptor.digest if expected is not None else None
    to = manifest.descriptor.digest
    assert await world.catalog.move_tag(ALPINE, "3", was, to, Origin.LOCAL, world.clock.wall(), "somebody")


# --- fresh ------------------------------------------------------------------------------------------------


async def test_fresh_for_its_time_then_revalidated(world: World) -> None:
    world.hub.push(ALPINE, ONE, "3")
    assert await seen(world) == (ONE, Cache.MISS)
    assert asked(world.hub.anonymous) == ["head", "manifest"]
    world.clock.advance(TTL - 0.1)
    assert await seen(world) == (ONE, Cache.HIT)
    assert asked(world.hub.anonymous) == ["head", "manifest"]
    world.clock.advance(0.1)
    assert world.tags.remembered(LOOPBACK, ALPINE, "3") is None
    assert await seen(world) == (ONE, Cache.REVALIDATED)
    assert asked(world.hub.anonymous) == ["head", "manifest", "head"]  # a HEAD does not count against the limit
    assert (await row(world)).checked_at == world.clock.wall()
    assert await seen(world) == (ONE, Cache.HIT)


@pytest.mark.parametrize(("age", "cache", "requests"), [
    (0, Cache.HIT, 0), (59, Cache.HIT, 0), (60, Cache.REVALIDATED, 1), (86400, Cache.REVALIDATED, 1),
    (-1, Cache.REVALIDATED, 1),  # a clock that was ahead when it was written down is not believed
    (-86400, Cache.REVALIDATED, 1),
])  # fmt: skip
async def test_after_a_restart_the_wall_clock_counts(world: World, age: float, cache: Cache, requests: int) -> None:
    world.hub.push(ALPINE, ONE, "3")
    await by_tag(world)
    world.hub.anonymous.asked.clear()
    world.restart()
    world.clock.wall_shift += age
    assert await seen(world) == (ONE, cache)
    assert len(world.hub.anonymous.asked) == requests
    if cache is Cache.HIT:  # for the rest of its time, no longer
        world.clock.shift += TTL - age
        world.clock.wall_shift += TTL - age
        assert await seen(world) == (ONE, Cache.REVALIDATED)


async def test_a_wall_clock_that_jumps_does_not_age_what_is_in_memory(world: World) -> None:
    world.hub.push(ALPINE, ONE, "3")
    await by_tag(world)
    for jump in (86400, -2 * 86400):
        world.clock.wall_shift += jump
        assert await seen(world) == (ONE, Cache.HIT)


async def test_immutable_tags_are_never_asked_for_again() -> None:
    world = World(policy=Policy(registries={"docker.io": RegistryPolicy(TTL, (re.compile("^3$"),))}))
    world.hub.push(ALPINE, ONE, "3", "latest")
    await by_tag(world)
    world.hub.push(ALPINE, TWO, "3", "latest")
    for _ in range(3):
        world.clock.advance(10 * TTL)
        assert await seen(world) == (ONE, Cache.HIT)
        world.restart()
    assert asked(world.hub.anonymous) == ["head", "manifest"]
    assert (await by_tag(world, tag="latest")).kept.manifest == TWO


async def test_another_registrys_time_is_its_own() -> None:
    world = World(policy=Policy(registries={"ghcr.io": RegistryPolicy(5)}))
    elsewhere = Repository("ghcr.io", "team/tool")
    world.hub.push(ALPINE, ONE, "3")
    world.other.push(elsewhere, TWO, "3")
    await by_tag(world)
    await by_tag(world, repository=elsewhere)
    world.clock.advance(5)
    assert (await by_tag(world)).cache is Cache.HIT
    assert (await by_tag(world, repository=elsewhere)).cache is Cache.REVALIDATED


# --- moved ------------------------------------------------------------------------------------------------


async def test_a_moved_tag(world: World) -> None:
    world.hub.push(ALPINE, ONE, "3")
    await by_tag(world)
    world.hub.push(ALPINE, TWO, "3")
    assert await seen(world) == (ONE, Cache.HIT)
    world.clock.advance(TTL)
    assert await seen(world) == (TWO, Cache.MISS)
    assert (await row(world)).manifest == TWO.descriptor.digest
    old = await world.manifests.by_digest(LOOPBACK, ALPINE, ONE.descriptor.digest)
    assert old.cache is Cache.HIT  # still there by digest
    world.hub.push(ALPINE, ONE, "3")
    world.clock.advance(TTL)
    assert await seen(world) == (ONE, Cache.REVALIDATED)  # moved back: nothing to fetch
    assert asked(world.hub.anonymous).count("manifest") == 2


async def test_the_same_image_under_another_name_costs_no_get(world: World) -> None:
    world.hub.push(ALPINE, ONE, "3", "3.20")
    world.hub.push(NGINX, ONE, "3")
    await by_tag(world)
    assert (await by_tag(world, tag="3.20")).cache is Cache.REVALIDATED
    assert (await by_tag(world, repository=NGINX)).cache is Cache.REVALIDATED  # its registry has named it
    assert asked(world.hub.anonymous) == ["head", "manifest", "head", "head"]
    world.restart()
    assert (await by_tag(world, repository=NGINX)).cache is Cache.HIT


async def test_a_registry_whose_head_does_not_tell(world: World) -> None:
    world.hub.anonymous.tells = False
    world.hub.push(ALPINE, ONE, "3")
    assert await seen(world) == (ONE, Cache.MISS)
    world.clock.advance(TTL)
    assert await seen(world) == (ONE, Cache.REVALIDATED)
    assert asked(world.hub.anonymous) == ["head", "manifest"] * 2


async def test_a_slow_revalidation_does_not_overwrite_a_push(world: World) -> None:
    world.hub.push(ALPINE, ONE, "3")
    await by_tag(world)
    world.hub.push(ALPINE, TWO, "3")
    world.clock.advance(TTL)
    gate = Gate()
    world.hub.anonymous.script("manifest", gate)
    slow = world.tasks.spawn("slow", by_tag(world))
    await gate.reached.wait()
    await pushed(world, THREE, ONE)
    gate.release()
    assert (await slow).kept.manifest == THREE
    found = await row(world)
    assert (found.manifest, found.origin) == (THREE.descriptor.digest, Origin.LOCAL)
    assert await seen(world) == (THREE, Cache.HIT)


async def test_nor_one_of_a_tag_that_was_new(world: World) -> None:
    world.hub.push(ALPINE, ONE, "3")
    gate = Gate()
    world.hub.anonymous.script("manifest", gate)
    slow = world.tasks.spawn("slow", by_tag(world))
    await gate.reached.wait()
    await pushed(world, THREE, None)
    gate.release()
    assert (await slow).kept.manifest == THREE
    assert (await row(world)).manifest == THREE.descriptor.digest


async def test_what_was_pushed_here_is_never_asked_for(world: World) -> None:
    world.hub.push(ALPINE, ONE, "3")
    await pushed(world, THREE, None)
    for _ in range(2):
        assert await seen(world) == (THREE, Cache.HIT)
        world.clock.advance(10 * TTL)
    assert asked(world.hub.anonymous) == []


async def test_one_revalidation_at_a_time(world: World) -> None:
    world.hub.push(ALPINE, ONE, "3")
    gate = Gate()
    world.hub.anonymous.script("head", gate)
    asking = [world.tasks.spawn("ask", seen(world, who)) for who in (LOOPBACK, LOOPBACK, LOOPBACK)]
    await gate.reached.wait()
    gate.release()
    assert [await each for each in asking] == [(ONE, Cache.MISS)] * 3
    assert asked(world.hub.anonymous) == ["head", "manifest"]

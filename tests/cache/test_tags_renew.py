"""`Tags.renew`: what the registry says now."""

import re

import pytest

from mirror.cache.content import Cache
from mirror.cache.policy import Policy, RegistryPolicy
from mirror.cache.rights import LOOPBACK
from mirror.errors import ManifestUnknown, NameUnknown, Offline, UpstreamLimited, UpstreamUnreachable
from mirror.oci.manifest import Manifest
from mirror.store.protocols import Origin
from tests.cache.scripted import Gate, limited, unreachable
from tests.cache.support import World, settled
from tests.cache.tagging import ONE, TTL, TWO, asked, by_tag, row, seen
from tests.store.samples import ALPINE


async def renewed(world: World) -> tuple[Manifest, Cache]:
    answer = await world.tags.renew(LOOPBACK, ALPINE, "3")
    return answer.kept.manifest, answer.cache


async def test_it_asks_however_fresh_the_tag_is() -> None:
    world = World()
    world.hub.push(ALPINE, ONE, "3")
    assert await renewed(world) == (ONE, Cache.MISS)
    assert await renewed(world) == (ONE, Cache.REVALIDATED)
    world.hub.push(ALPINE, TWO, "3")
    assert await seen(world) == (ONE, Cache.HIT)
    assert await renewed(world) == (TWO, Cache.MISS)
    assert await seen(world) == (TWO, Cache.HIT)
    assert asked(world.hub.anonymous) == ["head", "manifest", "head", "head", "manifest"]


async def test_also_of_one_that_never_moves() -> None:
    world = World(policy=Policy(registries={"docker.io": RegistryPolicy(TTL, (re.compile("3"),))}))
    world.hub.push(ALPINE, ONE, "3")
    await by_tag(world)
    world.hub.push(ALPINE, TWO, "3")
    assert (await renewed(world))[0] == TWO


async def test_a_no_of_a_moment_ago_is_asked_again() -> None:
    world = World()
    with pytest.raises(ManifestUnknown):
        await renewed(world)
    world.hub.push(ALPINE, ONE, "3")
    assert await renewed(world) == (ONE, Cache.MISS)


@pytest.mark.parametrize(("error", "raised"), [(unreachable(), UpstreamUnreachable), (limited(), UpstreamLimited)])
async def test_no_answer_is_raised_and_the_known_is_served_on(error: Exception, raised: type[Exception]) -> None:
    world = World()
    world.hub.push(ALPINE, ONE, "3")
    await by_tag(world)
    world.hub.anonymous.down(error)
    with pytest.raises(raised):
        await renewed(world)
    assert (await seen(world))[0] == ONE
    world.policy.offline = True
    with pytest.raises(Offline):
        await renewed(world)


async def test_what_is_gone_is_raised_and_noted() -> None:
    world = World()
    world.hub.push(ALPINE, ONE, "3")
    await by_tag(world)
    del world.hub.tags[ALPINE, "3"]
    with pytest.raises(ManifestUnknown):
        await renewed(world)
    assert (await row(world)).gone_at is not None
    assert (await seen(world)) == (ONE, Cache.STALE)


async def test_what_was_set_here_stays() -> None:
    world = World()
    world.hub.push(ALPINE, ONE, "3")
    await by_tag(world)
    await world.catalog.set_tag(ALPINE, "3", ONE.descriptor.digest, world.clock.wall(), "me")
    world.tags.forget(ALPINE, "3")
    world.hub.push(ALPINE, TWO, "3")
    asked_before = world.hub.anonymous.count("head")
    assert await renewed(world) == (ONE, Cache.HIT)
    assert ((await row(world)).origin, world.hub.anonymous.count("head")) == (Origin.LOCAL, asked_before)


async def test_one_question_for_all_who_renew_at_once() -> None:
    world, gate = World(), Gate()
    world.hub.push(ALPINE, ONE, "3")
    world.hub.anonymous.script("head", gate)
    tasks = [world.tasks.spawn("renew", renewed(world)) for _ in range(3)]
    await settled(lambda: world.hub.anonymous.count("head") == 1)
    gate.release()
    assert {(await task)[0] for task in tasks} == {ONE}
    assert asked(world.hub.anonymous) == ["head", "manifest"]


async def test_tags_that_a_registry_lists() -> None:
    world = World()
    world.hub.push(ALPINE, ONE, "3", "4")
    await by_tag(world)
    del world.hub.tags[ALPINE, "3"]
    assert await world.listings.upstream_tags(LOOPBACK, ALPINE) == ["4"]
    world.hub.anonymous.down(unreachable())
    world.clock.advance(TTL + 1)
    with pytest.raises(UpstreamUnreachable):
        await world.listings.upstream_tags(LOOPBACK, ALPINE)
    world.hub.anonymous.down(None)
    world.clock.advance(60)
    del world.hub.tags[ALPINE, "4"]
    with pytest.raises(NameUnknown):
        await world.listings.upstream_tags(LOOPBACK, ALPINE)

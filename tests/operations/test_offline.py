"""The switch at run time. What breaks a test is said in its docstring."""

import asyncio

import pytest

from mirror.cache.content import Cache
from mirror.cache.rights import LOOPBACK, STRANGER
from mirror.errors import MirrorError, Offline
from mirror.oci.digest import Digest
from mirror.operations.offline import Switch
from tests.cache.scripted import Body, Gate
from tests.cache.support import World
from tests.cache.tagging import ONE, TTL, TWO, asked, by_tag, seen
from tests.store.samples import ALPINE


class Looks:
    """Counts looks at the registries."""

    def __init__(self) -> None:
        self.count = 0

    async def __call__(self) -> None:
        self.count += 1


def switch(world: World, looks: Looks | None = None) -> Switch:
    return Switch(policy=world.policy, tasks=world.tasks, look=looks or Looks())


async def test_it_says_what_it_is_and_looks_once_when_it_is_turned_off() -> None:
    world, looks = World(), Looks()
    made = switch(world, looks)
    assert not made.offline
    assert made.turn(offline=True)
    assert made.turn(offline=True)
    assert made.offline
    await world.idle()
    assert looks.count == 0
    assert not made.turn(offline=False)
    assert not made.turn(offline=False)
    await world.idle()
    assert looks.count == 1


async def test_what_is_held_does_not_wait_for_a_question_under_way() -> None:
    """A registry hangs, somebody waits for it, and the switch is turned. Fails if whoever asks then joins the wait."""
    world = World()
    world.hub.push(ALPINE, ONE, "3")
    await by_tag(world)
    world.clock.advance(TTL)
    gate = Gate()
    world.hub.anonymous.script("head", gate)
    waiting = asyncio.get_running_loop().create_task(by_tag(world))
    await gate.reached.wait()
    switch(world).turn(offline=True)
    async with asyncio.timeout(1):
        assert await seen(world) == (ONE, Cache.STALE)
        with pytest.raises(Offline):
            await by_tag(world, tag="4")
    gate.release()
    await waiting


async def test_a_digest_does_not_wait_either() -> None:
    world = World()
    digest = world.hub.push(ALPINE, ONE)
    gate = Gate()
    world.hub.anonymous.script("manifest", gate)
    waiting = asyncio.get_running_loop().create_task(world.manifests.by_digest(LOOPBACK, ALPINE, digest))
    await gate.reached.wait()
    switch(world).turn(offline=True)
    async with asyncio.timeout(1):
        with pytest.raises(Offline):
            await world.manifests.by_digest(LOOPBACK, ALPINE, digest)
    gate.release()
    assert (await waiting).kept.manifest == ONE


async def test_online_again_the_registry_is_asked_at_once() -> None:
    """Fails if the stale answer of the time offline is repeated for its five seconds."""
    world = World()
    world.hub.push(ALPINE, ONE, "3")
    await by_tag(world)
    world.clock.advance(TTL)
    world.hub.push(ALPINE, TWO, "3")
    made = switch(world)
    made.turn(offline=True)
    for _ in range(2):
        assert await seen(world) == (ONE, Cache.STALE)
    count = len(asked(world.hub.anonymous))
    made.turn(offline=False)
    assert await seen(world) == (TWO, Cache.MISS)
    assert len(asked(world.hub.anonymous)) > count


async def test_the_stale_answer_is_at_hand_while_it_lasts() -> None:
    """Fails if every request while offline goes to the catalog."""
    world = World()
    world.hub.push(ALPINE, ONE, "3")
    await by_tag(world)
    world.clock.advance(TTL)
    switch(world).turn(offline=True)
    await by_tag(world)
    remembered = world.tags.remembered(STRANGER, ALPINE, "3")
    assert remembered is not None
    assert remembered.cache is Cache.STALE


async def test_a_download_under_way_goes_on_and_nothing_new_begins() -> None:
    world = World()
    layer, other = world.hub.add(ALPINE, b"x" * 1000), world.hub.add(ALPINE, b"y")
    gate = Gate()
    world.hub.anonymous.bodies.append(Body([100, gate]))
    waiting = asyncio.get_running_loop().create_task(world.pull(ALPINE, layer))
    await gate.reached.wait()
    switch(world).turn(offline=True)
    for digest in (layer, other, Digest.of(b"z")):
        with pytest.raises(MirrorError):
            await world.pull(ALPINE, digest)
    gate.release()
    assert await waiting == b"x" * 1000
    assert await world.pull(ALPINE, layer) == b"x" * 1000

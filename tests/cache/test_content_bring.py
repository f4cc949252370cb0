"""`Content.bring`: a blob is here afterwards, and no byte of it was read."""

import pytest

from mirror.cache.rights import LOOPBACK, STRANGER
from mirror.errors import BlobUnknown, StoreFailed, UpstreamUnreachable
from mirror.store.protocols import Proof
from tests.cache.flying import BIG, TINY
from tests.cache.scripted import Body, Gate, unreachable
from tests.cache.support import CLIENT, World, settled
from tests.store.samples import ALPINE, NGINX, TOOL


@pytest.mark.parametrize("data", [BIG, TINY, b""])
async def test_it_is_here_and_linked(data: bytes) -> None:
    world = World()
    digest = world.hub.add(ALPINE, data)
    told: list[int] = []
    assert not await world.content.held(LOOPBACK, ALPINE, digest)
    assert not await world.content.here(LOOPBACK, ALPINE, digest)
    assert await world.content.bring(LOOPBACK, ALPINE, digest, CLIENT, told.append) == len(data)
    assert told == sorted(told)
    holding = await world.catalog.holding(ALPINE, digest, is_manifest=False)
    assert holding is not None
    assert holding.link is not None
    assert await world.content.held(LOOPBACK, ALPINE, digest)
    assert await world.content.here(LOOPBACK, ALPINE, digest)
    assert await world.content.bring(LOOPBACK, ALPINE, digest, CLIENT) is None
    assert world.hub.anonymous.count("open") == 1


async def test_it_waits_until_it_is_kept_and_shares_a_clients_download() -> None:
    world, gate = World(), Gate()
    digest = world.hub.add(ALPINE, BIG)
    world.hub.anonymous.bodies.append(Body(steps=[100_000, gate]))
    reading = world.tasks.spawn("client", world.pull(ALPINE, digest))
    bringing = world.tasks.spawn("pull", world.content.bring(LOOPBACK, ALPINE, digest, CLIENT))
    await settled(lambda: world.hub.anonymous.count("open") == 1)
    gate.release()
    assert await reading == BIG
    assert await bringing
    assert world.hub.anonymous.count("open") == 1


async def test_a_disk_that_does_not_take_it() -> None:
    """Broken by waiting for the last byte in place of the landing: what only streams through would count as here."""
    world = World(limit=1000)
    digest = world.hub.add(ALPINE, BIG)
    with pytest.raises(StoreFailed):
        await world.content.bring(LOOPBACK, ALPINE, digest, CLIENT)
    await world.idle()
    assert not await world.content.held(LOOPBACK, ALPINE, digest)


async def test_one_that_was_delivered_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    digest = world.hub.add(ALPINE, TINY)

    async def refuse(*_: object) -> None:
        raise StoreFailed("read-only")

    monkeypatch.setattr(world.catalog, "hold", refuse)
    with pytest.raises(StoreFailed, match="could not be kept"):
        await world.content.bring(LOOPBACK, ALPINE, digest, CLIENT)


async def test_refusals() -> None:
    world = World()
    digest = world.hub.add(ALPINE, TINY)
    with pytest.raises(BlobUnknown):
        await world.content.bring(LOOPBACK, NGINX, digest, CLIENT)
    world.hub.anonymous.down(unreachable())
    with pytest.raises(UpstreamUnreachable):
        await world.content.bring(LOOPBACK, ALPINE, digest, CLIENT)


async def test_what_is_private_elsewhere_costs_a_question_and_no_download() -> None:
    world = World(credentials=["docker.io"])
    digest = world.hub.add(ALPINE, TINY)
    location = await world.store.put(TINY, digest)
    at = world.clock.wall()
    await world.catalog.hold(digest, len(TINY), location, [(ALPINE, Proof.CREDENTIALS)], at)
    world.hub.add(NGINX, TINY)
    assert not await world.content.held(LOOPBACK, NGINX, digest)  # nobody was asked yet
    world.other.add(TOOL, TINY)
    assert not await world.content.here(LOOPBACK, TOOL, digest)  # another registry's word proves nothing
    assert await world.content.here(LOOPBACK, NGINX, digest)
    assert await world.content.held(LOOPBACK, NGINX, digest)
    assert await world.content.bring(LOOPBACK, NGINX, digest, CLIENT) is None
    assert not await world.content.held(STRANGER, ALPINE, digest)

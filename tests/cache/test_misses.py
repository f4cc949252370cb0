"""What was asked for in vain is written down, whatever it was. What breaks a test is said in its docstring."""

from collections.abc import Awaitable

import pytest

from mirror.cache.rights import LOOPBACK, STRANGER
from mirror.errors import MirrorError, Offline, StoreFailed, UpstreamUnreachable
from mirror.oci.digest import Digest
from tests.cache.scripted import limited, unreachable
from tests.cache.support import World
from tests.store.samples import ALPINE, image

NOWHERE = Digest.of(b"nowhere")


async def missed(world: World) -> list[tuple[str, int]]:
    return [(miss.name, miss.count) for miss in await world.catalog.misses(100)]


async def refused(asked: Awaitable[object], error: type[MirrorError]) -> None:
    with pytest.raises(error):
        await asked


async def test_tags_manifests_and_blobs() -> None:
    """Fails if one of them is forgotten, or two names are used for one thing."""
    world = World()
    world.policy.offline = True
    for _ in range(2):
        await refused(world.tags.by_tag(LOOPBACK, ALPINE, "3"), Offline)
        world.clock.advance(1)
        await refused(world.manifests.by_digest(STRANGER, ALPINE, NOWHERE), Offline)
        await refused(world.pull(ALPINE, NOWHERE), Offline)
        world.clock.advance(1)
    assert await missed(world) == [(f"{ALPINE}@{NOWHERE}", 4), (f"{ALPINE}:3", 2)]


@pytest.mark.parametrize("error", [unreachable(), limited()])
async def test_no_answer_is_a_miss(error: MirrorError) -> None:
    world = World()
    world.hub.anonymous.down(error)
    await refused(world.tags.by_tag(LOOPBACK, ALPINE, "3"), type(error))
    await refused(world.pull(ALPINE, NOWHERE), type(error))
    assert {name for name, _ in await missed(world)} == {f"{ALPINE}:3", f"{ALPINE}@{NOWHERE}"}


async def test_a_no_is_none_and_what_is_held_is_none() -> None:
    """Fails if every typing error of a client is a line in the list."""
    world = World()
    one = image("one")
    world.hub.push(ALPINE, one, "3")
    await world.tags.by_tag(LOOPBACK, ALPINE, "3")
    for asked in (
        world.tags.by_tag(LOOPBACK, ALPINE, "none"),
        world.manifests.by_digest(LOOPBACK, ALPINE, NOWHERE),
        world.pull(ALPINE, NOWHERE),
    ):
        with pytest.raises(MirrorError):
            await asked
    world.policy.offline = True
    world.clock.advance(1000)
    await world.tags.by_tag(LOOPBACK, ALPINE, "3")
    await world.manifests.by_digest(LOOPBACK, ALPINE, one.descriptor.digest)
    assert await missed(world) == []


async def test_looking_is_no_asking() -> None:
    """containerd looks for every digest as a blob first."""
    world = World()
    world.policy.offline = True
    await refused(world.content.stat(LOOPBACK, ALPINE, NOWHERE), Offline)
    assert await missed(world) == []


async def test_a_disk_that_takes_no_note_changes_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.hub.anonymous.down(unreachable())

    async def full(*_: object) -> None:
        raise StoreFailed("no space left")

    monkeypatch.setattr(world.catalog, "missed", full)
    await refused(world.pull(ALPINE, NOWHERE), UpstreamUnreachable)
    await refused(world.manifests.by_digest(LOOPBACK, ALPINE, NOWHERE), UpstreamUnreachable)

"""Tags where upstream gives no answer, has them no longer, or tells the trusted only."""

import pytest

from mirror.cache import tags as tags_module
from mirror.cache.content import Cache
from mirror.cache.policy import Policy
from mirror.cache.rights import LOOPBACK, STRANGER
from mirror.cache.tags import STALE_SECONDS
from mirror.errors import (
    ManifestUnknown,
    MirrorError,
    Offline,
    StoreFailed,
    UpstreamCredentialsRefused,
    UpstreamGone,
    UpstreamInvalid,
    UpstreamUnreachable,
)
from tests.cache.scripted import Gate, ScriptedSource, gone, limited, unreachable
from tests.cache.support import World
from tests.cache.tagging import ONE, TTL, TWO, asked, by_tag, row, seen
from tests.store.samples import ALPINE

OUTAGES = [
    unreachable(),
    limited(),
    UpstreamCredentialsRefused("our credentials are not accepted", registry="docker.io"),
    UpstreamInvalid("an answer against the specification", registry="docker.io"),
]


# --- no answer --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", OUTAGES, ids=lambda error: type(error).__name__)
async def test_what_is_known_is_served_stale(world: World, error: MirrorError) -> None:
    world.hub.push(ALPINE, ONE, "3")
    await by_tag(world)
    world.clock.advance(TTL)
    world.hub.anonymous.down(error)
    answer = await by_tag(world)
    assert (answer.kept.manifest, answer.cache) == (ONE, Cache.STALE)
    assert answer.warning == f"{error.message}; served from the cache, last confirmed 2023-11-14 22:13 UTC"
    assert (await by_tag(world)).cache is Cache.STALE
    assert len(world.hub.anonymous.asked) == 3  # repeated for a moment without asking
    world.hub.anonymous.down(None)
    world.clock.advance(STALE_SECONDS)
    assert await seen(world) == (ONE, Cache.REVALIDATED)


@pytest.mark.parametrize("error", OUTAGES, ids=lambda error: type(error).__name__)
async def test_where_nothing_is_known_the_reason_is_told(world: World, error: MirrorError) -> None:
    world.hub.anonymous.down(error)
    for _ in range(2):
        with pytest.raises(type(error)) as caught:
            await by_tag(world)
        assert caught.value is error
    (miss,) = await world.catalog.misses(10)
    assert (miss.name, miss.count) == ("docker.io/library/alpine:3", 2)


async def test_a_tag_that_cannot_be_delivered_is_not_resolved(world: World) -> None:
    world.hub.push(ALPINE, ONE, "3")
    world.hub.anonymous.script("manifest", unreachable())
    with pytest.raises(UpstreamUnreachable):
        await by_tag(world)
    assert await world.catalog.tag(ALPINE, "3") is None


async def test_a_moved_tag_that_cannot_be_fetched_stays_where_it_was(world: World) -> None:
    world.hub.push(ALPINE, ONE, "3")
    await by_tag(world)
    world.clock.advance(TTL)
    world.hub.push(ALPINE, TWO, "3")
    world.hub.anonymous.script("manifest", limited())
    assert await seen(world) == (ONE, Cache.STALE)


async def test_offline(world: World) -> None:
    world.hub.push(ALPINE, ONE, "3")
    await by_tag(world)
    world.policy.offline = True
    world.clock.advance(TTL)
    assert await seen(world) == (ONE, Cache.STALE)
    with pytest.raises(Offline):
        await by_tag(world, tag="4")
    assert len(world.hub.anonymous.asked) == 2


async def test_a_slow_registry_is_not_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.hub.push(ALPINE, ONE, "3")
    await by_tag(world)
    world.clock.advance(TTL)
    world.hub.push(ALPINE, TWO, "3")
    gate = Gate()
    world.hub.anonymous.script("head", gate)
    monkeypatch.setattr(tags_module, "HURRY", 0.0)
    answer = await by_tag(world)
    assert (answer.kept.manifest, answer.cache) == (ONE, Cache.STALE)
    assert answer.warning is not None
    assert answer.warning.startswith("docker.io is slow")
    gate.release()
    await world.idle()  # the question goes on, and is answered for the next one
    monkeypatch.setattr(tags_module, "HURRY", 10.0)
    assert await seen(world) == (TWO, Cache.HIT)


async def test_with_nothing_held_a_slow_registry_is_waited_for_but_not_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tags_module, "HURRY", 0.0)
    gate = Gate()
    world.hub.push(ALPINE, ONE, "3")
    world.hub.anonymous.script("head", gate)
    asking = world.tasks.spawn("ask", seen(world))
    await gate.reached.wait()
    gate.release()
    assert await asking == (ONE, Cache.MISS)
    monkeypatch.setattr(tags_module, "ANSWER_WITHIN", 0.0)
    world.hub.anonymous.script("head", Gate())
    with pytest.raises(UpstreamUnreachable):
        await by_tag(world, tag="4")


async def test_a_disk_that_refuses_is_no_reason_not_to_serve(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> str:
        raise StoreFailed("no")

    for owner, method in ((world.store, "put"), (world.catalog, "move_tag"), (world.catalog, "link")):
        monkeypatch.setattr(owner, method, refuse)
    world.hub.push(ALPINE, ONE, "3")
    assert await seen(world) == (ONE, Cache.MISS)
    assert await seen(world) == (ONE, Cache.HIT)


async def test_nor_for_a_moved_tag(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.hub.push(ALPINE, ONE, "3")
    await by_tag(world)
    world.hub.push(ALPINE, TWO, "3")
    world.clock.advance(TTL)

    async def refuse(*_: object) -> str:
        raise StoreFailed("no")

    monkeypatch.setattr(world.store, "put", refuse)
    assert await seen(world) == (TWO, Cache.MISS)  # not the old one, silently
    assert (await row(world)).manifest == ONE.descriptor.digest


# --- gone -------------------------------------------------------------------------------------------------


async def test_what_is_gone_and_public_is_kept_and_said_to_be_only_here(world: World) -> None:
    world.hub.push(ALPINE, ONE, "3")
    await by_tag(world)
    world.hub.tags.clear()
    world.clock.advance(TTL)
    answer = await by_tag(world)
    assert (answer.kept.manifest, answer.cache) == (ONE, Cache.STALE)
    assert answer.warning is not None
    assert answer.warning.startswith("docker.io no longer has it; served from the cache")
    since = world.clock.wall()
    assert [(str(where), tag.name, tag.gone_at) for where, tag in await world.catalog.only_here(9)] == [
        ("docker.io/library/alpine", "3", since)
    ]
    world.clock.advance(10 * TTL)
    world.restart()
    assert (await by_tag(world)).cache is Cache.STALE
    assert (await row(world)).gone_at == since
    world.hub.push(ALPINE, ONE, "3")
    world.clock.advance(TTL)
    assert await seen(world) == (ONE, Cache.REVALIDATED)  # it came back
    assert await world.catalog.only_here(9) == []


async def test_a_note_that_cannot_be_written_down(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> None:
        raise StoreFailed("no")

    monkeypatch.setattr(world.catalog, "tag_gone", refuse)
    monkeypatch.setattr(world.catalog, "missed", refuse)
    world.hub.push(ALPINE, ONE, "3")
    await by_tag(world)
    world.hub.tags.clear()
    world.clock.advance(TTL)
    assert await seen(world) == (ONE, Cache.STALE)
    world.hub.anonymous.down(unreachable())
    with pytest.raises(UpstreamUnreachable):
        await by_tag(world, tag="4")


async def test_follow_drops_what_is_gone() -> None:
    world = World(policy=Policy(keep_gone=False))
    world.hub.push(ALPINE, ONE, "3")
    await by_tag(world)
    world.hub.tags.clear()
    world.clock.advance(TTL)
    with pytest.raises(ManifestUnknown):
        await by_tag(world)
    assert await world.catalog.tag(ALPINE, "3") is None
    assert (await world.manifests.by_digest(LOOPBACK, ALPINE, ONE.descriptor.digest)).cache is Cache.HIT


async def test_unknown_is_remembered_for_a_moment(world: World) -> None:
    for _ in range(2):
        with pytest.raises(ManifestUnknown):
            await by_tag(world)
    assert asked(world.hub.anonymous) == ["head"]
    world.clock.advance(10)
    world.hub.push(ALPINE, ONE, "3")
    assert await seen(world) == (ONE, Cache.MISS)


# --- private ----------------------------------------------------------------------------------------------


async def test_private_tags_are_for_the_trusted(private_world: World) -> None:
    world = private_world
    world.hub.push(ALPINE, ONE, "3")
    world.hub.private.add(ALPINE)
    with pytest.raises(ManifestUnknown) as unknown:
        await by_tag(world, STRANGER)
    assert await seen(world, LOOPBACK) == (ONE, Cache.MISS)
    for _ in range(2):
        assert world.tags.remembered(STRANGER, ALPINE, "3") is None
        with pytest.raises(ManifestUnknown) as private:
            await by_tag(world, STRANGER)
        assert private.value.message == unknown.value.message
        assert world.tags.remembered(LOOPBACK, ALPINE, "3") is not None  # the stranger takes nothing away
        world.clock.advance(11)
    assert await seen(world, LOOPBACK) == (ONE, Cache.HIT)


async def test_private_content_follows_and_goes(private_world: World) -> None:
    world = private_world
    world.hub.push(ALPINE, ONE, "3")
    world.hub.private.add(ALPINE)
    await by_tag(world)
    world.hub.tags.clear()
    world.clock.advance(TTL)
    with pytest.raises(ManifestUnknown):
        await by_tag(world)
    assert await world.catalog.tag(ALPINE, "3") is None


async def test_a_login_that_ran_out_shows_nothing_and_loses_nothing(private_world: World) -> None:
    """Breaks if a refusal drops the tag as a 404 does: with the next login it would have to come again."""
    world = private_world
    world.hub.push(ALPINE, ONE, "3")
    world.hub.private.add(ALPINE)
    await by_tag(world)
    for source in (world.hub.anonymous, world.hub.credentialed):
        source.down(UpstreamGone("denied", registry="docker.io", refused=True))
    world.clock.advance(TTL)
    with pytest.raises(ManifestUnknown):
        await by_tag(world)
    assert (await row(world)).manifest == ONE.descriptor.digest
    for source in (world.hub.anonymous, world.hub.credentialed):
        source.down(None)
    world.clock.advance(TTL)
    assert await seen(world, LOOPBACK) == (ONE, Cache.REVALIDATED)


async def test_private_content_in_an_outage_is_served_for_a_bounded_time(private_world: World) -> None:
    world = private_world
    world.hub.push(ALPINE, ONE, "3")
    world.hub.private.add(ALPINE)
    await by_tag(world)
    world.hub.anonymous.down(unreachable())
    world.hub.credentialed.down(unreachable())
    world.clock.advance(world.policy.private_stale)
    assert await seen(world) == (ONE, Cache.STALE)
    world.clock.advance(1)
    assert world.tags.remembered(LOOPBACK, ALPINE, "3") is None
    with pytest.raises(UpstreamUnreachable):
        await by_tag(world)
    world.hub.credentialed.down(None)
    world.clock.advance(STALE_SECONDS)
    assert await seen(world) == (ONE, Cache.REVALIDATED)
    assert await seen(world) == (ONE, Cache.HIT)


async def test_a_strangers_refusal_is_no_statement_about_what_the_credentials_see(private_world: World) -> None:
    """A public repository becomes private: strangers keep what was public, the trusted go on as before."""
    world = private_world
    world.hub.push(ALPINE, ONE, "3")
    await by_tag(world, STRANGER)
    world.hub.private.add(ALPINE)
    world.hub.push(ALPINE, TWO, "3")
    await world.proofs.first(await world.proofs.sources(ALPINE, trusted=True), ALPINE, ("tags", ""), _tags)
    world.clock.advance(TTL)
    assert await seen(world, STRANGER) == (ONE, Cache.STALE)
    assert (await row(world)).gone_at is None
    assert await seen(world, LOOPBACK) == (TWO, Cache.MISS)


async def _tags(source: object) -> object:
    assert isinstance(source, ScriptedSource)
    return await source.tags(ALPINE, None)


async def test_an_outage_without_credentials_is_nobody_elses(private_world: World) -> None:
    world = private_world
    world.hub.push(ALPINE, ONE, "3")
    await by_tag(world, STRANGER)
    world.hub.push(ALPINE, TWO, "3")
    world.hub.anonymous.down(limited())
    world.clock.advance(TTL)
    assert await seen(world, STRANGER) == (ONE, Cache.STALE)
    assert await seen(world, LOOPBACK) == (TWO, Cache.MISS)


async def test_for_a_stranger_nothing_is_asked_with_credentials(private_world: World) -> None:
    world = private_world
    world.hub.push(ALPINE, ONE, "3")
    world.hub.anonymous.script("head", gone())
    with pytest.raises(ManifestUnknown):
        await by_tag(world, STRANGER)
    assert world.hub.credentialed.asked == []

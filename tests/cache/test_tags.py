"""Manifests by tag: fresh, revalidated, moved, stale, gone (design.md §5, "GET manifest by tag")."""

import re

import pytest

from mirror.cache import tags as tags_module
from mirror.cache.content import Cache
from mirror.cache.manifests import Answer
from mirror.cache.policy import Policy, RegistryPolicy
from mirror.cache.rights import LOOPBACK, STRANGER, Principal
from mirror.cache.tags import STALE_SECONDS
from mirror.errors import (
    ManifestUnknown,
    MirrorError,
    Offline,
    StoreFailed,
    UpstreamCredentialsRefused,
    UpstreamInvalid,
    UpstreamUnreachable,
)
from mirror.oci.manifest import Manifest
from mirror.oci.names import Repository
from mirror.store.protocols import Origin, Proof, Tag
from tests.cache.support import Gate, ScriptedSource, World, gone, limited, unreachable
from tests.store.samples import ALPINE, NGINX, image

ONE, TWO, THREE = image("one"), image("two"), image("three")
TTL = 60.0
OUTAGES = [
    unreachable(),
    limited(),
    UpstreamCredentialsRefused("our credentials are not accepted", registry="docker.io"),
    UpstreamInvalid("an answer against the specification", registry="docker.io"),
]


async def by_tag(world: World, who: Principal = LOOPBACK, tag: str = "3", repository: Repository = ALPINE) -> Answer:
    return await world.tags.by_tag(who, repository, tag)


async def seen(world: World, who: Principal = LOOPBACK) -> tuple[Manifest, Cache]:
    answer = await by_tag(world, who)
    return answer.kept.manifest, answer.cache


async def row(world: World) -> Tag:
    found = await world.catalog.tag(ALPINE, "3")
    assert found is not None
    return found


def asked(source: ScriptedSource) -> list[str]:
    return [line.split()[0] for line in source.asked]


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
    assert world.catalog.misses == {"docker.io/library/alpine:3": 2}


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
        world.clock.advance(11)
    assert await seen(world, LOOPBACK) == (ONE, Cache.HIT)  # the stranger has taken nothing away


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

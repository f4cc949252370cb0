"""Open what may be seen: held, flying, to be fetched; and never anything else (design.md §4, §5 "GET blob")."""

import pytest

from mirror.cache import proofs as proofs_module
from mirror.cache.content import Cache
from mirror.cache.policy import Policy
from mirror.cache.proofs import NEGATIVE_SECONDS
from mirror.cache.rights import LOOPBACK, STRANGER, Principal
from mirror.errors import (
    BlobUnknown,
    MirrorError,
    NoRoom,
    Offline,
    UpstreamDigestMismatch,
    UpstreamGone,
    UpstreamLimited,
    UpstreamUnreachable,
)
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.store.protocols import Holding, Proof, Visibility
from mirror.tasks import Tasks
from tests.cache.scripted import Body, Gate, limited, unreachable
from tests.cache.support import CLIENT, World, read, settled
from tests.store.samples import ALPINE, NGINX, OWN, TOOL, image
from tests.support.fake_registry.content import random_bytes

DATA = random_bytes("data", 5000)
BIG = random_bytes("big", 700_000)


async def hold(world: World, data: bytes, *links: tuple[Repository, Proof]) -> Digest:
    """Let the mirror hold `data`, linked as given."""
    digest = Digest.of(data)
    location = await world.store.put(data, digest)
    await world.catalog.hold(digest, len(data), location, links, world.clock.wall())
    return digest


async def opened_as(world: World, repository: Repository, digest: Digest, who: Principal = LOOPBACK) -> Cache:
    async with world.content.open(who, repository, digest, CLIENT) as blob:
        return blob.cache


def asked(world: World) -> list[str]:
    """Method and view of every request upstream."""
    views = (world.hub.anonymous, world.hub.credentialed, world.other.anonymous, world.other.credentialed)
    return [
        f"{line.split()[0]} {'anonymous' if view.key[1] else 'credentials'}" for view in views for line in view.asked
    ]


# --- hits and misses --------------------------------------------------------------------------------------


async def test_fetched_once_then_held(world: World) -> None:
    digest = world.hub.add(ALPINE, DATA)
    assert await opened_as(world, ALPINE, digest) is Cache.MISS
    await world.idle()
    assert await opened_as(world, ALPINE, digest) is Cache.HIT
    assert await world.pull(ALPINE, digest) == DATA
    assert asked(world) == ["open anonymous"]


async def test_head_downloads_nothing(world: World) -> None:
    digest = world.hub.add(ALPINE, DATA)
    assert await world.content.stat(STRANGER, ALPINE, digest) == (len(DATA), Cache.MISS)
    assert asked(world) == ["size anonymous"]
    assert await world.catalog.holding(ALPINE, digest, is_manifest=False) is None
    await world.pull(ALPINE, digest)
    await world.idle()
    assert await world.content.stat(STRANGER, ALPINE, digest) == (len(DATA), Cache.HIT)


async def test_a_size_that_upstream_does_not_say(world: World) -> None:
    world.hub.anonymous.tells_sizes = False
    digest = world.hub.add(ALPINE, b"layer one")
    assert await world.content.stat(STRANGER, ALPINE, digest) == (None, Cache.MISS)
    await world.catalog.hold_manifest(ALPINE, image("layer one"), "x", Proof.ANONYMOUS, 1.0)
    assert await world.content.stat(STRANGER, ALPINE, digest) == (9, Cache.MISS)


async def test_unknown_is_remembered_for_a_moment(world: World) -> None:
    digest = Digest.of(DATA)
    for _ in range(2):
        with pytest.raises(BlobUnknown):
            await world.content.stat(STRANGER, ALPINE, digest)
        with pytest.raises(BlobUnknown):
            await opened_as(world, ALPINE, digest)
    assert asked(world) == ["size anonymous"]
    world.hub.add(ALPINE, DATA)
    world.clock.advance(NEGATIVE_SECONDS)
    assert await opened_as(world, ALPINE, digest) is Cache.MISS


async def test_no_answer_is_no_unknown(world: World) -> None:
    digest = world.hub.add(ALPINE, DATA)
    world.hub.anonymous.script("open", unreachable())
    world.hub.anonymous.script("size", limited())
    with pytest.raises(UpstreamUnreachable):
        await opened_as(world, ALPINE, digest)
    with pytest.raises(UpstreamLimited):
        await world.content.stat(LOOPBACK, ALPINE, digest)
    assert await world.pull(ALPINE, digest) == DATA


async def test_offline_serves_what_is_held_and_asks_nobody() -> None:
    world = World(policy=Policy(offline=True))
    held = await hold(world, DATA, (ALPINE, Proof.ANONYMOUS))
    assert await opened_as(world, ALPINE, held, STRANGER) is Cache.HIT
    with pytest.raises(Offline):
        await opened_as(world, ALPINE, world.hub.add(ALPINE, BIG))
    with pytest.raises(Offline):
        await world.content.stat(LOOPBACK, ALPINE, Digest.of(BIG))
    assert asked(world) == []


async def test_bytes_that_are_missing_are_fetched_anew(world: World) -> None:
    digest = await hold(world, DATA, (ALPINE, Proof.ANONYMOUS))
    world.hub.add(ALPINE, DATA)
    world.store.blobs.clear()
    assert await opened_as(world, ALPINE, digest) is Cache.MISS
    await world.idle()
    assert await opened_as(world, ALPINE, digest) is Cache.HIT


async def test_missing_bytes_that_nobody_has_are_unknown(world: World) -> None:
    digest = await hold(world, DATA, (ALPINE, Proof.ANONYMOUS))
    world.store.blobs.clear()
    for _ in range(2):
        with pytest.raises(BlobUnknown):
            await opened_as(world, ALPINE, digest)


# --- another repository -----------------------------------------------------------------------------------


async def test_a_public_blob_is_served_under_any_upstream_repository(world: World) -> None:
    digest = await hold(world, DATA, (ALPINE, Proof.ANONYMOUS))
    assert await opened_as(world, TOOL, digest, STRANGER) is Cache.HIT
    assert asked(world) == []
    holding = await world.catalog.holding(TOOL, digest, is_manifest=False)
    assert holding is not None
    assert holding.link is None  # without a new link


async def test_but_not_under_own_names(world: World) -> None:
    digest = await hold(world, DATA, (ALPINE, Proof.ANONYMOUS))
    with pytest.raises(Exception) as caught:  # noqa: PT011 - an unknown registry or an unknown blob, never the bytes
        await opened_as(world, OWN, digest)
    assert getattr(caught.value, "status", None) == 404
    await world.catalog.link(OWN, digest, Proof.PUSHED, 1.0, is_manifest=False)
    assert await opened_as(world, OWN, digest) is Cache.HIT


async def test_a_private_blob_needs_one_head_of_its_supplier(private_world: World) -> None:
    world = private_world
    digest = await hold(world, DATA, (ALPINE, Proof.CREDENTIALS))
    world.hub.add(NGINX, DATA)
    assert await opened_as(world, NGINX, digest, STRANGER) is Cache.HIT
    assert asked(world) == ["size anonymous"]
    holding = await world.catalog.holding(NGINX, digest, is_manifest=False)
    assert holding is not None
    assert holding.link is not None
    assert (holding.link.anonymous_at, holding.link.credentials_at) == (world.clock.wall(), None)
    assert await opened_as(world, NGINX, digest, STRANGER) is Cache.HIT
    assert asked(world) == ["size anonymous"]


async def test_another_registrys_yes_proves_nothing_it_is_downloaded_whole(private_world: World) -> None:
    world = private_world
    digest = await hold(world, DATA, (ALPINE, Proof.CREDENTIALS))
    world.other.blobs[TOOL, digest] = b"somebody's idea of it"  # a hostile registry says yes to everything
    with pytest.raises(UpstreamDigestMismatch):
        await world.pull(TOOL, digest)
    holding = await world.catalog.holding(TOOL, digest, is_manifest=False)
    assert holding is not None
    assert holding.link is None
    assert not await world.catalog.supplied(TOOL.registry, digest, is_manifest=False)
    assert asked(world) == ["open anonymous"]


async def test_a_repository_that_does_not_have_it_gets_the_answer_of_an_unknown_digest(private_world: World) -> None:
    world = private_world
    held, never = await hold(world, DATA, (ALPINE, Proof.CREDENTIALS)), Digest.of(b"never heard of")
    answers = []
    for digest in (held, never):
        for repository in (NGINX, TOOL):
            with pytest.raises(BlobUnknown) as opening:
                await opened_as(world, repository, digest, STRANGER)
            with pytest.raises(BlobUnknown) as asking:
                await world.content.stat(STRANGER, repository, digest)
            messages = (opening.value.message, asking.value.message)
            answers.append([each.replace(str(digest), "D").replace(str(repository), "R") for each in messages])
    assert answers == [answers[0]] * 4


async def test_no_supplier_no_question(private_world: World) -> None:
    """Pushed content was supplied by no registry: nobody's yes opens it."""
    world = private_world
    digest = await hold(world, DATA, (OWN, Proof.PUSHED))
    with pytest.raises(BlobUnknown):
        await opened_as(world, ALPINE, digest)
    assert "size anonymous" not in asked(world)


# --- private content --------------------------------------------------------------------------------------


async def test_private_content_is_for_the_trusted(private_world: World) -> None:
    world = private_world
    digest = world.hub.add(ALPINE, DATA)
    world.hub.private.add(ALPINE)
    with pytest.raises(BlobUnknown):
        await opened_as(world, ALPINE, digest, STRANGER)
    assert asked(world) == ["open anonymous"]  # for a stranger nothing is asked with credentials
    assert await world.pull(ALPINE, digest) == DATA
    await world.idle()
    assert (await world.catalog.repository(ALPINE)).visibility is Visibility.PRIVATE
    assert await opened_as(world, ALPINE, digest, LOOPBACK) is Cache.HIT
    for _ in range(2):
        with pytest.raises(BlobUnknown):
            await opened_as(world, ALPINE, digest, STRANGER)
        with pytest.raises(BlobUnknown):
            await world.content.stat(STRANGER, ALPINE, digest)
        world.clock.advance(NEGATIVE_SECONDS)


async def test_shared_private_content_is_for_everybody() -> None:
    world = World(credentials=["docker.io"], shared=lambda repository: repository == ALPINE)
    digest = world.hub.add(ALPINE, DATA)
    world.hub.private.add(ALPINE)
    assert await opened_as(world, ALPINE, digest, STRANGER) is Cache.MISS
    await world.idle()
    assert await opened_as(world, ALPINE, digest, STRANGER) is Cache.HIT


async def test_private_content_that_flies_is_not_joined_by_a_stranger(private_world: World) -> None:
    world = private_world
    digest = world.hub.add(ALPINE, BIG)
    world.hub.private.add(ALPINE)
    gate = Gate()
    world.hub.credentialed.bodies.append(Body([100_000, gate]))
    async with world.content.open(LOOPBACK, ALPINE, digest, CLIENT) as blob:
        await gate.reached.wait()
        for repository in (ALPINE, NGINX):
            with pytest.raises(BlobUnknown):
                await opened_as(world, repository, digest, STRANGER)
        gate.release()
        async with blob.reader(ALPINE, 0, blob.size) as reader:
            assert await read(reader, 0, blob.size) == BIG


async def test_what_became_private_stays_as_public_as_it_was(private_world: World) -> None:
    world = private_world
    digest = world.hub.add(ALPINE, DATA)
    await world.pull(ALPINE, digest, STRANGER)
    await world.idle()
    world.hub.private.add(ALPINE)
    newer = world.hub.add(ALPINE, BIG)
    assert await world.pull(ALPINE, newer, LOOPBACK) == BIG
    await world.idle()
    assert await opened_as(world, ALPINE, digest, STRANGER) is Cache.HIT
    with pytest.raises(BlobUnknown):
        await opened_as(world, ALPINE, newer, STRANGER)


async def test_private_content_goes_dark_when_nobody_confirms_it(private_world: World) -> None:
    world = private_world
    digest = await hold(world, DATA, (ALPINE, Proof.CREDENTIALS))
    world.hub.anonymous.down(unreachable())
    world.hub.credentialed.down(unreachable())
    world.clock.advance(world.policy.private_stale)
    assert await opened_as(world, ALPINE, digest) is Cache.HIT
    world.clock.advance(1)
    with pytest.raises(UpstreamUnreachable):
        await opened_as(world, ALPINE, digest)
    world.hub.credentialed.down(None)
    world.hub.add(ALPINE, DATA)
    assert await opened_as(world, ALPINE, digest) is Cache.HIT  # one HEAD, and it is confirmed anew


async def test_private_layers_stay_as_long_as_their_repository_is_confirmed(private_world: World) -> None:
    """A client that has the layers asks for the tag alone. Breaks if only a layer's own HEAD renews it."""
    world = private_world
    digest = await hold(world, DATA, (ALPINE, Proof.CREDENTIALS))
    world.clock.advance(world.policy.private_stale)
    await world.catalog.set_visibility(ALPINE, Visibility.PRIVATE, world.clock.wall())  # as its tag's HEAD does
    world.hub.anonymous.down(unreachable())
    world.hub.credentialed.down(unreachable())
    world.clock.advance(world.policy.private_stale)
    assert await opened_as(world, ALPINE, digest) is Cache.HIT
    with pytest.raises(MirrorError):
        await opened_as(world, ALPINE, digest, STRANGER)
    with pytest.raises(MirrorError):
        await opened_as(world, NGINX, digest)
    world.clock.advance(1)
    with pytest.raises(UpstreamUnreachable):
        await opened_as(world, ALPINE, digest)


async def test_no_blob_in_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if each source and each question has a limit of its own and no limit is put on them together."""
    monkeypatch.setattr(proofs_module, "ANSWER_WITHIN", 0.01)
    digest = world.hub.add(ALPINE, DATA)
    world.hub.anonymous.script("open", Gate())
    with pytest.raises(UpstreamUnreachable, match="in time"):
        await opened_as(world, ALPINE, digest)
    world.hub.anonymous.script("size", Gate())
    with pytest.raises(UpstreamUnreachable, match="in time"):
        await world.content.stat(LOOPBACK, ALPINE, digest)


async def test_a_proof_that_cannot_be_written_down_is_a_proof(
    private_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = private_world
    digest = await hold(world, DATA, (ALPINE, Proof.CREDENTIALS))
    world.hub.add(NGINX, DATA)

    async def full(*_: object, **__: object) -> bool:
        raise NoRoom("the disk is full")

    monkeypatch.setattr(world.catalog, "link", full)
    assert await opened_as(world, NGINX, digest) is Cache.HIT


async def test_a_rotten_file_that_cannot_be_written_down_is_fetched_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = world.hub.add(ALPINE, DATA)
    await world.catalog.hold(digest, len(DATA), "nowhere", [(ALPINE, Proof.ANONYMOUS)], world.clock.wall())

    async def full(*_: object, **__: object) -> None:
        raise NoRoom("the disk is full")

    monkeypatch.setattr(world.catalog, "quarantine", full)
    assert await world.pull(ALPINE, digest, LOOPBACK) == DATA


# --- ranges -----------------------------------------------------------------------------------------------


async def test_a_range_within_reach_follows_and_one_beyond_goes_through(world: World) -> None:
    digest = world.hub.add(ALPINE, BIG)
    gate = Gate()
    world.hub.anonymous.bodies.append(Body([100_000, gate]))
    async with world.content.open(LOOPBACK, ALPINE, digest, CLIENT) as blob:
        flight = world.flights.flying(digest, world.hub.anonymous)
        assert flight is not None
        await settled(lambda: flight.available == 100_000)
        async with blob.reader(ALPINE, 50_000, 60_000) as reader:
            assert await read(reader, 50_000, 60_000) == BIG[50_000:60_000]
        async with blob.reader(ALPINE, 690_000, 700_000) as reader:
            assert await read(reader, 690_000, 700_000) == BIG[690_000:]
        assert world.hub.anonymous.asked[-1].endswith("690000-700000")
        gate.release()
    await world.idle()
    assert world.hub.anonymous.count("open") == 2


async def test_a_held_range(world: World) -> None:
    digest = await hold(world, DATA, (ALPINE, Proof.ANONYMOUS))
    async with world.content.open(LOOPBACK, ALPINE, digest, CLIENT) as blob, blob.reader(ALPINE, 10, 20) as reader:
        assert await read(reader, 10, 20) == DATA[10:20]


async def test_it_landed_while_the_right_was_asked_for(world: World) -> None:
    digest = world.hub.add(ALPINE, BIG)
    world.hub.add(NGINX, BIG)
    flying, proving = Gate(), Gate()
    world.hub.anonymous.bodies.append(Body([flying]))
    world.hub.anonymous.script("size", proving)
    async with world.content.open(LOOPBACK, ALPINE, digest, CLIENT):
        second = world.tasks.spawn("second", world.pull(NGINX, digest))
        await proving.reached.wait()
        flying.release()
        await settled(lambda: len(world.flights) == 0)
        proving.release()
        assert await second == BIG
    assert world.hub.anonymous.count("open") == 1


async def test_the_reason_is_kept_for_the_log(world: World) -> None:
    with pytest.raises(BlobUnknown) as caught:
        await opened_as(world, ALPINE, Digest.of(DATA))
    assert isinstance(caught.value.__cause__, UpstreamGone)


# --- between held and flying ------------------------------------------------------------------------------


async def look_land_ask(world: World, monkeypatch: pytest.MonkeyPatch, digest: Digest, who: Principal) -> Cache:
    """`who` reads in the catalog that nothing is held; then somebody else's download lands; then he goes on."""
    holding, late, gate = world.catalog.holding, [True], Gate()

    async def slow(repository: Repository, digest: Digest, *, is_manifest: bool) -> Holding | None:
        answer = await holding(repository, digest, is_manifest=is_manifest)
        if late:
            late.clear()
            await gate.wait()
        return answer

    monkeypatch.setattr(world.catalog, "holding", slow)
    asking = Tasks().spawn("asking", opened_as(world, ALPINE, digest, who))
    await gate.reached.wait()
    assert await world.pull(ALPINE, digest, LOOPBACK) == DATA
    await world.idle()
    world.clock.advance(NEGATIVE_SECONDS)  # the registry's "no" to the other is forgotten
    gate.release()
    return await asking


async def test_what_lands_between_two_looks_is_not_fetched_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalog's answer may be older than the landing. Breaks if whoever finds no flight then begins one."""
    digest = world.hub.add(ALPINE, DATA)
    assert await look_land_ask(world, monkeypatch, digest, LOOPBACK) is Cache.HIT
    assert asked(world) == ["open anonymous"]


async def test_what_landed_for_the_trusted_says_nothing_about_strangers(
    private_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if a landing counts as an answer of the registry to whoever asks without credentials."""
    world = private_world
    digest = world.hub.add(ALPINE, DATA)
    world.hub.private.add(ALPINE)
    with pytest.raises(BlobUnknown):
        await look_land_ask(world, monkeypatch, digest, STRANGER)
    assert (await world.catalog.repository(ALPINE)).visibility is Visibility.PRIVATE

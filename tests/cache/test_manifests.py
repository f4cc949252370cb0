"""Manifests by digest: where they are linked, else after one HEAD of that very repository (design.md §4)."""

import asyncio

import pytest

from mirror.cache import proofs as proofs_module
from mirror.cache.content import Cache
from mirror.cache.manifests import Answer
from mirror.cache.rights import LOOPBACK, STRANGER, Principal
from mirror.errors import (
    BlobUnknown,
    ManifestUnknown,
    Offline,
    StoreFailed,
    UpstreamDigestMismatch,
    UpstreamInvalid,
    UpstreamUnreachable,
)
from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest
from mirror.oci.names import Reference, Repository
from mirror.store.protocols import Proof, Visibility
from mirror.upstream.protocols import Fetched
from tests.cache.scripted import Gate, ScriptedSource, limited, unreachable
from tests.cache.support import World
from tests.store.samples import ALPINE, NGINX, OWN, TOOL, image, index

IMAGE = image("one", "two")
DIGEST = IMAGE.descriptor.digest
BIG = index([image(f"layer {number}") for number in range(600)])


async def by_digest(
    world: World, repository: Repository = ALPINE, who: Principal = LOOPBACK, digest: Digest = DIGEST
) -> Answer:
    return await world.manifests.by_digest(who, repository, digest)


async def hold(world: World, repository: Repository, proof: Proof, manifest: Manifest = IMAGE) -> None:
    location = await world.store.put(manifest.raw, manifest.descriptor.digest)
    await world.catalog.hold_manifest(repository, manifest, location, proof, world.clock.wall())


def asked(source: ScriptedSource) -> list[str]:
    return [line.split()[0] for line in source.asked]


# --- once -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("manifest", [IMAGE, BIG], ids=["small", "parsed in a thread"])
async def test_fetched_once_and_never_asked_for_again(world: World, manifest: Manifest) -> None:
    digest = world.hub.push(ALPINE, manifest)
    answer = await by_digest(world, digest=digest)
    assert (answer.cache, answer.warning, answer.kept.manifest) == (Cache.MISS, None, manifest)
    world.hub.anonymous.down(unreachable())
    for _ in range(2):
        for who in (STRANGER, LOOPBACK):
            remembered = world.manifests.remembered(who, ALPINE, digest)
            assert remembered is not None
            assert (remembered.cache, remembered.kept.manifest) == (Cache.HIT, manifest)
            assert (await by_digest(world, who=who, digest=digest)).cache is Cache.HIT
        world.clock.advance(30 * 86400)
        world.restart()
        assert world.manifests.remembered(LOOPBACK, ALPINE, digest) is None
        assert (await by_digest(world, digest=digest)).kept.manifest.raw == manifest.raw
    assert asked(world.hub.anonymous) == ["manifest"]


async def test_many_at_once_are_one_request(world: World) -> None:
    world.hub.push(ALPINE, IMAGE)
    gate = Gate()
    world.hub.anonymous.script("manifest", gate)
    asking = [world.tasks.spawn("ask", by_digest(world)) for _ in range(5)]
    await gate.reached.wait()
    gate.release()
    assert {(await each).kept.manifest for each in asking} == {IMAGE}
    assert asked(world.hub.anonymous) == ["manifest"]


async def test_a_client_that_leaves_cancels_nothing(world: World) -> None:
    world.hub.push(ALPINE, IMAGE)
    gate = Gate()
    world.hub.anonymous.script("manifest", gate)
    leaving = world.tasks.spawn("leave", by_digest(world))
    await gate.reached.wait()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    gate.release()
    await world.idle()
    assert world.manifests.remembered(LOOPBACK, ALPINE, DIGEST) is not None


async def test_unknown(world: World) -> None:
    with pytest.raises(ManifestUnknown):
        await by_digest(world)
    world.hub.push(ALPINE, IMAGE)
    with pytest.raises(ManifestUnknown):
        await by_digest(world)  # believed for a moment
    world.clock.advance(10)
    assert (await by_digest(world)).cache is Cache.MISS


async def test_a_blob_question_does_not_answer_the_manifest_question(world: World) -> None:
    """containerd asks for a digest as a blob first, then as a manifest."""
    world.hub.push(ALPINE, IMAGE)
    with pytest.raises(BlobUnknown):
        await world.content.stat(LOOPBACK, ALPINE, DIGEST)
    assert (await by_digest(world)).cache is Cache.MISS


@pytest.mark.parametrize("error", [unreachable(), limited()])
async def test_no_answer_is_told_as_it_is(world: World, error: UpstreamUnreachable) -> None:
    world.hub.push(ALPINE, IMAGE)
    world.hub.anonymous.script("manifest", error)
    with pytest.raises(type(error)):
        await by_digest(world)
    assert (await by_digest(world)).cache is Cache.MISS


async def test_offline(world: World) -> None:
    await hold(world, ALPINE, Proof.ANONYMOUS)
    world.policy.offline = True
    assert (await by_digest(world)).cache is Cache.HIT
    with pytest.raises(Offline):
        await by_digest(world, NGINX)


# --- what comes is verified -------------------------------------------------------------------------------


class Lying(ScriptedSource):
    """Sends these bytes for everything, with the digest that was asked for in the header."""

    raw = b""

    async def manifest(self, reference: Reference) -> Fetched:
        await super().manifest(reference)
        return Fetched(self.raw, IMAGE.descriptor.media_type, reference.digest)


@pytest.mark.parametrize("raw", [image("another").raw, IMAGE.raw + b" ", b"", b"<html>"])
async def test_the_digest_decides_not_the_header(world: World, raw: bytes) -> None:
    world.hub.push(ALPINE, IMAGE)
    world.hub.anonymous = lying = Lying(world.hub, anonymous=True)
    lying.raw = raw
    with pytest.raises(UpstreamDigestMismatch):
        await by_digest(world)
    assert world.store.blobs == {}


async def test_what_is_no_manifest_is_not_kept(world: World) -> None:
    raw = b'{"schemaVersion": 2}'
    digest = Digest.of(raw)
    world.hub.manifests[ALPINE, digest] = IMAGE
    world.hub.anonymous = lying = Lying(world.hub, anonymous=True)
    lying.raw = raw
    with pytest.raises(UpstreamInvalid):
        await by_digest(world, digest=digest)
    assert world.store.blobs == {}


async def test_rotten_bytes_are_fetched_anew(world: World) -> None:
    await hold(world, ALPINE, Proof.ANONYMOUS)
    world.hub.push(ALPINE, IMAGE)
    [location] = world.store.blobs
    world.store.blobs[location] = IMAGE.raw[:-1] + b"?"
    assert (await by_digest(world)).cache is Cache.MISS
    world.restart()
    assert (await by_digest(world)).kept.manifest == IMAGE


async def test_a_disk_that_refuses_is_no_reason_not_to_serve(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> str:
        raise StoreFailed("no")

    monkeypatch.setattr(world.store, "put", refuse)
    world.hub.push(ALPINE, IMAGE)
    assert (await by_digest(world)).cache is Cache.MISS
    assert (await by_digest(world)).cache is Cache.HIT  # from memory
    assert await world.catalog.holding(ALPINE, DIGEST, is_manifest=True) is None


# --- another repository -----------------------------------------------------------------------------------


@pytest.mark.parametrize("proof", [Proof.ANONYMOUS, Proof.CREDENTIALS])
async def test_a_held_manifest_needs_one_head_of_that_very_repository(world: World, proof: Proof) -> None:
    await hold(world, ALPINE, proof)
    world.hub.push(NGINX, IMAGE)
    assert (await by_digest(world, NGINX, STRANGER)).cache is Cache.MISS
    assert asked(world.hub.anonymous) == ["head"]
    assert (await by_digest(world, NGINX, STRANGER)).cache is Cache.HIT
    holding = await world.catalog.holding(NGINX, DIGEST, is_manifest=True)
    assert holding is not None
    assert holding.link is not None
    assert holding.link.anonymous_at == world.clock.wall()


async def test_a_repository_that_does_not_have_it_does_not_vouch_for_it(world: World) -> None:
    await hold(world, ALPINE, Proof.ANONYMOUS)
    with pytest.raises(ManifestUnknown):
        await by_digest(world, NGINX)
    with pytest.raises(ManifestUnknown):
        await by_digest(world, TOOL)
    assert asked(world.hub.anonymous) == ["head"]


@pytest.mark.parametrize("offline", [False, True])
async def test_what_an_index_names_and_anybody_may_read_needs_no_answer(world: World, offline: bool) -> None:
    """docker had the image under another name, and never asked for it under this one. Breaks where only the registry
    vouches: the index is served in an outage, and its image is not."""
    await hold(world, NGINX, Proof.ANONYMOUS)
    world.hub.anonymous.down(unreachable())
    world.policy.offline = offline
    with pytest.raises(Offline if offline else UpstreamUnreachable):
        await by_digest(world)  # nothing here names it
    await hold(world, ALPINE, Proof.ANONYMOUS, index([IMAGE]))
    for who in (STRANGER, LOOPBACK):
        answer = await by_digest(world, who=who)
        assert (answer.cache, answer.kept.manifest) == (Cache.HIT, IMAGE)
    with pytest.raises(Offline if offline else UpstreamUnreachable):
        await by_digest(world, Repository("docker.io", "library/other"))


async def test_nor_does_it_show_what_is_private(private_world: World) -> None:
    """Breaks where an index vouches for what only credentials read, or a private repository tells what it holds."""
    world = private_world
    world.policy.offline = True
    await hold(world, ALPINE, Proof.CREDENTIALS)
    await hold(world, NGINX, Proof.ANONYMOUS, index([IMAGE]))
    await world.catalog.set_visibility(NGINX, Visibility.PUBLIC, world.clock.wall())
    for who in (STRANGER, LOOPBACK):
        with pytest.raises(Offline):
            await by_digest(world, NGINX, who)
    await hold(world, ALPINE, Proof.ANONYMOUS)
    assert (await by_digest(world, NGINX, STRANGER)).kept.manifest == IMAGE
    await world.catalog.set_visibility(NGINX, Visibility.PRIVATE, world.clock.wall())
    with pytest.raises(Offline):
        await by_digest(world, NGINX, STRANGER)
    assert (await by_digest(world, NGINX)).kept.manifest == IMAGE


async def test_nor_tell_what_an_index_names_that_only_credentials_read(private_world: World) -> None:
    """Breaks where any index vouches: hit or miss would tell a stranger what it names."""
    world = private_world
    world.policy.offline = True
    await hold(world, ALPINE, Proof.ANONYMOUS)
    await hold(world, NGINX, Proof.CREDENTIALS, index([IMAGE]))
    await world.catalog.set_visibility(NGINX, Visibility.PUBLIC, world.clock.wall())
    with pytest.raises(Offline):
        await by_digest(world, NGINX, STRANGER)
    assert (await by_digest(world, NGINX)).kept.manifest == IMAGE


async def test_a_registry_that_says_nothing_gives_no_answer_either(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proofs_module, "ANSWER_WITHIN", 0.01)
    await hold(world, NGINX, Proof.ANONYMOUS)
    await hold(world, ALPINE, Proof.ANONYMOUS, index([IMAGE]))
    gate = Gate()
    world.hub.anonymous.script("head", gate)
    assert (await by_digest(world)).kept.manifest == IMAGE
    gate.release()


async def test_a_registry_that_supplied_nothing_must_send_the_bytes(world: World) -> None:
    await hold(world, OWN, Proof.PUSHED)
    world.other.push(TOOL, IMAGE)
    assert (await by_digest(world, TOOL)).cache is Cache.MISS
    assert asked(world.other.anonymous) == ["manifest"]


async def test_a_head_that_does_not_tell(world: World) -> None:
    await hold(world, ALPINE, Proof.ANONYMOUS)
    world.hub.push(NGINX, IMAGE)
    world.hub.anonymous.tells = False
    assert (await by_digest(world, NGINX)).cache is Cache.MISS
    assert asked(world.hub.anonymous) == ["head", "manifest"]


# --- private ----------------------------------------------------------------------------------------------


async def test_private_manifests_are_for_the_trusted(private_world: World) -> None:
    world = private_world
    world.hub.push(ALPINE, IMAGE)
    world.hub.private.add(ALPINE)
    with pytest.raises(ManifestUnknown) as unknown:
        await by_digest(world, who=STRANGER)
    assert asked(world.hub.credentialed) == []
    assert (await by_digest(world, who=LOOPBACK)).cache is Cache.MISS
    assert (await by_digest(world, who=LOOPBACK)).cache is Cache.HIT
    for _ in range(2):
        assert world.manifests.remembered(STRANGER, ALPINE, DIGEST) is None
        with pytest.raises(ManifestUnknown) as private:
            await by_digest(world, who=STRANGER)
        assert private.value.message == unknown.value.message
        world.clock.advance(11)
        world.restart()


async def test_trusted_and_strangers_do_not_share_a_question(private_world: World) -> None:
    world = private_world
    world.hub.push(ALPINE, IMAGE)
    world.hub.private.add(ALPINE)
    gate = Gate()
    world.hub.credentialed.script("manifest", gate)
    trusted = world.tasks.spawn("trusted", by_digest(world, who=LOOPBACK))
    await gate.reached.wait()
    with pytest.raises(ManifestUnknown):
        await by_digest(world, who=STRANGER)
    gate.release()
    assert (await trusted).cache is Cache.MISS


async def test_a_public_manifest_is_fetched_on_the_credentials_limit(private_world: World) -> None:
    world = private_world
    world.hub.push(ALPINE, IMAGE)
    assert (await by_digest(world)).cache is Cache.MISS
    assert (asked(world.hub.anonymous), asked(world.hub.credentialed)) == (["head"], ["manifest"])
    assert (await by_digest(world, who=STRANGER)).cache is Cache.HIT


async def test_a_head_that_does_not_tell_proves_nothing(private_world: World) -> None:
    """Then the answer without credentials is the proof, and is paid for without them."""
    world = private_world
    world.hub.push(ALPINE, IMAGE)
    world.hub.anonymous.tells = False
    assert (await by_digest(world, who=STRANGER)).cache is Cache.MISS
    assert (asked(world.hub.anonymous), asked(world.hub.credentialed)) == (["head", "manifest"], [])


async def test_a_proof_that_cannot_be_written_down(private_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world = private_world

    async def refuse(*_: object, **__: object) -> bool:
        raise StoreFailed("no")

    monkeypatch.setattr(world.catalog, "link", refuse)
    await hold(world, ALPINE, Proof.CREDENTIALS)
    world.hub.push(NGINX, IMAGE)
    assert (await by_digest(world, NGINX, STRANGER)).kept.manifest == IMAGE


async def test_or_on_nobodys_where_they_are_refused(private_world: World) -> None:
    world = private_world
    world.hub.push(ALPINE, IMAGE)
    world.hub.credentialed.down(limited())
    assert (await by_digest(world, who=STRANGER)).cache is Cache.MISS
    assert asked(world.hub.anonymous) == ["head", "manifest"]


async def test_private_and_unconfirmed_for_too_long(private_world: World) -> None:
    world = private_world
    await hold(world, ALPINE, Proof.CREDENTIALS)
    assert (await by_digest(world)).cache is Cache.HIT
    world.hub.anonymous.down(unreachable())
    world.hub.credentialed.down(unreachable())
    world.clock.advance(world.policy.private_stale + 1)
    with pytest.raises(UpstreamUnreachable):
        await by_digest(world)
    world.hub.credentialed.down(None)
    world.hub.push(ALPINE, IMAGE)
    assert (await by_digest(world)).cache is Cache.MISS
    assert (await by_digest(world)).cache is Cache.HIT


# --- memory -----------------------------------------------------------------------------------------------


async def test_what_changed_while_it_was_read_is_not_remembered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await hold(world, ALPINE, Proof.CREDENTIALS)
    world.hub.push(ALPINE, IMAGE)
    gate, read = Gate(), world.store.read

    async def slow(digest: Digest, location: str, size: int) -> bytes:
        data = await read(digest, location, size)
        await gate.wait()
        return data

    monkeypatch.setattr(world.store, "read", slow)
    reading = world.tasks.spawn("read", world.manifests.held(ALPINE, DIGEST))
    await gate.reached.wait()
    await world.manifests.keep(ALPINE, image("something else"), Proof.ANONYMOUS)
    gate.release()
    assert await reading is not None
    assert (ALPINE, DIGEST) not in world.manifests._recent._entries


async def test_confirming_adds_a_proof_and_takes_none_away(world: World) -> None:
    await hold(world, ALPINE, Proof.CREDENTIALS)
    kept = await world.manifests.held(ALPINE, DIGEST)
    assert kept is not None
    world.clock.advance(5)
    both = await world.manifests.confirm(ALPINE, kept, Proof.ANONYMOUS)
    assert (both.link.anonymous_at, both.link.credentials_at) == (world.clock.wall(), world.clock.wall() - 5)
    world.clock.advance(5)
    assert await world.manifests.confirm(ALPINE, both, Proof.ANONYMOUS) is both  # once public, always public
    holding = await world.catalog.holding(ALPINE, DIGEST, is_manifest=True)
    assert holding is not None
    assert holding.link == both.link


# --- forgetting -------------------------------------------------------------------------------------------


async def test_what_is_forgotten_is_looked_up_again(world: World) -> None:
    await hold(world, OWN, Proof.PUSHED)
    await by_digest(world, OWN)
    await world.catalog.remove_manifest(OWN, DIGEST, 1, "me")
    assert world.manifests.remembered(STRANGER, OWN, DIGEST) is not None
    world.manifests.forget(OWN, DIGEST)
    assert world.manifests.remembered(STRANGER, OWN, DIGEST) is None
    with pytest.raises(ManifestUnknown):
        await by_digest(world, OWN)


@pytest.mark.parametrize("method", ["hold_manifest", "link"])
async def test_what_is_forgotten_while_it_is_written_down_is_not_remembered(
    world: World, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """The one who wrote it down goes on after the one who removed it. Breaks without `Manifests._forgets`: the manifest
    is served from memory, and linked nowhere."""
    if method == "link":
        await hold(world, NGINX, Proof.ANONYMOUS)
    world.hub.push(ALPINE, IMAGE)
    write = getattr(world.catalog, method)

    async def written_and_removed(*args: object, **more: object) -> object:
        outcome = await write(*args, **more)
        await world.catalog.remove_manifest(ALPINE, DIGEST, 1, "me")
        world.manifests.forget(ALPINE, DIGEST)
        return outcome

    monkeypatch.setattr(world.catalog, method, written_and_removed)
    await by_digest(world)
    assert world.manifests.remembered(LOOPBACK, ALPINE, DIGEST) is None

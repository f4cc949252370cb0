"""Manifests that clients put here: what they may name, what becomes of them, and what is taken away."""

import asyncio
import json

import pytest

from mirror.cache.policy import PushMode
from mirror.cache.rights import LOOPBACK, SOCKET, STRANGER, Principal, Rights, Role
from mirror.errors import (
    BlobUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    StoreFailed,
    Unsupported,
    UpstreamRefused,
    UpstreamUnreachable,
)
from mirror.oci.digest import Digest
from mirror.oci.manifest import DOCKER_FOREIGN_LAYER, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Manifest
from mirror.oci.names import LOCAL, Repository
from mirror.store.protocols import Origin, Proof
from tests.cache.pushing import Desk
from tests.cache.scripted import Gate, unreachable
from tests.cache.support import nobody, settled
from tests.store.samples import ALPINE, CONFIG, OWN, TOOL, digest_of, image, index
from tests.store.suites_collection import linked

A = digest_of("a")
IMAGE = image("a")
DIGEST = IMAGE.descriptor.digest
OTHER = Repository(LOCAL, "team/other")
CONFIG_DIGEST = Digest.of(CONFIG)


@pytest.fixture
async def desk() -> Desk:
    return Desk()


async def got(
    desk: Desk, reference: str | Digest, home: Repository = OWN, principal: Principal = LOOPBACK
) -> bytes | None:
    """What a pull finds."""
    try:
        if isinstance(reference, str):
            return (await desk.tags.by_tag(principal, home, reference)).kept.manifest.raw
        return (await desk.manifests.by_digest(principal, home, reference)).kept.manifest.raw
    except ManifestUnknown:
        return None


# --- what may be named ---------------------------------------------------------------------------------------


async def test_children_that_are_linked(desk: Desk) -> None:
    await desk.blob("a")
    assert (await desk.manifest(IMAGE)).descriptor == IMAGE.descriptor
    assert await got(desk, "1") == await got(desk, DIGEST) == IMAGE.raw
    assert desk.forward.sent == []
    assert desk.forward.woken == 0


async def test_children_that_are_elsewhere(desk: Desk) -> None:
    await desk.blob("a", home=OTHER)
    for data in (CONFIG,):
        await desk.uploads.put(OWN, Digest.of(data), data)
    with pytest.raises(ManifestBlobUnknown) as error:
        await desk.manifest(IMAGE)
    assert error.value.detail == {"digest": str(A)}
    assert str(A) in error.value.message
    assert await got(desk, "1") is None
    assert f"memory/{DIGEST}" not in desk.store.blobs


async def test_a_blob_that_is_public_is_adopted_by_an_own_name(desk: Desk) -> None:
    desk.hub.add(ALPINE, b"a")
    await desk.pull(ALPINE, A)
    await desk.uploads.put(OWN, CONFIG_DIGEST, CONFIG)
    await desk.manifest(IMAGE)
    assert await desk.pull(OWN, A) == b"a"
    assert await linked(desk.catalog, OWN, A, is_manifest=False) is not None
    await desk.tasks.drain(0)


async def test_a_blob_that_is_private_is_adopted_by_nobody() -> None:
    """Breaks if anybody who knows the digest of a private layer gets it by naming it (zot CVE-2024-39897)."""
    desk = Desk(credentials=["docker.io"])
    desk.hub.private.add(ALPINE)
    desk.hub.add(ALPINE, b"a")
    await desk.pull(ALPINE, A)
    await desk.uploads.put(OWN, CONFIG_DIGEST, CONFIG)
    for principal in (LOOPBACK, SOCKET, Principal(Role.USER, "me")):
        with pytest.raises(ManifestBlobUnknown):
            await desk.manifest(IMAGE, principal=principal)
    assert await desk.pushes.mount(LOOPBACK, OWN, A, ALPINE)  # who may read it brings it
    await desk.manifest(IMAGE)
    await desk.tasks.drain(0)


async def test_a_public_manifest_is_not_adopted(desk: Desk) -> None:
    desk.hub.push(ALPINE, IMAGE, "3")
    await got(desk, "3", ALPINE)
    with pytest.raises(ManifestBlobUnknown):
        await desk.manifest(index([IMAGE]))
    await desk.tasks.drain(0)


async def test_under_a_registrys_name_its_word_counts(desk: Desk) -> None:
    desk.other.add(TOOL, b"a")
    await desk.blob(home=TOOL)
    await desk.manifest(IMAGE, home=TOOL)
    assert desk.other.anonymous.count("size") == 1
    assert desk.other.anonymous.count("open") == 0
    elsewhere = Repository("ghcr.io", "team/else")
    await desk.blob(home=elsewhere)
    with pytest.raises(ManifestBlobUnknown):
        await desk.manifest(IMAGE, home=elsewhere)
    desk.other.push(TOOL, IMAGE)
    await desk.manifest(index([IMAGE]), home=TOOL)
    with pytest.raises(ManifestBlobUnknown):
        await desk.manifest(index([image("b")]), home=TOOL)


async def test_a_registry_that_does_not_answer_is_no_no(desk: Desk) -> None:
    await desk.blob(home=TOOL)
    desk.other.anonymous.down(unreachable("ghcr.io"))
    with pytest.raises(UpstreamUnreachable):
        await desk.manifest(IMAGE, home=TOOL)
    desk.policy.offline = True  # nobody is to be asked: what is not here is not there
    with pytest.raises(ManifestBlobUnknown):
        await desk.manifest(IMAGE, home=TOOL)
    with pytest.raises(ManifestBlobUnknown):
        await desk.manifest(index([IMAGE]), home=TOOL)


async def test_a_link_that_he_may_not_see_shows_nothing() -> None:
    """A stranger with a right to push, to a repository whose private layers are here."""
    desk = Desk(credentials=["ghcr.io"])
    desk.other.private.add(TOOL)
    for data in (b"a", CONFIG):
        desk.other.add(TOOL, data)
        await desk.pull(TOOL, Digest.of(data))
    with pytest.raises(ManifestBlobUnknown):
        await desk.manifest(IMAGE, home=TOOL, principal=Principal(Role.USER, "me"))
    await desk.manifest(IMAGE, home=TOOL)
    await desk.tasks.drain(0)


async def test_foreign_layers_and_a_subject_are_exempt(desk: Desk) -> None:
    await desk.blob()
    foreign = {"mediaType": DOCKER_FOREIGN_LAYER, "digest": str(A), "size": 1}
    body = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": str(CONFIG_DIGEST), "size": len(CONFIG)},
        "layers": [foreign],
        "subject": {"mediaType": OCI_MANIFEST, "digest": str(digest_of("nobody")), "size": 1},
    }
    await desk.manifest(Manifest.parse(json.dumps(body).encode()))
    found = await desk.listings.referrers(LOOPBACK, OWN, digest_of("nobody"))
    assert len(found) == 1


async def test_children_of_an_index_that_are_blobs(desk: Desk) -> None:
    await desk.blob("a")
    child = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": str(A), "size": 1}
    raw = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child]}).encode()
    await desk.manifest(Manifest.parse(raw), "cache")
    assert await got(desk, "cache") == raw


async def test_a_child_that_goes_meanwhile_is_missed_in_the_end(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if what was looked at before is believed: a 201 for an image without a layer."""
    await desk.blob("a")
    put = desk.store.put

    async def slowly(data: bytes, digest: Digest) -> str:
        await desk.catalog.drop_blob(OWN, A)
        return await put(data, digest)

    monkeypatch.setattr(desk.store, "put", slowly)
    with pytest.raises(ManifestBlobUnknown):
        await desk.manifest(IMAGE)
    assert await got(desk, "1") is None


async def test_children_are_not_collected_meanwhile(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if nobody leases them from the first look to the commit."""
    await desk.blob("a")
    put = desk.store.put

    async def slowly(data: bytes, digest: Digest) -> str:
        assert desk.leases.take([A, CONFIG_DIGEST, digest]) == []
        return await put(data, digest)

    monkeypatch.setattr(desk.store, "put", slowly)
    await desk.manifest(IMAGE)
    assert desk.leases._held == {}


# --- what is put ---------------------------------------------------------------------------------------------


async def test_by_digest_with_tags(desk: Desk) -> None:
    await desk.blob("a")
    for algorithm in ("sha256", "sha512"):
        digest = Digest.of(IMAGE.raw, algorithm)
        put = desk.pushes.put(LOOPBACK, OWN, IMAGE.raw, declared=None, reference=digest, tags=["x", "y", "x"])
        assert (await put).descriptor.digest == digest
        assert await desk.catalog.tags(OWN) == ["x", "y"]
        assert await got(desk, digest) == await got(desk, "x") == IMAGE.raw
    with pytest.raises(DigestInvalid):
        await desk.pushes.put(LOOPBACK, OWN, IMAGE.raw, declared=None, reference=A)
    with pytest.raises(ManifestInvalid):
        await desk.pushes.put(LOOPBACK, OWN, IMAGE.raw, declared=OCI_INDEX, reference="z")


async def test_a_large_manifest_is_read_beside_the_loop(desk: Desk) -> None:
    await desk.blob("a")
    large = image("a", note="x" * 100_000)
    await desk.manifest(large)
    assert await got(desk, "1") == large.raw


async def test_what_was_remembered_is_forgotten(desk: Desk) -> None:
    await desk.blob("a", "b")
    for each in (IMAGE, image("b"), IMAGE):
        await desk.manifest(each)
        assert await got(desk, "1") == each.raw
    assert "team/app" in desk.own


async def test_a_client_that_leaves_at_the_end_changes_nothing(desk: Desk) -> None:
    """Breaks if memory is told by the request: the old manifest would go on being served."""
    await desk.blob("a", "b")
    await desk.manifest(image("b"))
    assert await got(desk, "1") == image("b").raw
    desk.leases.take([DIGEST])
    request = asyncio.get_running_loop().create_task(desk.manifest(IMAGE))
    await settled(lambda: len(desk.tasks) > 0)
    request.cancel()
    await asyncio.wait([request])
    desk.own._paths.clear()
    desk.leases.give_back([DIGEST])
    await desk.idle()
    assert await got(desk, "1") == IMAGE.raw
    assert "team/app" in desk.own


async def test_what_cannot_be_written_down_is_not_accepted(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    await desk.blob("a")

    async def refuse(*_: object) -> None:
        raise StoreFailed("injected")

    monkeypatch.setattr(desk.catalog, "push_manifest", refuse)
    with pytest.raises(StoreFailed):
        await desk.manifest(IMAGE)
    assert await got(desk, "1") is None
    assert await got(desk, DIGEST) is None


# --- under a registry's name ---------------------------------------------------------------------------------


async def test_local_stays_here(desk: Desk) -> None:
    await desk.blob("a", home=TOOL)
    await desk.manifest(IMAGE, home=TOOL)
    tag = await desk.catalog.tag(TOOL, "1")
    assert tag is not None
    assert tag.origin is Origin.LOCAL
    assert (desk.forward.sent, desk.forward.woken) == ([], 0)
    assert await desk.catalog.queued(10) == []


@pytest.mark.parametrize("known", [False, True])
async def test_a_slow_revalidation_does_not_overwrite_a_push(desk: Desk, known: bool) -> None:
    """Breaks if what upstream was asked before the push is believed after it."""
    theirs = image("b")
    desk.other.push(TOOL, theirs, "1")
    if known:
        assert await got(desk, "1", TOOL) == theirs.raw
        desk.clock.advance(3600)
    gate = Gate()
    desk.other.anonymous.script("head", gate)
    asking = desk.tasks.spawn("asking", got(desk, "1", TOOL))
    await gate.reached.wait()
    await desk.blob("a", home=TOOL)
    await desk.manifest(IMAGE, home=TOOL)
    gate.release()
    await asking
    await desk.idle()
    for _ in range(2):
        assert await got(desk, "1", TOOL) == IMAGE.raw
        desk.begin()


async def test_who_may_only_push_names_what_was_pushed() -> None:
    """Breaks if what counts as private until its registry shows it cannot be named by the user who put it there; or is
    shown to him by that."""
    desk = Desk(push=PushMode.THROUGH)
    await desk.blob("a", home=TOOL)
    me = Principal(Role.USER, "me")
    assert not desk.proofs.trusted(me, TOOL)
    await desk.manifest(IMAGE, home=TOOL, principal=me)
    assert await got(desk, DIGEST, TOOL, me) is None
    assert await got(desk, "1", TOOL, STRANGER) is None
    assert await got(desk, "1", TOOL) == IMAGE.raw
    assert await got(desk, DIGEST, TOOL, me) is None  # nor because it is remembered now
    assert not await desk.content.held(STRANGER, TOOL, A)


async def test_through_is_accepted_once_the_registry_has_it() -> None:
    desk = Desk(push=PushMode.THROUGH)
    await desk.blob("a", home=TOOL)
    desk.forward.refuses = UpstreamRefused("no", registry="ghcr.io")
    with pytest.raises(UpstreamRefused):
        await desk.manifest(IMAGE, home=TOOL)
    assert await got(desk, "1", TOOL) is None
    desk.forward.refuses = None
    await desk.manifest(IMAGE, home=TOOL)
    assert desk.forward.sent == [(TOOL, DIGEST, ("1",))]
    tag = await desk.catalog.tag(TOOL, "1")
    assert tag is not None
    assert tag.origin is Origin.UPSTREAM
    assert await desk.catalog.queued(10) == []


async def test_queue_is_accepted_at_once() -> None:
    desk = Desk(push=PushMode.QUEUE)
    desk.forward.refuses = UpstreamRefused("no", registry="ghcr.io")
    await desk.blob("a", home=TOOL)
    await desk.manifest(IMAGE, home=TOOL)
    [entry] = await desk.catalog.queued(10)
    assert (entry.repository, entry.reference, entry.target) == (TOOL, "1", "ghcr.io")
    assert (desk.forward.sent, desk.forward.woken) == ([], 1)
    assert await got(desk, "1", TOOL) == IMAGE.raw


@pytest.mark.parametrize("mode", [PushMode.THROUGH, PushMode.QUEUE])
async def test_deletions_go_where_pushes_go(mode: PushMode) -> None:
    desk = Desk(push=mode)
    await desk.blob("a", home=TOOL)
    await desk.manifest(IMAGE, "1", TOOL)
    await desk.manifest(IMAGE, "2", TOOL)
    desk.forward.refuses = UpstreamRefused("no", registry="ghcr.io")
    with pytest.raises(UpstreamRefused):
        await desk.pushes.untag(SOCKET, TOOL, "1")
    assert await got(desk, "1", TOOL) == IMAGE.raw  # nothing is taken away here that is there
    desk.forward.refuses = None
    await desk.pushes.untag(SOCKET, TOOL, "1")
    await desk.pushes.drop_manifest(SOCKET, TOOL, DIGEST)
    assert desk.forward.deleted == [(TOOL, "1"), (TOOL, DIGEST)]
    assert await desk.catalog.tags(TOOL) == []
    assert await desk.catalog.queued(10) == []


# --- mounting ------------------------------------------------------------------------------------------------


async def test_mounted_where_a_get_would_be_served(desk: Desk) -> None:
    await desk.blob("a", home=OTHER)
    assert not await desk.pushes.mount(LOOPBACK, OWN, A, Repository(LOCAL, "team/none"))
    assert not await desk.pushes.mount(LOOPBACK, OWN, digest_of("b"), OTHER)
    assert "team/app" not in desk.own
    assert await desk.pushes.mount(LOOPBACK, OWN, A, OTHER)
    assert "team/app" in desk.own
    assert await desk.pull(OWN, A) == b"a"
    assert desk.hub.anonymous.asked == []
    third = Repository(LOCAL, "team/third")
    assert await desk.pushes.mount(LOOPBACK, third, A, None)  # from wherever it is


async def test_what_he_may_not_read_is_not_mounted() -> None:
    rights = Rights(shared=nobody, private=["team/other"])
    desk = Desk(credentials=["docker.io"], rights=rights)
    desk.hub.private.add(ALPINE)
    desk.hub.add(ALPINE, b"secret")
    secret = digest_of("secret")
    await desk.pull(ALPINE, secret)
    await desk.blob("a", home=OTHER)
    for digest, source in ((secret, ALPINE), (A, OTHER)):
        for asker, expected in ((Principal(Role.USER, "me"), False), (STRANGER, False), (LOOPBACK, True)):
            home = Repository(LOCAL, f"team/{asker.actor}")
            assert await desk.pushes.mount(asker, home, digest, source) is expected
            assert await desk.pushes.mount(asker, Repository(LOCAL, "team/anywhere"), digest, None) is expected
    await desk.tasks.drain(0)


async def test_a_client_that_leaves_while_it_mounts(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if the name is told by the request: it would be unknown until a start."""
    await desk.blob("a", home=OTHER)
    link, waiting = desk.catalog.link, asyncio.Event()

    async def slowly(home: Repository, digest: Digest, proof: Proof, at: float, *, is_manifest: bool) -> bool:
        await waiting.wait()
        return await link(home, digest, proof, at, is_manifest=is_manifest)

    monkeypatch.setattr(desk.catalog, "link", slowly)
    request = asyncio.get_running_loop().create_task(desk.pushes.mount(LOOPBACK, OWN, A, OTHER))
    await settled(lambda: len(desk.tasks) > 0)
    request.cancel()
    await asyncio.wait([request])
    waiting.set()
    await desk.idle()
    assert "team/app" in desk.own


# --- taking away ---------------------------------------------------------------------------------------------


async def test_untag(desk: Desk) -> None:
    await desk.blob("a")
    for tag in ("1", "2"):
        await desk.manifest(IMAGE, tag)
        assert await got(desk, tag) == IMAGE.raw
    await desk.pushes.untag(SOCKET, OWN, "1")
    assert await got(desk, "1") is None
    assert await got(desk, "2") == await got(desk, DIGEST) == IMAGE.raw
    with pytest.raises(ManifestUnknown):
        await desk.pushes.untag(SOCKET, OWN, "1")
    assert desk.forward.deleted == []


async def test_drop_manifest(desk: Desk) -> None:
    await desk.blob("a")
    await desk.manifest(IMAGE, "1")
    await desk.manifest(IMAGE, "2")
    for reference in ("1", "2", DIGEST):
        assert await got(desk, reference) == IMAGE.raw
    await desk.pushes.drop_manifest(SOCKET, OWN, DIGEST)
    for reference in ("1", "2", DIGEST):
        assert await got(desk, reference) is None
    assert f"memory/{DIGEST}" not in desk.store.blobs
    with pytest.raises(ManifestUnknown):
        await desk.pushes.drop_manifest(SOCKET, OWN, DIGEST)


async def test_drop_blob(desk: Desk) -> None:
    await desk.blob("a")
    await desk.manifest(IMAGE)
    await desk.blob("a", home=OTHER)
    await desk.pushes.drop_blob(OWN, A)
    with pytest.raises(BlobUnknown):
        await desk.pull(OWN, A)
    assert await desk.pull(OTHER, A) == b"a"
    with pytest.raises(BlobUnknown):
        await desk.pushes.drop_blob(OWN, A)
    with pytest.raises(Unsupported):
        await desk.pushes.drop_blob(TOOL, A)
    with pytest.raises(ManifestBlobUnknown):
        await desk.manifest(IMAGE)

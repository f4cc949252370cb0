"""`rmi`: what goes, what stays, what has to be forced; and that a dry run foresees just that."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mirror.cache.content import Cache
from mirror.cache.rights import LOOPBACK, SOCKET, STRANGER, Action, Principal, Rights, Role, Rule
from mirror.errors import ManifestUnknown, RequestInvalid
from mirror.oci.digest import Digest
from mirror.oci.manifest import OCI_INDEX, Manifest
from mirror.oci.names import Reference, Repository
from mirror.operations.events import End, Failed
from mirror.operations.remove import Deleted, Event, Freed, Untagged
from mirror.store.catalog import Catalog
from mirror.store.inventory import Move
from mirror.store.protocols import Origin, Totals
from tests.cache.scripted import Gate
from tests.cache.support import nobody, settled
from tests.operations.living import Life
from tests.store.samples import ALPINE, CONFIG, NGINX, OWN, TOOL, digest_of, image, index

CONFIG_DIGEST = Digest.of(CONFIG)


@pytest.fixture
async def life(catalog: Catalog) -> AsyncIterator[Life]:
    made = Life(catalog)
    yield made
    await made.tasks.drain(0)


def untagged(events: list[Event]) -> list[str]:
    return [event.name for event in events if isinstance(event, Untagged)]


def deleted(events: list[Event]) -> set[Digest]:
    found = [Digest.parse(event.digest) for event in events if isinstance(event, Deleted)]
    assert len(found) == len(set(found))
    return set(found)


def freed(events: list[Event]) -> int:
    return sum(event.bytes for event in events if isinstance(event, Freed))


def failures(events: list[Event]) -> list[tuple[str, str, int]]:
    return [(event.name, event.message, event.exit_code) for event in events if isinstance(event, Failed)]


async def removed(life: Life, *references: str, **more: Any) -> list[Event]:
    """What is told, which a dry run has foreseen and which is what happens to the store; and it ends well."""
    foreseen = await life.remove(*references, dry_run=True, **more)
    before = dict(life.store.blobs)
    held = await life.catalog.held_bytes()
    assert before == dict(life.store.blobs)
    events = await life.remove(*references, **more)
    assert failures(events) == failures(foreseen)
    assert untagged(events) == untagged(foreseen)
    assert deleted(events) == deleted(foreseen)
    assert freed(events) == freed(foreseen) == held - await life.catalog.held_bytes()
    gone = [data for location, data in before.items() if location not in life.store.blobs]
    assert sum(map(len, gone)) == freed(events)
    assert {Digest.of(data) for data in gone} == deleted(events)
    assert isinstance(events[-1], End)
    return events


async def is_held(life: Life, repository: Repository, manifest: Manifest) -> bool:
    return await life.manifests.held(repository, manifest.descriptor.digest) is not None


async def test_who_leaves_in_the_middle_leaves_nothing_that_is_remembered(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if what memory has is forgotten only by a request that is still there when the catalog has written."""
    await life.hold(ALPINE, "3", "one")
    assert life.tags.remembered(LOOPBACK, ALPINE, "3") is not None
    gate, remove_tag = Gate(), life.catalog.remove_tag

    async def slow(*what: Any) -> Any:
        gone = await remove_tag(*what)
        await gate.wait()
        return gone

    monkeypatch.setattr(life.catalog, "remove_tag", slow)
    removing = life.tasks.spawn("client", life.remove("alpine:3"))
    await gate.reached.wait()
    removing.cancel()
    await asyncio.wait([removing])
    gate.release()
    await settled(lambda: life.tags.remembered(LOOPBACK, ALPINE, "3") is None)


async def test_what_is_removed_by_force_is_pinned_no_more(life: Life) -> None:
    await life.hold(ALPINE, "3", "one")
    await life.catalog.pin(Reference(ALPINE, "3", None), "me", 1)
    await life.remove("alpine:3", force=True)
    assert not await life.catalog.pins()


# --- tags -----------------------------------------------------------------------------------------------------------


async def test_the_last_tag_takes_the_image_along(life: Life) -> None:
    manifest = await life.hold(ALPINE, "3.20", "one", "two")
    events = await removed(life, "alpine:3.20")
    assert untagged(events) == ["docker.io/library/alpine:3.20"]
    assert deleted(events) == {manifest.descriptor.digest, CONFIG_DIGEST, digest_of("one"), digest_of("two")}
    assert list(map(type, events)) == [Untagged, *[Deleted] * 4, Freed, End]
    assert events[-1] == End(1, 0)
    assert await life.catalog.totals() == Totals(0, 0, 0, 0, 0)
    assert await life.catalog.history(ALPINE, "3.20", 1) == [Move("3.20", life.clock.wall(), None, "socket")]
    assert life.tags.remembered(LOOPBACK, ALPINE, "3.20") is None
    assert life.manifests.remembered(LOOPBACK, ALPINE, manifest.descriptor.digest) is None


async def test_it_comes_back_with_the_next_pull(life: Life) -> None:
    """From its registry, not from memory. Breaks where one of the caches is not told."""
    manifest = await life.hold(ALPINE, "3.20", "one")
    await removed(life, "alpine:3.20")
    asked = life.hub.anonymous.asked
    asked.clear()
    answer = await life.tags.by_tag(LOOPBACK, ALPINE, "3.20")
    assert (answer.kept.manifest, answer.cache) == (manifest, Cache.MISS)
    assert [line.split()[0] for line in asked] == ["head", "manifest"]
    await life.hold_parts(ALPINE, manifest)
    assert await life.pull(ALPINE, digest_of("one")) == b"one"


async def test_nothing_is_asked_upstream(life: Life) -> None:
    await life.hold(ALPINE, "3.20", "one")
    life.hub.anonymous.asked.clear()
    await removed(life, "alpine:3.20")
    assert life.hub.anonymous.asked == []


async def test_a_tag_only_untags(life: Life) -> None:
    manifest = await life.hold(ALPINE, "3.20", "one")
    life.offer(ALPINE, manifest, "latest", layers=["one"])
    await life.tags.by_tag(LOOPBACK, ALPINE, "latest")
    events = await removed(life, "alpine:3.20")
    assert events == [Untagged("docker.io/library/alpine:3.20"), Freed(0), End(1, 0)]
    assert (await life.tags.by_tag(LOOPBACK, ALPINE, "latest")).cache is Cache.HIT
    assert deleted(await removed(life, "alpine")) == {manifest.descriptor.digest, CONFIG_DIGEST, digest_of("one")}


async def test_an_own_name_outlives_its_source(life: Life) -> None:
    manifest = await life.hold(ALPINE, "3.20", "one")
    await life.tag("alpine:3.20", "team/app:1")
    assert await removed(life, "alpine:3.20") == [Untagged("docker.io/library/alpine:3.20"), Freed(0), End(1, 0)]
    assert (await life.tags.by_tag(STRANGER, OWN, "1")).kept.manifest == manifest
    assert await life.pull(OWN, digest_of("one"), STRANGER) == b"one"
    events = await removed(life, "team/app:1")
    assert untagged(events) == ["local/team/app:1"]
    assert deleted(events) == {manifest.descriptor.digest, CONFIG_DIGEST, digest_of("one")}


async def test_what_others_share_stays(life: Life) -> None:
    one = await life.hold(ALPINE, "1", "base", "one")
    await life.hold(NGINX, "1", "base", "two")
    events = await removed(life, "alpine:1")
    assert deleted(events) == {one.descriptor.digest, digest_of("one")}
    assert await life.pull(NGINX, digest_of("base")) == b"base"


async def test_both_that_share_go_together(life: Life) -> None:
    """A dry run counts what several removals free together, once. Breaks where each is foreseen by itself."""
    await life.hold(ALPINE, "1", "base", "one")
    await life.hold(NGINX, "1", "base", "two")
    events = await removed(life, "alpine:1", "nginx:1", "alpine:1")
    assert deleted(events) >= {digest_of("base"), digest_of("one"), digest_of("two"), CONFIG_DIGEST}
    assert events[-1] == End(2, 0)
    assert len([event for event in events if isinstance(event, Freed)]) == 2


async def test_a_child_of_an_index_that_is_tagged_by_itself(life: Life) -> None:
    top = await life.hold_index(ALPINE, "3.20", ["one"], ["two"])
    child = next(iter(top.children())).descriptor.digest
    life.hub.tags[ALPINE, "amd64"] = child
    await life.tags.by_tag(LOOPBACK, ALPINE, "amd64")
    assert deleted(await removed(life, "alpine:amd64")) == set()
    life.hub.tags[ALPINE, "amd64"] = child
    await life.tags.by_tag(LOOPBACK, ALPINE, "amd64")
    gone = deleted(await removed(life, "alpine:3.20"))
    assert gone == {top.descriptor.digest, image("two").descriptor.digest, digest_of("two")}
    assert (await life.tags.by_tag(LOOPBACK, ALPINE, "amd64")).kept.manifest == image("one")


async def test_a_tag_set_here_is_untagged_like_any_other(life: Life) -> None:
    await life.hold(ALPINE, "3.20", "one")
    await life.tag("alpine:3.20", "alpine:mine")
    assert await removed(life, "alpine:mine") == [Untagged("docker.io/library/alpine:mine"), Freed(0), End(1, 0)]
    row = await life.catalog.tag(ALPINE, "3.20")
    assert row is not None
    assert row.origin is Origin.UPSTREAM


# --- IDs ------------------------------------------------------------------------------------------------------------


async def test_an_id_with_one_tag(life: Life) -> None:
    manifest = await life.hold(ALPINE, "3.20", "one")
    events = await removed(life, manifest.descriptor.digest.short)
    assert untagged(events) == ["docker.io/library/alpine:3.20"]
    assert len(deleted(events)) == 3


@pytest.mark.parametrize("where", ["team/app:1", "alpine:mine"])
async def test_an_id_with_several_tags_has_to_be_forced(life: Life, where: str) -> None:
    manifest = await life.hold(ALPINE, "3.20", "one")
    await life.tag("alpine:3.20", where)
    digest = manifest.descriptor.digest
    sentence = "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories"
    for text, said in (
        (digest.short, digest.short),
        (str(digest), digest.short),
        (CONFIG_DIGEST.short, CONFIG_DIGEST.short),
    ):
        events = await removed(life, text)
        assert failures(events) == [(text, sentence.format(said), 1)]
        assert events[-1] == End(0, 1)
    events = await removed(life, digest.short, force=True)
    assert set(untagged(events)) > {"docker.io/library/alpine:3.20"}
    assert len(untagged(events)) == 2
    assert deleted(events) == {digest, CONFIG_DIGEST, digest_of("one")}


async def test_a_digest_in_one_repository_concerns_that_one(life: Life) -> None:
    manifest = await life.hold(ALPINE, "3.20", "one")
    await life.tag("alpine:3.20", "team/app:1")
    events = await removed(life, f"alpine@{manifest.descriptor.digest}")
    assert events == [Untagged("docker.io/library/alpine:3.20"), Freed(0), End(1, 0)]
    assert await is_held(life, OWN, manifest)
    await life.tag("team/app:1", "team/app:2")
    ((_, message, exit_code),) = failures(await removed(life, f"team/app@{manifest.descriptor.digest}"))
    assert message.endswith("image is referenced in multiple repositories")
    assert exit_code == 1


async def test_without_a_tag_it_is_called_by_its_digest(life: Life) -> None:
    manifest = image("one")
    digest = life.offer(ALPINE, manifest, layers=["one"])
    await life.manifests.by_digest(LOOPBACK, ALPINE, digest)
    events = await removed(life, digest.short)
    assert untagged(events) == [f"docker.io/library/alpine@{digest}"]
    assert deleted(events) == {digest}


async def test_the_beginning_of_several_ids(life: Life) -> None:
    for number in range(40):  # two of these begin alike
        await life.hold(ALPINE, str(number), str(number))
    digests = [image(str(number)).descriptor.digest.hex for number in range(40)]
    prefix = next(each[:1] for each in digests if sum(other[:1] == each[:1] for other in digests) > 1)
    ((_, message, exit_code),) = failures(await life.remove(prefix, force=True))
    assert message.startswith(f"multiple IDs found with provided prefix: {prefix}")
    assert exit_code == 2


# --- pins -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_digest", [False, True])
async def test_what_is_pinned_has_to_be_forced(life: Life, by_digest: bool) -> None:
    manifest = await life.hold(ALPINE, "3.20", "one")
    digest = manifest.descriptor.digest
    reference = Reference(ALPINE, None, digest) if by_digest else Reference(ALPINE, "3.20", None)
    for owner in ("you", "me"):
        await life.catalog.pin(reference, owner, 1)
    for text in ("alpine:3.20", f"alpine@{digest}", digest.short):
        expected = f"conflict: unable to delete {text} (must be forced) - image is pinned by me, you"
        assert failures(await removed(life, text)) == [(text, expected, 1)]
    events = await removed(life, digest.short, force=True)
    assert deleted(events) == {digest, CONFIG_DIGEST, digest_of("one")}


async def test_a_pin_of_the_digest_keeps_the_bytes_of_a_forced_tag(life: Life) -> None:
    manifest = await life.hold(ALPINE, "3.20", "one")
    await life.catalog.pin(Reference(ALPINE, None, manifest.descriptor.digest), "me", 1)
    events = await removed(life, "alpine:3.20", force=True)
    assert events == [Untagged("docker.io/library/alpine:3.20"), Freed(0), End(1, 0)]
    assert await is_held(life, ALPINE, manifest)


# --- what is not there, and batches ---------------------------------------------------------------------------------


async def test_what_is_not_there(life: Life) -> None:
    events = await removed(life, "nginx", "0123456789ab")
    assert failures(events) == [
        ("nginx", "No such image: nginx:latest", 4),
        ("0123456789ab", "No such image: 0123456789ab:latest", 4),
    ]
    assert events[-1] == End(0, 2)
    assert await removed(life, "nginx", "0123456789ab", force=True) == [End(2, 0)]


async def test_one_that_fails_does_not_stop_the_others(life: Life) -> None:
    await life.hold(ALPINE, "3.20", "one")
    await life.hold(NGINX, "1", "two")
    events = await removed(life, "alpine:3.20", "gone:1", "nginx:1")
    assert [name for name, _, _ in failures(events)] == ["gone:1"]
    assert untagged(events) == ["docker.io/library/alpine:3.20", "docker.io/library/nginx:1"]
    assert events[-1] == End(2, 1)


async def test_whoever_comes_too_late(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else removed it between the look and the deed."""
    await life.hold(ALPINE, "3.20", "one")

    async def nothing(*_: object) -> None:
        return None

    monkeypatch.setattr(life.catalog, "remove_tag", nothing)
    assert failures(await life.remove("alpine:3.20")) == [("alpine:3.20", "No such image: alpine:3.20", 4)]
    assert await life.remove("alpine:3.20", force=True) == [End(1, 0)]


# --- platforms ------------------------------------------------------------------------------------------------------


async def test_a_platform_goes_out_of_its_index(life: Life) -> None:
    top = await life.hold_index(ALPINE, "3.20", ["base", "one"], ["base", "two"])
    two = image("base", "two").descriptor.digest
    events = await removed(life, "alpine:3.20", platforms=("linux/a1",))
    assert untagged(events) == [f"docker.io/library/alpine@{two}"]
    assert deleted(events) == {two, digest_of("two")}
    assert (await life.tags.by_tag(LOOPBACK, ALPINE, "3.20")).kept.manifest == top
    assert await life.pull(ALPINE, digest_of("base")) == b"base"
    life.hub.anonymous.asked.clear()
    assert (await life.manifests.by_digest(LOOPBACK, ALPINE, two)).cache is Cache.MISS  # from its registry again
    assert len(life.hub.anonymous.asked) == 1


async def test_attestations_go_with_the_platform_that_they_speak_of(life: Life) -> None:
    """Breaks where they are left: the index keeps an attestation of an image that is not there."""
    images = [image("one"), image("two")]
    speaking = [image(f"of {each.descriptor.digest}") for each in images]
    top = attested(images, speaking)
    for each, text in zip(
        (*images, *speaking), ("one", "two", *(f"of {i.descriptor.digest}" for i in images)), strict=True
    ):
        life.offer(ALPINE, each, layers=[text])
    life.offer(ALPINE, top, "3.20")
    await life.tags.by_tag(LOOPBACK, ALPINE, "3.20")
    for each in (*images, *speaking):
        await life.manifests.by_digest(LOOPBACK, ALPINE, each.descriptor.digest)
    life.clock.advance(1)
    events = await removed(life, "alpine:3.20", platforms=("linux/a1",))
    assert deleted(events) == {images[1].descriptor.digest, speaking[1].descriptor.digest}
    assert await is_held(life, ALPINE, speaking[0])
    ((_, message, _),) = failures(await removed(life, "alpine:3.20", platforms=("unknown/unknown",)))
    assert "does not provide the specified platform" in message


def attested(images: list[Manifest], speaking: list[Manifest]) -> Manifest:
    """An index as BuildKit makes it."""
    entries: list[dict[str, Any]] = []
    for number, (each, about) in enumerate(zip(images, speaking, strict=True)):
        for manifest, platform, more in (
            (each, {"os": "linux", "architecture": f"a{number}"}, {}),
            (
                about,
                {"os": "unknown", "architecture": "unknown"},
                {"annotations": {"vnd.docker.reference.digest": str(each.descriptor.digest)}},
            ),
        ):
            described = manifest.descriptor
            entry = {"mediaType": described.media_type, "digest": str(described.digest), "size": described.size}
            entries.append({**entry, "platform": platform, **more})
    return Manifest.parse(json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode())


async def test_a_platform_that_was_removed_is_not_there_any_more(life: Life) -> None:
    await life.hold_index(ALPINE, "3.20", ["one"], ["two"])
    await removed(life, "alpine:3.20", platforms=("linux/a1",))
    ((_, message, exit_code),) = failures(await removed(life, "alpine:3.20", platforms=("linux/a1",)))
    assert message.endswith("does not provide the specified platform (linux/a1)")
    assert exit_code == 4


async def test_a_platform_whose_manifest_is_rotten_goes(life: Life) -> None:
    """Breaks where what cannot be read is taken for what is not here."""
    await life.hold_index(ALPINE, "3.20", ["one"], ["two"])
    two = image("two").descriptor.digest
    life.store.blobs[f"memory/{two}"] = b"rotten"
    life.manifests.forget_all({ALPINE})
    events = await life.remove("alpine:3.20", platforms=("linux/a1",))
    assert untagged(events) == [f"docker.io/library/alpine@{two}"]


async def test_a_platform_that_is_only_elsewhere(life: Life) -> None:
    """Shown, since anybody may read it there. Breaks where it is said to be untagged, and stays."""
    await life.hold(NGINX, "1", "one")
    life.offer(ALPINE, index([image("one")]), "3.20")
    await life.tags.by_tag(LOOPBACK, ALPINE, "3.20")
    ((_, message, exit_code),) = failures(await removed(life, "alpine:3.20", platforms=("linux/a0",)))
    assert message.endswith("does not provide the specified platform (linux/a0)")
    assert exit_code == 4
    assert await is_held(life, NGINX, image("one"))


@pytest.mark.parametrize("force", [False, True])
async def test_a_platform_that_is_not_here(life: Life, force: bool) -> None:
    await life.hold_index(ALPINE, "3.20", ["one"])
    await life.hold(NGINX, "1", "two")
    texts = ("alpine:3.20", "nginx:1")
    events = await removed(life, *texts, platforms=("linux/a0", "linux/s390x"), force=force)
    assert deleted(events) == set()
    expected = [
        (text, f"image with reference {text} was found but does not provide the specified platform ({missing})", 4)
        for text, missing in zip(texts, ("linux/s390x", "linux/a0, linux/s390x"), strict=True)
    ]
    assert failures(events) == ([] if force else expected)


async def test_a_platform_that_is_none(life: Life) -> None:
    with pytest.raises(RequestInvalid):
        await life.remove("alpine", platforms=("a/b/c/d",))


async def test_a_platform_with_a_tag_or_a_pin_of_its_own_has_to_be_forced(life: Life) -> None:
    top = await life.hold_index(ALPINE, "3.20", ["one"], ["two"])
    one, two = (child.descriptor.digest for child in top.children())
    life.hub.tags[ALPINE, "mine"] = one
    await life.tags.by_tag(LOOPBACK, ALPINE, "mine")
    await life.catalog.pin(Reference(ALPINE, None, two), "me", 1)
    for platform, why in (("linux/a0", "image has the tag mine of its own"), ("linux/a1", "image is pinned by me")):
        ((_, message, _),) = failures(await removed(life, "alpine:3.20", platforms=(platform,)))
        assert message.endswith(why)
    events = await removed(life, "alpine:3.20", platforms=("linux/a0", "linux/a1"), force=True)
    assert untagged(events) == ["docker.io/library/alpine:mine", f"docker.io/library/alpine@{two}"]
    assert deleted(events) == {one, two, digest_of("one"), digest_of("two"), CONFIG_DIGEST}


# --- rights ---------------------------------------------------------------------------------------------------------


async def test_who_may(catalog: Catalog) -> None:
    ci = Principal(Role.USER, "ci")
    allow = frozenset({Action.PULL, Action.DELETE})
    rules = [Rule(frozenset({"ci"}), ("team/*",), allow)]
    rights = Rights(shared=nobody, users=True, private=["secret/*"], rules=rules)
    life = Life(catalog, rights=rights, credentials=["ghcr.io"], own=["**"])
    life.other.private.add(TOOL)
    manifest = await life.hold(ALPINE, "3.20", "one")
    private = await life.hold(TOOL, "1", "hidden", who=SOCKET)
    for name in ("team/app:1", "secret/app:1"):
        await life.tag("alpine:3.20", name)
    digest = manifest.descriptor.digest
    for text in ("secret/app:1", "ghcr.io/team/tool:1", private.descriptor.digest.short):
        ((_, message, exit_code),) = failures(await removed(life, text, who=ci))
        tag = "" if ":" in text else ":latest"  # as for what is not there
        assert message == f"No such image: {text}{tag}"
        assert exit_code == ManifestUnknown.exit_code
    for text in ("alpine:3.20", digest.short):
        ((_, _, exit_code),) = failures(await removed(life, text, who=ci, force=True))
        assert exit_code == 5
    assert untagged(await removed(life, "team/app:1", who=ci)) == ["local/team/app:1"]
    assert failures(await removed(life, "alpine:3.20", who=LOOPBACK))[0][2] == 5
    assert await is_held(life, ALPINE, manifest)
    (last,) = await life.catalog.history(OWN, "1", 1)
    assert (last.manifest, last.actor) == (None, "ci")

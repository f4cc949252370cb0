"""What every blob store and every catalog does, whatever it is made of.

A backend's test file derives a class from a suite and gives the fixture `store` or `catalog`.
"""

import asyncio
import os

import pytest

from mirror.errors import BlobUnknown, DigestInvalid, StoreFailed
from mirror.oci.digest import Digest
from mirror.store.catalog import Catalog
from mirror.store.protocols import (
    BlobStore,
    Ingest,
    Link,
    Origin,
    Partial,
    Proof,
    RepositoryFacts,
    Tag,
    Totals,
    Visibility,
)
from tests.store.samples import ALPINE, NGINX, OWN, TOOL, digest_of, image, index

HELLO = b"hello, world"


def ignore(written: int) -> None:
    """An `on_written` for those who do not follow."""


async def written(ingest: Ingest, *chunks: bytes) -> Ingest:
    """Write chunks, and wait until they can be read."""
    for chunk in chunks:
        await ingest.write(chunk)
    while ingest.written < ingest.offset:
        await asyncio.sleep(0.001)
    return ingest


def read_descriptor(ingest: Ingest) -> bytes:
    """What can be read of an ingest now."""
    descriptor = ingest.open_descriptor()
    try:
        return os.pread(descriptor, 1 << 20, 0)
    finally:
        os.close(descriptor)


class BlobStoreSuite:
    """`BlobStore`, `Ingest`, `BlobReader`."""

    async def test_published_bytes_come_back(self, store: BlobStore) -> None:
        ingest = await written(await store.begin(ignore), b"hello, ", b"", b"world")
        assert (ingest.offset, ingest.written) == (12, 12)
        location = await store.publish(ingest, Digest.of(HELLO))
        assert await store.read(Digest.of(HELLO), location, 12) == HELLO
        async with store.open(Digest.of(HELLO), location, 12) as reader:
            assert (reader.digest, reader.size) == (Digest.of(HELLO), 12)
            assert await reader.ready(0, 5) == 5
            assert await reader.ready(5, 100) == 12
            assert await reader.read(7, 100) == b"world"
            descriptor = reader.fileno()
            assert descriptor is None or os.pread(descriptor, 5, 0) == b"hello"

    async def test_reading_past_the_end_fails_and_is_never_empty(self, store: BlobStore) -> None:
        location = await store.put(HELLO, Digest.of(HELLO))
        async with store.open(Digest.of(HELLO), location, 12) as reader:
            with pytest.raises(StoreFailed):
                await reader.read(12, 1)

    async def test_nothing_is_visible_before_publish(self, store: BlobStore) -> None:
        ingest = await written(await store.begin(ignore), HELLO)
        assert [found async for found in store.walk()] == []
        assert await store.staged() == []
        assert store.active() == {ingest.id}
        await ingest.abort()
        assert store.active() == frozenset()

    async def test_readers_follow_what_is_written(self, store: BlobStore) -> None:
        told: list[int] = []
        ingest = await written(await store.begin(told.append), b"hello")
        follower = ingest.open_descriptor()
        assert os.pread(follower, 100, 0) == b"hello"
        await written(ingest, b", world")
        assert told == [5, 12]
        await store.publish(ingest, Digest.of(HELLO))
        assert os.pread(follower, 100, 0) == HELLO  # stays good after publish
        os.close(follower)

    async def test_wrong_digest_is_refused_and_nothing_kept(self, store: BlobStore) -> None:
        ingest = await written(await store.begin(ignore), b"other bytes")
        with pytest.raises(DigestInvalid):
            await ingest.verify(Digest.of(HELLO))
        with pytest.raises(DigestInvalid):
            await store.publish(ingest, Digest.of(HELLO))
        assert [found async for found in store.walk()] == []
        assert await store.staged() == []
        assert store.active() == frozenset()
        with pytest.raises(StoreFailed):
            await ingest.write(b"more")

    async def test_verify_waits_for_all_that_was_accepted_and_allows_more(self, store: BlobStore) -> None:
        ingest = await store.begin(ignore)
        for _ in range(20):
            await ingest.write(b"x" * 100_000)
        await ingest.verify(Digest.of(b"x" * 2_000_000))
        await ingest.write(b"y")
        await store.publish(ingest, Digest.of(b"x" * 2_000_000 + b"y"))

    @pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
    @pytest.mark.parametrize("begun", ["sha256", "sha512"])
    async def test_either_algorithm_whatever_the_ingest_began_with(
        self, store: BlobStore, algorithm: str, begun: str
    ) -> None:
        ingest = await written(await store.begin(ignore, algorithm=begun), HELLO)
        digest = Digest.of(HELLO, algorithm)
        location = await store.publish(ingest, digest)
        assert await store.read(digest, location, 12) == HELLO
        assert [found async for found in store.walk()] == [(digest, location, 12)]

    async def test_unknown_algorithm_is_refused(self, store: BlobStore) -> None:
        with pytest.raises(DigestInvalid):
            await store.begin(ignore, algorithm="md5")
        assert store.active() == frozenset()

    async def test_the_hash_so_far_can_be_taken_along(self, store: BlobStore) -> None:
        ingest = await written(await store.begin(ignore), b"hello, ")
        hasher = await ingest.hash_state()
        hasher.update(b"world")
        assert hasher.hexdigest() == Digest.of(HELLO).hex
        await ingest.verify(Digest.of(b"hello, "))  # a copy: the ingest's own is as it was
        await ingest.abort()

    async def test_empty_blob(self, store: BlobStore) -> None:
        empty = Digest.of(b"")
        for location in (await store.publish(await store.begin(ignore), empty), await store.put(b"", empty)):
            assert await store.read(empty, location, 0) == b""

    async def test_abort_is_harmless_when_repeated_and_after_publish(self, store: BlobStore) -> None:
        ingest = await written(await store.begin(ignore), HELLO)
        location = await store.publish(ingest, Digest.of(HELLO))
        await ingest.abort()
        await ingest.abort()
        assert await store.read(Digest.of(HELLO), location, 12) == HELLO
        with pytest.raises(StoreFailed):
            await ingest.write(b"more")

    async def test_suspended_ingest_is_resumed_where_it_stopped(self, store: BlobStore) -> None:
        ingest = await written(await store.begin(ignore), b"hello, ")
        await ingest.suspend()
        assert store.active() == frozenset()
        assert await store.staged() == [ingest.id]
        again = await store.resume(ingest.id, ignore)
        assert again is not None
        assert (again.id, again.offset, again.written) == (ingest.id, 7, 7)
        assert await store.staged() == []
        assert await store.resume(ingest.id, ignore) is None  # it is open
        await written(again, b"world")
        assert read_descriptor(again) == HELLO
        await store.publish(again, Digest.of(HELLO))
        assert await store.resume(ingest.id, ignore) is None

    async def test_discarded_ingest_is_gone(self, store: BlobStore) -> None:
        ingest = await written(await store.begin(ignore), HELLO)
        assert await store.discard(ingest.id) == 0  # open: left alone
        await ingest.suspend()
        assert await store.staged() == [ingest.id]
        assert await store.discard(ingest.id) == len(HELLO)
        assert await store.discard(ingest.id) == 0
        assert await store.staged() == []
        assert await store.resume(ingest.id, ignore) is None

    async def test_all_that_is_staged_is_told_with_its_size(self, store: BlobStore) -> None:
        assert await store.staging() == {}
        open_ = await written(await store.begin(ignore), HELLO)
        suspended = await written(await store.begin(ignore), b"half")
        await suspended.suspend()
        gone = await written(await store.begin(ignore), b"gone")
        await gone.abort()
        assert await store.staging() == {open_.id: len(HELLO), suspended.id: 4}
        await store.publish(open_, Digest.of(HELLO))
        assert await store.staging() == {suspended.id: 4}

    @pytest.mark.parametrize("foreign", ["", "../lock", "..", "/etc/passwd", "a" * 32, "A" * 32, "0" * 31 + "\n"])
    async def test_ids_from_outside_reach_nothing(self, store: BlobStore, foreign: str) -> None:
        assert await store.resume(foreign, ignore) is None
        assert await store.discard(foreign) == 0

    async def test_put_many_at_once(self, store: BlobStore) -> None:
        blobs = [b"%d" % number for number in range(300)]
        locations = await asyncio.gather(*(store.put(blob, Digest.of(blob)) for blob in blobs))
        assert len(set(locations)) == 300
        for blob, location in zip(blobs, locations, strict=True):
            assert await store.read(Digest.of(blob), location, len(blob)) == blob
        assert len([found async for found in store.walk()]) == 300
        assert await store.staged() == []
        assert store.active() == frozenset()

    async def test_the_same_blob_many_times_at_once(self, store: BlobStore) -> None:
        ingests = [await written(await store.begin(ignore), HELLO) for _ in range(5)]
        digest = Digest.of(HELLO)
        locations = await asyncio.gather(
            *(store.publish(ingest, digest) for ingest in ingests), *(store.put(HELLO, digest) for _ in range(5))
        )
        assert len({*locations}) == 1
        assert await store.read(digest, locations[0], 12) == HELLO

    async def test_missing_blob_is_unknown(self, store: BlobStore) -> None:
        digest = Digest.of(HELLO)
        location = await store.put(HELLO, digest)
        for size in (11, 13):  # the file has another size than the catalog says
            with pytest.raises(BlobUnknown):
                async with store.open(digest, location, size):
                    pass
            with pytest.raises(BlobUnknown):
                await store.read(digest, location, size)
        assert await store.delete(location) == len(HELLO)
        assert await store.delete(location) == 0
        with pytest.raises(BlobUnknown):
            async with store.open(digest, location, 12):
                pass
        with pytest.raises(BlobUnknown):
            await store.read(digest, location, 12)

    async def test_an_open_reader_outlives_delete(self, store: BlobStore) -> None:
        location = await store.put(HELLO, Digest.of(HELLO))
        async with store.open(Digest.of(HELLO), location, 12) as reader:
            await store.delete(location)
            assert await reader.read(0, 12) == HELLO

    async def test_free_is_a_number_of_bytes(self, store: BlobStore) -> None:
        assert await store.free() > 0


class CatalogSuite:
    """`Catalog`, part by part."""

    # --- repositories -------------------------------------------------------------------------------------

    async def test_visibility_is_unknown_until_it_is_told(self, catalog: Catalog) -> None:
        assert await catalog.repository(TOOL) == RepositoryFacts(Visibility.UNKNOWN, 0)
        await catalog.set_visibility(TOOL, Visibility.PRIVATE, 5)
        await catalog.set_visibility(TOOL, Visibility.PUBLIC, 6)
        assert await catalog.repository(TOOL) == RepositoryFacts(Visibility.PUBLIC, 6)
        assert await catalog.repository(OWN) == RepositoryFacts(Visibility.UNKNOWN, 0)

    # --- links --------------------------------------------------------------------------------------------

    async def test_what_is_not_held_is_not_found_and_not_linked(self, catalog: Catalog) -> None:
        digest = digest_of("a")
        assert await catalog.holding(ALPINE, digest, is_manifest=False) is None
        assert not await catalog.link(ALPINE, digest, Proof.ANONYMOUS, 1, is_manifest=False)
        assert await catalog.holding(ALPINE, digest, is_manifest=False) is None

    async def test_an_anonymous_proof_makes_a_blob_public(self, catalog: Catalog) -> None:
        digest = digest_of("a")
        await catalog.hold(digest, 10, "here", [(ALPINE, Proof.ANONYMOUS)], 1)
        own = await catalog.holding(ALPINE, digest, is_manifest=False)
        assert own is not None
        assert (own.size, own.location, own.link) == (10, "here", Link(anonymous_at=1))
        other = await catalog.holding(TOOL, digest, is_manifest=False)
        assert other is not None
        assert (other.link, other.public) == (None, True)
        assert await catalog.supplied("docker.io", digest, is_manifest=False)
        assert not await catalog.supplied("docker.io", digest, is_manifest=True)
        assert not await catalog.supplied(TOOL.registry, digest, is_manifest=False)

    @pytest.mark.parametrize(("proof", "supplied"), [(Proof.CREDENTIALS, True), (Proof.PUSHED, False)])
    async def test_other_proofs_do_not_and_a_push_supplies_nothing(
        self, catalog: Catalog, proof: Proof, supplied: bool
    ) -> None:
        digest = digest_of("a")
        await catalog.hold(digest, 10, "here", [(TOOL, proof)], 1)
        other = await catalog.holding(ALPINE, digest, is_manifest=False)
        assert other is not None
        assert (other.link, other.public) == (None, False)
        assert await catalog.supplied(TOOL.registry, digest, is_manifest=False) is supplied
        assert not await catalog.supplied(ALPINE.registry, digest, is_manifest=False)

    async def test_proofs_are_a_set_that_only_grows(self, catalog: Catalog) -> None:
        digest = digest_of("a")
        await catalog.hold(digest, 10, "here", [(ALPINE, Proof.CREDENTIALS), (TOOL, Proof.CREDENTIALS)], 1)
        assert await catalog.link(ALPINE, digest, Proof.ANONYMOUS, 2, is_manifest=False)
        assert await catalog.link(ALPINE, digest, Proof.PUSHED, 3, is_manifest=False)
        assert await catalog.link(ALPINE, digest, Proof.ANONYMOUS, 4, is_manifest=False)
        assert await catalog.link(ALPINE, digest, Proof.ANONYMOUS, 3, is_manifest=False)  # a clock that went back
        found = await catalog.holding(ALPINE, digest, is_manifest=False)
        assert found is not None
        assert found.link == Link(anonymous_at=4, credentials_at=1, pushed_at=3)
        for registry in ("docker.io", "ghcr.io"):
            assert await catalog.supplied(registry, digest, is_manifest=False)

    async def test_a_link_as_blob_is_none_as_manifest(self, catalog: Catalog) -> None:
        manifest = image("a")
        digest = manifest.descriptor.digest
        await catalog.hold_manifest(ALPINE, manifest, "here", Proof.CREDENTIALS, 1)
        as_blob = await catalog.holding(ALPINE, digest, is_manifest=False)
        as_manifest = await catalog.holding(ALPINE, digest, is_manifest=True)
        assert as_blob is not None
        assert as_blob.link is None
        assert as_manifest is not None
        assert as_manifest.link == Link(credentials_at=1)

    async def test_quarantine_hides_until_held_again(self, catalog: Catalog) -> None:
        digest = digest_of("a")
        await catalog.quarantine(digest)
        await catalog.hold(digest, 10, "here", [(ALPINE, Proof.ANONYMOUS)], 1)
        await catalog.quarantine(digest)
        assert await catalog.holding(ALPINE, digest, is_manifest=False) is None
        assert not await catalog.link(ALPINE, digest, Proof.PUSHED, 2, is_manifest=False)
        await catalog.hold(digest, 10, "there", [], 3)
        found = await catalog.holding(ALPINE, digest, is_manifest=False)
        assert found is not None
        assert (found.location, found.link) == ("there", Link(anonymous_at=1))  # its proofs are as true as before

    async def test_expected_size_comes_from_manifests_held_here(self, catalog: Catalog) -> None:
        """Breaks if another repository's manifests count: they may be private, or lie."""
        assert await catalog.expected_size(ALPINE, digest_of("layer")) is None
        manifest = image("layer")
        await catalog.hold_manifest(ALPINE, manifest, "here", Proof.ANONYMOUS, 1)
        assert await catalog.expected_size(ALPINE, digest_of("layer")) == 5
        assert await catalog.expected_size(NGINX, digest_of("layer")) is None
        await catalog.quarantine(manifest.descriptor.digest)
        assert await catalog.expected_size(ALPINE, digest_of("layer")) is None

    # --- manifests ----------------------------------------------------------------------------------------

    async def test_a_manifest_keeps_its_own_type(self, catalog: Catalog) -> None:
        manifest = image("a", note="über")
        digest = manifest.descriptor.digest
        assert await catalog.manifest_type(digest) is None
        for at in (1, 2):  # delivered again: nothing changes but the proof
            await catalog.hold_manifest(ALPINE, manifest, "here", Proof.ANONYMOUS, at)
        assert await catalog.manifest_type(digest) == manifest.descriptor.media_type
        found = await catalog.holding(ALPINE, digest, is_manifest=True)
        assert found is not None
        assert found.link == Link(anonymous_at=2)
        await catalog.quarantine(digest)
        assert await catalog.manifest_type(digest) is None

    async def test_a_manifest_naming_blobs_proves_nothing_of_them(self, catalog: Catalog) -> None:
        await catalog.hold(digest_of("secret"), 6, "here", [(TOOL, Proof.CREDENTIALS)], 1)
        await catalog.hold_manifest(ALPINE, image("secret"), "there", Proof.ANONYMOUS, 2)
        found = await catalog.holding(ALPINE, digest_of("secret"), is_manifest=False)
        assert found is not None
        assert (found.link, found.public) == (None, False)

    async def test_in_an_index_that_its_link_shows(self, catalog: Catalog) -> None:
        """Breaks where any parent counts, whoever may see it, or where a layer is taken for an image."""
        child, secret = image("child"), image("secret")
        digest, hidden = child.descriptor.digest, secret.descriptor.digest
        top = index([child])
        await catalog.hold_manifest(ALPINE, top, "1", Proof.ANONYMOUS, 1)
        await catalog.hold_manifest(ALPINE, index([secret]), "2", Proof.CREDENTIALS, 1)
        await catalog.hold_manifest(ALPINE, image("layer"), "3", Proof.ANONYMOUS, 1)
        for trusted in (False, True):
            assert await catalog.in_an_index(ALPINE, digest, trusted=trusted)
            assert await catalog.in_an_index(ALPINE, hidden, trusted=trusted) is trusted
            assert not await catalog.in_an_index(ALPINE, digest_of("layer"), trusted=trusted)
            assert not await catalog.in_an_index(TOOL, digest, trusted=trusted)
            assert not await catalog.in_an_index(ALPINE, top.descriptor.digest, trusted=trusted)
        await catalog.quarantine(top.descriptor.digest)
        assert not await catalog.in_an_index(ALPINE, digest, trusted=True)

    async def test_referrers_are_those_linked_here_oldest_first(self, catalog: Catalog) -> None:
        subject = image("a")
        late, early, elsewhere, rotten = (image(f"r{n}", subject=subject) for n in range(4))
        await catalog.hold_manifest(ALPINE, late, "1", Proof.PUSHED, 20)
        await catalog.hold_manifest(ALPINE, early, "2", Proof.PUSHED, 10)
        await catalog.hold_manifest(NGINX, elsewhere, "3", Proof.PUSHED, 5)
        await catalog.hold_manifest(ALPINE, rotten, "4", Proof.PUSHED, 1)
        await catalog.quarantine(rotten.descriptor.digest)
        found = await catalog.referrers(ALPINE, subject.descriptor.digest)
        assert found == [early.descriptor.digest, late.descriptor.digest]
        assert await catalog.referrers(TOOL, subject.descriptor.digest) == []
        assert await catalog.referrers(ALPINE, digest_of("nothing")) == []

    # --- tags ---------------------------------------------------------------------------------------------

    async def test_a_tag_moves_by_compare_and_set(self, catalog: Catalog) -> None:
        one, two = image("1"), image("2")
        first, second = one.descriptor.digest, two.descriptor.digest
        for manifest in (one, two):
            await catalog.hold_manifest(ALPINE, manifest, "here", Proof.ANONYMOUS, 1)
        assert await catalog.tag(ALPINE, "3") is None
        assert not await catalog.move_tag(ALPINE, "3", second, first, Origin.UPSTREAM, 2, "test")
        assert await catalog.move_tag(ALPINE, "3", None, first, Origin.UPSTREAM, 2, "test")
        assert not await catalog.move_tag(ALPINE, "3", None, second, Origin.UPSTREAM, 3, "test")
        assert await catalog.tag(ALPINE, "3") == Tag("3", first, Origin.UPSTREAM, 2, 2, None)
        assert await catalog.move_tag(ALPINE, "3", first, second, Origin.LOCAL, 4, "test")
        assert await catalog.tag(ALPINE, "3") == Tag("3", second, Origin.LOCAL, 4, 4, None)

    async def test_a_tag_set_to_what_it_is_did_not_move(self, catalog: Catalog) -> None:
        manifest = image("1")
        digest = manifest.descriptor.digest
        await catalog.hold_manifest(ALPINE, manifest, "here", Proof.ANONYMOUS, 1)
        assert await catalog.move_tag(ALPINE, "3", None, digest, Origin.UPSTREAM, 2, "test")
        await catalog.tag_gone(ALPINE, "3", 3)
        assert await catalog.move_tag(ALPINE, "3", digest, digest, Origin.LOCAL, 4, "test")
        assert await catalog.tag(ALPINE, "3") == Tag("3", digest, Origin.LOCAL, 2, 4, None)

    async def test_a_tag_names_only_a_held_manifest_linked_here(self, catalog: Catalog) -> None:
        manifest = image("1")
        digest = manifest.descriptor.digest
        await catalog.hold_manifest(ALPINE, manifest, "here", Proof.ANONYMOUS, 1)
        await catalog.hold(digest_of("a"), 1, "there", [(ALPINE, Proof.ANONYMOUS)], 1)
        assert not await catalog.move_tag(NGINX, "3", None, digest, Origin.LOCAL, 2, "test")
        assert not await catalog.move_tag(ALPINE, "3", None, digest_of("a"), Origin.LOCAL, 2, "test")  # a blob
        assert not await catalog.move_tag(ALPINE, "3", None, digest_of("b"), Origin.LOCAL, 2, "test")
        await catalog.quarantine(digest)
        assert not await catalog.move_tag(ALPINE, "3", None, digest, Origin.LOCAL, 2, "test")

    async def test_one_of_many_movers_wins(self, catalog: Catalog) -> None:
        manifests = [image(str(number)) for number in range(20)]
        for manifest in manifests:
            await catalog.hold_manifest(ALPINE, manifest, "here", Proof.PUSHED, 1)
        moved = await asyncio.gather(
            *(
                catalog.move_tag(ALPINE, "x", None, manifest.descriptor.digest, Origin.LOCAL, 2, "test")
                for manifest in manifests
            )
        )
        assert sum(moved) == 1
        tag = await catalog.tag(ALPINE, "x")
        assert tag is not None
        assert tag.manifest == manifests[moved.index(True)].descriptor.digest

    async def test_gone_stays_since_the_first_time_until_confirmed(self, catalog: Catalog) -> None:
        manifest = image("1")
        digest = manifest.descriptor.digest
        await catalog.hold_manifest(ALPINE, manifest, "here", Proof.ANONYMOUS, 1)
        await catalog.move_tag(ALPINE, "3", None, digest, Origin.UPSTREAM, 1, "test")
        await catalog.tag_gone(ALPINE, "3", 10)
        await catalog.tag_gone(ALPINE, "3", 11)
        await catalog.tag_gone(ALPINE, "unknown", 11)
        await catalog.tag_gone(TOOL, "unknown", 11)
        gone = Tag("3", digest, Origin.UPSTREAM, 1, 1, 10)
        assert await catalog.tag(ALPINE, "3") == gone
        assert await catalog.only_here(10) == [(ALPINE, gone)]
        assert await catalog.only_here(0) == []
        assert not await catalog.confirm_tag(ALPINE, "3", digest_of("another"), 12)  # it was moved meanwhile
        assert not await catalog.confirm_tag(ALPINE, "unknown", digest, 12)
        assert not await catalog.confirm_tag(TOOL, "3", digest, 12)
        assert await catalog.tag(ALPINE, "3") == gone
        assert await catalog.confirm_tag(ALPINE, "3", digest, 13)
        assert await catalog.tag(ALPINE, "3") == Tag("3", digest, Origin.UPSTREAM, 1, 13, None)
        assert await catalog.only_here(10) == []

    async def test_tags_are_listed_in_ascii_order_until_dropped(self, catalog: Catalog) -> None:
        manifest = image("1")
        await catalog.hold_manifest(ALPINE, manifest, "here", Proof.ANONYMOUS, 1)
        for name in ("b", "_", "B", "10", "9", "a"):
            assert await catalog.move_tag(ALPINE, name, None, manifest.descriptor.digest, Origin.LOCAL, 1, "test")
        assert await catalog.tags(ALPINE) == ["10", "9", "B", "_", "a", "b"]
        assert await catalog.tags(NGINX) == []
        await catalog.drop_tag(ALPINE, "9", manifest.descriptor.digest, 2, "test")
        await catalog.drop_tag(ALPINE, "9", manifest.descriptor.digest, 2, "test")
        await catalog.drop_tag(TOOL, "9", manifest.descriptor.digest, 2, "test")
        assert await catalog.tags(ALPINE) == ["10", "B", "_", "a", "b"]

    # --- deletion -----------------------------------------------------------------------------------------

    async def test_a_blob_nobody_needs_is_deleted_in_steps(self, catalog: Catalog) -> None:
        digest = digest_of("a")
        assert await catalog.begin_delete(digest) is None
        await catalog.hold(digest, 10, "here", [(ALPINE, Proof.ANONYMOUS)], 1)
        assert await catalog.begin_delete(digest) == "here"
        assert await catalog.begin_delete(digest) is None  # somebody is at it
        assert await catalog.deleting() == [(digest, "here")]
        assert await catalog.holding(ALPINE, digest, is_manifest=False) is None
        assert not await catalog.link(ALPINE, digest, Proof.PUSHED, 2, is_manifest=False)
        with pytest.raises(StoreFailed):
            await catalog.hold(digest, 10, "here", [(ALPINE, Proof.ANONYMOUS)], 2)
        await catalog.deleted(digest)
        assert await catalog.deleting() == []
        await catalog.hold(digest, 10, "there", [], 3)
        found = await catalog.holding(ALPINE, digest, is_manifest=False)
        assert found is not None
        assert (found.link, found.public) == (None, False)  # nothing is left of the old links

    async def test_deleted_takes_only_what_is_deleting(self, catalog: Catalog) -> None:
        digest = digest_of("a")
        await catalog.hold(digest, 10, "here", [(ALPINE, Proof.ANONYMOUS)], 1)
        await catalog.deleted(digest)
        await catalog.deleted(digest_of("unknown"))
        assert await catalog.holding(ALPINE, digest, is_manifest=False) is not None

    async def test_what_a_held_manifest_names_is_needed(self, catalog: Catalog) -> None:
        child = image("layer")
        parent = index([child])
        await catalog.hold(digest_of("layer"), 5, "1", [(ALPINE, Proof.ANONYMOUS)], 1)
        await catalog.hold_manifest(ALPINE, child, "2", Proof.ANONYMOUS, 1)
        await catalog.hold_manifest(ALPINE, parent, "3", Proof.ANONYMOUS, 1)
        assert await catalog.begin_delete(digest_of("layer")) is None
        await catalog.quarantine(child.descriptor.digest)
        assert await catalog.begin_delete(digest_of("layer")) is None  # its manifest is to be fetched again

    @pytest.mark.parametrize("proof", list(Proof))
    async def test_a_linked_manifest_is_needed(self, catalog: Catalog, proof: Proof) -> None:
        manifest = image("layer")
        await catalog.hold_manifest(ALPINE, manifest, "here", proof, 1)
        assert await catalog.begin_delete(manifest.descriptor.digest) is None

    async def test_a_quarantined_blob_can_be_deleted(self, catalog: Catalog) -> None:
        await catalog.hold(digest_of("a"), 10, "here", [], 1)
        await catalog.quarantine(digest_of("a"))
        assert await catalog.begin_delete(digest_of("a")) == "here"

    # --- begun downloads, misses, totals ------------------------------------------------------------------

    async def test_a_begun_download_belongs_to_its_source(self, catalog: Catalog) -> None:
        row = Partial("i1", digest_of("a"), "docker.io", anonymous=True, started_at=1)
        await catalog.begin_partial(row)
        assert await catalog.partial(digest_of("a"), "docker.io", anonymous=True) == row
        assert await catalog.partial(digest_of("a"), "docker.io", anonymous=False) is None
        assert await catalog.partial(digest_of("a"), "ghcr.io", anonymous=True) is None
        assert await catalog.partial(digest_of("b"), "docker.io", anonymous=True) is None
        later = Partial("i2", digest_of("a"), "docker.io", anonymous=True, started_at=2)
        await catalog.begin_partial(later)
        assert await catalog.partials() == [later]
        await catalog.end_partial("i1")
        await catalog.end_partial("i2")
        assert await catalog.partials() == []

    async def test_totals_count_what_is_held(self, catalog: Catalog) -> None:
        assert await catalog.totals() == Totals(0, 0, 0, 0, 0)
        manifest = image("a")
        await catalog.set_visibility(TOOL, Visibility.PRIVATE, 1)  # known, but nothing is held there
        await catalog.hold(digest_of("a"), 10, "1", [(ALPINE, Proof.ANONYMOUS), (NGINX, Proof.ANONYMOUS)], 1)
        await catalog.hold_manifest(ALPINE, manifest, "2", Proof.ANONYMOUS, 1)
        for name in ("1", "2"):
            await catalog.move_tag(ALPINE, name, None, manifest.descriptor.digest, Origin.UPSTREAM, 1, "test")
        await catalog.tag_gone(ALPINE, "2", 2)
        assert await catalog.totals() == Totals(2, 10 + manifest.descriptor.size, 2, 2, 1)
        await catalog.quarantine(digest_of("a"))
        assert (await catalog.totals()).bytes == manifest.descriptor.size

    async def test_the_instance_has_an_id_that_stays(self, catalog: Catalog) -> None:
        assert await catalog.instance() == await catalog.instance()
        assert len(await catalog.instance()) == 32

    async def test_misses_are_taken(self, catalog: Catalog) -> None:
        await catalog.missed("docker.io/library/alpine:3", 1)
        await catalog.missed("docker.io/library/alpine:3", 2)

    async def test_a_cancelled_caller_tears_nothing(self, catalog: Catalog) -> None:
        async def write(number: int) -> None:
            await catalog.hold(digest_of(str(number)), 1, "here", [(ALPINE, Proof.ANONYMOUS)], 1)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(write(number)) for number in range(50)]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
        assert (await catalog.totals()).blobs == 50

"""What every catalog does with what may go: eviction and collection."""

import pytest

from mirror.oci.digest import Digest
from mirror.oci.names import Reference, Repository
from mirror.store.catalog import Catalog
from mirror.store.inventory import Candidate, Move
from mirror.store.protocols import UPLOAD_GRACE, Link, Proof
from tests.store.samples import ALPINE, CONFIG, NGINX, OWN, TOOL, digest_of, hold_image, hold_index, image, index, tag

LATER = 10_000_000.0
CONFIG_DIGEST = Digest.of(CONFIG)


async def linked(catalog: Catalog, home: Repository, digest: Digest, *, is_manifest: bool = True) -> Link | None:
    """How a repository holds a blob, if it does."""
    found = await catalog.holding(home, digest, is_manifest=is_manifest)
    return found.link if found else None


async def collect(catalog: Catalog, used_before: float = LATER) -> set[Digest]:
    """Delete what nothing needs, round by round. Returns it."""
    gone: set[Digest] = set()
    while found := await catalog.unreferenced(used_before, 1000):
        for digest, _ in found:
            assert await catalog.begin_delete(digest, used_before) is not None
            await catalog.deleted(digest)
            gone.add(digest)
    return gone


async def candidates(catalog: Catalog) -> list[tuple[Repository, Digest]]:
    """Whom eviction may take."""
    return [(each.repository, each.manifest) for each in await catalog.candidates(100)]


class CollectionSuite:
    """`Collection`, and `Deletion` with a time."""

    # --- eviction -----------------------------------------------------------------------------------------

    async def test_the_least_recently_used_goes_first(self, catalog: Catalog) -> None:
        digests = {home: await hold_image(catalog, home, image(home.path), at=10) for home in (ALPINE, NGINX, TOOL)}
        await tag(catalog, NGINX, "3", digests[NGINX], at=10)
        await catalog.touch([(NGINX, "3"), (ALPINE, digests[ALPINE])], [], 20)
        await catalog.touch([(NGINX, "3"), (NGINX, "unknown"), (ALPINE, digest_of("unknown"))], [], 5)  # a late report
        expected = [
            Candidate(TOOL, digests[TOOL], 10),
            Candidate(ALPINE, digests[ALPINE], 20),
            Candidate(NGINX, digests[NGINX], 20),
        ]
        assert await catalog.candidates(10) == expected
        assert await catalog.candidates(1) == expected[:1]

    async def test_a_tag_that_moves_uses_what_it_names(self, catalog: Catalog) -> None:
        one, two = await hold_image(catalog, ALPINE, image("1")), await hold_image(catalog, ALPINE, image("2"))
        await tag(catalog, ALPINE, "x", one, at=2)
        await catalog.touch([(ALPINE, "x")], [], 50)
        await tag(catalog, ALPINE, "x", two, at=3)
        assert [each.used_at for each in await catalog.candidates(10)] == [50, 50]

    async def test_a_childs_use_is_its_indexs(self, catalog: Catalog) -> None:
        child = image("1")
        top = await hold_index(catalog, ALPINE, [child])
        await catalog.touch([(ALPINE, child.descriptor.digest)], [], 20)
        assert await catalog.candidates(10) == [Candidate(ALPINE, top, 20)]

    async def test_a_layers_use_is_nobody_elses(self, catalog: Catalog) -> None:
        digest = await hold_image(catalog, ALPINE, image("1"), at=10)
        await catalog.touch([(ALPINE, digest_of("1"))], [digest_of("1")], 20)
        assert await catalog.candidates(10) == [Candidate(ALPINE, digest, 10)]

    async def test_a_child_belongs_to_whatever_index_is_above_it(self, catalog: Catalog) -> None:
        leaf = image("1")
        middle = index([leaf])
        top = index([middle])
        await hold_image(catalog, TOOL, middle)  # here it was never asked for
        for manifest in (leaf, top):
            await hold_image(catalog, ALPINE, manifest)
        assert await candidates(catalog) == [
            (ALPINE, top.descriptor.digest),
            (TOOL, middle.descriptor.digest),
        ]
        assert await catalog.evict(ALPINE, top.descriptor.digest, LATER, LATER)
        assert await linked(catalog, ALPINE, leaf.descriptor.digest) is None

    async def test_pushed_and_tagged_by_hand_is_never_taken(self, catalog: Catalog) -> None:
        pushed = await hold_image(catalog, OWN, image("1"), Proof.PUSHED)
        both = await hold_image(catalog, ALPINE, image("2"))
        await catalog.link(ALPINE, both, Proof.PUSHED, 1, is_manifest=True)
        by_hand = await hold_image(catalog, ALPINE, image("3"))
        await catalog.set_tag(ALPINE, "mine", by_hand, 2, "me")
        gone = await hold_image(catalog, ALPINE, image("4"))
        await tag(catalog, ALPINE, "gone", gone)
        await catalog.tag_gone(ALPINE, "gone", 3)
        assert await candidates(catalog) == []
        for home, digest in ((OWN, pushed), (ALPINE, both), (ALPINE, by_hand), (ALPINE, gone)):
            assert not await catalog.evict(home, digest, LATER, LATER)
            assert await linked(catalog, home, digest) is not None
        await catalog.confirm_tag(ALPINE, "gone", gone, 4)  # it is there again
        assert await candidates(catalog) == [(ALPINE, gone)]

    async def test_pinned_is_not_taken_in_its_repository(self, catalog: Catalog) -> None:
        digest = await hold_image(catalog, ALPINE, image("1"))
        await hold_image(catalog, NGINX, image("1"))
        await tag(catalog, NGINX, "x", digest)
        await catalog.pin(Reference(ALPINE, None, digest), "me", 1)
        assert await candidates(catalog) == [(NGINX, digest)]
        await catalog.pin(Reference(NGINX, "x", None), "me", 1)
        assert await candidates(catalog) == []
        assert not await catalog.evict(NGINX, digest, LATER, LATER)
        await catalog.unpin(Reference(ALPINE, None, digest), None)
        await catalog.pin(Reference(ALPINE, "x", None), "me", 1)  # a tag that is not there
        assert await candidates(catalog) == [(ALPINE, digest)]
        assert await catalog.evict(ALPINE, digest, LATER, LATER)
        assert await collect(catalog) == set()  # another repository holds it

    async def test_an_index_is_taken_with_its_children(self, catalog: Catalog) -> None:
        tagged, pinned, pushed, shared, lost = children = [image(str(number)) for number in range(5)]
        top = await hold_index(catalog, ALPINE, children, at=1)
        other = await hold_image(catalog, ALPINE, index([shared]), at=5)
        await tag(catalog, ALPINE, "latest", top)
        await tag(catalog, ALPINE, "x", tagged.descriptor.digest)
        await catalog.pin(Reference(ALPINE, None, pinned.descriptor.digest), "me", 1)
        await catalog.link(ALPINE, pushed.descriptor.digest, Proof.PUSHED, 1, is_manifest=True)
        assert await candidates(catalog) == [(ALPINE, top), (ALPINE, other)]
        assert not await catalog.evict(ALPINE, lost.descriptor.digest, LATER, LATER)  # not on its own
        assert await catalog.evict(ALPINE, top, LATER, 7)
        assert not await catalog.evict(ALPINE, top, LATER, 7)
        assert await catalog.tags(ALPINE) == ["x"]
        assert await catalog.history(ALPINE, "latest", 1) == [Move("latest", 7, None, "eviction")]
        assert await collect(catalog) == {top, lost.descriptor.digest, digest_of("4")}
        assert await candidates(catalog) == [(ALPINE, tagged.descriptor.digest), (ALPINE, other)]

    async def test_what_was_used_meanwhile_is_not_taken(self, catalog: Catalog) -> None:
        digest = await hold_image(catalog, ALPINE, image("1"), at=10)
        assert not await catalog.evict(ALPINE, digest, 10, 20)
        assert not await catalog.evict(NGINX, digest, 11, 20)
        assert not await catalog.evict(ALPINE, digest_of("unknown"), 11, 20)
        assert await catalog.evict(ALPINE, digest, 11, 20)

    async def test_quarantined_is_not_taken(self, catalog: Catalog) -> None:
        digest = await hold_image(catalog, ALPINE, image("1"))
        await catalog.quarantine(digest)
        assert await candidates(catalog) == []
        assert not await catalog.evict(ALPINE, digest, LATER, LATER)

    # --- what nothing needs -------------------------------------------------------------------------------

    async def test_unreferenced_is_what_nothing_names_oldest_first(self, catalog: Catalog) -> None:
        for at, text in enumerate(("b", "aa", "c"), start=1):
            await catalog.hold(digest_of(text), len(text), "here", [(ALPINE, Proof.ANONYMOUS)], at)
        await hold_image(catalog, ALPINE, image("c"))
        expected = [(digest_of("b"), 1), (digest_of("aa"), 2)]
        assert await catalog.unreferenced(LATER, 10) == expected
        assert await catalog.unreferenced(LATER, 1) == expected[:1]
        assert await catalog.unreferenced(2, 10) == expected[:1]
        await catalog.touch([], [digest_of("b"), digest_of("unknown")], 5)
        assert await catalog.unreferenced(LATER, 10) == expected[::-1]
        await catalog.quarantine(digest_of("aa"))  # what is rotten goes like all else that nothing needs
        assert await catalog.unreferenced(LATER, 10) == expected[::-1]
        assert await catalog.unreferenced(LATER, 1) == expected[1:]

    async def test_an_image_is_collected_from_the_top(self, catalog: Catalog) -> None:
        child = image("1")
        top = await hold_index(catalog, ALPINE, [child])
        await catalog.remove_manifest(ALPINE, top, 2, "me")
        found = []
        for _ in range(3):
            found.append({digest for digest, _ in await catalog.unreferenced(LATER, 10)})
            for digest in found[-1]:
                assert await catalog.begin_delete(digest, LATER)
                await catalog.deleted(digest)
        assert found == [{top}, {child.descriptor.digest}, {digest_of("1"), CONFIG_DIGEST}]

    async def test_what_was_used_since_then_is_not_deleted(self, catalog: Catalog) -> None:
        await catalog.hold(digest_of("a"), 1, "here", [], 10)
        assert await catalog.begin_delete(digest_of("a"), 10) is None
        await catalog.touch([], [digest_of("a")], 20)
        assert await catalog.begin_delete(digest_of("a"), 20) is None
        assert await catalog.begin_delete(digest_of("a"), 21) == "here"

    async def test_who_deletes_on_purpose_spares_uploads_only(self, catalog: Catalog) -> None:
        at = 1_000_000.0
        await catalog.hold(digest_of("upload"), 1, "here", [(OWN, Proof.PUSHED)], at)
        await catalog.hold(digest_of("pulled"), 1, "there", [(ALPINE, Proof.ANONYMOUS)], at + 1000)  # the clock was set
        assert await catalog.begin_delete(digest_of("upload"), now=at) is None
        assert await catalog.begin_delete(digest_of("pulled"), now=at) == "there"
        assert await catalog.begin_delete(digest_of("upload"), now=at + UPLOAD_GRACE + 1) == "here"

    async def test_a_pinned_digest_is_needed(self, catalog: Catalog) -> None:
        manifest = image("1")
        digest = await hold_image(catalog, ALPINE, manifest)
        await catalog.pin(Reference(TOOL, None, digest), "me", 1)
        await catalog.remove_manifest(ALPINE, digest, 2, "me")
        assert await collect(catalog) == set()
        assert await catalog.begin_delete(digest) is None
        await catalog.unpin(Reference(TOOL, None, digest), "me")
        assert len(await collect(catalog)) == 3

    @pytest.mark.parametrize("how", ["upload", "mount"])
    async def test_an_upload_waits_a_day_for_its_manifest(self, catalog: Catalog, how: str) -> None:
        digest, at = digest_of("a"), 1_000_000.0
        if how == "upload":
            await catalog.hold(digest, 1, "here", [(OWN, Proof.PUSHED)], at)
        else:
            await catalog.hold(digest, 1, "here", [(ALPINE, Proof.ANONYMOUS)], 1)
            assert await catalog.link(OWN, digest, Proof.PUSHED, at, is_manifest=False)
        await catalog.hold(digest_of("pulled"), 1, "there", [(ALPINE, Proof.ANONYMOUS)], at)
        assert await catalog.unreferenced(at + UPLOAD_GRACE, 10) == [(digest_of("pulled"), 1)]
        assert await catalog.begin_delete(digest, at + UPLOAD_GRACE) is None
        assert (digest, 1) in await catalog.unreferenced(at + UPLOAD_GRACE + 1, 10)
        assert await catalog.begin_delete(digest, at + UPLOAD_GRACE + 1) == "here"

    async def test_once_it_came_the_manifest_alone_keeps_it(self, catalog: Catalog) -> None:
        digest = await hold_image(catalog, OWN, image("1"), Proof.PUSHED, at=1_000_000)
        await catalog.remove_manifest(OWN, digest, 1_000_001, "me")
        assert len(await collect(catalog, 1_000_002)) == 3

    async def test_unless_it_was_uploaded_again(self, catalog: Catalog) -> None:
        digest = await hold_image(catalog, OWN, image("1"), Proof.PUSHED, at=1_000_000)
        await catalog.hold(digest_of("1"), 1, "here", [(OWN, Proof.PUSHED)], 1_000_001)
        await catalog.remove_manifest(OWN, digest, 1_000_002, "me")
        assert await collect(catalog, 1_000_003) == {digest, CONFIG_DIGEST}

    async def test_evictions_are_foreseen(self, catalog: Catalog) -> None:
        child, other = image("1"), image("1", "22")
        top = await hold_index(catalog, ALPINE, [child, other])
        kept = await hold_image(catalog, NGINX, image("22"))
        await catalog.pin(Reference(NGINX, None, kept), "me", 1)
        await catalog.hold(digest_of("loose"), 5, "here", [(ALPINE, Proof.ANONYMOUS)], 1)
        await catalog.hold(digest_of("upload"), 5, "here", [(OWN, Proof.PUSHED)], LATER)
        foreseen = dict(await catalog.foresee_evictions([(ALPINE, top)], LATER + 1))
        assert foreseen == {
            top: index([child, other]).descriptor.size,
            child.descriptor.digest: child.descriptor.size,
            other.descriptor.digest: other.descriptor.size,
            digest_of("1"): 1,
            digest_of("loose"): 5,
        }
        assert await catalog.foresee_freed([(ALPINE, top)], LATER + 1) == (len(foreseen), sum(foreseen.values()))
        assert await catalog.foresee_evictions([], LATER) == [(digest_of("loose"), 5)]
        assert await catalog.evict(ALPINE, top, LATER, LATER)  # nothing had changed
        assert await collect(catalog, LATER + 1) == set(foreseen)

    async def test_a_platform_that_was_removed_is_foreseen_too(self, catalog: Catalog) -> None:
        child, other = image("1"), image("22")
        top = await hold_index(catalog, ALPINE, [child, other])
        await catalog.remove_manifest(ALPINE, child.descriptor.digest, 2, "me")
        assert dict(await catalog.foresee_evictions([], LATER)).keys() == {child.descriptor.digest, digest_of("1")}
        await catalog.remove_manifest(ALPINE, top, 2, "me")  # now nobody holds any of it
        assert len(await catalog.foresee_evictions([], LATER)) == 6

    # --- the whole ----------------------------------------------------------------------------------------

    async def test_states(self, catalog: Catalog) -> None:
        for text in "abc":
            await catalog.hold(digest_of(text), 7, "here", [], 1)
        await catalog.quarantine(digest_of("b"))
        await catalog.begin_delete(digest_of("c"))
        asked = [digest_of(text) for text in "abcd"]
        assert await catalog.states(asked) == {
            digest_of("a"): "held",
            digest_of("b"): "quarantined",
            digest_of("c"): "deleting",
        }
        assert await catalog.states([]) == {}
        assert (await catalog.held_bytes(), await catalog.stored_bytes()) == (7, 21)

    async def test_held_bytes_count_each_blob_once(self, catalog: Catalog) -> None:
        assert await catalog.held_bytes() == 0
        await catalog.hold(digest_of("a"), 10, "here", [(ALPINE, Proof.ANONYMOUS), (NGINX, Proof.ANONYMOUS)], 1)
        await catalog.hold(digest_of("b"), 5, "there", [], 1)
        assert await catalog.held_bytes() == 15
        await catalog.quarantine(digest_of("b"))
        assert await catalog.held_bytes() == 10

    async def test_verification_walks_by_digest(self, catalog: Catalog) -> None:
        digests = sorted(digest_of(str(number)) for number in range(5))
        for digest in digests:
            await catalog.hold(digest, 7, f"place of {digest}", [], 1)
        await catalog.quarantine(digests[2])
        rows = [(digest, f"place of {digest}", 7) for digest in digests if digest != digests[2]]
        assert await catalog.unverified(None, 10) == rows
        assert await catalog.unverified(None, 2) == rows[:2]
        assert await catalog.unverified(digests[2], 10) == rows[2:]
        assert await catalog.unverified(digests[-1], 10) == []
        await catalog.verified([digests[0], digest_of("unknown")], 5)
        assert await catalog.quarantined(None, 10) == [(digests[2], f"place of {digests[2]}", 7)]
        assert await catalog.quarantined(digests[2], 10) == []
        await catalog.quarantine(digests[0])
        assert [row[0] for row in await catalog.quarantined(None, 1)] == [digests[0]]
        await catalog.hold(digests[2], 7, "elsewhere", [], 2)
        assert [row[0] for row in await catalog.quarantined(None, 10)] == [digests[0]]

    async def test_where_a_blob_is_linked(self, catalog: Catalog) -> None:
        digest = await hold_image(catalog, NGINX, image("1"))
        await catalog.link(ALPINE, digest, Proof.CREDENTIALS, 2, is_manifest=True)
        await catalog.link(ALPINE, digest, Proof.ANONYMOUS, 2, is_manifest=False)
        homes = [(ALPINE, False), (ALPINE, True), (NGINX, True)]
        assert await catalog.homes(digest, 10) == homes
        assert await catalog.homes(digest, 2) == homes[:2]
        await catalog.quarantine(digest)
        assert await catalog.homes(digest, 10) == homes
        assert await catalog.homes(digest_of("unknown"), 10) == []

    async def test_a_manifest_is_not_public_as_a_blob(self, catalog: Catalog) -> None:
        digest = await hold_image(catalog, ALPINE, image("1"))
        as_blob = await catalog.holding(NGINX, digest, is_manifest=False)
        as_manifest = await catalog.holding(NGINX, digest, is_manifest=True)
        assert as_blob is not None
        assert as_manifest is not None
        assert not as_blob.public
        assert as_manifest.public
        assert not await catalog.supplied("docker.io", digest, is_manifest=False)
        assert await catalog.supplied("docker.io", digest, is_manifest=True)

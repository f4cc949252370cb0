"""What every catalog does with what clients put here and take away again."""

from collections.abc import Sequence

import pytest

from mirror.errors import StoreFailed
from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest, Role
from mirror.oci.names import Reference, Repository
from mirror.store.catalog import Catalog
from mirror.store.inventory import Move
from mirror.store.protocols import UPLOAD_GRACE, Link, Origin, Tag
from mirror.store.pushing import Push, Upload
from tests.store.samples import ALPINE, CONFIG, NGINX, OWN, TOOL, digest_of, hold_image, image, index
from tests.store.suites_collection import LATER, collect, linked

A, B = digest_of("a"), digest_of("b")
CONFIG_DIGEST = Digest.of(CONFIG)
IMAGE = image("a")
DIGEST = IMAGE.descriptor.digest
NOW = 1_000_000.0


def upload(upload_id: str, at: float = NOW, home: Repository = OWN) -> Upload:
    """An upload that was begun."""
    return Upload(upload_id, home, "user me", "sha256", at)


def pushed(
    *tags: str, needed: Sequence[tuple[Digest, bool]] = (), adopted: Sequence[Digest] = (), target: str | None = None
) -> Push:
    """How a manifest is put here."""
    return Push(tags, Origin.LOCAL, NOW, "me", tuple(needed), tuple(adopted), target)


def children(manifest: Manifest) -> list[tuple[Digest, bool]]:
    """What it needs, as manifest or as blob."""
    return [(child.descriptor.digest, child.role is Role.MANIFEST) for child in manifest.children()]


async def blobs(catalog: Catalog, home: Repository, *texts: str) -> None:
    """Blobs that were uploaded, and the config."""
    for digest, size in ((CONFIG_DIGEST, len(CONFIG)), *((digest_of(text), len(text)) for text in texts)):
        await catalog.finish_upload("none", home, digest, size, "there", NOW)


async def push(catalog: Catalog, manifest: Manifest, *tags: str, home: Repository = OWN) -> Digest:
    """A manifest that was put here, its children before it."""
    for child in manifest.children():
        if child.role is not Role.MANIFEST:
            await catalog.finish_upload("none", home, child.descriptor.digest, child.descriptor.size, "there", NOW)
    assert await catalog.push_manifest(home, manifest, "place", pushed(*tags, needed=children(manifest))) is None
    return manifest.descriptor.digest


class PushingSuite:
    """`Uploads` and `Pushes`."""

    # --- uploads ------------------------------------------------------------------------------------------

    async def test_an_upload_is_found_until_it_ends(self, catalog: Catalog) -> None:
        first, second = upload("1", NOW + 5), upload("2", home=TOOL)
        for each in (first, second):
            await catalog.begin_upload(each)
        assert await catalog.upload("1") == first
        assert await catalog.upload("3") is None
        assert list(await catalog.uploads()) == [second, first]
        await catalog.touch_upload("2", NOW + 9)
        await catalog.touch_upload("2", NOW)  # a late report
        await catalog.touch_upload("3", NOW)
        assert [(each.id, each.touched_at) for each in await catalog.uploads()] == [("1", NOW + 5), ("2", NOW + 9)]
        await catalog.end_upload("1")
        await catalog.end_upload("3")
        assert [each.id for each in await catalog.uploads()] == ["2"]

    async def test_an_upload_makes_no_name(self, catalog: Catalog) -> None:
        await catalog.begin_upload(upload("1"))
        assert await catalog.own_repositories() == []
        assert await catalog.repositories(None, 10) == []

    async def test_what_was_uploaded_is_linked_and_its_upload_over(self, catalog: Catalog) -> None:
        await catalog.begin_upload(upload("1"))
        await catalog.finish_upload("1", OWN, A, 7, "there", NOW)
        assert await catalog.upload("1") is None
        holding = await catalog.holding(OWN, A, is_manifest=False)
        assert holding is not None
        assert (holding.size, holding.location, holding.link) == (7, "there", Link(pushed_at=NOW))
        assert not holding.public
        assert not await catalog.supplied(OWN.registry, A, is_manifest=False)  # no registry has delivered it
        assert await linked(catalog, TOOL, A, is_manifest=False) is None
        assert await catalog.own_repositories() == [OWN]

    async def test_an_upload_waits_for_its_manifest(self, catalog: Catalog) -> None:
        await catalog.finish_upload("1", OWN, A, 7, "there", NOW)
        assert await catalog.begin_delete(A, LATER, now=NOW + UPLOAD_GRACE - 1) is None
        assert await catalog.begin_delete(A, LATER, now=NOW + UPLOAD_GRACE + 1) == "there"

    async def test_nothing_is_held_while_it_is_deleted(self, catalog: Catalog) -> None:
        await catalog.begin_upload(upload("1"))
        await catalog.finish_upload("none", OWN, A, 7, "there", NOW)
        assert await catalog.begin_delete(A)
        with pytest.raises(StoreFailed):
            await catalog.finish_upload("1", OWN, A, 7, "there", NOW)
        assert await catalog.upload("1") == upload("1")
        assert await catalog.holding(OWN, A, is_manifest=False) is None

    # --- a manifest ---------------------------------------------------------------------------------------

    async def test_a_manifest_with_its_tags(self, catalog: Catalog) -> None:
        await push(catalog, IMAGE, "1", "latest")
        assert await catalog.tags(OWN) == ["1", "latest"]
        assert await catalog.tag(OWN, "1") == Tag("1", DIGEST, Origin.LOCAL, NOW, NOW, None)
        assert await linked(catalog, OWN, DIGEST) == Link(pushed_at=NOW)
        assert await catalog.history(OWN, "1", 5) == [Move("1", NOW, DIGEST, "me")]
        assert await catalog.expected_size(OWN, A) == 1
        assert await collect(catalog) == set()

    async def test_a_manifest_without_a_tag_stays(self, catalog: Catalog) -> None:
        await push(catalog, IMAGE)
        assert await catalog.tags(OWN) == []
        assert await collect(catalog) == set()
        assert await catalog.candidates(10) == []

    async def test_a_tag_moves_whatever_it_named(self, catalog: Catalog) -> None:
        for each in (IMAGE, image("b"), IMAGE):
            await push(catalog, each, "1")
            found = await catalog.tag(OWN, "1")
            assert found is not None
            assert found.manifest == each.descriptor.digest
        assert len(await catalog.history(OWN, "1", 5)) == 3

    async def test_a_child_that_is_needed_and_not_there_is_named_and_nothing_changes(self, catalog: Catalog) -> None:
        await blobs(catalog, TOOL, "a")  # elsewhere
        raw = pushed("1", needed=children(IMAGE))
        assert await catalog.push_manifest(OWN, IMAGE, "place", raw) == CONFIG_DIGEST
        await blobs(catalog, OWN)
        assert await catalog.push_manifest(OWN, IMAGE, "place", raw) == A
        assert await catalog.tags(OWN) == []
        assert await linked(catalog, OWN, DIGEST) is None
        assert await catalog.manifest_type(DIGEST) is None

    async def test_a_child_is_needed_as_what_it_is(self, catalog: Catalog) -> None:
        parent = index([IMAGE])
        await catalog.finish_upload("none", OWN, DIGEST, 1, "there", NOW)  # the image, as a blob
        assert await catalog.push_manifest(OWN, parent, "place", pushed(needed=children(parent))) == DIGEST
        await push(catalog, IMAGE)
        assert await catalog.push_manifest(OWN, parent, "place", pushed(needed=children(parent))) is None

    async def test_what_is_not_held_any_more_is_not_there(self, catalog: Catalog) -> None:
        await blobs(catalog, OWN, "a")
        await catalog.quarantine(A)
        assert await catalog.push_manifest(OWN, IMAGE, "place", pushed(needed=children(IMAGE))) == A

    async def test_public_blobs_are_adopted(self, catalog: Catalog) -> None:
        await hold_image(catalog, ALPINE, IMAGE)
        assert await catalog.push_manifest(OWN, IMAGE, "place", pushed(adopted=[CONFIG_DIGEST, A])) is None
        for digest in (CONFIG_DIGEST, A):
            assert await linked(catalog, OWN, digest, is_manifest=False) == Link(pushed_at=NOW)

    async def test_where_one_cannot_be_adopted_none_is(self, catalog: Catalog) -> None:
        """Breaks if they are linked one after the other: the name would be own, and a link be left behind."""
        await hold_image(catalog, ALPINE, image("a"))
        assert await catalog.push_manifest(OWN, IMAGE, "place", pushed("1", adopted=[A, B])) == B
        assert await linked(catalog, OWN, A, is_manifest=False) is None
        assert await catalog.own_repositories() == []

    async def test_what_is_to_be_sent_waits(self, catalog: Catalog) -> None:
        await blobs(catalog, TOOL, "a")
        sent = pushed("1", "2", needed=children(IMAGE), target="ghcr.io")
        assert await catalog.push_manifest(TOOL, IMAGE, "place", sent) is None
        waiting = await catalog.queued(10)
        assert [(each.repository, each.reference, each.manifest, each.target) for each in waiting] == [
            (TOOL, "1", DIGEST, "ghcr.io"),
            (TOOL, "2", DIGEST, "ghcr.io"),
        ]
        assert await catalog.push_manifest(TOOL, image("a", note="x"), "place", pushed(target="ghcr.io")) is None
        assert [each.reference for each in await catalog.queued(10)][2:] == [
            str(image("a", note="x").descriptor.digest)
        ]

    async def test_a_manifest_ends_the_wait_of_its_blobs(self, catalog: Catalog) -> None:
        await push(catalog, IMAGE, "1")
        assert await catalog.drop_manifest(OWN, DIGEST, NOW, "me") == ["1"]
        assert await collect(catalog) == {DIGEST, A, CONFIG_DIGEST}

    # --- taking away --------------------------------------------------------------------------------------

    async def test_untagging_takes_nothing_else(self, catalog: Catalog) -> None:
        await push(catalog, IMAGE, "1", "2")
        await catalog.pin(Reference(OWN, "1", None), "me", NOW)
        assert await catalog.untag(OWN, "1", NOW + 1, "you") == DIGEST
        assert await catalog.untag(OWN, "1", NOW + 1, "you") is None
        assert await catalog.untag(TOOL, "2", NOW + 1, "you") is None
        assert await catalog.tags(OWN) == ["2"]
        assert await catalog.pins() == []
        assert await catalog.untag(OWN, "2", NOW + 2, "you") == DIGEST
        assert await linked(catalog, OWN, DIGEST) is not None
        assert await collect(catalog) == set()
        assert [(each.name, each.manifest, each.actor) for each in await catalog.history(OWN, None, 2)] == [
            ("2", None, "you"),
            ("1", None, "you"),
        ]

    async def test_a_manifest_goes_with_its_tags_and_pins_and_what_waits(self, catalog: Catalog) -> None:
        other = image("b")
        await push(catalog, other, "3", home=TOOL)
        await blobs(catalog, TOOL, "a")
        await catalog.push_manifest(TOOL, IMAGE, "place", pushed("1", "2", target="ghcr.io"))
        for text in ("1", "3"):
            await catalog.pin(Reference(TOOL, text, None), "me", NOW)
        await catalog.pin(Reference(TOOL, None, DIGEST), "me", NOW)
        assert await catalog.drop_manifest(TOOL, DIGEST, NOW + 1, "you") == ["1", "2"]
        assert await catalog.drop_manifest(TOOL, DIGEST, NOW + 1, "you") is None
        assert await catalog.tags(TOOL) == ["3"]
        assert [each.reference for each in await catalog.pins()] == ["3"]
        assert await catalog.queued(10) == []
        assert await linked(catalog, TOOL, DIGEST) is None
        assert await linked(catalog, TOOL, A, is_manifest=False) is not None

    async def test_it_goes_in_one_repository_only(self, catalog: Catalog) -> None:
        for home in (OWN, TOOL):
            await push(catalog, IMAGE, "1", home=home)
        assert await catalog.drop_manifest(OWN, DIGEST, NOW, "me") == ["1"]
        assert await catalog.drop_manifest(NGINX, DIGEST, NOW, "me") is None
        assert await catalog.tags(TOOL) == ["1"]
        assert await linked(catalog, TOOL, DIGEST) is not None
        assert await collect(catalog) == set()

    async def test_an_index_goes_and_its_images_stay(self, catalog: Catalog) -> None:
        await push(catalog, IMAGE)
        parent = await push(catalog, index([IMAGE]), "1")
        assert await catalog.drop_manifest(OWN, parent, NOW, "me") == ["1"]
        assert await linked(catalog, OWN, DIGEST) is not None
        assert await collect(catalog) == {parent}

    async def test_a_blob_goes_whatever_needs_it(self, catalog: Catalog) -> None:
        await push(catalog, IMAGE, "1")
        await push(catalog, IMAGE, "1", home=TOOL)
        assert await catalog.drop_blob(OWN, A)
        assert not await catalog.drop_blob(OWN, A)
        assert not await catalog.drop_blob(OWN, DIGEST)  # a manifest
        assert not await catalog.drop_blob(NGINX, A)
        assert await linked(catalog, OWN, A, is_manifest=False) is None
        assert await linked(catalog, TOOL, A, is_manifest=False) is not None
        assert await catalog.push_manifest(OWN, IMAGE, "place", pushed(needed=children(IMAGE))) == A

    async def test_a_name_stays_own(self, catalog: Catalog) -> None:
        await push(catalog, IMAGE, "1")
        await catalog.drop_manifest(OWN, DIGEST, NOW, "me")
        for digest in (A, CONFIG_DIGEST):
            await catalog.drop_blob(OWN, digest)
        assert await collect(catalog) == {DIGEST, A, CONFIG_DIGEST}
        assert await catalog.own_repositories() == [OWN]

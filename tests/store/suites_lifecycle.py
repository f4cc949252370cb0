"""What every catalog does with what people set."""

import pytest

from mirror.oci.digest import Digest
from mirror.oci.names import Reference, Repository
from mirror.store.catalog import Catalog
from mirror.store.inventory import Miss, Move, Pin, View
from mirror.store.protocols import UPLOAD_GRACE, Link, Origin, Proof, Tag
from tests.store.samples import ALPINE, NGINX, OWN, TOOL, digest_of, hold_image, hold_index, image, index, tag
from tests.store.suites_collection import CONFIG_DIGEST, LATER, collect, linked


class LifecycleSuite:
    """`Lifecycle`."""

    # --- tags by hand -------------------------------------------------------------------------------------

    async def test_a_tag_is_moved_by_hand_wherever_it_was(self, catalog: Catalog) -> None:
        one, two = await hold_image(catalog, ALPINE, image("1")), await hold_image(catalog, ALPINE, image("2"))
        await tag(catalog, ALPINE, "3", one)
        await catalog.tag_gone(ALPINE, "3", 5)
        assert await catalog.set_tag(ALPINE, "3", two, 6, "me")
        assert await catalog.tag(ALPINE, "3") == Tag("3", two, Origin.LOCAL, 6, 6, None)
        assert await catalog.set_tag(ALPINE, "3", two, 7, "me")
        assert await catalog.tag(ALPINE, "3") == Tag("3", two, Origin.LOCAL, 6, 7, None)
        assert [move.at for move in await catalog.history(ALPINE, "3", 10)] == [6, 1]

    async def test_elsewhere_it_names_only_what_is_linked_there(self, catalog: Catalog) -> None:
        digest = await hold_image(catalog, ALPINE, image("1"))
        assert not await catalog.set_tag(NGINX, "3", digest, 2, "me")
        assert not await catalog.set_tag(ALPINE, "3", digest_of("1"), 2, "me")
        for nothing in (digest_of("unknown"), digest_of("1")):  # the second is a layer
            assert not await catalog.set_tag(OWN, "3", nothing, 2, "me", View(ALPINE, trusted=True))
        assert not await catalog.set_tag(OWN, "3", digest, 2, "me")  # it says no source
        await catalog.quarantine(digest)
        assert not await catalog.set_tag(ALPINE, "3", digest, 2, "me")
        assert not await catalog.set_tag(OWN, "3", digest, 2, "me", View(ALPINE, trusted=True))
        assert await catalog.tags(ALPINE) == await catalog.tags(OWN) == []

    @pytest.mark.parametrize("proof", [Proof.ANONYMOUS, Proof.CREDENTIALS])
    async def test_an_own_repository_takes_the_whole_image(self, catalog: Catalog, proof: Proof) -> None:
        child = image("1")
        top = await hold_index(catalog, TOOL, [child], proof)
        assert await catalog.set_tag(OWN, "v1", top, 5, "me", View(TOOL, trusted=True))
        pushed = Link(pushed_at=5)
        for digest in (top, child.descriptor.digest):
            assert await linked(catalog, OWN, digest) == pushed
        for digest in (digest_of("1"), CONFIG_DIGEST):
            assert await linked(catalog, OWN, digest, is_manifest=False) == pushed
        await catalog.remove_manifest(TOOL, top, 6, "me")
        assert await collect(catalog) == set()

    async def test_but_no_layer_that_is_only_named(self, catalog: Catalog) -> None:
        await catalog.hold(digest_of("secret"), 6, "there", [(TOOL, Proof.CREDENTIALS)], 1)
        await catalog.hold(digest_of("public"), 6, "there", [(NGINX, Proof.ANONYMOUS)], 1)
        private, elsewhere = image("private"), image("elsewhere")
        await hold_image(catalog, TOOL, private, Proof.CREDENTIALS)
        await hold_image(catalog, NGINX, elsewhere)
        manifest, top = image("secret", "public"), index([private, elsewhere])
        for named in (manifest, top):
            await catalog.hold_manifest(ALPINE, named, "here", Proof.ANONYMOUS, 1)
            assert await catalog.set_tag(OWN, "v1", named.descriptor.digest, 5, "me", View(ALPINE, trusted=True))
        assert await linked(catalog, OWN, digest_of("secret"), is_manifest=False) is None
        assert await linked(catalog, OWN, digest_of("public"), is_manifest=False) == Link(pushed_at=5)
        assert await linked(catalog, OWN, private.descriptor.digest) is None
        assert await linked(catalog, OWN, elsewhere.descriptor.digest) == Link(pushed_at=5)

    async def test_nor_what_another_repository_holds_of_the_same_manifest(self, catalog: Catalog) -> None:
        """Breaks where every repository that holds the manifest gives what it has."""
        secret = image("secret")
        digest = await hold_image(catalog, TOOL, secret, Proof.CREDENTIALS)
        await catalog.hold_manifest(ALPINE, secret, "here", Proof.ANONYMOUS, 1)
        assert await catalog.set_tag(OWN, "v1", digest, 5, "me", View(ALPINE, trusted=True))
        assert await linked(catalog, OWN, digest) == Link(pushed_at=5)
        for layer in (digest_of("secret"), CONFIG_DIGEST):
            assert await linked(catalog, OWN, layer, is_manifest=False) is None
        assert await catalog.set_tag(OWN, "v1", digest, 6, "me", View(TOOL, trusted=True))
        for layer in (digest_of("secret"), CONFIG_DIGEST):
            assert await linked(catalog, OWN, layer, is_manifest=False) == Link(pushed_at=6)

    async def test_what_needs_credentials_is_taken_by_the_trusted_only(self, catalog: Catalog) -> None:
        """Breaks where a link is a link: each of its kinds is judged."""
        child, other = image("secret"), image("pushed")
        top = index([child, other])
        await hold_image(catalog, TOOL, child, Proof.CREDENTIALS)
        await hold_image(catalog, TOOL, other, Proof.PUSHED)
        await catalog.hold_manifest(TOOL, top, "here", Proof.ANONYMOUS, 1)  # private since then
        digest = top.descriptor.digest
        for trusted, taken in ((False, None), (True, Link(pushed_at=6))):
            assert await catalog.set_tag(OWN, "v1", digest, 6, "me", View(TOOL, trusted=trusted))
            assert await linked(catalog, OWN, child.descriptor.digest) == taken
            assert await linked(catalog, OWN, digest_of("secret"), is_manifest=False) == taken
            assert await linked(catalog, OWN, other.descriptor.digest) == Link(pushed_at=6)
        alone = await hold_image(catalog, TOOL, image("private"), Proof.CREDENTIALS)
        assert not await catalog.set_tag(OWN, "v2", alone, 7, "me", View(TOOL, trusted=False))
        assert not await catalog.set_tag(OWN, "v2", alone, 7, "me", View(NGINX, trusted=True))
        assert await linked(catalog, OWN, alone) is None

    async def test_what_no_repository_holds_is_taken_from_nowhere(self, catalog: Catalog) -> None:
        digest = await hold_image(catalog, ALPINE, image("1"))
        await catalog.remove_manifest(ALPINE, digest, 2, "me")
        assert not await catalog.set_tag(OWN, "v1", digest, 3, "me", View(ALPINE, trusted=True))
        assert await linked(catalog, OWN, digest_of("1"), is_manifest=False) is None

    # --- removal ------------------------------------------------------------------------------------------

    async def test_a_removed_manifest_is_at_once_invisible(self, catalog: Catalog) -> None:
        digest = await hold_image(catalog, ALPINE, image("1"), at=1)
        for name in ("b", "a"):
            await tag(catalog, ALPINE, name, digest)
        await hold_image(catalog, NGINX, image("1"), at=1)
        assert await catalog.remove_manifest(ALPINE, digest, 5, "me") == ["a", "b"]
        assert await catalog.tags(ALPINE) == []
        assert await linked(catalog, ALPINE, digest) is None
        assert await linked(catalog, NGINX, digest) is not None
        assert await collect(catalog) == set()
        assert await catalog.remove_manifest(ALPINE, digest, 5, "me") == []
        assert await catalog.remove_manifest(NGINX, digest, 5, "me") == []
        assert await collect(catalog) == {digest, digest_of("1"), CONFIG_DIGEST}
        assert await catalog.history(ALPINE, "a", 1) == [Move("a", 5, None, "me")]

    async def test_what_is_unknown_is_not_removed(self, catalog: Catalog) -> None:
        child = image("1")
        await hold_image(catalog, ALPINE, child)
        await hold_image(catalog, TOOL, index([child]))
        assert await catalog.remove_manifest(ALPINE, digest_of("unknown"), 5, "me") == []
        assert await catalog.remove_manifest(ALPINE, index([child]).descriptor.digest, 5, "me") == []  # not held here
        assert await linked(catalog, ALPINE, child.descriptor.digest) is not None

    @pytest.mark.parametrize("proof", list(Proof))
    async def test_an_index_goes_with_its_children(self, catalog: Catalog, proof: Proof) -> None:
        children = [image("1"), image("2")]
        top = await hold_index(catalog, TOOL, children, proof)
        await catalog.remove_manifest(TOOL, top, 5, "me")
        assert await catalog.images(repository=None, registry=None, cursor=None, limit=9) == ([], None)
        assert len(await collect(catalog, LATER + UPLOAD_GRACE)) == 6
        assert await catalog.held_bytes() == 0

    async def test_but_not_with_those_that_something_else_keeps(self, catalog: Catalog) -> None:
        tagged, pinned, shared, lost = children = [image(str(number)) for number in range(4)]
        top = await hold_index(catalog, ALPINE, children)
        await hold_image(catalog, ALPINE, index([shared]))
        await tag(catalog, ALPINE, "x", tagged.descriptor.digest)
        await catalog.pin(Reference(ALPINE, None, pinned.descriptor.digest), "me", 1)
        await catalog.remove_manifest(ALPINE, top, 5, "me")
        kept = [await linked(catalog, ALPINE, child.descriptor.digest) is not None for child in children]
        assert kept == [True, True, True, False]
        assert await collect(catalog) == {top, lost.descriptor.digest, digest_of("3")}

    async def test_an_index_below_an_index_too(self, catalog: Catalog) -> None:
        leaf = image("1")
        middle = index([leaf])
        top = index([middle])
        await hold_index(catalog, ALPINE, [leaf])
        await hold_image(catalog, ALPINE, top)
        await catalog.remove_manifest(ALPINE, top.descriptor.digest, 5, "me")
        assert len(await collect(catalog)) == 5

    async def test_an_image_can_lose_a_platform(self, catalog: Catalog) -> None:
        children = [image("base", "1"), image("base", "2")]
        top = await hold_index(catalog, ALPINE, children)
        await catalog.remove_manifest(ALPINE, children[1].descriptor.digest, 5, "me")
        assert await collect(catalog) == {children[1].descriptor.digest, digest_of("2")}
        assert [edge.held for edge in await catalog.edges([top])] == [True, False]

    async def test_removal_ends_the_pins_of_the_digest(self, catalog: Catalog) -> None:
        digest = await hold_image(catalog, ALPINE, image("1"))
        await tag(catalog, ALPINE, "x", digest)
        for home in (ALPINE, NGINX):
            await catalog.pin(Reference(home, None, digest), "me", 1)
        await catalog.pin(Reference(ALPINE, "x", None), "me", 1)
        await catalog.remove_manifest(ALPINE, digest, 5, "me")
        assert await catalog.pins() == [Pin(ALPINE, "x", "me", 1), Pin(NGINX, str(digest), "me", 1)]

    async def test_a_tag_goes_alone_while_something_keeps_its_manifest(self, catalog: Catalog) -> None:
        tagged, pinned, part = image("1"), image("2"), image("3")
        for manifest in (tagged, pinned):
            digest = await hold_image(catalog, ALPINE, manifest)
            await tag(catalog, ALPINE, f"of {digest.short}", digest)
        await tag(catalog, ALPINE, "other", tagged.descriptor.digest)
        await catalog.pin(Reference(ALPINE, None, pinned.descriptor.digest), "me", 1)
        await hold_index(catalog, ALPINE, [part])
        await tag(catalog, ALPINE, f"of {part.descriptor.digest.short}", part.descriptor.digest)
        for manifest in (tagged, pinned, part):
            digest = manifest.descriptor.digest
            assert await catalog.remove_tag(ALPINE, f"of {digest.short}", 5, "me") == digest
            assert await linked(catalog, ALPINE, digest) is not None
        assert await catalog.tags(ALPINE) == ["other"]
        assert await collect(catalog) == set()

    @pytest.mark.parametrize("proof", list(Proof))
    async def test_with_its_last_tag_an_image_goes_with_its_children(self, catalog: Catalog, proof: Proof) -> None:
        top = await hold_index(catalog, TOOL, [image("1"), image("2")], proof)
        await tag(catalog, TOOL, "x", top)
        await catalog.pin(Reference(TOOL, "x", None), "me", 1)
        await hold_image(catalog, NGINX, image("2"))  # somebody else's
        assert await catalog.remove_tag(TOOL, "x", 5, "me") == top
        assert await catalog.remove_tag(TOOL, "x", 6, "me") is None
        assert await catalog.remove_tag(OWN, "x", 6, "me") is None
        assert await linked(catalog, TOOL, top) is None
        assert await catalog.history(TOOL, "x", 1) == [Move("x", 5, None, "me")]
        gone = await collect(catalog, LATER + UPLOAD_GRACE)
        assert gone == {top, image("1").descriptor.digest, digest_of("1")}
        assert await catalog.pins() == [Pin(TOOL, "x", "me", 1)]

    async def test_what_an_own_repository_took_waits_for_no_manifest(self, catalog: Catalog) -> None:
        digest = await hold_image(catalog, ALPINE, image("1"), at=LATER - 2)
        await catalog.set_tag(OWN, "v1", digest, LATER - 1, "me", View(ALPINE, trusted=False))
        await catalog.remove_tag(OWN, "v1", LATER - 1, "me")
        await catalog.remove_manifest(ALPINE, digest, LATER - 1, "me")
        assert await collect(catalog) == {digest, digest_of("1"), CONFIG_DIGEST}

    async def test_a_removal_is_foreseen_and_changes_nothing(self, catalog: Catalog) -> None:
        one, two, other = image("base", "1"), image("base", "2"), image("base", "3")
        top = await hold_index(catalog, ALPINE, [one, two])
        digest = await hold_image(catalog, NGINX, other)
        for home, name, to in ((ALPINE, "a", top), (ALPINE, "b", top), (NGINX, "x", digest)):
            await tag(catalog, home, name, to)

        async def foreseen(*removals: tuple[Repository, str | Digest]) -> set[Digest]:
            found = await catalog.foresee(removals, LATER)
            assert len({each for each, _ in found}) == len(found)
            for each, size in found:
                held = await catalog.holding(ALPINE, each, is_manifest=False)
                assert held is not None
                assert held.size == size
            return {each for each, _ in found}

        first = {one.descriptor.digest, digest_of("1")}
        second = {two.descriptor.digest, digest_of("2")}
        third = {digest, digest_of("3")}
        assert await foreseen() == set()
        assert await foreseen((ALPINE, "a")) == await foreseen((ALPINE, "unknown")) == set()
        assert await foreseen((ALPINE, "a"), (ALPINE, "b")) == await foreseen((ALPINE, top)) == first | second | {top}
        assert await foreseen((ALPINE, two.descriptor.digest)) == second
        everything = first | second | third | {top, digest_of("base"), CONFIG_DIGEST}
        assert await foreseen((ALPINE, top), (NGINX, "x")) == everything
        assert await catalog.tags(ALPINE) == ["a", "b"]
        assert len(await catalog.history(ALPINE, None, 10)) == 2
        assert await collect(catalog) == set()
        await catalog.remove_tag(NGINX, "x", LATER, "me")
        await catalog.remove_manifest(ALPINE, top, LATER, "me")
        assert await collect(catalog, LATER + 1) == everything

    async def test_what_is_just_being_deleted_is_not_foreseen(self, catalog: Catalog) -> None:
        await catalog.hold(digest_of("a"), 1, "here", [], 1)
        assert await catalog.begin_delete(digest_of("a")) is not None
        assert await catalog.foresee([(ALPINE, digest_of("a"))], LATER) == []

    async def test_a_name_once_own_stays(self, catalog: Catalog) -> None:
        assert await catalog.own_repositories() == []
        digest = await hold_image(catalog, ALPINE, image("1"))
        other = Repository("local", "app")
        for home in (OWN, other):
            await catalog.set_tag(home, "v1", digest, 2, "me", View(ALPINE, trusted=False))
            await catalog.remove_tag(home, "v1", 3, "me")
        never, source = Repository("local", "never"), View(ALPINE, trusted=True)
        assert not await catalog.set_tag(never, "v1", digest_of("unknown"), 2, "me", source)
        await catalog.remove_manifest(ALPINE, digest, 3, "me")
        assert await collect(catalog)
        assert await catalog.own_repositories() == [other, OWN]

    # --- pins ---------------------------------------------------------------------------------------------

    async def test_pins_have_owners(self, catalog: Catalog) -> None:
        reference = Reference(ALPINE, "3", None)
        for owner, at in (("me", 1), ("you", 2), ("me", 3)):
            await catalog.pin(reference, owner, at)
        await catalog.pin(Reference(ALPINE, "3", digest_of("a")), "me", 4)
        digest = str(digest_of("a"))
        assert await catalog.pins() == [
            Pin(ALPINE, "3", "me", 1),
            Pin(ALPINE, "3", "you", 2),
            Pin(ALPINE, digest, "me", 4),
        ]
        assert await catalog.unpin(reference, "nobody") == 0
        assert await catalog.unpin(Reference(NGINX, "3", None), None) == 0
        assert await catalog.unpin(reference, "me") == 1
        assert await catalog.unpin(reference, None) == 1
        assert await catalog.unpin(Reference(ALPINE, None, digest_of("a")), None) == 1
        assert await catalog.pins() == []

    async def test_a_pinned_repository_holds_nothing_yet(self, catalog: Catalog) -> None:
        await catalog.pin(Reference(ALPINE, "3", None), "me", 1)
        assert await catalog.repositories(None, 10) == []
        assert (await catalog.totals()).repositories == 0

    async def test_only_the_tag_that_was_meant_is_dropped_and_no_pinned_one(self, catalog: Catalog) -> None:
        one, two = await hold_image(catalog, ALPINE, image("1")), await hold_image(catalog, ALPINE, image("2"))
        await tag(catalog, ALPINE, "3", two)
        await catalog.drop_tag(ALPINE, "3", one, 2, "me")  # it was moved meanwhile
        assert await catalog.tag(ALPINE, "3") is not None
        await catalog.pin(Reference(ALPINE, "3", None), "me", 3)
        await catalog.drop_tag(ALPINE, "3", two, 4, "me")
        assert await catalog.tag(ALPINE, "3") is not None
        await catalog.unpin(Reference(ALPINE, "3", None), None)
        await catalog.drop_tag(ALPINE, "3", two, 5, "me")
        assert await catalog.tag(ALPINE, "3") is None

    # --- history and misses -------------------------------------------------------------------------------

    async def test_history_is_newest_first(self, catalog: Catalog) -> None:
        one, two = await hold_image(catalog, ALPINE, image("1")), await hold_image(catalog, ALPINE, image("2"))
        await tag(catalog, ALPINE, "3", one, at=1)
        await catalog.set_tag(ALPINE, "3", two, 2, "me")
        await tag(catalog, ALPINE, "4", one, at=3)
        await catalog.drop_tag(ALPINE, "3", two, 4, "you")
        third = [Move("3", 4, None, "you"), Move("3", 2, two, "me"), Move("3", 1, one, "test")]
        assert await catalog.history(ALPINE, "3", 10) == third
        assert await catalog.history(ALPINE, "3", 2) == third[:2]
        assert await catalog.history(ALPINE, None, 10) == [third[0], Move("4", 3, one, "test"), *third[1:]]
        assert await catalog.history(ALPINE, None, 1) == third[:1]
        assert await catalog.history(NGINX, None, 10) == []

    async def test_misses_are_listed_latest_first_until_forgotten(self, catalog: Catalog) -> None:
        for name, at in (("a", 1), ("b", 5), ("a", 2), ("c", 5), ("b", 3)):
            await catalog.missed(name, at)
        expected = [Miss("c", 1, 5), Miss("b", 2, 5), Miss("a", 2, 2)]
        assert await catalog.misses(10) == expected
        assert await catalog.misses(1) == expected[:1]
        await catalog.forget_misses()
        assert await catalog.misses(10) == []

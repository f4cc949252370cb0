"""What every catalog does with lists of images and with what configs say."""

import pytest

from mirror.errors import RequestInvalid
from mirror.oci.digest import Digest
from mirror.oci.manifest import OCI_CONFIG, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST, Manifest
from mirror.oci.names import Reference, Repository
from mirror.store.catalog import Catalog
from mirror.store.inventory import ConfigFacts, ImageRow, View, Weight, cursor_after
from mirror.store.protocols import Link, Origin, Proof, Visibility
from tests.store.samples import ALPINE, CONFIG, NGINX, OWN, TOOL, digest_of, hold_image, hold_index, image, index, tag

Named = tuple[Repository, str | None, Digest]


def named(rows: object) -> list[Named]:
    """What identifies each row."""
    assert isinstance(rows, list)
    return [(row.repository, row.tag, row.manifest) for row in rows]


async def every(
    catalog: Catalog, *, limit: int = 1000, repository: Repository | None = None, registry: str | None = None
) -> list[ImageRow]:
    """All pages."""
    rows: list[ImageRow] = []
    cursor = None
    while True:
        page, cursor = await catalog.images(repository=repository, registry=registry, cursor=cursor, limit=limit)
        assert len(page) == limit or cursor is None
        rows += page
        if cursor is None:
            return rows


async def fill(catalog: Catalog) -> list[Named]:
    """Some images in three registries; what a list of them names, in its order."""
    one, two = await hold_image(catalog, ALPINE, image("1")), await hold_image(catalog, ALPINE, image("2"))
    three = await hold_image(catalog, NGINX, image("3"), at=5)
    four = await hold_image(catalog, NGINX, image("4"), at=4)
    five = await hold_image(catalog, TOOL, image("5"), Proof.CREDENTIALS)
    six = await hold_image(catalog, OWN, image("6"), Proof.PUSHED)
    for name in ("b", "a", "10", "B"):
        await tag(catalog, ALPINE, name, two if name == "a" else one)
    await tag(catalog, TOOL, "a", five)
    return [
        *((ALPINE, name, two if name == "a" else one) for name in ("10", "B", "a", "b")),
        (TOOL, "a", five),
        (NGINX, None, four),
        (NGINX, None, three),
        (OWN, None, six),
    ]


class ImagesSuite:
    """`Images`."""

    # --- lists --------------------------------------------------------------------------------------------

    async def test_nothing_is_listed_where_nothing_is_held(self, catalog: Catalog) -> None:
        assert await catalog.images(repository=None, registry=None, cursor=None, limit=10) == ([], None)
        await catalog.hold(digest_of("a"), 1, "here", [(ALPINE, Proof.ANONYMOUS)], 1)
        assert await every(catalog) == []

    async def test_a_tag_is_an_image(self, catalog: Catalog) -> None:
        manifest = image("a")
        digest = await hold_image(catalog, ALPINE, manifest, Proof.CREDENTIALS, at=1)
        await tag(catalog, ALPINE, "3", digest, at=2)
        await catalog.touch([(ALPINE, "3")], [], 3)
        await catalog.tag_gone(ALPINE, "3", 4)
        (row,) = await every(catalog)
        assert row == ImageRow(
            repository=ALPINE,
            tag="3",
            manifest=digest,
            media_type=OCI_MANIFEST,
            manifest_size=manifest.descriptor.size,
            origin=Origin.UPSTREAM,
            link=Link(credentials_at=1),
            moved_at=2,
            gone_at=4,
            used_at=3,
            pinned=False,
        )

    @pytest.mark.parametrize(
        ("proof", "origin"), [(Proof.PUSHED, Origin.LOCAL), (Proof.ANONYMOUS, Origin.UPSTREAM)], ids=str
    )
    async def test_so_is_a_manifest_without_one(self, catalog: Catalog, proof: Proof, origin: Origin) -> None:
        digest = await hold_image(catalog, NGINX, image("a"), proof, at=1)
        await catalog.touch([(NGINX, digest)], [], 3)
        (row,) = await every(catalog)
        assert (row.tag, row.manifest, row.origin, row.moved_at, row.used_at) == (None, digest, origin, 1, 3)
        await tag(catalog, NGINX, "x", digest)
        (row,) = await every(catalog)
        assert (row.tag, row.used_at) == ("x", None)  # by this tag nobody pulled it

    async def test_one_tag_is_looked_up_as_it_is_listed(self, catalog: Catalog) -> None:
        await fill(catalog)
        await catalog.pin(Reference(ALPINE, "a", None), "me", 1)
        await catalog.touch([(ALPINE, "a")], [], 7)
        for row in await every(catalog):
            if row.tag is not None:
                assert await catalog.image(row.repository, row.tag) == row
        for repository, name in ((ALPINE, "c"), (ALPINE, "A"), (NGINX, "a"), (Repository("x.y", "z"), "a")):
            assert await catalog.image(repository, name) is None

    async def test_tags_come_first_then_manifests_by_their_time(self, catalog: Catalog) -> None:
        expected = await fill(catalog)
        for limit in (1, 2, 3, 5, 8, 9):
            assert named(await every(catalog, limit=limit)) == expected, limit

    async def test_of_one_registry_or_one_repository(self, catalog: Catalog) -> None:
        expected = await fill(catalog)
        for limit in (1, 4, 100):
            for registry in ("docker.io", "ghcr.io", "local", "quay.io"):
                mine = [row for row in expected if row[0].registry == registry]
                assert named(await every(catalog, limit=limit, registry=registry)) == mine
            for home in (ALPINE, NGINX, OWN, Repository("docker.io", "library/alpin")):
                mine = [row for row in expected if row[0] == home]
                assert named(await every(catalog, limit=limit, repository=home)) == mine

    async def test_a_page_of_nothing_is_the_end(self, catalog: Catalog) -> None:
        await fill(catalog)
        assert await catalog.images(repository=None, registry=None, cursor=None, limit=0) == ([], None)

    async def test_what_stays_is_listed_once_whatever_else_changes(self, catalog: Catalog) -> None:
        expected = await fill(catalog)
        rows, cursor = await catalog.images(repository=None, registry=None, cursor=None, limit=2)
        assert rows[-1].tag == "B"
        await catalog.remove_tag(ALPINE, "B", 9, "test")  # the very place of the cursor
        await catalog.remove_tag(ALPINE, "10", 9, "test")
        await tag(catalog, ALPINE, "0", expected[0][2])  # before it
        await tag(catalog, ALPINE, "c", expected[0][2])  # behind it
        rest, _ = await catalog.images(repository=None, registry=None, cursor=cursor, limit=100)
        assert named(rest) == [*expected[2:4], (ALPINE, "c", expected[0][2]), *expected[4:]]

    async def test_so_it_is_among_manifests_without_a_tag(self, catalog: Catalog) -> None:
        digests = [await hold_image(catalog, ALPINE, image(str(number))) for number in range(6)]  # all at one time
        rows, cursor = await catalog.images(repository=None, registry=None, cursor=None, limit=3)
        await catalog.remove_manifest(ALPINE, rows[-1].manifest, 2, "test")
        assert await catalog.begin_delete(rows[-1].manifest) is not None
        await catalog.deleted(rows[-1].manifest)
        rest, _ = await catalog.images(repository=None, registry=None, cursor=cursor, limit=100)
        assert sorted(row.manifest for row in [*rows, *rest]) == sorted(digests)

    async def test_a_cursor_can_be_made_of_any_row(self, catalog: Catalog) -> None:
        await fill(catalog)
        rows = await every(catalog)
        for number, row in enumerate(rows, start=1):
            page, _ = await catalog.images(repository=None, registry=None, cursor=cursor_after(row), limit=100)
            assert named(page) == named(rows[number:])

    async def test_a_cursor_of_elsewhere_lists_only_what_was_asked_for(self, catalog: Catalog) -> None:
        await fill(catalog)
        rows = await every(catalog)
        page, _ = await catalog.images(repository=TOOL, registry=None, cursor=cursor_after(rows[0]), limit=100)
        assert [row.repository for row in page] == [TOOL]
        page, _ = await catalog.images(repository=ALPINE, registry=None, cursor=cursor_after(rows[4]), limit=100)
        assert page == []

    async def test_a_cursor_that_is_none_is_refused(self, catalog: Catalog) -> None:
        with pytest.raises(RequestInvalid):
            await catalog.images(repository=None, registry=None, cursor="nonsense", limit=1)

    # --- which are images ---------------------------------------------------------------------------------

    async def test_a_child_is_an_image_only_where_its_index_is_not(self, catalog: Catalog) -> None:
        children = [image("1"), image("2")]
        top = await hold_index(catalog, ALPINE, children)
        assert named(await every(catalog)) == [(ALPINE, None, top)]
        first, second = (child.descriptor.digest for child in children)
        await tag(catalog, ALPINE, "x", first)
        assert named(await every(catalog)) == [(ALPINE, "x", first), (ALPINE, None, top)]
        await hold_image(catalog, TOOL, children[1])  # asked for there by its digest alone
        assert named(await every(catalog, repository=TOOL)) == [(TOOL, None, second)]

    async def test_a_quarantined_manifest_is_listed_by_its_tags_only(self, catalog: Catalog) -> None:
        digest = await hold_image(catalog, ALPINE, image("a"))
        await catalog.quarantine(digest)
        assert await every(catalog) == []
        assert await catalog.edges([digest]) == []
        await catalog.hold(digest, 10, "here", [], 2)
        await tag(catalog, ALPINE, "3", digest)
        await catalog.quarantine(digest)
        assert named(await every(catalog)) == [(ALPINE, "3", digest)]

    async def test_an_image_is_pinned_by_its_tag_or_its_digest_in_its_repository(self, catalog: Catalog) -> None:
        digest = await hold_image(catalog, ALPINE, image("a"))
        await hold_image(catalog, NGINX, image("a"))
        for name in ("1", "2"):
            await tag(catalog, ALPINE, name, digest)
        await catalog.pin(Reference(ALPINE, "1", None), "me", 1)
        assert [row.pinned for row in await every(catalog)] == [True, False, False]
        await catalog.pin(Reference(ALPINE, None, digest), "me", 1)
        assert [row.pinned for row in await every(catalog)] == [True, True, False]
        await catalog.pin(Reference(NGINX, None, digest), "me", 1)
        assert [row.pinned for row in await every(catalog)] == [True, True, True]

    # --- what lies below ----------------------------------------------------------------------------------

    async def test_edges_are_what_the_bytes_say(self, catalog: Catalog) -> None:
        children = [image("1"), image("22")]
        parent = index(children)
        await hold_image(catalog, ALPINE, children[0])
        await hold_image(catalog, ALPINE, parent)
        first, second = (child.descriptor.digest for child in children)
        found = await catalog.edges([parent.descriptor.digest, first, second, digest_of("unknown"), first])
        assert [edge.parent for edge in found] == sorted([parent.descriptor.digest] * 2 + [first] * 2)
        described = {(edge.parent, edge.position): edge for edge in found}
        platform = described[parent.descriptor.digest, 1]
        assert (platform.child, platform.role, platform.media_type) == (second, "manifest", OCI_MANIFEST)
        assert (platform.platform, platform.held) == ("linux/a1", False)
        layer = described[first, 1]
        assert (layer.child, layer.role, layer.media_type) == (digest_of("1"), "layer", OCI_LAYER_GZIP)
        assert (layer.size, layer.platform, layer.held) == (1, None, True)
        assert described[first, 0].media_type == OCI_CONFIG

    async def test_a_view_shows_what_its_repository_holds(self, catalog: Catalog) -> None:
        """Breaks where what is held anywhere is held: a manifest may name somebody's private config or child."""
        secret = image("secret", config=b"secret config")
        await hold_image(catalog, TOOL, secret, Proof.CREDENTIALS)
        await catalog.hold(digest_of("public"), 6, "here", [(NGINX, Proof.ANONYMOUS)], 1)
        await hold_image(catalog, NGINX, image("elsewhere"))
        naming = image("secret", "public", "missing", config=b"secret config")
        top = index([secret, naming, image("elsewhere")])
        for manifest in (naming, top):
            await catalog.hold_manifest(ALPINE, manifest, "here", Proof.ANONYMOUS, 1)

        async def held(view: View, manifest: Manifest) -> list[bool]:
            seen = (view, manifest.descriptor.digest)
            found = await catalog.edges_seen([seen])
            assert list(found) == [seen]
            return [edge.held for edge in found[seen]]

        for trusted in (True, False):
            alpine, tool = View(ALPINE, trusted), View(TOOL, trusted)
            assert await held(alpine, naming) == [False, False, True, False]
            assert await held(alpine, top) == [False, True, True]
            assert await held(alpine, secret) == []  # not even what it names
            assert await held(alpine, image("elsewhere")) == [True, True]
            assert await held(tool, secret) == ([True, True] if trusted else [])
        await catalog.link(ALPINE, digest_of("secret"), Proof.CREDENTIALS, 2, is_manifest=False)
        assert await held(View(ALPINE, trusted=True), naming) == [False, True, True, False]
        assert await held(View(ALPINE, trusted=False), naming) == [False, False, True, False]
        await catalog.link(ALPINE, digest_of("secret"), Proof.PUSHED, 2, is_manifest=False)
        assert await held(View(ALPINE, trusted=False), naming) == [False, True, True, False]
        await catalog.quarantine(digest_of("secret"))
        assert await held(View(ALPINE, trusted=True), naming) == [False, False, True, False]

    async def test_many_views_at_once(self, catalog: Catalog) -> None:
        """More than one, in any order, and the same manifest in several: each has its own edges, as `edges` has them.
        Breaks where they are told apart by the manifest alone."""
        children = [image(str(number)) for number in range(4)]
        for child in children:
            await hold_image(catalog, ALPINE, child, Proof.PUSHED)
        top = await hold_image(catalog, ALPINE, index(children), Proof.PUSHED)
        await hold_image(catalog, TOOL, index(children), Proof.PUSHED)
        manifests = [top, *(child.descriptor.digest for child in children)]
        wanted = [
            (View(home, trusted), digest)
            for digest in [digest_of("unknown"), *manifests]
            for trusted in (False, True)
            for home in (TOOL, ALPINE, OWN, Repository("x.y", "z"))
        ]
        found = await catalog.edges_seen([*wanted, wanted[0]])
        assert list(found) == wanted
        every_one = await catalog.edges(manifests)
        for trusted in (False, True):
            for digest in manifests:
                assert found[View(ALPINE, trusted), digest] == [edge for edge in every_one if edge.parent == digest]
            assert [edge.held for edge in found[View(TOOL, trusted), top]] == [False] * 4
        assert {view.repository for (view, _), edges in found.items() if edges} == {ALPINE, TOOL}
        assert await catalog.edges_seen([]) == {}

    async def test_what_only_another_repository_knows_finds_no_index(self, catalog: Catalog) -> None:
        """Breaks where an index that names somebody's manifest is found by what is in that."""
        secret = image("layer", config=b"secret config")
        await hold_image(catalog, TOOL, secret, Proof.CREDENTIALS)
        naming = await hold_image(catalog, ALPINE, index([secret]))
        digest, config = secret.descriptor.digest, Digest.of(b"secret config")
        assert named(await catalog.find(config.hex, 9)) == [(TOOL, None, digest)]
        assert named(await catalog.sharing(digest_of("layer"), 9)) == [(TOOL, None, digest)]
        assert named(await catalog.sharing(digest, 9)) == [(ALPINE, None, naming)]  # that is what its bytes say
        await catalog.hold_manifest(ALPINE, secret, "here", Proof.PUSHED, 2)
        both = sorted([(ALPINE, None, naming), (TOOL, None, digest)])
        assert sorted(named(await catalog.find(config.hex, 9))) == both
        assert sorted(named(await catalog.sharing(digest_of("layer"), 9))) == both

    async def test_what_anybody_may_read_finds_the_index_that_names_it(self, catalog: Catalog) -> None:
        """docker has it from another repository, and does not ask for it again under the index's own. Breaks where each
        way up stays in one repository."""
        public = image("layer", config=b"public config")
        digest = await hold_image(catalog, TOOL, public)
        naming = await hold_image(catalog, ALPINE, index([public]))
        both = sorted([(ALPINE, None, naming), (TOOL, None, digest)])
        assert sorted(named(await catalog.find(Digest.of(b"public config").hex, 9))) == both
        assert sorted(named(await catalog.sharing(digest_of("layer"), 9))) == both

    async def test_a_way_that_came_through_something_private_stays_where_it_is(self, catalog: Catalog) -> None:
        """However far above it a public manifest lies. Breaks where the last step alone decides: whoever serves
        somebody's private index could have it confirmed what lies below that."""
        secret = image("layer", config=b"secret config")
        await hold_image(catalog, TOOL, secret, Proof.CREDENTIALS)
        between = index([secret])
        private = await hold_image(catalog, TOOL, between, Proof.CREDENTIALS)
        await hold_image(catalog, ALPINE, index([between]))
        await catalog.hold_manifest(NGINX, between, "here", Proof.ANONYMOUS, 2)  # its bytes, served by another
        for found in (
            await catalog.find(Digest.of(b"secret config").hex, 9),
            await catalog.sharing(digest_of("layer"), 9),
        ):
            assert named(found) == [(TOOL, None, private)]

    async def test_edges_of_many(self, catalog: Catalog) -> None:
        digests = [await hold_image(catalog, ALPINE, image(str(number))) for number in range(600)]
        assert len(await catalog.edges(digests)) == 1200
        assert await catalog.edges([]) == []

    async def test_a_blob_is_shared_by_the_images_above_it(self, catalog: Catalog) -> None:
        children = [image("base", "1"), image("2")]
        top = await hold_index(catalog, ALPINE, children)
        await tag(catalog, ALPINE, "3", top)
        other = await hold_image(catalog, TOOL, image("base", "3"))
        sharing = [(ALPINE, "3", top), (TOOL, None, other)]
        assert named(await catalog.sharing(digest_of("base"), 10)) == sharing
        assert named(await catalog.sharing(digest_of("base"), 1)) == sharing[:1]
        assert named(await catalog.sharing(children[1].descriptor.digest, 10)) == sharing[:1]
        assert named(await catalog.sharing(digest_of("3"), 10)) == sharing[1:]
        for nobodys in (top, digest_of("unknown")):
            assert await catalog.sharing(nobodys, 10) == []
        await catalog.quarantine(digest_of("base"))  # whom it concerns is asked just then
        assert named(await catalog.sharing(digest_of("base"), 10)) == sharing

    # --- short ids ----------------------------------------------------------------------------------------

    async def test_images_are_found_by_the_beginning_of_an_id(self, catalog: Catalog) -> None:
        child, alone = image("1", config=b"one"), image("2", config=b"two")
        top = await hold_index(catalog, ALPINE, [child])
        await tag(catalog, ALPINE, "3", top)
        other = await hold_image(catalog, NGINX, alone)
        for length in (11, 12, 64):
            assert named(await catalog.find(top.hex[:length], 9)) == [(ALPINE, "3", top)]
            assert named(await catalog.find(other.hex[:length], 9)) == [(NGINX, None, other)]
            assert named(await catalog.find(Digest.of(b"two").hex[:length], 9)) == [(NGINX, None, other)]
            assert named(await catalog.find(Digest.of(b"one").hex[:length], 9)) == [(ALPINE, "3", top)]  # the index
            inner = child.descriptor.digest
            assert named(await catalog.find(inner.hex[:length], 9)) == [(ALPINE, None, inner)]  # named outright

    async def test_tags_are_found_first_and_at_most_so_many(self, catalog: Catalog) -> None:
        digest = await hold_image(catalog, ALPINE, image("1"))
        await hold_image(catalog, TOOL, image("1"))
        for name in ("b", "a"):
            await tag(catalog, TOOL, name, digest)
        expected = [(TOOL, "a", digest), (TOOL, "b", digest), (ALPINE, None, digest)]
        assert named(await catalog.find(digest.short, 9)) == expected
        assert named(await catalog.find(digest.short, 2)) == expected[:2]

    @pytest.mark.parametrize("prefix", ["", "xyz", "%", "ABCDEF", "sha256:", "0" * 129, " 1", "é"])
    async def test_what_is_no_beginning_of_an_id_finds_nothing(self, catalog: Catalog, prefix: str) -> None:
        await hold_image(catalog, ALPINE, image("1"))
        assert await catalog.find(prefix, 9) == []

    async def test_a_beginning_longer_than_the_id_is_none(self, catalog: Catalog) -> None:
        digest = await hold_image(catalog, ALPINE, image("1"))
        assert await catalog.find(f"{digest.hex}0", 9) == []
        assert await catalog.find(f"{digest.hex}ff", 9) == []

    # --- weights ------------------------------------------------------------------------------------------

    async def test_an_image_weighs_what_is_held_below_it(self, catalog: Catalog) -> None:
        first, second = image("base", "1"), image("base", "22")
        one, two = await hold_image(catalog, ALPINE, first), await hold_image(catalog, TOOL, second)
        own = first.descriptor.size + 1
        assert await catalog.weigh([one]) == {one: Weight(own + 4 + len(CONFIG), own)}
        both = await catalog.weigh([two, one, two, digest_of("unknown")])
        assert both == await catalog.sizes()
        assert both[two] == Weight(second.descriptor.size + 2 + 4 + 2, second.descriptor.size + 2)
        assert await catalog.weigh_together([one, two]) == await catalog.held_bytes()
        assert await catalog.weigh_together([one, one]) == both[one].size
        assert await catalog.weigh_together([]) == 0
        assert await catalog.weigh([]) == {}

    async def test_what_is_not_held_weighs_nothing(self, catalog: Catalog) -> None:
        manifest = image("layer")
        await catalog.hold_manifest(ALPINE, manifest, "here", Proof.ANONYMOUS, 1)
        digest = manifest.descriptor.digest
        assert await catalog.weigh([digest]) == {digest: Weight(manifest.descriptor.size, manifest.descriptor.size)}
        await catalog.quarantine(digest)
        assert await catalog.weigh([digest]) == {}
        assert await catalog.sizes() == {}

    async def test_tags_of_one_manifest_are_one_image(self, catalog: Catalog) -> None:
        digest = await hold_image(catalog, ALPINE, image("1"))
        for name in ("a", "b"):
            await tag(catalog, ALPINE, name, digest)
        assert (await catalog.weigh([digest]))[digest].unique == await catalog.held_bytes()

    async def test_a_child_that_is_an_image_shares_with_its_index(self, catalog: Catalog) -> None:
        child = image("1")
        top = await hold_index(catalog, ALPINE, [child])
        size = index([child]).descriptor.size
        assert (await catalog.weigh([top]))[top].unique == await catalog.held_bytes()
        await tag(catalog, ALPINE, "x", child.descriptor.digest)
        assert (await catalog.weigh([top]))[top] == Weight(await catalog.held_bytes(), size)
        assert await catalog.weigh([top, child.descriptor.digest]) == await catalog.sizes()

    async def test_what_no_image_needs_any_more_shares_with_nobody(self, catalog: Catalog) -> None:
        one, two = await hold_image(catalog, ALPINE, image("base")), await hold_image(catalog, TOOL, image("base", "2"))
        await catalog.remove_manifest(TOOL, two, 2, "test")
        assert (await catalog.weigh([one]))[one].unique == (await catalog.weigh([one]))[one].size
        assert await catalog.sizes() == await catalog.weigh([one])

    # --- repositories -------------------------------------------------------------------------------------

    async def test_repositories_that_hold_a_manifest(self, catalog: Catalog) -> None:
        assert await catalog.repositories(None, 10) == []
        for home in (OWN, TOOL, ALPINE):
            await hold_image(catalog, home, image("1"))
        await catalog.hold(digest_of("a"), 1, "here", [(NGINX, Proof.ANONYMOUS)], 1)  # a blob alone
        await catalog.set_visibility(Repository("ghcr.io", "a"), Visibility.PUBLIC, 1)
        assert await catalog.repositories(None, 10) == [ALPINE, TOOL, OWN]
        assert await catalog.repositories(None, 2) == [ALPINE, TOOL]
        assert await catalog.repositories(ALPINE, 10) == [TOOL, OWN]
        assert await catalog.repositories(NGINX, 10) == [TOOL, OWN]
        assert await catalog.repositories(OWN, 10) == []
        for place, left in (
            (("", ""), [ALPINE, TOOL, OWN]),
            ((ALPINE.registry, ""), [ALPINE, TOOL, OWN]),
            ((ALPINE.registry, ALPINE.path + "!"), [TOOL, OWN]),
            ((ALPINE.registry, "\U0010ffff"), [TOOL, OWN]),
            (("zzz", "'\""), []),
        ):
            assert await catalog.repositories(place, 10) == left
        await catalog.quarantine(image("1").descriptor.digest)
        assert await catalog.repositories(None, 10) == []

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("", ["a_b", "a.b", "alpine", "tool", "app"]),
            ("alp", ["alpine"]),
            ("ALPINE", ["alpine"]),
            ("_", ["a_b"]),
            ("a_b", ["a_b"]),
            ("%", []),
            ("*", []),
            ("\\", []),
            ("\x00", []),
            ("alpine\x00x", []),
            ("docker.io/library/a", ["a_b", "a.b", "alpine"]),
            ("ghcr.io", ["tool"]),
            ("team/", ["tool", "app"]),
            ("local", []),  # no name that anybody knows
            ("\u212a", []),  # the Kelvin sign, whose small letter is k
            ("a" * 100_000, []),
        ],
    )
    async def test_search_takes_every_letter_literally(self, catalog: Catalog, text: str, found: list[str]) -> None:
        names = ("a_b", "a.b")
        for home in (*(Repository("docker.io", f"library/{name}") for name in names), ALPINE, TOOL, OWN):
            await hold_image(catalog, home, image("1"))
        rows = await catalog.search(text, 10)
        assert sorted(home.path.rpartition("/")[2] for home in rows) == sorted(found)
        assert list(rows) == sorted(rows)
        assert await catalog.search(text, 1) == rows[:1]

    # --- configs ------------------------------------------------------------------------------------------

    async def test_what_configs_say_is_remembered(self, catalog: Catalog) -> None:
        one = await hold_image(catalog, ALPINE, image("1"))
        two = await hold_image(catalog, ALPINE, image("2"))
        other = await hold_image(catalog, ALPINE, image("3", config=b"other"))
        facts = ConfigFacts(Digest.of(CONFIG), "2026-01-01T00:00:00Z", "linux/amd64")
        assert await catalog.configs([one, two, other]) == {}
        await catalog.note_config(one, facts)
        assert await catalog.configs([one, two, other, one]) == {one: facts, two: facts}  # one config, two images
        later = ConfigFacts(Digest.of(CONFIG), None, "linux/arm64/v8")
        await catalog.note_config(two, later)
        assert await catalog.configs([one, digest_of("unknown")]) == {one: later}

    async def test_what_is_no_config_of_it_is_not_noted(self, catalog: Catalog) -> None:
        digest = await hold_image(catalog, ALPINE, image("1"))
        top = await hold_image(catalog, ALPINE, index([image("1")]))
        for manifest, config in (
            (digest, Digest.of(b"other")),
            (digest, digest_of("1")),
            (top, Digest.of(CONFIG)),
            (digest_of("unknown"), Digest.of(CONFIG)),
        ):
            await catalog.note_config(manifest, ConfigFacts(config, None, "linux/amd64"))
        await catalog.quarantine(Digest.of(CONFIG))
        await catalog.note_config(digest, ConfigFacts(Digest.of(CONFIG), None, "linux/amd64"))
        assert await catalog.configs([digest, top]) == {}

    async def test_a_config_that_is_gone_says_nothing(self, catalog: Catalog) -> None:
        digest = await hold_image(catalog, ALPINE, image("1"))
        await catalog.note_config(digest, ConfigFacts(Digest.of(CONFIG), None, "linux/amd64"))
        await catalog.remove_manifest(ALPINE, digest, 1, "test")
        for gone in (digest, Digest.of(CONFIG)):
            assert await catalog.begin_delete(gone) is not None
            await catalog.deleted(gone)
        await catalog.hold_manifest(ALPINE, image("1"), "here", Proof.ANONYMOUS, 2)
        assert await catalog.configs([digest]) == {}

    async def test_media_types_of_indices(self, catalog: Catalog) -> None:
        await hold_index(catalog, ALPINE, [image("1")])
        (row,) = await every(catalog)
        assert row.media_type == OCI_INDEX

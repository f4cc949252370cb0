import asyncio
from collections.abc import AsyncIterator, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from mirror.oci.digest import Digest
from mirror.oci.manifest import Role
from mirror.oci.names import Reference, Repository
from mirror.store.catalog import Catalog
from mirror.store.inventory import Candidate, ConfigFacts, ImageRow, View
from mirror.store.memory import MemoryCatalog
from mirror.store.protocols import Origin, Proof
from mirror.store.sqlite import SqliteCatalog
from tests.store.samples import ALPINE, CONFIG, NGINX, OWN, hold_image, image
from tests.store.suites_collection import CollectionSuite
from tests.store.suites_images import ImagesSuite
from tests.store.suites_lifecycle import LifecycleSuite
from tests.store.test_sqlite import DIGESTS, MANIFESTS, REPOSITORIES, TAGS, AgainstTheModel, path, syncs

__all__ = ["path", "syncs"]  # fixtures


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[SqliteCatalog]:
    started = await SqliteCatalog.start(tmp_path / "mirror.db")
    yield started
    await started.close()


class TestSqliteInventory(ImagesSuite, LifecycleSuite, CollectionSuite):
    """The suites, with the fixture above."""


async def test_what_people_set_is_on_disk_before_it_is_acknowledged(
    syncs: tuple[SqliteCatalog, list[str]],
) -> None:
    catalog, noted = syncs
    digest = await hold_image(catalog, ALPINE, image("a"))
    reference = Reference(ALPINE, "x", None)
    facts: list[tuple[str, Coroutine[Any, Any, object]]] = [
        ("FULL", catalog.set_tag(ALPINE, "x", digest, 1, "me")),
        ("NORMAL", catalog.touch([(ALPINE, "x")], [digest], 1)),
        ("FULL", catalog.remove_tag(OWN, "x", 1, "me")),
        ("NORMAL", catalog.foresee([(ALPINE, "x")], 1)),
        ("FULL", catalog.pin(reference, "me", 1)),
        ("NORMAL", catalog.forget_misses()),
        ("FULL", catalog.unpin(reference, None)),
        ("NORMAL", catalog.evict(ALPINE, digest, 1, 1)),
        ("FULL", catalog.remove_manifest(ALPINE, digest, 1, "me")),
        ("NORMAL", catalog.verified([digest], 1)),
        ("FULL", catalog.pin(reference, "me", 1)),
        ("NORMAL", catalog.note_config(digest, ConfigFacts(Digest.of(CONFIG), None, "linux/amd64"))),
    ]
    for expected, fact in facts:
        noted.clear()
        await fact
        assert noted == [f"PRAGMA synchronous = {expected}", "COMMIT"], fact


async def test_all_of_it_is_there_after_a_restart(tmp_path: Path) -> None:
    first = await SqliteCatalog.start(tmp_path / "mirror.db")
    digest = await hold_image(first, ALPINE, image("a"))
    await first.set_tag(OWN, "v1", digest, 2, "me", View(ALPINE, trusted=False))
    await first.pin(Reference(OWN, "v1", None), "me", 3)
    await first.note_config(digest, ConfigFacts(Digest.of(CONFIG), None, "linux/amd64"))
    await first.touch([(OWN, "v1")], [], 5)
    await first.missed("x", 1)
    before = await life(first)
    await first.close()
    second = await SqliteCatalog.start(tmp_path / "mirror.db")
    assert await life(second) == before
    await second.close()


# --- against the model ------------------------------------------------------------------------------------

CHILDREN = [child for child in MANIFESTS if not child.is_index]
PREFIXES = sorted({digest.hex[:length] for digest in DIGESTS for length in (1, 3)})
OWNERS = ["me", "you"]

digests = st.sampled_from(DIGESTS)
repositories = st.sampled_from(REPOSITORIES)
tags = st.sampled_from(TAGS)
times = st.integers(0, 50).map(float)
views = st.builds(View, repositories, st.booleans())
references = st.builds(Reference, repositories, tags, st.none()) | st.builds(
    Reference, repositories, st.none(), digests
)


class LifeAgainstTheModel(AgainstTheModel):
    """The life of an image among all else; and what is deleted is never what somebody still needs."""

    model: MemoryCatalog

    # --- the rules -----------------------------------------------------------------------------------------

    @rule(repository=repositories, proof=st.sampled_from(list(Proof)), data=st.data(), at=times)
    def hold_image(self, repository: Repository, proof: Proof, data: st.DataObject, at: float) -> None:
        """A whole image at once: few would come together by chance."""
        manifest = data.draw(st.sampled_from(MANIFESTS))
        below = [
            child for child in CHILDREN if child.descriptor.digest in {c.descriptor.digest for c in manifest.children()}
        ]
        for each in [*below, manifest]:
            for child in each.children():
                if child.role is not Role.MANIFEST:
                    self.both(
                        "hold", child.descriptor.digest, child.descriptor.size, "place", [(repository, proof)], at
                    )
            self.both("hold_manifest", repository, each, "place", proof, at)

    @rule(repository=repositories, name=tags, to=digests, at=times, source=st.none() | views)
    def set_tag(self, repository: Repository, name: str, to: Digest, at: float, source: View | None) -> None:
        self.both("set_tag", repository, name, to, at, "hypothesis", source)

    @rule(repository=repositories, digest=digests, at=times)
    def remove_manifest(self, repository: Repository, digest: Digest, at: float) -> None:
        self.both("remove_manifest", repository, digest, at, "hypothesis")

    @rule(repository=repositories, name=tags, at=times)
    def remove_tag(self, repository: Repository, name: str, at: float) -> None:
        self.both("remove_tag", repository, name, at, "hypothesis")

    @rule(removals=st.lists(st.tuples(repositories, tags | digests), max_size=3), at=times | st.just(1e9))
    def foresee(self, removals: list[tuple[Repository, str | Digest]], at: float) -> None:
        """The invariants say that it changes nothing."""
        found, modelled = (self.run(catalog.foresee(removals, at)) for catalog in (self.catalog, self.model))
        assert sorted(found) == sorted(modelled)
        assert {digest for digest, _ in found} <= set(self.model._blobs)

    @rule(reference=references, owner=st.sampled_from(OWNERS), at=times)
    def pin(self, reference: Reference, owner: str, at: float) -> None:
        self.both("pin", reference, owner, at)

    @rule(reference=references, owner=st.none() | st.sampled_from(OWNERS))
    def unpin(self, reference: Reference, owner: str | None) -> None:
        self.both("unpin", reference, owner)

    @rule(
        used=st.lists(st.tuples(repositories, tags | digests), max_size=3),
        blobs=st.lists(digests, max_size=2),
        at=times,
    )
    def touch(self, used: list[tuple[Repository, str | Digest]], blobs: list[Digest], at: float) -> None:
        self.both("touch", used, blobs, at)

    @rule(names=st.lists(st.sampled_from(["a", "b", "c"]), max_size=3), at=times, forget=st.booleans())
    def missed(self, names: list[str], at: float, *, forget: bool) -> None:
        for name in names:
            self.both("missed", name, at)
        if forget:
            self.both("forget_misses")

    @rule(
        manifest=digests,
        config=digests | st.just(Digest.of(CONFIG)),
        created=st.none() | st.just("2026-01-01T00:00:00Z"),
    )
    def note_config(self, manifest: Digest, config: Digest, created: str | None) -> None:
        self.both("note_config", manifest, ConfigFacts(config, created, "linux/amd64"))

    @rule(data=st.data(), used_before=times, at=times)
    def evict(self, data: st.DataObject, used_before: float, at: float) -> None:
        found = self.run(self.model.candidates(100))
        anybody = st.tuples(repositories, digests)
        chosen = st.sampled_from([(each.repository, each.manifest) for each in found]) if found else anybody
        home, manifest = data.draw(chosen | anybody)
        before = self.kept_images()
        taken = self.both("evict", home, manifest, used_before, at)
        if taken:
            assert Candidate(home, manifest, 0) in [replace(each, used_at=0) for each in found]
            assert all(
                each.used_at < used_before for each in found if (each.repository, each.manifest) == (home, manifest)
            )
        assert {row for row in before if row.pinned or row.origin is Origin.LOCAL} <= set(self.kept_images())

    @rule(used_before=st.sampled_from([0.0, 25.0, 60.0, 1e6]), finish=st.booleans(), limit=st.sampled_from([1, 100]))
    def collect(self, used_before: float, *, finish: bool, limit: int) -> None:
        for digest, _ in self.run(self.model.unreferenced(used_before, limit)):
            assert digest not in self.reachable()
            assert self.both("begin_delete", digest, used_before) is not None
            if finish:
                self.both("deleted", digest)

    @rule(digest=digests | st.just(Digest.of(CONFIG)), used_before=st.none() | times, now=st.none() | times)
    def begin_delete_at(self, digest: Digest, used_before: float | None, now: float | None) -> None:
        reachable = self.reachable()
        if self.both("begin_delete", digest, used_before, now=now) is not None:
            assert digest not in reachable

    # --- what must hold ------------------------------------------------------------------------------------

    def kept_images(self) -> list[ImageRow]:
        rows, _ = self.run(self.model.images(repository=None, registry=None, cursor=None, limit=1000))
        return list(rows)

    def reachable(self) -> set[Digest]:
        """What some root needs, counted from the roots down: the other way round than the store does it."""
        model = self.model
        linked = {digest for (_, digest, is_manifest) in model._links if is_manifest}
        found: set[Digest] = set()
        new = linked | {tag.manifest for names in model._tags.values() for tag in names.values()}
        new |= {digest for digest in model._blobs if any(reference == str(digest) for _, reference, _ in model._pins)}
        while new:
            found |= new
            new = {
                child.descriptor.digest
                for parent in new
                if parent in model._manifests and model._blobs[parent].state != "deleting"
                for child in model._manifests[parent].children()
                if child.role is not Role.MANIFEST
                or child.descriptor.digest in linked
                or child.descriptor.digest not in model._manifests
                or parent not in linked
            } - found
        return found

    @invariant()
    def nothing_that_is_needed_is_listed_for_deletion(self) -> None:
        listed = self.run(self.catalog.unreferenced(1e9, 1000))
        assert not {digest for digest, _ in listed} & self.reachable()
        held = {digest for digest, blob in self.model._blobs.items() if blob.state == "held"}
        assert {digest for digest, _ in listed} | self.named() | self.reachable() >= held  # nothing is forgotten

    def named(self) -> set[Digest]:
        """Children of manifests that nobody needs themselves and that go before them."""
        return {
            child.descriptor.digest
            for parent, manifest in self.model._manifests.items()
            if self.model._blobs[parent].state != "deleting"
            for child in manifest.children()
        }

    @invariant()
    def the_life_of_images_is_the_same(self) -> None:
        assert self.run(life(self.catalog)) == self.run(life(self.model))


async def life(catalog: Catalog) -> list[object]:
    """All that can be read of images, pins, history and what may go."""
    everybody, _ = await catalog.images(repository=None, registry=None, cursor=None, limit=1000)
    paged: list[ImageRow] = []
    cursor = None
    for _ in range(1000):
        page, cursor = await catalog.images(repository=None, registry=None, cursor=cursor, limit=2)
        paged += page
        if cursor is None:
            break
    assert paged == everybody
    weights = await catalog.sizes()
    assert {row.manifest for row in everybody if row.tag is None} <= set(weights)
    assert await catalog.weigh(list(weights)) == weights
    reads: list[Coroutine[Any, Any, object]] = [
        catalog.edges(DIGESTS),
        catalog.edges_seen(
            [(View(home, trusted), digest) for home in REPOSITORIES for trusted in (True, False) for digest in DIGESTS]
        ),
        catalog.configs(DIGESTS),
        catalog.weigh(DIGESTS),
        catalog.weigh_together(DIGESTS[::2]),
        catalog.search("li", 10),
        catalog.repositories(None, 10),
        catalog.repositories(NGINX, 1),
        catalog.pins(),
        catalog.misses(10),
        catalog.candidates(100),
        catalog.candidates(1),
        catalog.held_bytes(),
        catalog.stored_bytes(),
        catalog.usage(),
        catalog.states([*DIGESTS, Digest.of(CONFIG)]),
        catalog.unverified(None, 100),
        catalog.unverified(DIGESTS[0], 2),
        *(catalog.unreferenced(before, limit) for before, limit in ((1e9, 100), (60.0, 100), (25.0, 2))),
        *(catalog.find(prefix, limit) for prefix in PREFIXES for limit in (100, 2)),
        *(catalog.sharing(digest, 100) for digest in [*DIGESTS, Digest.of(CONFIG)]),
        *(catalog.history(home, name, 5) for home in REPOSITORIES for name in (None, *TAGS)),
        *(catalog.images(repository=home, registry=None, cursor=None, limit=100) for home in REPOSITORIES),
        catalog.images(repository=None, registry="docker.io", cursor=None, limit=100),
    ]
    candidates = [(each.repository, each.manifest) for each in await catalog.candidates(100)]
    foreseen = [
        sorted(await catalog.foresee_evictions(chosen, before))
        for chosen, before in ((candidates[::2], 1e9), (candidates, 60.0))
    ]
    return [everybody, sorted(weights.items()), foreseen, *await asyncio.gather(*reads)]


# Whole images come and go in one step: that takes fewer of them.
LifeAgainstTheModel.TestCase.settings = settings(AgainstTheModel.TestCase.settings, stateful_step_count=20)
TestLifeAgainstTheModel = LifeAgainstTheModel.TestCase

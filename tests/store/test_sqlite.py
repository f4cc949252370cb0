import asyncio
import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mirror.errors import DataInvalid, NoRoom, StoreFailed
from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest
from mirror.oci.names import Repository
from mirror.store import opening
from mirror.store.catalog import Catalog
from mirror.store.memory import MemoryCatalog
from mirror.store.protocols import Origin, Partial, Proof, Tag, Visibility
from mirror.store.sqlite import SqliteCatalog
from tests.store.faults import open_files, small_disk
from tests.store.samples import ALPINE, NGINX, OWN, TOOL, digest_of, image, index
from tests.store.suites import CatalogSuite

T = TypeVar("T")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mirror.db"


@pytest.fixture
async def catalog(path: Path) -> AsyncIterator[SqliteCatalog]:
    started = await SqliteCatalog.start(path)
    yield started
    await started.close()


class TestSqliteCatalog(CatalogSuite):
    """The suite, with the fixture above."""


def catalog_threads() -> list[str]:
    """The writer's and the readers' threads that run."""
    return [
        thread.name
        for thread in threading.enumerate()
        if thread.name == "catalog-writer" or "_connection_worker_thread" in thread.name
    ]


# --- start and end ----------------------------------------------------------------------------------------


async def test_everything_is_there_after_a_restart(path: Path) -> None:
    first = await SqliteCatalog.start(path)
    manifest = image("layer")
    digest = manifest.descriptor.digest
    await first.hold(digest_of("layer"), 5, "1", [(OWN, Proof.PUSHED)], 1)
    await first.hold_manifest(OWN, manifest, "2", Proof.PUSHED, 2)
    await first.move_tag(OWN, "v1", None, digest, Origin.LOCAL, 3, "me")
    await first.set_visibility(TOOL, Visibility.PRIVATE, 4)
    before = (
        await first.instance(),
        await first.holding(OWN, digest, is_manifest=True),
        await first.tag(OWN, "v1"),
        await first.repository(TOOL),
        await first.totals(),
    )
    await first.close()
    second = await SqliteCatalog.start(path)
    after = (
        await second.instance(),
        await second.holding(OWN, digest, is_manifest=True),
        await second.tag(OWN, "v1"),
        await second.repository(TOOL),
        await second.totals(),
    )
    await second.close()
    assert after == before


async def test_a_clean_close_leaves_one_file(path: Path) -> None:
    catalog = await SqliteCatalog.start(path)
    await catalog.missed("x", 1)
    await catalog.close()
    await catalog.close()
    assert [found.name for found in path.parent.iterdir()] == ["mirror.db"]


async def test_a_closed_catalog_says_so(path: Path) -> None:
    catalog = await SqliteCatalog.start(path)
    await catalog.close()
    for use in (catalog.missed("x", 1), catalog.totals()):
        with pytest.raises(StoreFailed, match="closed"):
            await use


async def test_a_start_that_fails_leaves_nothing_open(path: Path) -> None:
    await asyncio.to_thread(path.write_bytes, b"garbage" * 1000)
    files = open_files()
    with pytest.raises(DataInvalid, match="damaged"):
        await SqliteCatalog.start(path)
    assert open_files() == files
    assert catalog_threads() == []


async def test_readers_that_cannot_start_end_the_writer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr("mirror.store.reads.aiosqlite.connect", refuse)
    with pytest.raises(StoreFailed):
        await SqliteCatalog.start(path)
    assert catalog_threads() == []


async def test_starts_and_stops_leave_no_descriptors_and_no_threads(path: Path) -> None:
    async def once() -> None:
        catalog = await SqliteCatalog.start(path)
        await catalog.missed("x", 1)
        await catalog.totals()
        await catalog.close()

    await once()
    files = open_files()
    for _ in range(20):
        await once()
    assert open_files() == files
    assert catalog_threads() == []


# --- what is the mirror's own -----------------------------------------------------------------------------


@pytest.fixture
async def syncs(path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[SqliteCatalog, list[str]]]:
    """A catalog, and the changes of how its commits are made durable."""
    noted: list[str] = []
    real = opening._connect

    def traced(path: Path) -> sqlite3.Connection:
        db = real(path)
        db.set_trace_callback(lambda text: noted.append(text) if "synchronous" in text or text == "COMMIT" else None)
        return db

    monkeypatch.setattr(opening, "_connect", traced)
    catalog = await SqliteCatalog.start(path)
    yield catalog, noted
    await catalog.close()


async def test_own_facts_are_on_disk_before_they_are_acknowledged(
    syncs: tuple[SqliteCatalog, list[str]],
) -> None:
    catalog, noted = syncs
    manifest = image("a")
    digest = manifest.descriptor.digest
    facts: list[tuple[str, Coroutine[Any, Any, object]]] = [
        ("NORMAL", catalog.hold_manifest(ALPINE, manifest, "here", Proof.ANONYMOUS, 1)),
        ("FULL", catalog.hold_manifest(OWN, manifest, "here", Proof.PUSHED, 1)),
        ("NORMAL", catalog.hold(digest_of("a"), 1, "here", [(ALPINE, Proof.ANONYMOUS)], 1)),
        ("FULL", catalog.hold(digest_of("a"), 1, "here", [(ALPINE, Proof.ANONYMOUS), (OWN, Proof.PUSHED)], 1)),
        ("NORMAL", catalog.link(ALPINE, digest_of("a"), Proof.CREDENTIALS, 1, is_manifest=False)),
        ("FULL", catalog.link(ALPINE, digest_of("a"), Proof.PUSHED, 1, is_manifest=False)),
        ("NORMAL", catalog.move_tag(ALPINE, "x", None, digest, Origin.UPSTREAM, 1, "docker.io")),
        ("FULL", catalog.move_tag(OWN, "x", None, digest, Origin.LOCAL, 1, "me")),
        ("NORMAL", catalog.confirm_tag(ALPINE, "x", digest, 1)),
        ("FULL", catalog.drop_tag(OWN, "x", digest_of("x"), 1, "me")),
        ("NORMAL", catalog.tag_gone(ALPINE, "x", 1)),
        ("FULL", catalog.begin_delete(digest_of("b"))),
        ("NORMAL", catalog.missed("x", 1)),
    ]
    for expected, fact in facts:
        noted.clear()
        await fact
        assert noted == [f"PRAGMA synchronous = {expected}", "COMMIT"], fact


# --- many at once, and faults -----------------------------------------------------------------------------


async def test_thousands_at_once(catalog: SqliteCatalog) -> None:
    async def one(number: int) -> None:
        digest = digest_of(str(number))
        await catalog.hold(digest, number, "here", [(ALPINE, Proof.ANONYMOUS)], 1)
        found = await catalog.holding(ALPINE, digest, is_manifest=False)
        assert found is not None
        assert found.size == number

    await asyncio.gather(*(one(number) for number in range(2000)))
    assert (await catalog.totals()).blobs == 2000


async def test_rules_are_kept_by_the_transaction_not_the_caller(catalog: SqliteCatalog) -> None:
    await catalog.hold(digest_of("a"), 1, "here", [], 1)
    location, held = await asyncio.gather(
        catalog.begin_delete(digest_of("a")),
        catalog.hold(digest_of("a"), 1, "here", [(ALPINE, Proof.PUSHED)], 2),
        return_exceptions=True,
    )
    assert location == "here"
    assert isinstance(held, StoreFailed)


async def test_a_full_disk_stops_writes_but_not_reads(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 2 << 20) as folder:
        catalog = await SqliteCatalog.start(folder / "mirror.db")
        await catalog.hold(digest_of("a"), 1, "here", [(ALPINE, Proof.PUSHED)], 1)
        ballast = folder / "ballast"
        room = os.statvfs(folder)
        await asyncio.to_thread(ballast.write_bytes, b"x" * room.f_bavail * room.f_frsize)
        with pytest.raises(NoRoom):
            await hold_many(catalog)
        assert await catalog.holding(ALPINE, digest_of("a"), is_manifest=False) is not None
        await asyncio.to_thread(ballast.unlink)
        await catalog.hold(digest_of("b"), 1, "here", [(ALPINE, Proof.PUSHED)], 1)
        await catalog.close()
        again = await SqliteCatalog.start(folder / "mirror.db")
        assert await again.holding(ALPINE, digest_of("b"), is_manifest=False) is not None
        await again.close()


async def hold_many(catalog: SqliteCatalog) -> None:
    for number in range(5000):
        await catalog.hold(digest_of(str(number)), 1, "here", [(ALPINE, Proof.PUSHED)], 1)


# --- against the model ------------------------------------------------------------------------------------

LAYERS = ["l1", "l2", "l3"]
IMAGES = [image("l1"), image("l1", "l2"), image("l3", subject=image("l1"))]
MANIFESTS = [*IMAGES, index(IMAGES[:2])]
DIGESTS = [*(digest_of(text) for text in LAYERS), *(manifest.descriptor.digest for manifest in MANIFESTS)]
REPOSITORIES = [ALPINE, NGINX, TOOL, OWN]
TAGS = ["latest", "v1"]

digests = st.sampled_from(DIGESTS)
manifests = st.sampled_from(MANIFESTS)
repositories = st.sampled_from(REPOSITORIES)
proofs = st.sampled_from(list(Proof))
tags = st.sampled_from(TAGS)
times = st.integers(0, 50).map(float)
ids = st.sampled_from(["i1", "i2", "i3"])
registries = st.sampled_from(["docker.io", "ghcr.io"])


async def everything(catalog: Catalog) -> list[object]:
    """All that can be read; what has no order of its own, sorted."""
    reads: list[Coroutine[Any, Any, object]] = [catalog.partials(), catalog.totals()]
    for digest in DIGESTS:
        reads += [catalog.manifest_type(digest), *(catalog.expected_size(home, digest) for home in REPOSITORIES)]
        reads += [
            catalog.partial(digest, "docker.io", anonymous=True),
            catalog.partial(digest, "ghcr.io", anonymous=False),
        ]
    for home in REPOSITORIES:
        reads += [catalog.repository(home), catalog.tags(home), catalog.referrers(home, IMAGES[0].descriptor.digest)]
        reads += [catalog.tag(home, name) for name in TAGS]
        reads += [catalog.holding(home, digest, is_manifest=kind) for digest in DIGESTS for kind in (True, False)]
    unordered = [sorted(await catalog.deleting()), sorted(await catalog.only_here(100), key=str)]
    return [*await asyncio.gather(*reads), *unordered]


class AgainstTheModel(RuleBasedStateMachine):
    """The same commands to SQLite and to the model: each answer, and then everything that can be read, is the same."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
        self.runner = asyncio.Runner()
        self.model: Catalog = MemoryCatalog()
        self.catalog: Catalog = self.run(SqliteCatalog.start(Path(self.folder) / "mirror.db"))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def both(self, method: str, *arguments: object, **named: object) -> object:
        """One call to each; what they answer or refuse with is the same."""
        outcomes: list[object] = []
        for catalog in (self.catalog, self.model):
            try:
                outcomes.append(self.run(getattr(catalog, method)(*arguments, **named)))
            except StoreFailed as error:
                outcomes.append(type(error))
        assert outcomes[0] == outcomes[1]
        return outcomes[0]

    @rule(digest=digests, links=st.lists(st.tuples(repositories, proofs), max_size=3), at=times)
    def hold(self, digest: Digest, links: list[tuple[Repository, Proof]], at: float) -> None:
        self.both("hold", digest, 7, f"place {at}", links, at)

    @rule(repository=repositories, manifest=manifests, proof=proofs, at=times)
    def hold_manifest(self, repository: Repository, manifest: Manifest, proof: Proof, at: float) -> None:
        self.both("hold_manifest", repository, manifest, "place", proof, at)

    @rule(repository=repositories, digest=digests, proof=proofs, at=times, is_manifest=st.booleans())
    def link(self, repository: Repository, digest: Digest, proof: Proof, at: float, *, is_manifest: bool) -> None:
        self.both("link", repository, digest, proof, at, is_manifest=is_manifest)

    @rule(digest=digests)
    def quarantine(self, digest: Digest) -> None:
        self.both("quarantine", digest)

    @rule(digest=digests)
    def begin_delete(self, digest: Digest) -> None:
        self.both("begin_delete", digest)

    @rule(digest=digests)
    def deleted(self, digest: Digest) -> None:
        self.both("deleted", digest)

    @rule(repository=repositories, visibility=st.sampled_from(list(Visibility)), at=times)
    def set_visibility(self, repository: Repository, visibility: Visibility, at: float) -> None:
        self.both("set_visibility", repository, visibility, at)

    @rule(
        repository=repositories, name=tags, to=manifests, right=st.booleans(), other=st.none() | digests,
        origin=st.sampled_from(list(Origin)), at=times,
    )  # fmt: skip
    def move_tag(
        self,
        repository: Repository,
        name: str,
        to: Manifest,
        right: bool,
        other: Digest | None,
        origin: Origin,
        at: float,
    ) -> None:
        """Often from where the tag is, so that it does move."""
        known = self.run(self.model.tag(repository, name))
        expected = (known.manifest if known else None) if right else other
        self.both("move_tag", repository, name, expected, to.descriptor.digest, origin, at, "hypothesis")

    def tagged(self) -> list[tuple[Repository, Tag]]:
        found = [(home, self.run(self.model.tag(home, name))) for home in REPOSITORIES for name in TAGS]
        return [(home, tag) for home, tag in found if tag]

    @precondition(lambda self: self.tagged())
    @rule(data=st.data(), at=times, what=st.sampled_from(["confirm_tag", "tag_gone", "drop_tag"]), right=st.booleans())
    def touch_tag(self, data: st.DataObject, at: float, what: str, right: bool) -> None:
        home, tag = data.draw(st.sampled_from(self.tagged()))
        if what == "confirm_tag":
            self.both(what, home, tag.name, tag.manifest if right else DIGESTS[0], at)
        elif what == "tag_gone":
            self.both(what, home, tag.name, at)
        else:
            self.both(what, home, tag.name, tag.manifest if right else DIGESTS[0], at, "hypothesis")

    @rule(ingest_id=ids, digest=digests, registry=registries, anonymous=st.booleans(), at=times)
    def begin_partial(self, ingest_id: str, digest: Digest, registry: str, *, anonymous: bool, at: float) -> None:
        self.both("begin_partial", Partial(ingest_id, digest, registry, anonymous, at))

    @rule(ingest_id=ids)
    def end_partial(self, ingest_id: str) -> None:
        self.both("end_partial", ingest_id)

    @rule()
    def restart(self) -> None:
        self.run(self.catalog.close())
        self.catalog = self.run(SqliteCatalog.start(Path(self.folder) / "mirror.db"))

    @invariant()
    def all_that_can_be_read_is_the_same(self) -> None:
        assert self.run(everything(self.catalog)) == self.run(everything(self.model))

    def teardown(self) -> None:
        self.run(self.catalog.close())
        self.runner.close()
        db = sqlite3.connect(Path(self.folder) / "mirror.db")
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        db.close()
        shutil.rmtree(self.folder)


AgainstTheModel.TestCase.settings = settings(max_examples=max(5, settings().max_examples // 6), stateful_step_count=25)
TestAgainstTheModel = AgainstTheModel.TestCase

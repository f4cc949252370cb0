import re
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from sqlite3 import Connection
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest
from mirror.oci.names import Repository
from mirror.store import sqlite_pushing
from mirror.store.protocols import Origin
from mirror.store.pushing import Push, Upload
from mirror.store.sqlite import SqliteCatalog
from tests.store.samples import OWN, digest_of
from tests.store.suites_pushing import DIGEST, IMAGE, NOW, PushingSuite, blobs, children, push, pushed, upload
from tests.store.test_reads import plan
from tests.store.test_sqlite import DIGESTS, MANIFESTS, REPOSITORIES, TAGS, path, syncs
from tests.store.test_sqlite_forwarding import SendingAgainstTheModel

__all__ = ["path", "syncs"]  # fixtures


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[SqliteCatalog]:
    started = await SqliteCatalog.start(tmp_path / "mirror.db")
    yield started
    await started.close()


class TestSqlitePushing(PushingSuite):
    """The suite, with the fixture above."""


def test_no_statement_walks_a_table(db: Connection) -> None:
    assert not [step for step in plan(db, sqlite_pushing.UPLOAD) if step.startswith("SCAN")]
    steps = plan(db, sqlite_pushing.UPLOADS)  # all of them, in the order of the index
    assert [re.sub(r" INDEX.*", "", step) for step in steps] == ["SCAN uploads USING"]


async def test_what_is_the_mirrors_own_is_on_disk_before_it_is_acknowledged(
    syncs: tuple[SqliteCatalog, list[str]],
) -> None:
    """Breaks if a 201 could be forgotten by a power cut. What has begun can be told again."""
    catalog, noted = syncs
    await blobs(catalog, OWN, "a")
    facts: list[tuple[str, Coroutine[Any, Any, object]]] = [
        ("NORMAL", catalog.begin_upload(upload("1"))),
        ("FULL", catalog.finish_upload("1", OWN, digest_of("b"), 1, "there", NOW)),
        ("NORMAL", catalog.touch_upload("1", NOW)),
        ("FULL", catalog.push_manifest(OWN, IMAGE, "place", pushed("1", "2", needed=children(IMAGE)))),
        ("NORMAL", catalog.end_upload("1")),
        ("FULL", catalog.untag(OWN, "1", NOW, "me")),
        ("NORMAL", catalog.touch_upload("1", NOW)),
        ("FULL", catalog.drop_manifest(OWN, DIGEST, NOW, "me")),
        ("NORMAL", catalog.touch_upload("1", NOW)),
        ("FULL", catalog.drop_blob(OWN, digest_of("a"))),
    ]
    for expected, fact in facts:
        noted.clear()
        await fact
        assert noted == [f"PRAGMA synchronous = {expected}", "COMMIT"], fact


async def test_all_of_it_is_there_after_a_restart(tmp_path: Path) -> None:
    first = await SqliteCatalog.start(tmp_path / "mirror.db")
    await first.begin_upload(upload("1"))
    await push(first, IMAGE, "1", "2")
    await first.untag(OWN, "2", NOW, "me")
    await first.close()
    second = await SqliteCatalog.start(tmp_path / "mirror.db")
    assert list(await second.uploads()) == [upload("1")]
    assert await second.tags(OWN) == ["1"]
    assert await second.own_repositories() == [OWN]
    await second.close()


# --- against the model ------------------------------------------------------------------------------------

digests = st.sampled_from(DIGESTS)
manifests = st.sampled_from(MANIFESTS)
repositories = st.sampled_from(REPOSITORIES)
tags = st.sampled_from(TAGS)
times = st.integers(0, 50).map(float)
ids = st.sampled_from(["u1", "u2", "u3"])


class PushingAgainstTheModel(SendingAgainstTheModel):
    """Uploads and pushes, among all else."""

    @rule(name=ids, home=repositories, at=times)
    def begin_upload(self, name: str, home: Repository, at: float) -> None:
        self.both("begin_upload", Upload(name, home, "me", "sha256", at))

    @rule(name=ids, at=times, end=st.booleans())
    def touch_upload(self, name: str, at: float, end: bool) -> None:
        if end:
            self.both("end_upload", name)
        else:
            self.both("touch_upload", name, at)

    @rule(name=ids, home=repositories, digest=digests, at=times)
    def finish_upload(self, name: str, home: Repository, digest: Digest, at: float) -> None:
        self.both("finish_upload", name, home, digest, 7, f"place {at}", at)

    @rule(
        home=repositories,
        manifest=manifests,
        names=st.lists(tags, max_size=2, unique=True),
        origin=st.sampled_from(list(Origin)),
        at=times,
        needs=st.booleans(),
        adopted=st.lists(digests, max_size=2),
        goes_to=st.none() | st.just("ghcr.io"),
    )
    def push_manifest(
        self,
        home: Repository,
        manifest: Manifest,
        names: list[str],
        origin: Origin,
        at: float,
        needs: bool,
        adopted: list[Digest],
        goes_to: str | None,
    ) -> None:
        needed = tuple(children(manifest)) if needs else ()
        push = Push(tuple(names), origin, at, "hypothesis", needed, tuple(adopted), goes_to)
        self.both("push_manifest", home, manifest, "place", push)

    @rule(home=repositories, digest=digests, at=times)
    def drop_manifest(self, home: Repository, digest: Digest, at: float) -> None:
        self.both("drop_manifest", home, digest, at, "hypothesis")

    @rule(home=repositories, name=tags, at=times)
    def untag(self, home: Repository, name: str, at: float) -> None:
        self.both("untag", home, name, at, "hypothesis")

    @rule(home=repositories, digest=digests)
    def drop_blob(self, home: Repository, digest: Digest) -> None:
        self.both("drop_blob", home, digest)

    @invariant()
    def what_is_pushed_is_the_same(self) -> None:
        self.both("uploads")


PushingAgainstTheModel.TestCase.settings = settings(
    max_examples=max(5, settings().max_examples // 10), stateful_step_count=30
)
TestPushingAgainstTheModel = PushingAgainstTheModel.TestCase

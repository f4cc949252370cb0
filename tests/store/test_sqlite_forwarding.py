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
from mirror.oci.names import Repository
from mirror.store import sqlite_forwarding
from mirror.store.sqlite import SqliteCatalog
from tests.store.samples import ALPINE, TOOL, digest_of, hold_image, image
from tests.store.suites_forwarding import NOW, ForwardingSuite, queue
from tests.store.test_reads import plan
from tests.store.test_sqlite import DIGESTS, REPOSITORIES, TAGS, path, syncs
from tests.store.test_sqlite_inventory import LifeAgainstTheModel

__all__ = ["path", "syncs"]  # fixtures

SELECTS = {name: sql for name, sql in vars(sqlite_forwarding).items() if name.isupper() and "SELECT" in str(sql)}
del SELECTS["_ENTRIES"]  # a part of others
WALKED = {"QUEUED": {"SCAN o"}, "DUE": {"SCAN o"}, "MOUNTABLE": {"SCAN known"}}  # the queue; what is known of one blob


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[SqliteCatalog]:
    started = await SqliteCatalog.start(tmp_path / "mirror.db")
    yield started
    await started.close()


class TestSqliteForwarding(ForwardingSuite):
    """The suite, with the fixture above."""


@pytest.mark.parametrize("name", sorted(SELECTS))
def test_no_statement_walks_a_table(db: Connection, name: str) -> None:
    scans = {re.sub(r" USING.*", "", step) for step in plan(db, SELECTS[name]) if step.startswith("SCAN")}
    assert scans <= WALKED.get(name, set()), plan(db, SELECTS[name])
    assert not any("AUTOMATIC" in step for step in plan(db, SELECTS[name])), plan(db, SELECTS[name])


async def test_what_is_the_mirrors_own_is_on_disk_before_it_is_acknowledged(
    syncs: tuple[SqliteCatalog, list[str]],
) -> None:
    catalog, noted = syncs
    digest = await hold_image(catalog, TOOL, image("a"))
    facts: list[tuple[str, Coroutine[Any, Any, object]]] = [
        ("FULL", catalog.note_session(TOOL, digest, "https://there", NOW)),
        ("NORMAL", catalog.at_upstream(TOOL, digest, NOW)),
        ("FULL", catalog.enqueue(TOOL, "x", digest, "ghcr.io", NOW)),
        ("NORMAL", catalog.end_session(TOOL, digest)),
        ("FULL", catalog.retry_queued(None)),
        ("NORMAL", catalog.send_failed(1, NOW, NOW, "down", refused=False)),
        ("FULL", catalog.sent(1, digest, 1)),
        ("NORMAL", catalog.at_upstream(TOOL, digest, NOW)),
        ("FULL", catalog.drop_queued(None)),
    ]
    for expected, fact in facts:
        noted.clear()
        await fact
        assert noted == [f"PRAGMA synchronous = {expected}", "COMMIT"], fact


async def test_all_of_it_is_there_after_a_restart(tmp_path: Path) -> None:
    first = await SqliteCatalog.start(tmp_path / "mirror.db")
    entry = await queue(first, "a", "1")
    await first.send_failed(entry.id, NOW, NOW + 5, "down", refused=True)
    await first.note_session(TOOL, digest_of("a"), "https://there", NOW)
    await first.at_upstream(ALPINE, digest_of("a"), NOW)
    before = await sending(first)
    await first.close()
    second = await SqliteCatalog.start(tmp_path / "mirror.db")
    assert await sending(second) == before
    await second.close()


async def sending(catalog: SqliteCatalog) -> list[object]:
    return [
        await catalog.queued(10),
        await catalog.session(TOOL, digest_of("a"), NOW),
        await catalog.mountable("docker.io", digest_of("a"), 10),
    ]


# --- against the model ------------------------------------------------------------------------------------

digests = st.sampled_from(DIGESTS)
repositories = st.sampled_from(REPOSITORIES)
references = st.sampled_from(TAGS)
registries = st.sampled_from(["docker.io", "ghcr.io"])
times = st.integers(0, 50).map(float)
entries = st.integers(1, 6)
some = st.none() | entries


class SendingAgainstTheModel(LifeAgainstTheModel):
    """Pushes that wait, among all else."""

    @rule(home=repositories, reference=references, manifest=digests, there=registries, at=times)
    def enqueue(self, home: Repository, reference: str, manifest: Digest, there: str, at: float) -> None:
        self.both("enqueue", home, reference, manifest, there, at)

    @rule(entry=entries, manifest=digests)
    def sent(self, entry: int, manifest: Digest) -> None:
        self.both("sent", entry, manifest, 7.0)

    @rule(entry=entries, at=times, wait=times, refused=st.booleans())
    def send_failed(self, entry: int, at: float, wait: float, refused: bool) -> None:
        self.both("send_failed", entry, at, at + wait, "why", refused=refused)

    @rule(entry=some)
    def retry_queued(self, entry: int | None) -> None:
        self.both("retry_queued", entry)

    @rule(entry=some)
    def drop_queued(self, entry: int | None) -> None:
        self.both("drop_queued", entry)

    @rule(home=repositories, digest=digests, at=times, end=st.booleans())
    def session(self, home: Repository, digest: Digest, at: float, end: bool) -> None:
        if end:
            self.both("end_session", home, digest)
        else:
            self.both("note_session", home, digest, f"https://there/{at}", at)

    @rule(home=repositories, digest=digests, at=times)
    def at_upstream(self, home: Repository, digest: Digest, at: float) -> None:
        self.both("at_upstream", home, digest, at)

    @rule(now=times)
    def queued_due(self, now: float) -> None:
        self.both("queued_due", now)

    @invariant()
    def what_is_sent_is_the_same(self) -> None:
        self.both("queued", 100)
        for digest in DIGESTS[:4]:
            self.both("mountable", "docker.io", digest, 2)
            self.both("session", ALPINE, digest, 25.0)

    def reachable(self) -> set[Digest]:
        """What waits is a root as well."""
        pins = self.model._pins
        self.model._pins = pins | {
            (entry.repository, str(entry.manifest), "outbox"): 0.0 for entry in self.model._outbox.values()
        }
        try:
            return super().reachable()
        finally:
            self.model._pins = pins


SendingAgainstTheModel.TestCase.settings = settings(
    max_examples=max(5, settings().max_examples // 10), stateful_step_count=30
)
TestSendingAgainstTheModel = SendingAgainstTheModel.TestCase

import asyncio
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from sqlite3 import Connection

import pytest

from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.store import reads_inventory
from mirror.store.commands import blobs, inventory
from mirror.store.inventory import View
from mirror.store.opening import open_catalog
from mirror.store.reads_inventory import WANTED, packed
from mirror.store.sqlite import SqliteCatalog
from tests.store.generated import NOW, digest_of_image, fill
from tests.store.samples import digest_of
from tests.store.test_reads import plan

SELECTS = {
    name: sql
    for name, sql in vars(reads_inventory).items()
    if name.isupper() and not name.startswith("_") and isinstance(sql, str) and sql.split()[0] in ("SELECT", "WITH")
}
FROM_COMMANDS = {
    "begin_delete": blobs._DELETABLE,
    "evict": inventory._CANDIDATE,
    "left behind": inventory._LEFT_BEHIND,
    "adopt": inventory._ADOPT,
    "taken": inventory._TAKEN,
}

# What a statement makes itself; and tables walked on purpose, in the order of an index.
MADE = r"SCAN (w|cut|wanted|up|matched|lowest|free|above|root|below|counted|c|SUBQUERY \d+|CONSTANT ROW)\b"
WALKED = {
    "EDGES_SEEN": {"SCAN j VIRTUAL TABLE INDEX 1:"},  # what was asked for
    "PINS": {"SCAN r", "SCAN p"},  # people set them, one by one
    "SEARCH": {"SCAN r"},  # the middle of a name is in no index; repositories are few
    "CANDIDATES": {"SCAN b"},  # from the one not used for longest, as far as asked for
    "SIZES": {"SCAN t", "SCAN l"},  # it is about everything
    "FORESEEN": {f"SCAN {table}" for table in ("b", "l", "g", "u", "s", "n", "linked", "tags", "outbox", "pins")}
    | {"SCAN j VIRTUAL TABLE INDEX 1:"},  # so is this, …
    "USAGE": {"SCAN b", "SCAN t", "SCAN l"},  # … and this
    "HELD_BYTES": {"SCAN blobs"},
    "STORED_BYTES": {"SCAN blobs"},
    "MISSES": {"SCAN misses"},  # from the latest; capped
}
WALKED["FREED"] = WALKED["FORESEEN"]
REPORTS = ("SIZES", "FORESEEN", "FREED", "USAGE")
UNORDERED = ("PINS", "FORESEEN", "FREED", "USAGE")
ORDERED = ("TAGGED_IMAGES", "HELD_REPOSITORIES", "SEARCH", "HISTORY", "MISSES", "UNVERIFIED")
PARTLY = ("UNTAGGED_IMAGES", "CANDIDATES", "UNREFERENCED")  # what is alike in time is sorted by name


@pytest.mark.parametrize("name", sorted(SELECTS | FROM_COMMANDS))
def test_no_statement_walks_a_table(db: Connection, name: str) -> None:
    steps = plan(db, (SELECTS | FROM_COMMANDS)[name])
    scans = {re.sub(r" USING.*", "", step) for step in steps if step.startswith("SCAN") and not re.match(MADE, step)}
    assert scans <= WALKED.get(name, set()), steps
    assert not any("AUTOMATIC" in step for step in steps if name not in REPORTS), steps


@pytest.mark.parametrize("name", [*ORDERED, *PARTLY])
def test_no_list_sorts_what_an_index_has_in_order(db: Connection, name: str) -> None:
    steps = plan(db, SELECTS[name])
    assert "USE TEMP B-TREE FOR ORDER BY" not in steps, steps
    assert name in PARTLY or not any("TEMP B-TREE" in step for step in steps), steps


def test_walks_follow_an_index(db: Connection) -> None:
    for name in WALKED:
        for step in plan(db, SELECTS[name]):
            assert not step.startswith("SCAN") or re.match(MADE, step) or "INDEX" in step or name in UNORDERED, step
    assert any("INDEX blobs_used" in step for step in plan(db, SELECTS["HELD_BYTES"]))


def test_the_statements_were_found() -> None:
    assert len(SELECTS) >= 19


def test_packed_digests_come_apart_again(db: Connection) -> None:
    digests = [digest_of("a"), Digest.of(b"b", "sha512"), digest_of("c"), digest_of("a"), Digest.of(b"d", "sha512")]
    for count in range(len(digests) + 1):
        rows = db.execute(f"WITH RECURSIVE {WANTED} SELECT digest FROM wanted", (packed(digests[:count]),))
        assert {row[0] for row in rows} == {digest.to_bytes() for digest in digests[:count]}


# --- many -----------------------------------------------------------------------------------------------------------

TAGS = 2_000


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog of a few thousand tags, to be read only."""
    path = tmp_path_factory.mktemp("many") / "mirror.db"
    fill(path, TAGS)
    return path


@pytest.fixture
async def catalog(many: Path) -> AsyncIterator[SqliteCatalog]:
    started = await SqliteCatalog.start(many)
    yield started
    await started.close()


def broken(path: Path) -> list[object]:
    db = open_catalog(path)
    try:
        return db.execute("PRAGMA foreign_key_check").fetchall()
    finally:
        db.close()


async def test_a_generated_catalog_is_a_true_one(catalog: SqliteCatalog, many: Path) -> None:
    totals = await catalog.totals()
    assert (totals.tags, totals.bytes) == (TAGS, await catalog.held_bytes())
    assert await asyncio.to_thread(broken, many) == []
    rows, cursor = await catalog.images(repository=None, registry=None, cursor=None, limit=TAGS)
    assert (len(rows), cursor) == (TAGS, None)
    weights = await catalog.sizes()
    assert await catalog.weigh([row.manifest for row in rows[:100]]) == {
        row.manifest: weights[row.manifest] for row in rows[:100]
    }
    garbage = await catalog.unreferenced(2 * NOW, TAGS)
    everything = await catalog.weigh_together([row.manifest for row in rows])
    assert everything + sum(size for _, size in garbage) == totals.bytes
    assert len(garbage) == TAGS // 100
    assert len(await catalog.candidates(10 * TAGS)) == TAGS


async def test_single_questions_are_answered_at_once(catalog: SqliteCatalog) -> None:
    """Each takes a millisecond or few; one that walked everything would take fifty times as long."""
    image, view = digest_of_image("1"), View(Repository("ghcr.io", "team1/app1"), trusted=False)
    for ask in (
        lambda: catalog.find(image.short, 10),
        lambda: catalog.sharing(Digest.of(b"layer 1 2"), 10),
        lambda: catalog.edges([image]),
        lambda: catalog.edges_seen([(view, image)]),
        lambda: catalog.weigh([image]),
        lambda: catalog.configs([image]),
        lambda: catalog.candidates(10),
        lambda: catalog.unverified(None, 10),
        lambda: catalog.images(repository=None, registry=None, cursor=None, limit=10),
    ):
        times = []
        for _ in range(5):
            started = time.perf_counter()
            assert await ask()
            times.append(time.perf_counter() - started)
        assert min(times) < 0.05

import asyncio
import re
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import closing
from pathlib import Path
from sqlite3 import Connection

import pytest

from mirror.errors import DataInvalid, StoreFailed
from mirror.store import reads
from mirror.store.opening import open_catalog
from mirror.store.reads import Readers, Row
from mirror.tasks import Tasks

SELECTS = {name: sql for name, sql in vars(reads).items() if name.isupper() and not name.startswith("_")}

# Tables that are small by their nature, walked whole on purpose; totals counts everything there is.
WALKED = {"PARTIALS": {"SCAN ingests"}, "TOTALS": {"SCAN r", "SCAN tags", "SCAN blobs"}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An empty catalog."""
    open_catalog(tmp_path / "mirror.db").close()
    return tmp_path / "mirror.db"


@pytest.fixture
async def readers(path: Path) -> AsyncIterator[Readers]:
    started = Readers(path)
    await started.start()
    yield started
    await started.close()


def plan(db: Connection, sql: str) -> list[str]:
    numbered = [int(number) for number in re.findall(r"\?(\d)", sql)]
    parameters = [None] * (max(numbered) if numbered else sql.count("?"))
    steps = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]
    return [step for step in steps if step != "SCAN CONSTANT ROW"]


@pytest.mark.parametrize("name", sorted(SELECTS))
def test_no_read_walks_a_table(db: Connection, name: str) -> None:
    scans = {re.sub(r" USING.*", "", step) for step in plan(db, SELECTS[name]) if step.startswith("SCAN")}
    assert scans <= WALKED.get(name, set()), plan(db, SELECTS[name])


@pytest.mark.parametrize("name", sorted(SELECTS))
def test_no_read_is_compiled_again(db: Connection, name: str) -> None:
    """A parameter that a partial index's condition could depend on has each run compile the statement anew."""
    compiled = 0

    def count(*_: object) -> int:
        nonlocal compiled
        compiled += 1
        return sqlite3.SQLITE_OK

    db.set_authorizer(count)
    numbered = [int(number) for number in re.findall(r"\?(\d)", SELECTS[name])]
    parameters = range(max(numbered) if numbered else SELECTS[name].count("?"))
    db.execute(SELECTS[name], list(parameters)).fetchall()
    compiled = 0
    db.execute(SELECTS[name], list(parameters)).fetchall()
    assert compiled == 0


def test_totals_read_indices_only(db: Connection) -> None:
    for step in plan(db, reads.TOTALS):
        assert not step.startswith(("SCAN", "SEARCH")) or "INDEX" in step or "PRIMARY KEY" in step


def test_no_read_sorts_what_an_index_has_in_order(db: Connection) -> None:
    for name in ("TAGS", "ONLY_HERE", "DELETING"):
        assert "USE TEMP B-TREE FOR ORDER BY" not in plan(db, SELECTS[name]), name


def test_the_statements_were_found() -> None:
    assert len(SELECTS) >= 12


async def test_readers_cannot_write(readers: Readers) -> None:
    with pytest.raises(StoreFailed, match="readonly"):
        await readers.all("INSERT INTO meta VALUES ('x', 'y')")


async def test_one_is_the_first_or_none(readers: Readers) -> None:
    assert await readers.one("SELECT 1 UNION SELECT 2") == (1,)
    assert await readers.one("SELECT 1 WHERE 0") is None


async def test_a_lookup_is_answered_on_the_loop(readers: Readers) -> None:
    assert await readers.lookup("SELECT ?1 UNION SELECT ?2", 1, 2) == (1,)
    assert await readers.lookup("SELECT 1 WHERE 0") is None
    with pytest.raises(StoreFailed, match="readonly"):
        await readers.lookup("INSERT INTO meta VALUES ('x', 'y')")


async def test_a_lookup_sees_what_was_written_and_waits_for_no_writer(readers: Readers, path: Path) -> None:
    value = "SELECT value FROM meta WHERE key = 'a'"
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO meta VALUES ('a', 'b')")
        assert await readers.lookup(value) is None
        writer.execute("COMMIT")
        assert await readers.lookup(value) == ("b",)


async def test_a_lookup_waits_for_another_programs_lock_on_a_thread(
    readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks where it waits on the event loop, or gives up at once."""

    class Locked:
        def execute(self, *_: object) -> None:
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY_RECOVERY  # as all that SQLite calls extended
            raise error

        def close(self) -> None:
            pass

    assert readers._here is not None
    assert readers._here.execute("PRAGMA busy_timeout").fetchone() == (0,)
    with closing(readers._here):
        monkeypatch.setattr(readers, "_here", Locked())
    assert await readers.lookup("SELECT ?1", 7) == (7,)


async def test_who_asks_a_thousand_times_gives_others_their_turn(readers: Readers) -> None:
    """Breaks where a lookup never yields: whoever looks at each of many tags holds the loop until he is through."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = Tasks().spawn("others", others())
    for _ in range(320):
        assert await readers.lookup("SELECT 1") == (1,)
    task.cancel()
    assert turns >= 9


async def test_closed_readers_say_so(path: Path) -> None:
    readers = Readers(path)
    await readers.start()
    await readers.close()
    await readers.close()
    with pytest.raises(StoreFailed, match="closed"):
        await readers.all("SELECT 1")
    with pytest.raises(StoreFailed, match="closed"):
        await readers.lookup("SELECT 1")


async def test_damage_found_by_a_reader_is_named(readers: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    async def malformed(*_: object) -> None:
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error

    for connection in readers._connections:
        monkeypatch.setattr(connection, "execute_fetchall", malformed)
    with pytest.raises(DataInvalid, match="damaged"):
        await readers.one("SELECT 1")


# --- reports --------------------------------------------------------------------------------------------------------

ENDLESS = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"


async def test_a_report_is_folded_on_its_own_thread(readers: Readers) -> None:
    def fold(rows: Iterable[Row]) -> tuple[str, int]:
        return threading.current_thread().name, sum(row[0] for row in rows)

    name, total = await readers.report(fold, "SELECT ?1 UNION ALL SELECT ?2", 1, 2)
    assert (name.startswith("catalog-reports"), total) == (True, 3)


async def test_nobody_waits_for_a_report(readers: Readers) -> None:
    tasks = Tasks()
    report = tasks.spawn("report", readers.report(list, ENDLESS))
    await asyncio.sleep(0.05)
    assert await asyncio.wait_for(readers.one("SELECT 1"), 1) == (1,)
    assert await asyncio.wait_for(asyncio.gather(*(readers.one("SELECT 1") for _ in range(10))), 1)
    await readers.close()
    with pytest.raises(StoreFailed, match="interrupted"):
        await report


async def test_one_report_at_a_time_and_none_after_the_end(readers: Readers) -> None:
    tasks = Tasks()
    reports = [tasks.spawn("report", readers.report(list, ENDLESS)) for _ in range(3)]
    await asyncio.sleep(0.05)
    await readers.close()
    for report in reports:
        with pytest.raises(StoreFailed):
            await report
    with pytest.raises(StoreFailed, match="closed"):
        await readers.report(list, "SELECT 1")


async def test_a_report_cannot_write_either(readers: Readers) -> None:
    with pytest.raises(StoreFailed, match="readonly"):
        await readers.report(list, "INSERT INTO meta VALUES ('x', 'y')")


async def test_what_the_fold_raises_comes_through(readers: Readers) -> None:
    def fold(rows: Iterable[Row]) -> None:
        raise ValueError(list(rows))

    with pytest.raises(ValueError, match="1"):
        await readers.report(fold, "SELECT 1")
    assert await readers.report(list, "SELECT 1") == [(1,)]

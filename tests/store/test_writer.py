import asyncio
import functools
import logging
import os
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from sqlite3 import Connection

import pytest

from mirror.errors import DataInvalid, NoRoom, StoreFailed
from mirror.store import writer as module
from mirror.store.writer import Writer, failure
from tests.store.faults import open_files, small_disk


class Traced:
    """A database with one table, whose statements are noted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.statements: list[str] = []

    def connect(self) -> Connection:
        db = sqlite3.connect(self.path, isolation_level=None)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("CREATE TABLE IF NOT EXISTS words (word TEXT UNIQUE)")
        db.set_trace_callback(self.statements.append)
        return db

    def words(self) -> list[str]:
        """What is committed, as another process would see it."""
        db = sqlite3.connect(self.path)
        try:
            return [row[0] for row in db.execute("SELECT word FROM words ORDER BY rowid")]
        finally:
            db.close()

    def count(self, statement: str) -> int:
        return sum(text.startswith(statement) for text in self.statements)


@pytest.fixture
def database(tmp_path: Path) -> Traced:
    return Traced(tmp_path / "mirror.db")


@pytest.fixture
async def writer(database: Traced) -> AsyncIterator[Writer]:
    started = Writer(database.path)
    await started.start(database.connect)
    yield started
    await started.close()


def add(word: str) -> Callable[[Connection], str]:
    def command(db: Connection) -> str:
        db.execute("INSERT INTO words VALUES (?)", (word,))
        return word

    return command


def slow(db: Connection) -> None:
    """A command that lets others gather behind it."""
    del db
    time.sleep(0.05)


async def gathered(writer: Writer, *commands: Callable[[Connection], object]) -> list[object]:
    """Run commands that are sure to wait together."""
    first = asyncio.ensure_future(writer.run(slow, durable=False))  # noqa: TID251 — awaited below
    await asyncio.sleep(0.01)
    results = await asyncio.gather(
        *(writer.run(command, durable=False) for command in commands), return_exceptions=True
    )
    await first
    return list(results)


# --- batches ----------------------------------------------------------------------------------------------


async def test_commands_that_wait_together_commit_together(writer: Writer, database: Traced) -> None:
    words = [f"w{number}" for number in range(100)]
    assert await gathered(writer, *map(add, words)) == words
    assert database.words() == words
    assert database.count("BEGIN") == database.count("COMMIT") == 2


async def test_a_batch_is_bounded(writer: Writer, database: Traced) -> None:
    await gathered(writer, *(add(str(number)) for number in range(1200)))
    assert database.count("BEGIN") == 4  # the slow one, 500, 500, 200


async def test_one_that_fails_rolls_back_alone(writer: Writer, database: Traced) -> None:
    def half(db: Connection) -> None:
        add("half")(db)
        raise StoreFailed("no")

    results = await gathered(writer, add("a"), add("a"), half, lambda db: db.execute("nonsense"), add("b"))
    assert database.words() == ["a", "b"]
    assert results[0] == "a"
    assert isinstance(results[1], StoreFailed)  # a constraint
    assert results[2].args == ("no",)  # type: ignore[attr-defined]
    assert isinstance(results[3], StoreFailed)
    assert results[4] == "b"
    assert database.count("COMMIT") == 2


async def test_a_lost_transaction_fails_all_of_its_commands_and_no_later_one(writer: Writer, database: Traced) -> None:
    def lose(db: Connection) -> None:
        db.execute("ROLLBACK")  # as SQLite does by itself on a full disk
        raise sqlite3.OperationalError("gone")

    results = await gathered(writer, add("a"), lose, add("b"))
    assert [type(result) for result in results] == [StoreFailed] * 3
    assert database.words() == []
    assert await writer.run(add("c"), durable=True) == "c"
    assert database.words() == ["c"]


async def test_a_failure_of_another_kind_reaches_its_caller_too(writer: Writer) -> None:
    def lose(db: Connection) -> None:
        db.execute("ROLLBACK")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await writer.run(lose, durable=False)
    assert await writer.run(add("a"), durable=False) == "a"


async def test_a_cancelled_caller_tears_nothing(writer: Writer, database: Traced) -> None:
    async def write(word: str) -> None:
        await writer.run(add(word), durable=False)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(write(str(number))) for number in range(20)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
    await writer.run(slow, durable=False)
    assert len(database.words()) == 20


# --- durability -------------------------------------------------------------------------------------------


async def test_own_facts_are_synchronised_and_others_are_not(writer: Writer, database: Traced) -> None:
    levels: list[int] = []

    def level(db: Connection) -> None:
        levels.append(db.execute("PRAGMA synchronous").fetchone()[0])

    for durable in (False, True, True, False):
        await writer.run(level, durable=durable)
    assert levels == [1, 2, 2, 1]
    levels.clear()
    await asyncio.gather(
        writer.run(slow, durable=False),
        *(writer.run(level, durable=number == 3) for number in range(5)),
    )
    assert set(levels) == {2}  # one durable command makes its batch durable


# --- start and end ----------------------------------------------------------------------------------------


async def test_a_start_that_fails_is_told_and_leaves_nothing(database: Traced) -> None:
    def refuse() -> Connection:
        raise DataInvalid("damaged")

    writer = Writer(database.path)
    with pytest.raises(DataInvalid, match="damaged"):
        await writer.start(refuse)
    with pytest.raises(StoreFailed, match="closed"):
        await writer.run(add("a"), durable=False)
    await writer.close()


async def test_close_finishes_what_was_accepted(database: Traced) -> None:
    writer = Writer(database.path)
    await writer.start(database.connect)
    waiting = asyncio.gather(*(writer.run(add(str(number)), durable=False) for number in range(700)))
    await writer.close()
    assert len(await waiting) == len(database.words()) == 700
    with pytest.raises(StoreFailed, match="closed"):
        await writer.run(add("late"), durable=False)
    await writer.close()
    assert not os.path.exists(f"{database.path}-wal")  # written back


async def test_starts_and_stops_leave_no_descriptors_and_no_threads(database: Traced) -> None:
    async def once(word: str) -> None:
        writer = Writer(database.path)
        await writer.start(database.connect)
        await writer.run(add(word), durable=False)
        await writer.close()

    await once("first")  # which gives the loop's own executor its thread
    files = open_files()
    for number in range(20):
        await once(str(number))
    assert open_files() == files
    assert "catalog-writer" not in {thread.name for thread in threading.enumerate()}


def test_a_loop_that_ended_first_is_no_matter(database: Traced) -> None:
    async def begin() -> Writer:
        writer = Writer(database.path)
        await writer.start(database.connect)
        _ = writer.run(slow, durable=False)
        return writer

    writer = asyncio.run(begin())
    asyncio.run(writer.close())
    assert database.words() == []


# --- the log ----------------------------------------------------------------------------------------------


async def test_the_log_is_written_back_from_time_to_time(writer: Writer, database: Traced) -> None:
    for round_ in range(6):
        await asyncio.gather(*(writer.run(add(f"{round_}.{n} {'x' * 500}"), durable=False) for n in range(500)))
        await asyncio.sleep(0.01)
    assert database.count("PRAGMA wal_checkpoint(PASSIVE)") >= 5
    assert os.path.getsize(f"{database.path}-wal") < 3 << 20


async def test_a_log_that_grew_is_cut(writer: Writer, database: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOG_LIMIT", 100_000)
    await asyncio.gather(*(writer.run(add(f"{number} {'x' * 500}"), durable=False) for number in range(500)))
    await writer.run(slow, durable=False)
    assert database.count("PRAGMA wal_checkpoint(TRUNCATE)") == 1


async def test_a_log_that_cannot_be_written_back_is_only_a_warning(
    writer: Writer, database: Traced, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing(path: object) -> os.stat_result:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr("mirror.store.writer.os.stat", missing)
        await asyncio.gather(*(writer.run(add(str(number)), durable=False) for number in range(500)))
        await writer.run(slow, durable=False)
    assert "could not be written back" in caplog.text
    assert len(database.words()) == 500


# --- faults -----------------------------------------------------------------------------------------------


async def test_a_full_disk_refuses_and_recovers(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 1 << 20) as folder:
        database = Traced(folder / "mirror.db")
        writer = Writer(database.path)
        await writer.start(database.connect)
        await writer.run(add("before"), durable=True)
        ballast = folder / "ballast"
        ballast.write_bytes(b"x" * os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize)
        for durable in (True, False):
            with pytest.raises(NoRoom):
                await fill(writer, durable=durable)
        held = database.words()
        ballast.unlink()
        assert await writer.run(add("after"), durable=True) == "after"
        assert database.words() == [*held, "after"]
        await writer.close()


async def fill(writer: Writer, *, durable: bool) -> None:
    for _ in range(100):
        await writer.run(add(os.urandom(10_000).hex()), durable=durable)


async def test_after_damage_nothing_is_written_any_more(
    writer: Writer, database: Traced, caplog: pytest.LogCaptureFixture
) -> None:
    def find_damage(db: Connection) -> None:
        add("with it")(db)
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error

    results = await gathered(writer, add("a"), find_damage)
    assert [type(result) for result in results] == [DataInvalid, DataInvalid]
    with pytest.raises(DataInvalid, match="damaged"):
        await writer.run(add("b"), durable=True)
    assert database.words() == []
    assert "damaged" in caplog.text


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_FULL, NoRoom),
        (sqlite3.SQLITE_IOERR_WRITE, StoreFailed),
        (sqlite3.SQLITE_READONLY, StoreFailed),
        (sqlite3.SQLITE_BUSY, StoreFailed),
        (sqlite3.SQLITE_CORRUPT_INDEX, DataInvalid),
        (sqlite3.SQLITE_NOTADB, DataInvalid),
    ],
)
def test_errors_are_told_apart(tmp_path: Path, code: int, kind: type[Exception]) -> None:
    error = sqlite3.OperationalError("no")
    error.sqlite_errorcode = code
    assert type(failure(tmp_path / "mirror.db", error)) is kind


def test_an_io_error_on_a_full_disk_is_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_SHMSIZE
    with small_disk(tmp_path / "small", 256 << 10) as folder:
        assert type(failure(folder / "mirror.db", error)) is NoRoom
    assert type(failure(tmp_path / "missing" / "mirror.db", error)) is StoreFailed


async def test_thousands_wait_together(writer: Writer, database: Traced) -> None:
    results = await asyncio.gather(
        *(writer.run(functools.partial(lambda number, db: number, number), durable=False) for number in range(5000))
    )
    assert results == list(range(5000))
    assert database.count("BEGIN") <= 12

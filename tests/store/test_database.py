import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirror.errors import StoreFailed
from mirror.store.database import Database


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    started = await Database.start(tmp_path / "mirror.db")
    yield started
    await started.close()


def put(db: sqlite3.Connection, key: str, *, value: str) -> int:
    return db.execute("INSERT INTO meta VALUES (?, ?)", (key, value)).rowcount


async def test_what_is_written_can_be_read(database: Database) -> None:
    assert await database.write(put, "a", value="1") == 1
    assert await database.write_own(put, "b", value="2") == 1
    assert await database.readers.all("SELECT * FROM meta WHERE key < 'c' ORDER BY key") == [("a", "1"), ("b", "2")]


async def test_a_closed_one_says_so(database: Database) -> None:
    await database.close()
    await database.close()
    for write in (database.write, database.write_own):
        with pytest.raises(StoreFailed, match="closed"):
            await write(put, "a", value="1")

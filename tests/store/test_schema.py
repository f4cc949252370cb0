import sqlite3
from collections.abc import Iterator

import pytest

from mirror.errors import DataInvalid
from mirror.store import schema
from mirror.store.schema import in_order, migrate, migrations, version


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    yield connection
    connection.close()


def with_migrations(monkeypatch: pytest.MonkeyPatch, *scripts: str) -> None:
    monkeypatch.setattr(schema, "migrations", lambda: scripts)


def tables(db: sqlite3.Connection) -> set[str]:
    return {row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}


def test_the_tables_of_the_design_are_there(db: sqlite3.Connection) -> None:
    migrate(db)
    assert version(db) == len(migrations()) >= 1
    assert tables(db) >= {
        *("repositories", "blobs", "links", "manifests", "edges", "tags", "tag_history"),
        *("pins", "ingests", "outbox", "misses", "meta"),
    }


def test_every_reference_is_indexed(db: sqlite3.Connection) -> None:
    migrate(db)  # else a delete of what is referred to would walk the whole table
    for table in tables(db):
        for _, _, target, column, *_ in db.execute(f"PRAGMA foreign_key_list({table})").fetchall():
            plan = db.execute(f"EXPLAIN QUERY PLAN SELECT 1 FROM {table} WHERE {column} = 1").fetchall()
            assert "SEARCH" in plan[0][3], f"{table}.{column} refers to {target} without an index"


def test_each_migration_is_applied_once_and_in_order(db: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    with_migrations(monkeypatch, "CREATE TABLE one (x);")
    migrate(db)
    migrate(db)
    with_migrations(monkeypatch, "CREATE TABLE one (x);", "CREATE TABLE two (x);", "ALTER TABLE two ADD COLUMN y;")
    migrate(db)
    migrate(db)
    assert version(db) == 3
    assert tables(db) == {"one", "two"}


def test_a_migration_that_fails_changes_nothing(db: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    with_migrations(monkeypatch, "CREATE TABLE one (x);", "CREATE TABLE two (x); CREATE TABLE one (x);")
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        migrate(db)
    assert (version(db), tables(db), db.in_transaction) == (1, {"one"}, False)


def test_a_newer_database_is_refused(db: sqlite3.Connection) -> None:
    db.execute(f"PRAGMA user_version = {len(migrations()) + 1}")
    with pytest.raises(DataInvalid, match="newer release"):
        migrate(db)
    assert tables(db) == set()


def test_the_database_of_another_program_is_refused(db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE bookmarks (url)")
    with pytest.raises(DataInvalid, match="some other program"):
        migrate(db)
    assert tables(db) == {"bookmarks"}


def test_a_gap_in_the_numbers_is_noticed() -> None:
    assert in_order({2: "b", 1: "a"}) == ("a", "b")
    for found in ({1: "a", 3: "c"}, {2: "b"}, {0: "z", 1: "a"}):
        with pytest.raises(DataInvalid, match="incomplete"):
            in_order(found)

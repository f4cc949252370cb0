from sqlite3 import Connection

import pytest

from mirror.store.commands import ledgers
from mirror.store.commands.ledgers import begin_partial, make_instance, missed
from mirror.store.protocols import Partial
from tests.store.samples import digest_of


def misses(db: Connection) -> list[tuple[str, int, float]]:
    return db.execute("SELECT name, count, last_at FROM misses ORDER BY last_at, name").fetchall()


def test_misses_are_counted_by_name(db: Connection) -> None:
    for name, at in (("a", 1), ("b", 2), ("a", 5), ("a", 4)):
        missed(db, name, at)
    assert misses(db) == [("b", 1, 2), ("a", 3, 5)]


def test_misses_are_capped_and_the_oldest_go(db: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "MISSES_ROWS", 3)
    for at, name in enumerate("abcadef"):
        missed(db, name, at)
    assert misses(db) == [("d", 1, 4), ("e", 1, 5), ("f", 1, 6)]


def test_a_name_that_floods_adds_no_rows(db: Connection) -> None:
    for at in range(100):
        missed(db, "a", at)
    assert misses(db) == [("a", 100, 99)]


def test_one_digest_and_source_has_one_download(db: Connection) -> None:
    for ingest_id in ("one", "two"):
        begin_partial(db, Partial(ingest_id, digest_of("a"), "docker.io", anonymous=True, started_at=1))
    begin_partial(db, Partial("three", digest_of("a"), "docker.io", anonymous=False, started_at=1))
    assert db.execute("SELECT id FROM ingests ORDER BY id").fetchall() == [("three",), ("two",)]


def test_the_instance_is_made_once(db: Connection) -> None:
    make_instance(db)
    made = db.execute("SELECT value FROM meta").fetchall()
    make_instance(db)
    assert db.execute("SELECT value FROM meta").fetchall() == made

"""What `Lifecycle.foresee` does beside what every catalog does (`suites_lifecycle`): it takes everything back."""

import sqlite3
from collections.abc import Iterator

import pytest

from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.store.commands import blobs, foresight, inventory
from mirror.store.protocols import Proof
from mirror.store.schema import migrate
from tests.store.samples import ALPINE, OWN, digest_of, image

MANIFEST = image("1")
DIGEST = MANIFEST.descriptor.digest


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection)
    blobs.hold(connection, digest_of("1"), 1, "there", [(ALPINE, Proof.ANONYMOUS)], 1)
    blobs.hold_manifest(connection, ALPINE, MANIFEST, "here", Proof.ANONYMOUS, 1)
    inventory.set_tag(connection, ALPINE, "x", DIGEST, 1, "me", None)
    yield connection
    connection.close()


def dump(db: sqlite3.Connection) -> list[str]:
    return list(db.iterdump())


def test_the_database_is_as_it_was(db: sqlite3.Connection) -> None:
    """Breaks when the savepoint is released without being rolled back."""
    before = dump(db)
    for target in ("x", DIGEST):
        gone = foresight.foresee(db, [(ALPINE, target)], 10)
        assert dict(gone) == {DIGEST: len(MANIFEST.raw), digest_of("1"): 1}
        assert dump(db) == before
    assert not db.in_transaction


def test_in_somebody_elses_transaction_too(db: sqlite3.Connection) -> None:
    db.execute("BEGIN")
    inventory.set_tag(db, ALPINE, "y", DIGEST, 2, "me", None)
    assert foresight.foresee(db, [(ALPINE, "x")], 10) == []
    db.execute("COMMIT")
    assert db.execute("SELECT count(*) FROM tags").fetchone() == (2,)


def test_a_failure_takes_it_back_too(db: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> str | None:
        raise sqlite3.OperationalError("disk I/O error")

    before = dump(db)
    monkeypatch.setattr(foresight, "begin_delete", broken)
    with pytest.raises(sqlite3.OperationalError):
        foresight.foresee(db, [(ALPINE, DIGEST)], 10)
    assert dump(db) == before


@pytest.mark.parametrize(("home", "target"), [(OWN, "x"), (ALPINE, "y"), (ALPINE, digest_of("2"))])
def test_what_is_not_there(db: sqlite3.Connection, home: Repository, target: str | Digest) -> None:
    assert foresight.foresee(db, [(home, target)], 10) == []

"""What the catalogs' suite cannot see: the rows themselves, and commands inside another's transaction."""

from sqlite3 import Connection

from mirror.store.commands.blobs import hold_manifest
from mirror.store.commands.forwarding import at_upstream, enqueue, enqueue_held, note_session, sent
from mirror.store.commands.rows import make_blob, make_repository
from mirror.store.forwarding import KNOWN_SECONDS, SESSION_SECONDS
from mirror.store.protocols import Proof
from tests.store.samples import TOOL, digest_of, image

MANIFEST = image("a")
DIGEST = MANIFEST.descriptor.digest


def rows(db: Connection, table: str) -> int:
    count: int = db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    return count


def test_a_push_is_queued_in_the_transaction_that_holds_it(db: Connection) -> None:
    db.execute("BEGIN")
    hold_manifest(db, TOOL, MANIFEST, "here", Proof.PUSHED, 1)
    enqueue(db, make_repository(db, TOOL), "1", make_blob(db, DIGEST), "ghcr.io", 1)
    db.execute("ROLLBACK")
    assert (rows(db, "outbox"), rows(db, "links")) == (0, 0)


def test_old_rows_go(db: Connection) -> None:
    for number in range(3):
        note_session(db, TOOL, digest_of(str(number)), "https://there", number * SESSION_SECONDS)
        at_upstream(db, TOOL, digest_of(str(number)), number * KNOWN_SECONDS)
        assert (rows(db, "sessions"), rows(db, "upstream_blobs")) == (1, 1)


def test_what_is_replaced_leaves_no_row_behind(db: Connection) -> None:
    home = make_repository(db, TOOL)
    enqueue(db, home, "1", make_blob(db, DIGEST), "ghcr.io", 1)  # as one whose bytes were lost
    hold_manifest(db, TOOL, image("b"), "here", Proof.PUSHED, 1)
    assert enqueue_held(db, TOOL, "1", image("b").descriptor.digest, "ghcr.io", 2)
    assert db.execute("SELECT count(*) FROM blobs WHERE digest = ?", (DIGEST.to_bytes(),)).fetchone() == (0,)
    assert not sent(db, 2, DIGEST, 1)

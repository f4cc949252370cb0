"""Images that are sent on: open uploads, what registries have, and the outbox."""

from collections.abc import Iterable
from sqlite3 import Connection

from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.store.commands.rows import blob_row, forget_blobs, make_repository, repository_id
from mirror.store.forwarding import KNOWN_SECONDS, SESSION_SECONDS

# --- at the registry ------------------------------------------------------------------------------------------------


def note_session(db: Connection, repository: Repository, digest: Digest, location: str, at: float) -> None:
    """`Forwarding.note_session`."""
    db.execute("DELETE FROM sessions WHERE begun_at <= ?", (at - SESSION_SECONDS,))
    db.execute(
        "INSERT INTO sessions (repository, digest, location, begun_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET location = excluded.location, begun_at = excluded.begun_at",
        (make_repository(db, repository), digest.to_bytes(), location, at),
    )


def end_session(db: Connection, repository: Repository, digest: Digest) -> None:
    """`Forwarding.end_session`."""
    db.execute(
        "DELETE FROM sessions WHERE repository = ? AND digest = ?", (repository_id(db, repository), digest.to_bytes())
    )


def at_upstream(db: Connection, repository: Repository, digest: Digest, at: float) -> None:
    """`Forwarding.at_upstream`."""
    db.execute("DELETE FROM upstream_blobs WHERE known_at <= ?", (at - KNOWN_SECONDS,))
    db.execute(
        "INSERT INTO upstream_blobs (digest, repository, known_at) VALUES (?, ?, ?)"
        " ON CONFLICT DO UPDATE SET known_at = max(known_at, excluded.known_at)",
        (digest.to_bytes(), make_repository(db, repository), at),
    )


# --- the outbox -----------------------------------------------------------------------------------------------------


def enqueue(db: Connection, home: int, reference: str, manifest: int, target: str, at: float) -> None:
    """Let a manifest wait for the registry `target`, inside whatever transaction: `home` and `manifest` are rows.

    A new row with a new number: what is just being sent of the one whose place it takes is not acknowledged by it.
    """
    replaced = db.execute(
        "DELETE FROM outbox WHERE repository = ? AND reference = ? AND target = ? RETURNING manifest",
        (home, reference, target),
    ).fetchall()
    db.execute(
        "INSERT INTO outbox (repository, reference, manifest, target, queued_at) VALUES (?, ?, ?, ?, ?)",
        (home, reference, manifest, target, at),
    )
    _forget(db, replaced)


def enqueue_held(
    db: Connection, repository: Repository, reference: str, manifest: Digest, target: str, at: float
) -> bool:
    """`Outbox.enqueue`."""
    row = db.execute(
        "SELECT b.id FROM blobs b JOIN manifests m ON m.blob = b.id WHERE b.digest = ? AND b.state = 'held'",
        (manifest.to_bytes(),),
    ).fetchone()
    if row is None:
        return False
    enqueue(db, make_repository(db, repository), reference, row[0], target, at)
    return True


def sent(db: Connection, entry: int, manifest: Digest, at: float) -> bool:
    """`Outbox.sent`."""
    blob = blob_row(db, manifest)
    if blob is None:
        return False
    row = db.execute(
        "DELETE FROM outbox WHERE id = ? AND manifest = ? RETURNING repository, reference", (entry, blob[0])
    ).fetchone()
    if row is None:
        return False
    db.execute(
        "UPDATE tags SET origin = 'upstream', checked_at = ? WHERE repository = ? AND name = ? AND manifest = ?",
        (at, *row, blob[0]),
    )
    return True


def send_failed(db: Connection, entry: int, at: float, next_at: float, failure: str, *, refused: bool) -> None:
    """`Outbox.send_failed`."""
    db.execute(
        "UPDATE outbox SET attempts = attempts + 1, tried_at = ?, next_at = ?, failure = ?, refused = ? WHERE id = ?",
        (at, next_at, failure, refused, entry),
    )


def retry_queued(db: Connection, entry: int | None) -> int:
    """`Outbox.retry_queued`."""
    return db.execute(
        "UPDATE outbox SET attempts = 0, tried_at = NULL, next_at = NULL, failure = NULL, refused = 0"
        " WHERE ?1 IS NULL OR id = ?1",
        (entry,),
    ).rowcount


def drop_queued(db: Connection, entry: int | None) -> int:
    """`Outbox.drop_queued`."""
    dropped = db.execute("DELETE FROM outbox WHERE ?1 IS NULL OR id = ?1 RETURNING manifest", (entry,)).fetchall()
    _forget(db, dropped)
    return len(dropped)


def _forget(db: Connection, manifests: Iterable[tuple[int]]) -> None:
    """The rows of digests that nothing names any more: a manifest may have been found bad, and be gone by now."""
    forget_blobs(db, [manifest for (manifest,) in manifests])

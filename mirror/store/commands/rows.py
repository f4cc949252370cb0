"""Rows that every command needs: repositories and digests by their ids, made where there are none, and their use."""

from collections.abc import Iterable
from sqlite3 import Connection

from mirror.oci.digest import Digest
from mirror.oci.names import Repository


def repository_id(db: Connection, repository: Repository) -> int | None:
    """The row of a repository, or None."""
    row = db.execute(
        "SELECT id FROM repositories WHERE registry = ? AND path = ?", (repository.registry, repository.path)
    ).fetchone()
    return row[0] if row else None


def make_repository(db: Connection, repository: Repository) -> int:
    """The row of a repository, made where there is none."""
    found = repository_id(db, repository)
    if found is not None:
        return found
    made: int = db.execute(
        "INSERT INTO repositories (registry, path) VALUES (?, ?) RETURNING id", (repository.registry, repository.path)
    ).fetchone()[0]
    return made


def blob_row(db: Connection, digest: Digest) -> tuple[int, str] | None:
    """Id and state of a digest, or None where nothing is known of it."""
    row = db.execute("SELECT id, state FROM blobs WHERE digest = ?", (digest.to_bytes(),)).fetchone()
    return (row[0], row[1]) if row else None


def make_blob(db: Connection, digest: Digest) -> int:
    """The row of a digest, made (absent) where there is none."""
    found = blob_row(db, digest)
    if found is not None:
        return found[0]
    made: int = db.execute("INSERT INTO blobs (digest) VALUES (?) RETURNING id", (digest.to_bytes(),)).fetchone()[0]
    return made


def held_manifest(db: Connection, repository: int, digest: Digest) -> int | None:
    """The row of a manifest that is held and linked in this repository, or None."""
    row = db.execute(
        "SELECT b.id FROM blobs b JOIN links l ON l.repository = ? AND l.blob = b.id AND l.is_manifest = 1"
        " WHERE b.digest = ? AND b.state = 'held'",
        (repository, digest.to_bytes()),
    ).fetchone()
    return row[0] if row else None


# A row that says nothing and that nothing names.
_FORGET = """
    DELETE FROM blobs WHERE id = ?1 AND state = 'absent'
    AND NOT EXISTS (SELECT 1 FROM edges WHERE child = ?1)
    AND NOT EXISTS (SELECT 1 FROM manifests WHERE subject = ?1)
    AND NOT EXISTS (SELECT 1 FROM tags WHERE manifest = ?1)
    AND NOT EXISTS (SELECT 1 FROM tag_history WHERE manifest = ?1)
    AND NOT EXISTS (SELECT 1 FROM outbox WHERE manifest = ?1)
"""


def forget_blobs(db: Connection, blobs: Iterable[int]) -> None:
    """Remove the rows of those digests that are absent and that nothing names any more."""
    db.executemany(_FORGET, [(blob,) for blob in blobs])


def used(db: Connection, blob: int, at: float) -> None:
    """A blob was used, and with it the indices above it. So no tag was used later than its manifest."""
    db.execute(
        "WITH RECURSIVE up (id) AS ("
        " SELECT ?1 UNION SELECT e.parent FROM up JOIN edges e ON e.child = up.id AND e.role = 'manifest')"
        " UPDATE blobs SET used_at = max(coalesce(used_at, 0), ?2) WHERE id IN up AND state != 'absent'",
        (blob, at),
    )

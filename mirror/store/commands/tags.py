"""Tags, the history of their moves, and who may read a repository."""

from sqlite3 import Connection

from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.store.commands.rows import blob_row, forget_blobs, held_manifest, repository_id, used
from mirror.store.protocols import Origin, Visibility

HISTORY_PER_TAG = 100
HISTORY_ROWS = 1_000_000


def set_visibility(db: Connection, repository: Repository, visibility: Visibility, at: float) -> None:
    """`Repositories.set_visibility`."""
    db.execute(
        "INSERT INTO repositories (registry, path, visibility, checked_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET visibility = excluded.visibility, checked_at = excluded.checked_at",
        (repository.registry, repository.path, visibility, at),
    )


def move_tag(
    db: Connection,
    repository: Repository,
    name: str,
    expected: Digest | None,
    to: Digest,
    origin: Origin,
    at: float,
    actor: str,
) -> bool:
    """`Tags.move_tag`."""
    home = repository_id(db, repository)
    target = None if home is None else held_manifest(db, home, to)
    if home is None or target is None:
        return False
    row = db.execute(
        "SELECT b.digest FROM tags t JOIN blobs b ON b.id = t.manifest WHERE t.repository = ? AND t.name = ?",
        (home, name),
    ).fetchone()
    if (row[0] if row else None) != (expected.to_bytes() if expected else None):
        return False
    place_tag(db, home, name, target, origin, at, actor)
    return True


def place_tag(db: Connection, home: int, name: str, target: int, origin: Origin, at: float, actor: str) -> None:
    """Let a tag name a manifest that is held and linked there, whatever it named before."""
    row = db.execute("SELECT manifest, used_at FROM tags WHERE repository = ? AND name = ?", (home, name)).fetchone()
    used(db, target, max(at, row[1] or 0.0) if row else at)
    if row and row[0] == target:
        db.execute(
            "UPDATE tags SET origin = ?, checked_at = ?, gone_at = NULL WHERE repository = ? AND name = ?",
            (origin, at, home, name),
        )
        return
    db.execute(
        "INSERT INTO tags (repository, name, manifest, origin, moved_at, checked_at) VALUES (?1, ?2, ?3, ?4, ?5, ?5)"
        " ON CONFLICT DO UPDATE SET manifest = ?3, origin = ?4, moved_at = ?5, checked_at = ?5, gone_at = NULL",
        (home, name, target, origin, at),
    )
    record_move(db, home, name, target, at, actor)


def record_move(db: Connection, repository: int, name: str, manifest: int | None, at: float, actor: str) -> None:
    """One row of history; the oldest beyond the caps go."""
    row = db.execute(
        "INSERT INTO tag_history (repository, name, at, manifest, actor) VALUES (?, ?, ?, ?, ?) RETURNING id",
        (repository, name, at, manifest, actor),
    ).fetchone()
    dropped = db.execute(
        "DELETE FROM tag_history WHERE id <= ? RETURNING manifest", (row[0] - HISTORY_ROWS,)
    ).fetchall()
    dropped += db.execute(
        "DELETE FROM tag_history WHERE repository = ?1 AND name = ?2 AND id <= ("
        " SELECT id FROM tag_history WHERE repository = ?1 AND name = ?2 ORDER BY id DESC LIMIT 1 OFFSET ?3)"
        " RETURNING manifest",
        (repository, name, HISTORY_PER_TAG),
    ).fetchall()
    forget_blobs(db, [old for (old,) in dropped if old is not None])


def confirm_tag(db: Connection, repository: Repository, name: str, manifest: Digest, at: float) -> bool:
    """`Tags.confirm_tag`. Nothing happens where the tag names another manifest by now."""
    home, blob = repository_id(db, repository), blob_row(db, manifest)
    if home is None or blob is None:
        return False
    confirmed = db.execute(
        "UPDATE tags SET checked_at = ?, gone_at = NULL WHERE repository = ? AND name = ? AND manifest = ?",
        (at, home, name, blob[0]),
    )
    return confirmed.rowcount > 0


def tag_gone(db: Connection, repository: Repository, name: str, at: float) -> None:
    """`Tags.tag_gone`."""
    home = repository_id(db, repository)
    if home is not None:
        db.execute("UPDATE tags SET gone_at = coalesce(gone_at, ?) WHERE repository = ? AND name = ?", (at, home, name))


def drop_tag(db: Connection, repository: Repository, name: str, expected: Digest, at: float, actor: str) -> None:
    """`Tags.drop_tag`."""
    home, blob = repository_id(db, repository), blob_row(db, expected)
    if home is None or blob is None:
        return
    dropped = db.execute(
        "DELETE FROM tags WHERE repository = ?1 AND name = ?2 AND manifest = ?3"
        " AND NOT EXISTS (SELECT 1 FROM pins WHERE repository = ?1 AND reference = ?2)",
        (home, name, blob[0]),
    )
    if dropped.rowcount:
        record_move(db, home, name, None, at, actor)

"""Blobs, their links with proofs, manifests with their edges, and deletion.

A blob's states (design.md §6): absent → held → deleting → absent; held → quarantined → held. What is deleting is
neither served nor linked, and cannot be held before its bytes are gone: publish and delete exclude each other.
"""

import json
from collections.abc import Sequence
from sqlite3 import Connection

from mirror.errors import StoreFailed
from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest
from mirror.oci.names import Repository
from mirror.store.commands.rows import blob_row, forget_blobs, make_blob, make_repository
from mirror.store.conditions import AWAITED, NEEDED
from mirror.store.protocols import UPLOAD_GRACE, Proof

# One statement per proof, so that no column name is ever put together from text.
_LINK = {
    proof: (
        f"INSERT INTO links (repository, blob, is_manifest, linked_at, {column}) VALUES (?1, ?2, ?3, ?4, ?4)"  # noqa: S608 — SQL of our own
        f" ON CONFLICT DO UPDATE SET {column} = max(coalesce({column}, 0), excluded.{column})"
    )
    for proof, column in (
        (Proof.ANONYMOUS, "anonymous_at"),
        (Proof.CREDENTIALS, "credentials_at"),
        (Proof.PUSHED, "pushed_at"),
    )
}

# No row comes back where the blob is deleting: it must not be held while its bytes go.
_HOLD = """
    INSERT INTO blobs (digest, size, state, location, used_at, touched_at, verified_at)
    VALUES (?1, ?2, 'held', ?3, ?4, ?4, ?4)
    ON CONFLICT DO UPDATE
    SET size = ?2, state = 'held', location = ?3, verified_at = ?4,
        used_at = max(coalesce(used_at, 0), ?4), touched_at = max(coalesce(touched_at, 0), ?4)
    WHERE state != 'deleting'
    RETURNING id
"""

_DELETABLE = f"""
    SELECT b.id, b.location FROM blobs b
    WHERE b.digest = ?3 AND b.state IN ('held', 'quarantined') AND NOT {NEEDED}
      AND (?1 IS NULL OR NOT {AWAITED}) AND (?4 IS NULL OR b.used_at < ?4)
"""  # noqa: S608 — SQL of our own


def hold(
    db: Connection, digest: Digest, size: int, location: str, links: Sequence[tuple[Repository, Proof]], at: float
) -> None:
    """`Links.hold`."""
    blob = _hold(db, digest, size, location, at)
    for repository, proof in links:
        _add_link(db, make_repository(db, repository), blob, proof, at, is_manifest=False)


def _hold(db: Connection, digest: Digest, size: int, location: str, at: float) -> int:
    row = db.execute(_HOLD, (digest.to_bytes(), size, location, at)).fetchone()
    if row is None:
        raise StoreFailed(f"{digest} is just being deleted: try again")
    blob: int = row[0]
    return blob


def _add_link(db: Connection, repository: int, blob: int, proof: Proof, at: float, *, is_manifest: bool) -> None:
    db.execute(_LINK[proof], (repository, blob, is_manifest, at))


def link(db: Connection, repository: Repository, digest: Digest, proof: Proof, at: float, *, is_manifest: bool) -> bool:
    """`Links.link`."""
    row = blob_row(db, digest)
    if row is None or row[1] != "held":
        return False
    _add_link(db, make_repository(db, repository), row[0], proof, at, is_manifest=is_manifest)
    if proof is Proof.PUSHED and not is_manifest:  # mounted: as good as uploaded
        db.execute("UPDATE blobs SET touched_at = max(coalesce(touched_at, 0), ?) WHERE id = ?", (at, row[0]))
    return True


def quarantine(db: Connection, digest: Digest) -> None:
    """`Links.quarantine`."""
    db.execute("UPDATE blobs SET state = 'quarantined' WHERE digest = ? AND state = 'held'", (digest.to_bytes(),))


def hold_manifest(
    db: Connection, repository: Repository, manifest: Manifest, location: str, proof: Proof, at: float
) -> None:
    """`Manifests.hold_manifest`."""
    blob = _hold(db, manifest.descriptor.digest, manifest.descriptor.size, location, at)
    _add_link(db, make_repository(db, repository), blob, proof, at, is_manifest=True)
    subject = manifest.subject
    added = db.execute(
        "INSERT INTO manifests (blob, media_type, subject, artifact_type, annotations) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT DO NOTHING",
        (
            blob,
            manifest.descriptor.media_type,
            make_blob(db, subject.digest) if subject else None,
            manifest.artifact_type,
            json.dumps(dict(manifest.annotations)) if manifest.annotations else None,
        ),
    )
    if added.rowcount:  # else its edges stand already: the same bytes say the same
        db.executemany(
            "INSERT INTO edges (parent, position, child, role, media_type, size, platform)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (blob, position, make_blob(db, item.digest), child.role, item.media_type, item.size, child.platform)
                for position, child in enumerate(manifest.children())
                for item in (child.descriptor,)
            ],
        )
    if proof is Proof.PUSHED:  # its uploads have what they waited for, and from now on what it keeps
        db.execute("UPDATE blobs SET touched_at = NULL WHERE id IN (SELECT child FROM edges WHERE parent = ?)", (blob,))


def begin_delete(
    db: Connection, digest: Digest, used_before: float | None = None, *, now: float | None = None
) -> str | None:
    """`Deletion.begin_delete`."""
    awaited_at = used_before if now is None else now
    row = db.execute(_DELETABLE, (awaited_at, UPLOAD_GRACE, digest.to_bytes(), used_before)).fetchone()
    if row is None:
        return None
    db.execute("UPDATE blobs SET state = 'deleting' WHERE id = ?", (row[0],))
    location: str = row[1]
    return location


def deleted(db: Connection, digest: Digest) -> None:
    """`Deletion.deleted`. What the blob said and where it was linked goes with it; who names it stays."""
    row = blob_row(db, digest)
    if row is None or row[1] != "deleting":
        return
    blob = (row[0],)
    named = db.execute(
        "SELECT child FROM edges WHERE parent = ?1 UNION SELECT subject FROM manifests WHERE blob = ?1", blob
    ).fetchall()
    db.execute("DELETE FROM links WHERE blob = ?", blob)
    db.execute("DELETE FROM edges WHERE parent = ?", blob)
    db.execute("DELETE FROM manifests WHERE blob = ?", blob)
    db.execute("DELETE FROM configs WHERE config = ?", blob)
    db.execute(
        "UPDATE blobs SET state = 'absent', size = NULL, location = NULL, used_at = NULL, touched_at = NULL,"
        " verified_at = NULL WHERE id = ?",
        blob,
    )
    forget_blobs(db, {row[0], *(other for (other,) in named)})

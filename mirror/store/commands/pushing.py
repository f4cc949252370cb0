"""Pushes: uploads under way, manifests put here with their tags, and what clients take away again."""

from collections.abc import Sequence
from sqlite3 import Connection

from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest
from mirror.oci.names import Repository
from mirror.store.commands.blobs import hold, hold_manifest, link
from mirror.store.commands.forwarding import enqueue
from mirror.store.commands.rows import blob_row, held_manifest, make_repository, repository_id
from mirror.store.commands.tags import place_tag, record_move
from mirror.store.protocols import Proof
from mirror.store.pushing import Push, Upload

_LINKED = {  # a text for each kind: see `reads`
    is_manifest: f"""
    SELECT 1 FROM links l JOIN blobs b ON b.id = l.blob
    WHERE l.repository = ? AND b.digest = ? AND l.is_manifest = {int(is_manifest)} AND b.state = 'held'
"""  # noqa: S608 — a number of our own
    for is_manifest in (False, True)
}


# --- uploads --------------------------------------------------------------------------------------------------------


def begin_upload(db: Connection, upload: Upload) -> None:
    """`Uploads.begin_upload`."""
    home = upload.repository
    db.execute(
        "INSERT OR REPLACE INTO uploads (id, registry, path, owner, algorithm, touched_at) VALUES (?, ?, ?, ?, ?, ?)",
        (upload.id, home.registry, home.path, upload.owner, upload.algorithm, upload.touched_at),
    )


def touch_upload(db: Connection, upload_id: str, at: float) -> None:
    """`Uploads.touch_upload`."""
    db.execute("UPDATE uploads SET touched_at = max(touched_at, ?) WHERE id = ?", (at, upload_id))


def end_upload(db: Connection, upload_id: str) -> None:
    """`Uploads.end_upload`."""
    db.execute("DELETE FROM uploads WHERE id = ?", (upload_id,))


def finish_upload(
    db: Connection, upload_id: str, repository: Repository, digest: Digest, size: int, location: str, at: float
) -> None:
    """`Uploads.finish_upload`."""
    hold(db, digest, size, location, [(repository, Proof.PUSHED)], at)
    end_upload(db, upload_id)


# --- manifests ------------------------------------------------------------------------------------------------------


def push_manifest(
    db: Connection, repository: Repository, manifest: Manifest, location: str, push: Push
) -> Digest | None:
    """`Pushes.push_manifest`."""
    home = repository_id(db, repository)
    for digest, is_manifest in push.needed:
        if db.execute(_LINKED[is_manifest], (home, digest.to_bytes())).fetchone() is None:
            return digest
    for digest in push.adopted:
        known = blob_row(db, digest)
        if known is None or known[1] != "held":
            return digest
    for digest in push.adopted:
        link(db, repository, digest, Proof.PUSHED, push.at, is_manifest=False)
    hold_manifest(db, repository, manifest, location, Proof.PUSHED, push.at)
    home = make_repository(db, repository)
    row = held_manifest(db, home, manifest.descriptor.digest)
    assert row is not None  # noqa: S101 — held and linked by the line before
    for name in push.tags:
        place_tag(db, home, name, row, push.origin, push.at, push.actor)
    if push.target is not None:
        for reference in push.tags or (str(manifest.descriptor.digest),):
            enqueue(db, home, reference, row, push.target, push.at)
    return None


def drop_manifest(
    db: Connection, repository: Repository, digest: Digest, at: float, actor: str
) -> Sequence[str] | None:
    """`Pushes.drop_manifest`."""
    home, blob = repository_id(db, repository), blob_row(db, digest)
    if home is None or blob is None:
        return None
    dropped = db.execute(
        "DELETE FROM links WHERE repository = ? AND blob = ? AND is_manifest = 1", (home, blob[0])
    ).rowcount
    if not dropped:
        return None
    rows = db.execute("SELECT name FROM tags WHERE repository = ? AND manifest = ? ORDER BY name", (home, blob[0]))
    names = [name for (name,) in rows.fetchall()]
    for name in names:
        _drop_tag(db, home, name, at, actor)
    db.execute("DELETE FROM pins WHERE repository = ? AND reference = ?", (home, str(digest)))
    db.execute("DELETE FROM outbox WHERE repository = ? AND manifest = ?", (home, blob[0]))
    return names


def untag(db: Connection, repository: Repository, name: str, at: float, actor: str) -> Digest | None:
    """`Pushes.untag`."""
    home = repository_id(db, repository)
    row = db.execute(
        "SELECT b.digest FROM tags t JOIN blobs b ON b.id = t.manifest WHERE t.repository = ? AND t.name = ?",
        (home, name),
    ).fetchone()
    if home is None or row is None:
        return None
    _drop_tag(db, home, name, at, actor)
    return Digest.from_bytes(row[0])


def _drop_tag(db: Connection, home: int, name: str, at: float, actor: str) -> None:
    """A tag goes, with its pins, and with what waits to be sent under its name."""
    db.execute("DELETE FROM tags WHERE repository = ? AND name = ?", (home, name))
    db.execute("DELETE FROM pins WHERE repository = ? AND reference = ?", (home, name))
    db.execute("DELETE FROM outbox WHERE repository = ? AND reference = ?", (home, name))
    record_move(db, home, name, None, at, actor)


def drop_blob(db: Connection, repository: Repository, digest: Digest) -> bool:
    """`Pushes.drop_blob`."""
    home, blob = repository_id(db, repository), blob_row(db, digest)
    if home is None or blob is None:
        return False
    dropped = db.execute("DELETE FROM links WHERE repository = ? AND blob = ? AND is_manifest = 0", (home, blob[0]))
    return dropped.rowcount > 0

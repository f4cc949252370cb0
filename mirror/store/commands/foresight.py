"""What a removal would delete, found out by doing it and taking it back: so it is what the removal itself does."""

from collections.abc import Sequence
from sqlite3 import Connection

from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.store.commands.blobs import begin_delete, deleted
from mirror.store.commands.inventory import remove_manifest, remove_tag

_SOMEBODY = ""

_BELOW = """
    WITH RECURSIVE below (id) AS (
        SELECT id FROM blobs WHERE digest = ?
        UNION SELECT e.child FROM below w JOIN edges e ON e.parent = w.id
    )
    SELECT b.digest, b.size FROM below w JOIN blobs b ON b.id = w.id WHERE b.state IN ('held', 'quarantined')
"""


def foresee(
    db: Connection, removals: Sequence[tuple[Repository, str | Digest]], at: float
) -> Sequence[tuple[Digest, int]]:
    """`Lifecycle.foresee`."""
    db.execute("SAVEPOINT foresight")
    try:
        return _delete(db, _remove(db, removals, at), at)
    finally:
        db.execute("ROLLBACK TO foresight")
        db.execute("RELEASE foresight")


def _remove(db: Connection, removals: Sequence[tuple[Repository, str | Digest]], at: float) -> dict[Digest, int]:
    """What lies below what was removed, with its size."""
    below: dict[Digest, int] = {}
    for repository, target in removals:
        if isinstance(target, Digest):
            digest: Digest | None = target
            remove_manifest(db, repository, target, at, _SOMEBODY)
        else:
            digest = remove_tag(db, repository, target, at, _SOMEBODY)
        if digest is not None:
            rows = db.execute(_BELOW, (digest.to_bytes(),)).fetchall()
            below.update((Digest.from_bytes(found), size) for found, size in rows)
    return below


def _delete(db: Connection, below: dict[Digest, int], at: float) -> list[tuple[Digest, int]]:
    """Those of them that nothing needs, and what is free once these are gone."""
    gone: list[tuple[Digest, int]] = []
    going = True
    while going:
        going = False
        for digest, size in list(below.items()):
            if begin_delete(db, digest, now=at) is not None:
                deleted(db, digest)
                gone.append((digest, size))
                del below[digest]
                going = True
    return gone

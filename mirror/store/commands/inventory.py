"""The life of an image: tags set by hand, removal and eviction, pins, use, and what configs say.

A manifest that is unlinked in a repository is at once invisible there; its bytes stay until they are collected
(`blobs`).
"""

from collections.abc import Sequence
from sqlite3 import Connection

from mirror.oci.digest import Digest
from mirror.oci.names import Reference, Repository
from mirror.store.commands.rows import blob_row, held_manifest, make_repository, repository_id, used
from mirror.store.commands.tags import place_tag, record_move
from mirror.store.conditions import EVICTABLE, UNKEPT, linked, seen
from mirror.store.inventory import ConfigFacts, View
from mirror.store.protocols import Origin

EVICTOR = "eviction"  # who stands in the history of a tag that eviction dropped

# The held manifest that has the digest ?1 and that ?2 (registry), ?3 (path) shows, ?4 (trusted), by its own link.
_TAKEN = f"""
    SELECT r.id, b.id FROM repositories r JOIN blobs b ON b.digest = ?1 AND b.state = 'held'
    JOIN manifests m ON m.blob = b.id
    WHERE r.registry = ?2 AND r.path = ?3 AND {linked("r.id", "b.id", "1", "?4")}
"""  # noqa: S608 — SQL of our own

# The manifest ?2 and what is held below it are linked in the own repository ?1, as far as the view of ?4 (repository)
# and ?5 (trusted) shows it: a manifest that names somebody's private layer proves nothing of it, nor does it that the
# same manifest is held elsewhere, together with that layer.
_ADOPT = f"""
    WITH RECURSIVE below (id, is_manifest) AS (
        SELECT ?2, 1
        UNION
        SELECT e.child, e.role = 'manifest'
        FROM below w JOIN edges e ON e.parent = w.id JOIN blobs b ON b.id = e.child AND b.state = 'held'
        WHERE w.is_manifest AND {seen("?4", "e.child", "(e.role = 'manifest')", "?5")}
    )
    INSERT INTO links (repository, blob, is_manifest, linked_at, pushed_at)
    SELECT ?1, w.id, w.is_manifest, ?3, ?3 FROM below w WHERE true
    ON CONFLICT DO UPDATE SET pushed_at = max(coalesce(pushed_at, 0), excluded.pushed_at)
"""  # noqa: S608 — SQL of our own

# As for what was pushed: what the own repository ?1 took with the manifest ?2 has its manifest, and waits for none.
_AWAITED_NO_MORE = """
    WITH RECURSIVE below (id) AS (SELECT ?2 UNION SELECT e.child FROM below w JOIN edges e ON e.parent = w.id)
    UPDATE blobs SET touched_at = NULL
    WHERE id IN (SELECT w.id FROM below w JOIN links l ON l.repository = ?1 AND l.blob = w.id)
"""

# What ?1 holds below the manifest ?2, which it does not hold any more, and what nothing else keeps there; of what was
# pushed only where ?3 says so.
_LEFT_BEHIND = f"""
    WITH RECURSIVE below (id) AS (
        SELECT e.child FROM edges e WHERE e.parent = ?2 AND e.role = 'manifest'
        UNION SELECT e.child FROM below w JOIN edges e ON e.parent = w.id AND e.role = 'manifest'
    )
    SELECT l.blob FROM below w
    CROSS JOIN links l ON l.repository = ?1 AND l.blob = w.id AND l.is_manifest = 1
    CROSS JOIN blobs b ON b.id = l.blob
    WHERE (?3 OR l.pushed_at IS NULL) AND {UNKEPT}
"""  # noqa: S608 — SQL of our own

# Whether nothing keeps the manifest ?2, which ?1 holds, there but the tags that it had.
_KEPT_BY_NOTHING = f"""
    SELECT 1 FROM links l JOIN blobs b ON b.id = l.blob
    WHERE l.repository = ?1 AND l.blob = ?2 AND l.is_manifest = 1 AND {UNKEPT}
"""  # noqa: S608 — SQL of our own

_CANDIDATE = f"""
    SELECT b.id FROM blobs b
    JOIN manifests m ON m.blob = b.id
    JOIN links l ON l.repository = ?1 AND l.blob = b.id AND l.is_manifest = 1
    WHERE b.digest = ?2 AND b.state = 'held' AND b.used_at < ?3 AND {EVICTABLE}
"""  # noqa: S608 — SQL of our own


# --- tags -----------------------------------------------------------------------------------------------------------


def set_tag(
    db: Connection, repository: Repository, name: str, to: Digest, at: float, actor: str, source: View | None
) -> bool:
    """`Lifecycle.set_tag`."""
    if source is not None and repository.is_own:
        _adopt(db, repository, to, at, source)
    home = repository_id(db, repository)
    found = None if home is None else held_manifest(db, home, to)
    if home is None or found is None:
        return False
    place_tag(db, home, name, found, Origin.LOCAL, at, actor)
    return True


def _adopt(db: Connection, repository: Repository, to: Digest, at: float, source: View) -> None:
    """Link in an own repository what the source shows of a manifest; nothing where it does not show that itself."""
    home = source.repository
    row = db.execute(_TAKEN, (to.to_bytes(), home.registry, home.path, source.trusted)).fetchone()
    if row is None:
        return
    giver, manifest = row
    taker = make_repository(db, repository)
    db.execute(_ADOPT, (taker, manifest, at, giver, source.trusted))
    db.execute(_AWAITED_NO_MORE, (taker, manifest))


# --- removal and eviction -------------------------------------------------------------------------------------------


def remove_tag(db: Connection, repository: Repository, name: str, at: float, actor: str) -> Digest | None:
    """`Lifecycle.remove_tag`."""
    row = db.execute(
        "SELECT t.repository, t.manifest, b.digest FROM tags t JOIN blobs b ON b.id = t.manifest"
        " WHERE t.repository = ? AND t.name = ?",
        (repository_id(db, repository), name),
    ).fetchone()
    if row is None:
        return None
    home, manifest, digest = row
    db.execute("DELETE FROM tags WHERE repository = ? AND name = ?", (home, name))
    record_move(db, home, name, None, at, actor)
    if db.execute(_KEPT_BY_NOTHING, (home, manifest)).fetchone():
        _unlink(db, home, manifest, at, actor, also_pushed=True)
    return Digest.from_bytes(digest)


def remove_manifest(db: Connection, repository: Repository, digest: Digest, at: float, actor: str) -> Sequence[str]:
    """`Lifecycle.remove_manifest`."""
    row = db.execute(
        "SELECT l.repository, l.blob FROM blobs b JOIN links l ON l.blob = b.id AND l.is_manifest = 1"
        " WHERE l.repository = ? AND b.digest = ?",
        (repository_id(db, repository), digest.to_bytes()),
    ).fetchone()
    if row is None:
        return []
    home, manifest = row
    db.execute("DELETE FROM pins WHERE repository = ? AND reference = ?", (home, str(digest)))
    return _unlink(db, home, manifest, at, actor, also_pushed=True)


def evict(db: Connection, repository: Repository, manifest: Digest, used_before: float, at: float) -> bool:
    """`Collection.evict`."""
    home = repository_id(db, repository)
    row = db.execute(_CANDIDATE, (home, manifest.to_bytes(), used_before)).fetchone()
    if home is None or row is None:
        return False
    _unlink(db, home, row[0], at, EVICTOR, also_pushed=False)
    return True


def _unlink(db: Connection, home: int, manifest: int, at: float, actor: str, *, also_pushed: bool) -> Sequence[str]:
    """Take a manifest out of a repository, with its tags, and with those below it that nothing else keeps there."""
    names = [
        row[0]
        for row in db.execute(
            "SELECT name FROM tags WHERE manifest = ? AND repository = ? ORDER BY name", (manifest, home)
        )
    ]
    for name in names:
        db.execute("DELETE FROM tags WHERE repository = ? AND name = ?", (home, name))
        record_move(db, home, name, None, at, actor)
    _drop_link(db, home, manifest)
    # Layer by layer: what an index kept that went just now is free in the next round.
    while left := db.execute(_LEFT_BEHIND, (home, manifest, also_pushed)).fetchall():
        for (child,) in left:
            _drop_link(db, home, child)
    return names


def _drop_link(db: Connection, home: int, manifest: int) -> None:
    db.execute("DELETE FROM links WHERE repository = ? AND blob = ? AND is_manifest = 1", (home, manifest))


# --- pins -----------------------------------------------------------------------------------------------------------


def pin(db: Connection, reference: Reference, owner: str, at: float) -> None:
    """`Lifecycle.pin`. The first time stays."""
    db.execute(
        "INSERT INTO pins (repository, reference, owner, pinned_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (make_repository(db, reference.repository), str(reference.target), owner, at),
    )


def unpin(db: Connection, reference: Reference, owner: str | None) -> int:
    """`Lifecycle.unpin`."""
    return db.execute(
        "DELETE FROM pins WHERE repository = ?1 AND reference = ?2 AND (?3 IS NULL OR owner = ?3)",
        (repository_id(db, reference.repository), str(reference.target), owner),
    ).rowcount


# --- use ------------------------------------------------------------------------------------------------------------


def touch(db: Connection, what: Sequence[tuple[Repository, str | Digest]], blobs: Sequence[Digest], at: float) -> None:
    """`Collection.touch`."""
    for repository, target in what:
        if isinstance(target, Digest):
            row = blob_row(db, target)
        else:
            row = db.execute(
                "UPDATE tags SET used_at = max(coalesce(used_at, 0), ?) WHERE repository = ? AND name = ?"
                " RETURNING manifest",
                (at, repository_id(db, repository), target),
            ).fetchone()
        if row is not None:
            used(db, row[0], at)
    db.executemany(
        "UPDATE blobs SET used_at = max(coalesce(used_at, 0), ?) WHERE digest = ? AND state != 'absent'",
        [(at, digest.to_bytes()) for digest in blobs],
    )


def verified(db: Connection, digests: Sequence[Digest], at: float) -> None:
    """`Collection.verified`."""
    db.executemany(
        "UPDATE blobs SET verified_at = ? WHERE digest = ? AND state = 'held'",
        [(at, digest.to_bytes()) for digest in digests],
    )


# --- configs, misses ------------------------------------------------------------------------------------------------


def note_config(db: Connection, manifest: Digest, facts: ConfigFacts) -> None:
    """`Configs.note_config`. Kept by the config: images that share it share what it says."""
    db.execute(
        "INSERT INTO configs (config, created, platform)"
        " SELECT c.id, ?3, ?4 FROM blobs p JOIN edges e ON e.parent = p.id AND e.role = 'config'"
        " JOIN blobs c ON c.id = e.child AND c.digest = ?2 AND c.state = 'held'"
        " WHERE p.digest = ?1 AND p.state = 'held'"
        " ON CONFLICT DO UPDATE SET created = excluded.created, platform = excluded.platform",
        (manifest.to_bytes(), facts.config.to_bytes(), facts.created, facts.platform),
    )


def forget_misses(db: Connection) -> None:
    """`Lifecycle.forget_misses`."""
    db.execute("DELETE FROM misses")

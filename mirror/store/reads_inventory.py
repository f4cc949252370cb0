"""What is read of the life of an image; as in `reads`, each method one SELECT.

Digests that a statement is asked about come as one parameter, packed one behind the other, so that its text is always
the same.
"""

from collections.abc import Iterable

from mirror.oci.digest import Digest
from mirror.store.conditions import AWAITED, DIGEST_TEXT, EVICTABLE, HAS_TAG, IS_CHILD, NEEDED, above, seen


def packed(digests: Iterable[Digest]) -> bytes:
    """Digests as `WANTED` reads them: each begins with the byte that tells its length."""
    return b"".join(digest.to_bytes() for digest in digests)


def _length(parameter: str) -> str:
    return f"CASE substr({parameter}, at, 1) WHEN x'01' THEN 33 ELSE 65 END"


_LENGTH = _length("?1")

# The digests asked about: a table `wanted` of them.
WANTED = f"""
    cut (at) AS (
        SELECT 1 WHERE length(?1) > 0
        UNION ALL SELECT at + {_LENGTH} FROM cut WHERE at + {_LENGTH} <= length(?1)
    ),
    wanted (digest) AS MATERIALIZED (SELECT DISTINCT substr(?1, at, {_LENGTH}) FROM cut)
"""  # noqa: S608 — SQL of our own

# --- images ---------------------------------------------------------------------------------------------------------

_TAGGED = f"""
    r.registry, r.path, t.name, b.digest, m.media_type, b.size, t.origin,
    l.anonymous_at, l.credentials_at, l.pushed_at, t.moved_at, t.gone_at, t.used_at,
    EXISTS (SELECT 1 FROM pins p WHERE p.repository = r.id AND p.reference IN (t.name, {DIGEST_TEXT}))
"""  # noqa: S608 — SQL of our own

_UNTAGGED = f"""
    r.registry, r.path, NULL, b.digest, m.media_type, b.size,
    CASE WHEN l.pushed_at IS NULL THEN 'upstream' ELSE 'local' END,
    l.anonymous_at, l.credentials_at, l.pushed_at, l.linked_at, NULL, b.used_at,
    EXISTS (SELECT 1 FROM pins p WHERE p.repository = r.id AND p.reference = {DIGEST_TEXT})
"""  # noqa: S608 — SQL of our own

# After ?1 ?2 (registry, path) and its tag ?3, up to the repository ?4 ?5.
TAGGED_IMAGES = f"""
    SELECT {_TAGGED}
    FROM repositories r
    CROSS JOIN tags t ON t.repository = r.id
    JOIN blobs b ON b.id = t.manifest
    JOIN manifests m ON m.blob = b.id
    JOIN links l ON l.repository = r.id AND l.blob = b.id AND l.is_manifest = 1
    WHERE (r.registry, r.path) >= (?1, ?2) AND (r.registry, r.path) <= (?4, ?5)
      AND t.name > CASE WHEN r.registry = ?1 AND r.path = ?2 THEN ?3 ELSE '' END
    ORDER BY r.registry, r.path, t.name LIMIT ?6
"""  # noqa: S608 — SQL of our own

TAGGED_IMAGE = f"""
    SELECT {_TAGGED}
    FROM repositories r
    JOIN tags t ON t.repository = r.id
    JOIN blobs b ON b.id = t.manifest
    JOIN manifests m ON m.blob = b.id
    JOIN links l ON l.repository = r.id AND l.blob = b.id AND l.is_manifest = 1
    WHERE r.registry = ? AND r.path = ? AND t.name = ?
"""  # noqa: S608 — SQL of our own

# After ?1 ?2 (registry, path) and its time ?3 and digest ?4, up to the repository ?5 ?6. (NULL: whatever the time.)
UNTAGGED_IMAGES = f"""
    SELECT {_UNTAGGED}
    FROM repositories r
    CROSS JOIN links l ON l.repository = r.id AND l.is_manifest = 1
    JOIN blobs b ON b.id = l.blob AND b.state = 'held'
    JOIN manifests m ON m.blob = b.id
    WHERE (r.registry, r.path) >= (?1, ?2) AND (r.registry, r.path) <= (?5, ?6)
      AND l.linked_at >= CASE WHEN r.registry = ?1 AND r.path = ?2 THEN ?3 ELSE -9e99 END
      AND (r.registry != ?1 OR r.path != ?2 OR l.linked_at > ?3 OR b.digest > ?4)
      AND NOT {HAS_TAG} AND NOT {IS_CHILD}
    ORDER BY r.registry, r.path, l.linked_at, b.digest LIMIT ?7
"""  # noqa: S608 — SQL of our own

# Images of the manifests in wanted(repository, id, direct): tags, then those without, where `direct` children as well.
_ROWS = f"""
    SELECT {_TAGGED}, 0 AS part
    FROM wanted w
    CROSS JOIN tags t ON t.manifest = w.id AND t.repository = w.repository
    JOIN repositories r ON r.id = t.repository
    JOIN blobs b ON b.id = w.id
    JOIN manifests m ON m.blob = w.id
    JOIN links l ON l.repository = r.id AND l.blob = w.id AND l.is_manifest = 1
    UNION ALL
    SELECT {_UNTAGGED}, 1
    FROM wanted w
    CROSS JOIN links l ON l.repository = w.repository AND l.blob = w.id AND l.is_manifest = 1
    JOIN repositories r ON r.id = l.repository
    JOIN blobs b ON b.id = w.id AND b.state = 'held'
    JOIN manifests m ON m.blob = w.id
    WHERE NOT {HAS_TAG} AND (w.direct OR NOT {IS_CHILD})
    ORDER BY 15, 1, 2, 3, 11, 4
"""  # noqa: S608 — SQL of our own

# Digests from ?1 to ?2, or from ?3 to ?4.
FIND = f"""
    WITH RECURSIVE
    matched (id) AS MATERIALIZED (
        SELECT id FROM blobs WHERE digest BETWEEN ?1 AND ?2
        UNION ALL SELECT id FROM blobs WHERE digest BETWEEN ?3 AND ?4
    ),
    lowest (id) AS (SELECT e.parent FROM matched CROSS JOIN edges e ON e.child = matched.id AND e.role = 'config'),
    {above("e.role = 'manifest'")},
    wanted (repository, id, direct) AS MATERIALIZED (
        SELECT l.repository, l.blob, 1 FROM matched CROSS JOIN links l ON l.blob = matched.id AND l.is_manifest = 1
        UNION ALL SELECT repository, id, 0 FROM above WHERE id NOT IN matched
    )
    {_ROWS} LIMIT ?5
"""  # noqa: S608 — SQL of our own

SHARING = f"""
    WITH RECURSIVE
    lowest (id) AS (SELECT e.parent FROM blobs c JOIN edges e ON e.child = c.id WHERE c.digest = ?1),
    {above("true")},
    wanted (repository, id, direct) AS MATERIALIZED (SELECT repository, id, 0 FROM above)
    {_ROWS} LIMIT ?2
"""  # noqa: S608 — SQL of our own

EDGES = f"""
    WITH RECURSIVE {WANTED}
    SELECT p.digest, e.position, c.digest, e.role, e.media_type, e.size, e.platform, c.state = 'held'
    FROM wanted w
    CROSS JOIN blobs p ON p.digest = w.digest AND p.state = 'held'
    JOIN edges e ON e.parent = p.id
    JOIN blobs c ON c.id = e.child
    ORDER BY p.digest, e.position
"""  # noqa: S608 — SQL of our own

# Of the manifests in ?1 (packed) by the views in ?2 (JSON: registry, path, trusted, where its digest begins in ?1, how
# long that is); which one each row is about comes first.
EDGES_SEEN = f"""
    SELECT j.key, p.digest, e.position, c.digest, e.role, e.media_type, e.size, e.platform,
           c.state = 'held' AND {seen("r.id", "c.id", "(e.role = 'manifest')", "json_extract(j.value, '$[2]')")}
    FROM json_each(?2) j
    LEFT JOIN repositories r
      ON r.registry = json_extract(j.value, '$[0]') AND r.path = json_extract(j.value, '$[1]')
    CROSS JOIN blobs p
      ON p.digest = substr(?1, json_extract(j.value, '$[3]'), json_extract(j.value, '$[4]')) AND p.state = 'held'
    CROSS JOIN edges e ON e.parent = p.id
    JOIN blobs c ON c.id = e.child
    WHERE {seen("r.id", "p.id", "1", "json_extract(j.value, '$[2]')")}
    ORDER BY j.key, e.position
"""  # noqa: S608 — SQL of our own

CONFIGS = f"""
    WITH RECURSIVE {WANTED}
    SELECT p.digest, c.digest, k.created, k.platform
    FROM wanted w
    CROSS JOIN blobs p ON p.digest = w.digest
    CROSS JOIN edges e ON e.parent = p.id AND e.role = 'config'
    JOIN configs k ON k.config = e.child
    JOIN blobs c ON c.id = e.child
"""  # noqa: S608 — SQL of our own

# --- what they weigh ------------------------------------------------------------------------------------------------

_BELOW = """
    root (id) AS (SELECT b.id FROM wanted w CROSS JOIN blobs b ON b.digest = w.digest),
    below (root, id) AS (
        SELECT id, id FROM root UNION SELECT w.root, e.child FROM below w JOIN edges e ON e.parent = w.id
    )
"""


def _is_image(manifest: str) -> str:
    return (
        f"(EXISTS (SELECT 1 FROM manifests m WHERE m.blob = {manifest}) AND ("  # noqa: S608 — SQL of our own
        f"EXISTS (SELECT 1 FROM tags t WHERE t.manifest = {manifest}) OR EXISTS ("
        f"SELECT 1 FROM links l WHERE l.blob = {manifest} AND l.is_manifest = 1 AND NOT {IS_CHILD})))"
    )


# Each parent is followed up on its own: a layer of thousands of images is known to be shared after the second.
_SHARED = f"""
    ((w.id != w.root AND {_is_image("w.id")}) OR EXISTS (
        SELECT 1 FROM edges q WHERE q.child = w.id AND EXISTS (
            WITH RECURSIVE above (id) AS (
                SELECT q.parent UNION SELECT e.parent FROM above JOIN edges e ON e.child = above.id
            )
            SELECT 1 FROM above WHERE above.id != w.root AND {_is_image("above.id")}
        )
    ))
"""  # noqa: S608 — SQL of our own

WEIGH = f"""
    WITH RECURSIVE {WANTED}, {_BELOW}
    SELECT d.digest, sum(b.size), sum(CASE WHEN {_SHARED} THEN 0 ELSE b.size END)
    FROM below w JOIN blobs b ON b.id = w.id AND b.state = 'held' JOIN blobs d ON d.id = w.root
    GROUP BY w.root
"""  # noqa: S608 — SQL of our own

WEIGH_TOGETHER = f"""
    WITH RECURSIVE {WANTED},
    below (id) AS (
        SELECT b.id FROM wanted w CROSS JOIN blobs b ON b.digest = w.digest
        UNION SELECT e.child FROM below w JOIN edges e ON e.parent = w.id
    )
    SELECT coalesce(sum(b.size), 0) FROM below w JOIN blobs b ON b.id = w.id AND b.state = 'held'
"""  # noqa: S608 — SQL of our own

# As WEIGH, of every image: then it is cheaper to count how many images each blob has.
SIZES = f"""
    WITH RECURSIVE
    root (id) AS (
        SELECT t.manifest FROM tags t JOIN manifests m ON m.blob = t.manifest
        UNION SELECT l.blob FROM links l JOIN manifests m ON m.blob = l.blob WHERE l.is_manifest = 1 AND NOT {IS_CHILD}
    ),
    below (root, id) AS MATERIALIZED (
        SELECT id, id FROM root UNION SELECT w.root, e.child FROM below w JOIN edges e ON e.parent = w.id
    ),
    counted (id, images) AS MATERIALIZED (SELECT id, count(*) FROM below GROUP BY id)
    SELECT d.digest, sum(b.size), sum(CASE c.images WHEN 1 THEN b.size ELSE 0 END)
    FROM below w
    JOIN counted c ON c.id = w.id
    JOIN blobs b ON b.id = w.id AND b.state = 'held'
    JOIN blobs d ON d.id = w.root
    GROUP BY w.root
"""  # noqa: S608 — SQL of our own

# --- repositories ---------------------------------------------------------------------------------------------------

_HOLDS = """
    EXISTS (SELECT 1 FROM links l JOIN blobs b ON b.id = l.blob AND b.state = 'held'
            JOIN manifests m ON m.blob = l.blob WHERE l.repository = r.id AND l.is_manifest = 1)
"""

HELD_REPOSITORIES = f"""
    SELECT r.registry, r.path FROM repositories r
    WHERE (r.registry, r.path) > (?1, ?2) AND {_HOLDS}
    ORDER BY r.registry, r.path LIMIT ?3
"""  # noqa: S608 — SQL of our own

# Not LIKE: this way nothing in the text is a wildcard.
SEARCH = f"""
    SELECT r.registry, r.path FROM repositories r
    WHERE instr(CASE r.registry WHEN 'local' THEN r.path ELSE r.registry || '/' || r.path END, ?1) AND {_HOLDS}
    ORDER BY r.registry, r.path LIMIT ?2
"""  # noqa: S608 — SQL of our own

# --- what people set ------------------------------------------------------------------------------------------------

PINS = """
    SELECT r.registry, r.path, p.reference, p.owner, p.pinned_at
    FROM pins p JOIN repositories r ON r.id = p.repository
    ORDER BY r.registry, r.path, p.reference, p.owner
"""

_MOVE = """
    SELECT h.name, h.at, b.digest, h.actor
    FROM repositories r CROSS JOIN tag_history h ON h.repository = r.id LEFT JOIN blobs b ON b.id = h.manifest
    WHERE r.registry = ?1 AND r.path = ?2
"""

HISTORY = f"{_MOVE} ORDER BY h.id DESC LIMIT ?3"

TAG_HISTORY = f"{_MOVE} AND h.name = ?4 ORDER BY h.id DESC LIMIT ?3"

MISSES = "SELECT name, count, last_at FROM misses ORDER BY last_at DESC, name DESC LIMIT ?"

# --- what may go ----------------------------------------------------------------------------------------------------

CANDIDATES = f"""
    SELECT r.registry, r.path, b.digest, b.used_at
    FROM blobs b
    CROSS JOIN manifests m ON m.blob = b.id
    CROSS JOIN links l ON l.blob = b.id AND l.is_manifest = 1
    JOIN repositories r ON r.id = l.repository
    WHERE b.state = 'held' AND {EVICTABLE}
    ORDER BY b.used_at, r.registry, r.path, b.digest LIMIT ?1
"""  # noqa: S608 — SQL of our own

_LOOSE = f"b.used_at < ?1 AND NOT {NEEDED} AND NOT {AWAITED}"

# Each state by its own index.
UNREFERENCED = f"""
    SELECT b.digest, b.size, b.used_at FROM blobs b WHERE b.state = 'held' AND {_LOOSE}
    UNION ALL SELECT b.digest, b.size, b.used_at FROM blobs b WHERE b.state = 'quarantined' AND {_LOOSE}
    ORDER BY 3, 1 LIMIT ?3
"""  # noqa: S608 — SQL of our own

# Evicted are the manifests ?3 (packed) in the repositories ?4 (JSON: registry and path), in the same order. ?1, ?2: as
# in `AWAITED`.
_HELD_NO_MORE = "EXISTS (SELECT 1 FROM gone g WHERE g.repository = l.repository AND g.blob = l.blob)"
_LEFT_OVER = f"""
    WITH RECURSIVE
    cut (n, at) AS (
        SELECT 0, 1 WHERE length(?3) > 0
        UNION ALL SELECT n + 1, at + {_length("?3")} FROM cut WHERE at + {_length("?3")} <= length(?3)
    ),
    wanted (n, digest) AS MATERIALIZED (SELECT n, substr(?3, at, {_length("?3")}) FROM cut),
    gone (repository, blob) AS MATERIALIZED (
        SELECT DISTINCT r.id, b.id
        FROM json_each(?4) j
        CROSS JOIN wanted w ON w.n = j.key
        CROSS JOIN repositories r
          ON r.registry = json_extract(j.value, '$[0]') AND r.path = json_extract(j.value, '$[1]')
        CROSS JOIN blobs b ON b.digest = w.digest
    ),
    -- what lies below these, and goes along unless something else keeps it in its repository (`_LEFT_BEHIND`)
    under (repository, id) AS MATERIALIZED (
        SELECT g.repository, e.child FROM gone g JOIN edges e ON e.parent = g.blob AND e.role = 'manifest'
        UNION SELECT u.repository, e.child FROM under u JOIN edges e ON e.parent = u.id AND e.role = 'manifest'
    ),
    staying (repository, id) AS MATERIALIZED (
        SELECT l.repository, l.blob FROM links l JOIN blobs b ON b.id = l.blob
        WHERE l.is_manifest = 1 AND NOT {_HELD_NO_MORE} AND (
            l.pushed_at IS NOT NULL
            OR NOT EXISTS (SELECT 1 FROM under u WHERE u.repository = l.repository AND u.id = l.blob)
            OR {HAS_TAG}
            OR EXISTS (SELECT 1 FROM pins p WHERE p.repository = l.repository AND p.reference = {DIGEST_TEXT})
            OR EXISTS (SELECT 1 FROM outbox o WHERE o.manifest = l.blob))
        UNION SELECT s.repository, e.child FROM staying s JOIN edges e ON e.parent = s.id AND e.role = 'manifest'
    ),
    linked (id) AS MATERIALIZED (
        SELECT DISTINCT l.blob FROM staying s
        JOIN links l ON l.repository = s.repository AND l.blob = s.id AND l.is_manifest = 1
    ),
    -- as `NEEDED`, from the roots down; and what may not go yet keeps what it names
    needed (id) AS MATERIALIZED (
        SELECT id FROM linked
        UNION SELECT l.manifest FROM (SELECT repository, manifest, manifest AS blob FROM tags) l
              WHERE NOT {_HELD_NO_MORE}
        UNION SELECT manifest FROM outbox
        UNION SELECT b.id FROM blobs b
              WHERE EXISTS (SELECT 1 FROM pins WHERE instr(reference, ':'))
                AND EXISTS (SELECT 1 FROM pins p WHERE p.reference = {DIGEST_TEXT})
        UNION SELECT b.id FROM blobs b WHERE {AWAITED}
        UNION SELECT e.child FROM needed n
              JOIN blobs p ON p.id = n.id AND p.state IN ('held', 'quarantined')
              JOIN edges e ON e.parent = n.id
              WHERE NOT (
                  e.role = 'manifest' AND EXISTS (SELECT 1 FROM manifests m WHERE m.blob = e.child)
                  AND n.id IN linked)
    )
    SELECT {{}} FROM blobs b
    WHERE b.state IN ('held', 'quarantined') AND NOT EXISTS (SELECT 1 FROM needed n WHERE n.id = b.id)
"""  # noqa: S608 — SQL of our own
FORESEEN = _LEFT_OVER.format("b.digest, b.size")
FREED = _LEFT_OVER.format("count(*), coalesce(sum(b.size), 0)")

STATES = f"""
    WITH RECURSIVE {WANTED}
    SELECT b.digest, b.state FROM wanted w CROSS JOIN blobs b ON b.digest = w.digest WHERE b.state != 'absent'
"""  # noqa: S608 — SQL of our own

USAGE = """
    WITH RECURSIVE below (id) AS (
        SELECT t.manifest FROM tags t
        UNION SELECT l.blob FROM links l WHERE l.is_manifest = 1
        UNION SELECT e.child FROM below w JOIN edges e ON e.parent = w.id
    )
    SELECT count(*), coalesce(sum(b.size), 0), count(w.id), coalesce(sum(CASE WHEN w.id THEN b.size END), 0)
    FROM blobs b LEFT JOIN below w ON w.id = b.id AND b.state = 'held'
    WHERE b.state != 'absent'
"""

# Each state by its own index.
STORED_BYTES = """
    SELECT (SELECT coalesce(sum(size), 0) FROM blobs WHERE state = 'held')
         + (SELECT coalesce(sum(size), 0) FROM blobs WHERE state = 'quarantined')
         + (SELECT coalesce(sum(size), 0) FROM blobs WHERE state = 'deleting')
"""

HELD_BYTES = "SELECT coalesce(sum(size), 0) FROM blobs WHERE state = 'held'"

UNVERIFIED = """
    SELECT digest, location, size FROM blobs WHERE digest > ?1 AND state = 'held' ORDER BY digest LIMIT ?2
"""

QUARANTINED = """
    SELECT digest, location, size FROM blobs WHERE digest > ?1 AND state = 'quarantined' ORDER BY digest LIMIT ?2
"""

HOMES = """
    SELECT r.registry, r.path, l.is_manifest
    FROM blobs b CROSS JOIN links l ON l.blob = b.id JOIN repositories r ON r.id = l.repository
    WHERE b.digest = ?1 ORDER BY r.registry, r.path, l.is_manifest LIMIT ?2
"""

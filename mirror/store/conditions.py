"""Conditions, in SQL, that reads and commands must judge alike: what may be listed for deletion is what may be deleted.

Each is about rows of the statement around it: the blob `b`, the link `l`. `above` is a way: tables of a recursive WITH.
"""

# How `pins` writes the digest of the blob `b`.
DIGEST_TEXT = """
    CASE substr(b.digest, 1, 1) WHEN x'01' THEN 'sha256:' ELSE 'sha512:' END || lower(hex(substr(b.digest, 2)))
"""

# Whether the manifest of the link `l` lies below another one that its repository holds.
IS_CHILD = """
    EXISTS (
        WITH RECURSIVE up (id) AS (
            SELECT e.parent FROM edges e WHERE e.child = l.blob AND e.role = 'manifest'
            UNION SELECT e.parent FROM up JOIN edges e ON e.child = up.id AND e.role = 'manifest'
        )
        SELECT 1 FROM up JOIN links k ON k.repository = l.repository AND k.blob = up.id AND k.is_manifest = 1
    )
"""

HAS_TAG = "EXISTS (SELECT 1 FROM tags t WHERE t.manifest = l.blob AND t.repository = l.repository)"

# Whether nothing keeps the link `l` of the manifest `b` but that it was once delivered or pushed.
UNKEPT = f"""
    NOT {HAS_TAG} AND NOT {IS_CHILD}
    AND NOT EXISTS (SELECT 1 FROM pins p WHERE p.repository = l.repository AND p.reference = {DIGEST_TEXT})
    AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.manifest = l.blob)
"""  # noqa: S608 — SQL of our own

# Whether eviction may take the link `l` of the held manifest `b`.
EVICTABLE = f"""
    l.pushed_at IS NULL
    AND NOT EXISTS (
        SELECT 1 FROM tags t WHERE t.manifest = l.blob AND t.repository = l.repository AND (
            t.origin = 'local' OR t.gone_at IS NOT NULL
            OR EXISTS (SELECT 1 FROM pins p WHERE p.repository = t.repository AND p.reference = t.name)))
    AND NOT EXISTS (SELECT 1 FROM pins p WHERE p.repository = l.repository AND p.reference = {DIGEST_TEXT})
    AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.manifest = l.blob)
    AND NOT {IS_CHILD}
"""  # noqa: S608 — SQL of our own


def public(blob: str, is_manifest: str) -> str:
    """Whether some registry has delivered it to anybody, as manifest or blob."""
    return f"""
        EXISTS (SELECT 1 FROM links v
                WHERE v.blob = {blob} AND v.is_manifest = {is_manifest} AND v.anonymous_at IS NOT NULL)
    """  # noqa: S608 — SQL of our own


def linked(repository: str, blob: str, is_manifest: str, trusted: str) -> str:
    """Whether a view's own repository (`inventory.View`: the row `repository`, and `trusted`) shows a held blob, as
    manifest or blob, by its link."""
    return f"""
        EXISTS (SELECT 1 FROM links v WHERE v.repository = {repository} AND v.blob = {blob}
                AND v.is_manifest = {is_manifest}
                AND (v.anonymous_at IS NOT NULL OR v.pushed_at IS NOT NULL
                     OR (v.credentials_at IS NOT NULL AND {trusted})))
    """  # noqa: S608 — SQL of our own


def seen(repository: str, blob: str, is_manifest: str, trusted: str) -> str:
    """Whether a view shows a held blob: by its own repository's link, or since anybody may read it elsewhere. That goes
    for the manifests in an index, too: docker does not ask again for one that it has from another repository."""
    return f"""
        ({linked(repository, blob, is_manifest, trusted)} OR {public(blob, is_manifest)})
    """


def above(edge: str) -> str:
    """What lies above the manifests `lowest` by such edges, with each repository that holds it. A way up goes on in
    other repositories while all that it came through is public: no index tells of what is private."""
    return f"""
    free (id) AS (
        SELECT id FROM lowest WHERE {public("lowest.id", "1")}
        UNION SELECT e.parent FROM free w CROSS JOIN edges e ON e.child = w.id AND {edge}
        WHERE {public("e.parent", "1")}
    ),
    above (repository, id) AS (
        SELECT l.repository, l.blob FROM lowest w CROSS JOIN links l ON l.blob = w.id AND l.is_manifest = 1
        UNION SELECT l.repository, l.blob FROM free w CROSS JOIN edges e ON e.child = w.id AND {edge}
        CROSS JOIN links l ON l.blob = e.parent AND l.is_manifest = 1
        UNION SELECT l.repository, l.blob FROM above w CROSS JOIN edges e ON e.child = w.id AND {edge}
        CROSS JOIN links l ON l.repository = w.repository AND l.blob = e.parent AND l.is_manifest = 1
    )
"""  # noqa: S608 — SQL of our own


# Whether something still needs the blob `b` (design.md §6, "Roots"; `Deletion.begin_delete`). A manifest that is linked
# anywhere was pushed or delivered by an upstream: it stays until its links are taken away. A quarantined parent is to
# be fetched again, and its children with it, so it counts as held. The most frequent answer comes first.
NEEDED = f"""
    (EXISTS (
        SELECT 1 FROM edges e JOIN blobs p ON p.id = e.parent
        WHERE e.child = b.id AND p.state IN ('held', 'quarantined') AND NOT (
            e.role = 'manifest' AND EXISTS (SELECT 1 FROM manifests m WHERE m.blob = b.id)
            AND EXISTS (SELECT 1 FROM links l WHERE l.blob = e.parent AND l.is_manifest = 1)))
    OR EXISTS (SELECT 1 FROM links l WHERE l.blob = b.id AND l.is_manifest = 1)
    OR EXISTS (SELECT 1 FROM tags t WHERE t.manifest = b.id)
    OR EXISTS (SELECT 1 FROM outbox o WHERE o.manifest = b.id)
    OR EXISTS (SELECT 1 FROM pins p WHERE p.reference = {DIGEST_TEXT}))
"""  # noqa: S608 — SQL of our own

# Whether the blob `b` is an upload that, at ?1, still waits for its manifest; ?2 is how long it may.
AWAITED = """
    (b.touched_at IS NOT NULL AND b.touched_at >= ?1 - ?2
     AND EXISTS (SELECT 1 FROM links l WHERE l.blob = b.id AND l.is_manifest = 0 AND l.pushed_at IS NOT NULL))
"""

-- The catalog from day one (design.md §3). Tables are cheap to add later; keys, and facts known only at the moment
-- of writing, are not.
--
-- Times are wall time, seconds since 1970. Digests are the algorithm's byte and the hash (`Digest.to_bytes`).
-- Ids are for joins only and never leave the store.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE repositories (
    id         INTEGER PRIMARY KEY,
    registry   TEXT NOT NULL,
    path       TEXT NOT NULL,
    visibility TEXT NOT NULL DEFAULT 'unknown' CHECK (visibility IN ('public', 'private', 'unknown')),
    checked_at REAL NOT NULL DEFAULT 0,
    UNIQUE (registry, path)
) STRICT;

-- A row in state 'absent' is a digest that something names (a child, a subject) and that is not held.
CREATE TABLE blobs (
    id          INTEGER PRIMARY KEY,
    digest      BLOB NOT NULL UNIQUE,
    size        INTEGER,
    state       TEXT NOT NULL DEFAULT 'absent' CHECK (state IN ('absent', 'held', 'deleting', 'quarantined')),
    location    TEXT,
    used_at     REAL,
    touched_at  REAL,
    verified_at REAL,
    CHECK (state = 'absent' OR (size IS NOT NULL AND location IS NOT NULL))
) STRICT;
CREATE INDEX blobs_held ON blobs (size) WHERE state = 'held';
CREATE INDEX blobs_deleting ON blobs (state) WHERE state = 'deleting';

-- "This repository holds this blob", and why it may say so. The proofs are a set, not an order.
CREATE TABLE links (
    repository     INTEGER NOT NULL REFERENCES repositories,
    blob           INTEGER NOT NULL REFERENCES blobs,
    is_manifest    INTEGER NOT NULL CHECK (is_manifest IN (0, 1)),
    linked_at      REAL NOT NULL,
    anonymous_at   REAL,
    credentials_at REAL,
    pushed_at      REAL,
    upstream_at    REAL,    -- when upstream was last known to have it: skip it on push, mount from it
    PRIMARY KEY (repository, blob, is_manifest)
) STRICT, WITHOUT ROWID;
CREATE INDEX links_public ON links (blob) WHERE anonymous_at IS NOT NULL;
CREATE INDEX links_blob ON links (blob);

CREATE TABLE manifests (
    blob          INTEGER PRIMARY KEY REFERENCES blobs,
    media_type    TEXT NOT NULL,    -- from the body; the header is only compared
    subject       INTEGER REFERENCES blobs,
    artifact_type TEXT,
    annotations   TEXT              -- JSON
) STRICT;
CREATE INDEX manifests_subject ON manifests (subject) WHERE subject IS NOT NULL;

CREATE TABLE edges (
    parent     INTEGER NOT NULL REFERENCES blobs,
    position   INTEGER NOT NULL,
    child      INTEGER NOT NULL REFERENCES blobs,
    role       TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size       INTEGER NOT NULL,
    platform   TEXT,
    PRIMARY KEY (parent, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX edges_child ON edges (child);

CREATE TABLE tags (
    repository INTEGER NOT NULL REFERENCES repositories,
    name       TEXT NOT NULL,
    manifest   INTEGER NOT NULL REFERENCES blobs,
    origin     TEXT NOT NULL CHECK (origin IN ('upstream', 'local')),
    moved_at   REAL NOT NULL,
    checked_at REAL NOT NULL,
    gone_at    REAL,
    used_at    REAL,
    PRIMARY KEY (repository, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX tags_manifest ON tags (manifest);
CREATE INDEX tags_gone ON tags (gone_at) WHERE gone_at IS NOT NULL;

-- Every move of a tag; `manifest` is NULL where it was dropped. Rows are capped by the command that writes them.
CREATE TABLE tag_history (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    repository INTEGER NOT NULL REFERENCES repositories,
    name       TEXT NOT NULL,
    at         REAL NOT NULL,
    manifest   INTEGER REFERENCES blobs,
    actor      TEXT NOT NULL
) STRICT;
CREATE INDEX tag_history_tag ON tag_history (repository, name, id);
CREATE INDEX tag_history_manifest ON tag_history (manifest) WHERE manifest IS NOT NULL;

-- `reference` is a tag's name or a digest as text.
CREATE TABLE pins (
    repository INTEGER NOT NULL REFERENCES repositories,
    reference  TEXT NOT NULL,
    owner      TEXT NOT NULL,
    pinned_at  REAL NOT NULL,
    PRIMARY KEY (repository, reference, owner)
) STRICT, WITHOUT ROWID;
CREATE INDEX pins_reference ON pins (reference);

-- Downloads that were begun, and that only their own source may go on with.
CREATE TABLE ingests (
    id         TEXT PRIMARY KEY,
    digest     BLOB NOT NULL,
    registry   TEXT NOT NULL,
    anonymous  INTEGER NOT NULL CHECK (anonymous IN (0, 1)),
    started_at REAL NOT NULL,
    UNIQUE (digest, registry, anonymous)
) STRICT, WITHOUT ROWID;

-- Pushes that wait for their registry.
CREATE TABLE outbox (
    id         INTEGER PRIMARY KEY,
    repository INTEGER NOT NULL REFERENCES repositories,
    reference  TEXT NOT NULL,
    manifest   INTEGER NOT NULL REFERENCES blobs,
    target     TEXT NOT NULL,
    queued_at  REAL NOT NULL,
    attempts   INTEGER NOT NULL DEFAULT 0,
    next_at    REAL,
    failure    TEXT,
    UNIQUE (repository, reference, target)
) STRICT;
CREATE INDEX outbox_manifest ON outbox (manifest);
CREATE INDEX outbox_next ON outbox (next_at);

CREATE TABLE misses (
    name    TEXT PRIMARY KEY,
    count   INTEGER NOT NULL,
    last_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX misses_last ON misses (last_at);

-- Sending images on to their registries.

-- Uploads that are open at a registry: where they go on. As in `ingests`, the digest says what, whether it is held or not.
CREATE TABLE sessions (
    repository INTEGER NOT NULL REFERENCES repositories,
    digest     BLOB NOT NULL,
    location   TEXT NOT NULL,
    begun_at   REAL NOT NULL,
    PRIMARY KEY (repository, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_begun ON sessions (begun_at);

-- Which blobs a registry was known to have, under which of its repositories. Not `links.upstream_at`, which stays
-- unused: a link says that the repository holds the blob here, and many statements ask for no more than that there is
-- one. A row that proves nothing to anybody would make each of them wrong that forgets to ask for a proof. And images
-- go also to repositories that hold nothing here.
CREATE TABLE upstream_blobs (
    digest     BLOB NOT NULL,
    repository INTEGER NOT NULL REFERENCES repositories,
    known_at   REAL NOT NULL,
    PRIMARY KEY (digest, repository)
) STRICT, WITHOUT ROWID;
CREATE INDEX upstream_blobs_repository ON upstream_blobs (repository);
CREATE INDEX upstream_blobs_known ON upstream_blobs (known_at);

-- Made anew while nothing was ever written to it: its numbers are given once only, so that one read in a list never
-- means another push; and it tells a refusal from an outage. `target` is the registry it goes to.
DROP TABLE outbox;
CREATE TABLE outbox (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    repository INTEGER NOT NULL REFERENCES repositories,
    reference  TEXT NOT NULL,
    manifest   INTEGER NOT NULL REFERENCES blobs,
    target     TEXT NOT NULL,
    queued_at  REAL NOT NULL,
    attempts   INTEGER NOT NULL DEFAULT 0,
    tried_at   REAL,
    next_at    REAL,
    refused    INTEGER NOT NULL DEFAULT 0 CHECK (refused IN (0, 1)),
    failure    TEXT,
    UNIQUE (repository, reference, target)
) STRICT;
CREATE INDEX outbox_manifest ON outbox (manifest);
CREATE INDEX outbox_order ON outbox (repository, target, id);

-- The life of an image: what lists, eviction and collection walk in order.

-- What a config says, noted when it is first read: a list of images must not open every config there is.
CREATE TABLE configs (
    config   INTEGER PRIMARY KEY REFERENCES blobs,
    created  TEXT,             -- RFC 3339, as the config has it
    platform TEXT NOT NULL
) STRICT;

-- Eviction and collection begin with what was not used for longest; with the size, sums need nothing else.
CREATE INDEX blobs_used ON blobs (used_at, size) WHERE state = 'held';
DROP INDEX blobs_held;
CREATE INDEX blobs_quarantined ON blobs (used_at, size) WHERE state = 'quarantined';

-- A repository's manifests, oldest first: without the layers, which are many more.
CREATE INDEX links_manifests ON links (repository, linked_at) WHERE is_manifest = 1;

CREATE INDEX tag_history_repository ON tag_history (repository);

-- Uploads that clients have begun. The bytes lie in staging under the same id. No row of `repositories`: a name is not
-- the mirror's own because somebody began to put something there.
CREATE TABLE uploads (
    id         TEXT PRIMARY KEY,
    registry   TEXT NOT NULL,
    path       TEXT NOT NULL,
    owner      TEXT NOT NULL,
    algorithm  TEXT NOT NULL,
    touched_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX uploads_touched ON uploads (touched_at, id);

-- A blob of many repositories that is asked for as a manifest, and the other way about, walks none of its links.
DROP INDEX links_public;
CREATE INDEX links_public ON links (blob, is_manifest) WHERE anonymous_at IS NOT NULL;

"""Bytes and facts at rest. Knows no HTTP and no upstream; lets no cursor, row id or transaction out.

- `protocols`   the contracts: `BlobStore`, `Ingest`, `BlobReader`, what serving needs of the catalog, `Proof`
- `inventory`   the contracts of the life of an image: lists, pins, eviction, collection
- `forwarding`  the contracts of sending images on: open uploads, what registries have, pushes that wait
- `catalog`     `Catalog`: all parts of the catalog together
- `lock`        the data directory and its one owner
- `disk`        `DiskStore`: blobs as files
- `staging`     local ingests, and the clean-up of what was left behind
- `committer`   publishing in batches
- `lane`, `files`   what those share: ordered work on threads; errors, room, writeback
- `sqlite`, `sqlite_inventory`, `sqlite_forwarding`   `SqliteCatalog`, made of
    - `database`   the two below, started and ended together
    - `opening`    the database examined, made, migrated (`schema/`)
    - `writer`     the one thread that writes
    - `commands/`  what is written, each one transaction
    - `reads`, `reads_inventory`   what is read, each one SELECT
    - `conditions` what both must judge alike
- `memory/`     both contracts in memory: the model, and the store of other rings' tests

A blob's way in: `DiskStore.begin` → `LocalIngest.write` … `verify` → `DiskStore.publish` (fsync, then the committer's
rename and fsync of the directory) → `SqliteCatalog.hold`.
"""

"""What is written to the catalog, as plain functions of the writing connection.

Each runs whole inside one transaction of `writer.Writer` and may fail at any point: its savepoint takes it back.

- `blobs`      blobs, links, manifests, and their deletion
- `tags`       tags and their history, visibility
- `inventory`  the life of an image: tags set by hand, removal, eviction, pins, use
- `ledgers`    begun downloads, misses, the instance's id
- `forwarding` what is sent on: open uploads, what registries have, the outbox
- `rows`       what they share: the rows of repositories and digests
"""

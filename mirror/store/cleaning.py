"""What is left in staging, brought together with what the catalog knows of it."""

from collections.abc import Sequence
from typing import Protocol

from mirror.store.protocols import BlobStore, Partials
from mirror.store.pushing import Upload


class Ledger(Partials, Protocol):
    """What the catalog knows of staging."""

    async def uploads(self) -> Sequence[Upload]: ...


async def clean_staging(store: BlobStore, catalog: Ledger, *, now: float, max_age: float = 24 * 3600) -> int:
    """Bring staging and the catalog's list of begun downloads together; returns how many of either were removed.

    Files that no row knows (of a process that was killed), rows without a file, and downloads
    begun more than `max_age` seconds ago go. Open ingests are left alone. `now` is wall time; a start further in the
    future than `max_age` is not believed. Raises `StoreFailed`.
    """
    before = await catalog.partials()
    active = store.active()
    staged = set(await store.staged())
    rows = {
        row.id: row for row in await catalog.partials()
    }  # read after the files: a file has its row before it is idle
    stale = {
        row.id
        for row in before
        if row.id not in active and (row.id not in staged or abs(now - row.started_at) > max_age)
    }
    orphans = staged - rows.keys() - {upload.id for upload in await catalog.uploads()}
    for ingest_id in (stale | orphans) & staged:
        await store.discard(ingest_id)
    for ingest_id in stale:
        await catalog.end_partial(ingest_id)
    return len(stale | orphans)

"""Staging and the catalog, brought together."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirror.store.cleaning import clean_staging
from mirror.store.disk import DiskStore
from mirror.store.memory import MemoryBlobStore, MemoryCatalog
from mirror.store.protocols import BlobStore, Partial
from mirror.store.pushing import Upload
from tests.store.samples import OWN, digest_of
from tests.store.suites import HELLO, ignore


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[DiskStore]:
    started = await DiskStore.start(tmp_path, reserve=0)
    yield started
    await started.close()


@pytest.fixture(params=["disk", "memory"])
def either(request: pytest.FixtureRequest, store: DiskStore) -> BlobStore:
    return store if request.param == "disk" else MemoryBlobStore()


async def suspended(store: BlobStore) -> str:
    """An ingest that lies in staging."""
    ingest = await store.begin(ignore)
    await ingest.write(HELLO)
    await ingest.suspend()
    return ingest.id


def row(ingest_id: str, at: float = 0) -> Partial:
    return Partial(ingest_id, digest_of(ingest_id), "docker.io", anonymous=True, started_at=at)


async def test_cleaning_keeps_what_can_be_resumed_and_what_is_open(either: BlobStore) -> None:
    catalog = MemoryCatalog()
    kept = row(await suspended(either), at=1000)
    await catalog.begin_partial(kept)
    ingest = await either.begin(ignore)
    begun = row(ingest.id, at=1)  # open for very long
    await catalog.begin_partial(begun)
    uploading = await either.begin(ignore)  # without a row
    assert await clean_staging(either, catalog, now=2000, max_age=1500) == 0
    assert await either.staged() == [kept.id]
    assert set(await catalog.partials()) == {kept, begun}
    assert either.active() == {ingest.id, uploading.id}
    for each in (ingest, uploading):
        await each.abort()


async def test_cleaning_removes_files_without_a_row(either: BlobStore) -> None:
    await suspended(either)
    assert await clean_staging(either, MemoryCatalog(), now=0) == 1
    assert await either.staged() == []


async def test_cleaning_removes_rows_without_a_file(either: BlobStore) -> None:
    catalog = MemoryCatalog()
    await catalog.begin_partial(row("f" * 32, at=1000))
    assert await clean_staging(either, catalog, now=1000) == 1
    assert await catalog.partials() == []


@pytest.mark.parametrize("started_at", [99, 100_000])
async def test_cleaning_removes_what_is_too_old_or_from_the_future(either: BlobStore, started_at: float) -> None:
    catalog = MemoryCatalog()
    await catalog.begin_partial(row(await suspended(either), at=started_at))
    assert await clean_staging(either, catalog, now=1000, max_age=900) == 1
    assert await catalog.partials() == []
    assert await either.staged() == []


async def test_an_upload_that_was_begun_is_left_alone(either: BlobStore) -> None:
    """Breaks if only downloads are known: a restart would take away what a client has sent so far."""
    catalog = MemoryCatalog()
    upload = Upload(await suspended(either), OWN, "socket", "sha256", 1.0)
    await catalog.begin_upload(upload)
    assert await clean_staging(either, catalog, now=1e9) == 0
    assert await either.staged() == [upload.id]
    assert await catalog.uploads() == [upload]

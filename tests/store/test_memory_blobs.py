import pytest

from mirror.errors import NoRoom
from mirror.oci.digest import Digest
from mirror.store.memory import MemoryBlobStore
from tests.store.suites import BlobStoreSuite, ignore


class TestMemoryBlobStore(BlobStoreSuite):
    @pytest.fixture
    def store(self) -> MemoryBlobStore:
        return MemoryBlobStore()


async def test_a_full_store_takes_no_more_and_recovers() -> None:
    store = MemoryBlobStore(limit=100)
    location = await store.put(b"x" * 60, Digest.of(b"x" * 60))
    ingest = await store.begin(ignore)
    await ingest.write(b"y" * 30)
    assert await store.free() == 10
    with pytest.raises(NoRoom):
        await ingest.write(b"y" * 30)
    await store.delete(location)
    await ingest.write(b"y" * 30)
    await ingest.abort()

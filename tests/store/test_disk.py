from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirror.store.disk import DiskStore
from tests.store.suites import BlobStoreSuite


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[DiskStore]:
    started = await DiskStore.start(tmp_path)
    yield started
    await started.close()


class TestDiskStore(BlobStoreSuite):
    pass

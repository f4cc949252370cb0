from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirror.store.sqlite import SqliteCatalog
from tests.store.suites import CatalogSuite


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[SqliteCatalog]:
    started = await SqliteCatalog.start(tmp_path / "mirror.db")
    yield started
    await started.close()


class TestSqliteCatalog(CatalogSuite):
    pass

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirror.store.catalog import Catalog
from mirror.store.memory import MemoryCatalog
from mirror.store.sqlite import SqliteCatalog
from tests.faults.support import hub
from tests.operations.streams import Upstream, asking


@pytest.fixture(params=["memory", "sqlite"])
async def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Catalog]:
    """Both of them, one after the other."""
    made: Catalog = MemoryCatalog() if request.param == "memory" else await SqliteCatalog.start(tmp_path / "mirror.db")
    yield made
    await made.close()


@pytest.fixture
async def upstream(tmp_path: Path) -> AsyncIterator[Upstream]:
    """A scripted docker.io, a mirror before it, and its API."""
    async with hub(tmp_path) as (registry, mirror), asking(mirror) as api:
        yield registry, mirror, api

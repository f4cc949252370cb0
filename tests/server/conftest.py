from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.server import calls


@pytest.fixture
async def wire(tmp_path: Path) -> AsyncIterator[calls.Wire]:
    """A mirror as strangers and this machine see it: default settings, two registries behind it."""
    async with calls.wire(tmp_path / "data") as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_wire(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[calls.Wire]:
    """One mirror for a whole table of calls whose answers do not depend on those before."""
    async with calls.wire(tmp_path_factory.mktemp("shared") / "data") as made:
        yield made

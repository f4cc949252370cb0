from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.server.pushing import Scene
from tests.server.pushing import scene as made


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """A mirror where this machine may do everything."""
    async with made(tmp_path / "data", access={"loopback": "all"}) as running:
        yield running

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.server import calls


@pytest.fixture
async def wire(tmp_path: Path) -> AsyncIterator[calls.Wire]:
    """A mirror as strangers and this machine see it: default settings, two registries behind it."""
    async with calls.wire(tmp_path / "data") as made:
        yield made

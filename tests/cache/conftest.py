from collections.abc import AsyncIterator

import pytest

from mirror.cache import flight
from tests.cache.support import World


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken downloads are resumed at once."""
    monkeypatch.setattr(flight, "_FIRST_PAUSE", 0.0)
    monkeypatch.setattr(flight, "_LONGEST_PAUSE", 0.0)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A registry without credentials; whatever the test began is ended."""
    made = World()
    yield made
    await made.tasks.drain(0)


@pytest.fixture
async def private_world() -> AsyncIterator[World]:
    """docker.io is asked with and without credentials."""
    made = World(credentials=["docker.io"])
    yield made
    await made.tasks.drain(0)

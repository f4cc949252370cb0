from collections.abc import AsyncIterator

import pytest

from mirror.cache import delivery, flight
from tests.cache.receiving import Office
from tests.cache.support import World


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken downloads and uploads are resumed at once."""
    for module in (flight, delivery):
        monkeypatch.setattr(module, "_FIRST_PAUSE", 0.0)
        monkeypatch.setattr(module, "_LONGEST_PAUSE", 0.0)


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


@pytest.fixture
async def office(world: World) -> Office:
    """Registries that receive what the world sends."""
    return Office(world)


@pytest.fixture
async def watching(office: Office) -> AsyncIterator[Office]:
    """With the worker at work."""
    watch = office.world.tasks.spawn("outbox", office.outbox.watch())
    yield office
    watch.cancel()

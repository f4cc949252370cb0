"""The cast of most upstream tests: a registry with an image, a store it may redirect to, a source to read it."""

from collections.abc import AsyncIterator

import pytest

from mirror.upstream.client import RegistrySource
from mirror.upstream.destination import RegistryDestination
from tests.support.fake_registry import FakeCdn, FakeRegistry
from tests.support.fake_registry.content import FakeImage
from tests.upstream.support import BLOB, REPOSITORY, destination, source


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry() as fake:
        yield fake


@pytest.fixture
def image(registry: FakeRegistry) -> FakeImage:
    return registry.add_image(REPOSITORY.path, "1", layers=[BLOB, 0])


@pytest.fixture
async def cdn(registry: FakeRegistry) -> AsyncIterator[FakeCdn]:
    async with FakeCdn() as store:
        store.serve(registry)
        yield store


@pytest.fixture
async def upstream(registry: FakeRegistry) -> AsyncIterator[RegistrySource]:
    async with source(registry.url, idle_timeout=0.5) as made:
        yield made


@pytest.fixture
async def target(registry: FakeRegistry) -> AsyncIterator[RegistryDestination]:
    async with destination(registry.url, idle_timeout=0.3) as made:
        yield made

import pytest

from mirror.store.memory import MemoryCatalog
from tests.store.suites_collection import CollectionSuite
from tests.store.suites_lifecycle import LifecycleSuite


class TestMemoryInventory(LifecycleSuite, CollectionSuite):
    @pytest.fixture
    def catalog(self) -> MemoryCatalog:
        return MemoryCatalog()

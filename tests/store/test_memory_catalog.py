import pytest

from mirror.store.memory import MemoryCatalog
from tests.store.suites import CatalogSuite


class TestMemoryCatalog(CatalogSuite):
    @pytest.fixture
    def catalog(self) -> MemoryCatalog:
        return MemoryCatalog()

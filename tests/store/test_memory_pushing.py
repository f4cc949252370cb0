import pytest

from mirror.store.memory import MemoryCatalog
from tests.store.suites_pushing import PushingSuite


class TestMemoryPushing(PushingSuite):
    @pytest.fixture
    def catalog(self) -> MemoryCatalog:
        return MemoryCatalog()

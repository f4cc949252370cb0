import pytest

from mirror.store.memory import MemoryCatalog
from tests.store.suites_forwarding import ForwardingSuite


class TestMemoryForwarding(ForwardingSuite):
    @pytest.fixture
    def catalog(self) -> MemoryCatalog:
        return MemoryCatalog()

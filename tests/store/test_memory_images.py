import pytest

from mirror.store.memory import MemoryCatalog
from tests.store.suites_images import ImagesSuite


class TestMemoryImages(ImagesSuite):
    @pytest.fixture
    def catalog(self) -> MemoryCatalog:
        return MemoryCatalog()

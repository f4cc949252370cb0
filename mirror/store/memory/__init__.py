"""The store in memory: the model that hypothesis holds SQLite against, and the store of tests of the upper rings.

It follows `protocols` and `inventory` to the letter and knows no threads, no disk and no failures.
"""

from mirror.store.memory.blobs import MemoryBlobStore, MemoryIngest
from mirror.store.memory.catalog import MemoryCatalog

__all__ = ["MemoryBlobStore", "MemoryCatalog", "MemoryIngest"]

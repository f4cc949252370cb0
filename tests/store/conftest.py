import sqlite3
from collections.abc import Iterator

import pytest

from mirror.store.schema import migrate


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    """An empty catalog in memory, as a command sees it."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("PRAGMA foreign_keys = ON")
    migrate(connection)
    yield connection
    connection.close()

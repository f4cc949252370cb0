"""The catalog's tables, as numbered migrations `NNNN_name.sql`, and the runner that applies them.

The number of the last one applied stands in the database (`PRAGMA user_version`). A migration, once released, is
never edited: what is to change goes into the next one.
"""

import re
import sqlite3
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from mirror.errors import DataInvalid

_FILE = re.compile(r"(\d{4})_\w+\.sql")


@cache
def migrations() -> tuple[str, ...]:
    """The SQL of each migration in order; migration N leads to version N. Raises `DataInvalid`."""
    found = {}
    for entry in files(__name__).iterdir():
        match = _FILE.fullmatch(entry.name)
        if match:
            found[int(match[1])] = entry.read_text(encoding="utf-8")
    return in_order(found)


def in_order(found: Mapping[int, str]) -> tuple[str, ...]:
    """Migrations by their number, which count from 1. Raises `DataInvalid` where one is missing."""
    if sorted(found) != list(range(1, len(found) + 1)):
        raise DataInvalid(f"this installation is incomplete: catalog migrations {sorted(found)} do not count from 1")
    return tuple(found[number] for number in sorted(found))


def version(connection: sqlite3.Connection) -> int:
    """Which migration this database has reached; 0 for an empty one.

    Raises `DataInvalid` where it was written by a newer release, or by another program. Changes nothing.
    """
    reached: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if reached > len(migrations()):
        raise DataInvalid(
            f"the catalog was written by a newer release (version {reached}, this one knows {len(migrations())}): "
            "run that release, or one after it"
        )
    if reached == 0 and connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone():
        raise DataInvalid("the catalog is a database of some other program: give another data directory")
    return reached


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the database to this release's version, each step in one transaction. Raises as `version` does.

    `connection` is in autocommit mode (`isolation_level=None`).
    """
    reached = version(connection)
    for number, script in enumerate(migrations()[reached:], start=reached + 1):
        try:
            connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

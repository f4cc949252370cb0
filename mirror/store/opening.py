"""Opening the catalog's database: examined first, and written to only if it is sound and ours."""

import os
import sqlite3
from pathlib import Path

from mirror.errors import DataInvalid
from mirror.store.commands.ledgers import make_instance
from mirror.store.schema import migrate, version
from mirror.store.writer import damaged, failure

_CHECK_WHOLE_UP_TO = 64 << 20  # bytes; that takes about 0.3 s
_BUSY_SECONDS = 5.0


def open_catalog(path: Path) -> sqlite3.Connection:
    """The writing connection of the catalog at `path`, which is made or migrated where needed.

    Raises `DataInvalid` where it is damaged, foreign, or written by a newer release: it is then unchanged. Raises
    `NoRoom` or `StoreFailed` where the disk refuses.
    """
    try:
        # SQLite's own files take the mode of the database's.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    except OSError as error:
        raise DataInvalid(f"the catalog {path} cannot be opened: {error.strerror}") from error
    try:
        _examine(path)
        return _connect(path)
    except sqlite3.Error as error:
        raise failure(path, error) from error


def _examine(path: Path) -> None:
    """Raise `DataInvalid` if the database must not be written to.

    Read-only: a writing connection would, by closing, write the log back into a damaged database.
    """
    has_log = _size(f"{path}-wal") > 0
    if _size(path) == 0 and not has_log:
        return
    # Without a log, `immutable` keeps even the files beside the database from being made.
    how = "mode=ro" if has_log else "mode=ro&immutable=1"
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, timeout=_BUSY_SECONDS)
    try:
        version(connection)
        if _size(path) <= _CHECK_WHOLE_UP_TO:
            verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise damaged(path, verdict.splitlines()[-1])
        else:  # reads the header, the schema and the way down to one row of each table; the rest shows when it is read
            for (table,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
                connection.execute(f'SELECT * FROM "{table}" LIMIT 1').fetchall()  # noqa: S608 — our own names
    finally:
        connection.close()


def _size(path: Path | str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_SECONDS, cached_statements=256)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("PRAGMA synchronous = FULL")
        migrate(connection)
        make_instance(connection)
    except BaseException:
        connection.close()
        raise
    return connection

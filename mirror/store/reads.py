"""What is read from the catalog: each method one SELECT, on a few connections beside the writer's.

aiosqlite runs each connection on its own thread and interleaves single statements, so that more than one SELECT would
not see one state. Readers cannot write (`query_only`) and never checkpoint.

What is asked for with every request, and found by a few steps down an index, is read on the event loop (`lookup`): it
takes 10 to 30 µs, a thread to do it 100 more, and readers of a log never wait for its writer.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

from mirror.errors import StoreFailed
from mirror.store.conditions import linked, public
from mirror.store.writer import failure, is_busy

Folded = TypeVar("Folded")
Row = Sequence[Any]

_CONNECTIONS = 2
_PATIENCE_S = 5.0
_TURN = 32  # lookups on the event loop, after which others have their turn: a millisecond
_LOOKUP_CACHE = 8 << 10  # KiB of the database that lookups on the event loop keep at hand
_REPORT_CACHE = 64 << 10  # KiB that a report's connection may keep of the database while it runs
_REPORT_STEPS = 100_000  # of SQLite's machine, between looks whether the report is to end: a few milliseconds

REPOSITORY = "SELECT visibility, checked_at FROM repositories WHERE registry = ? AND path = ?"

OWN_REPOSITORIES = "SELECT registry, path FROM repositories WHERE registry = ? ORDER BY path"


def _holding(*, is_manifest: bool) -> str:
    return f"""
    SELECT b.size, b.location,
           l.linked_at, l.anonymous_at, l.credentials_at, l.pushed_at,
           {public("b.id", str(int(is_manifest)))}
    FROM blobs b
    LEFT JOIN repositories r ON r.registry = ?1 AND r.path = ?2
    LEFT JOIN links l ON l.repository = r.id AND l.blob = b.id AND l.is_manifest = {int(is_manifest)}
    WHERE b.digest = ?3 AND b.state = 'held'
"""  # noqa: S608 — a number of our own


def _supplied(*, is_manifest: bool) -> str:
    return f"""
    SELECT 1 FROM blobs b
    JOIN links l ON l.blob = b.id AND l.is_manifest = {int(is_manifest)}
    JOIN repositories r ON r.id = l.repository AND r.registry = ?1
    WHERE b.digest = ?2 AND b.state = 'held' AND (l.anonymous_at IS NOT NULL OR l.credentials_at IS NOT NULL) LIMIT 1
"""  # noqa: S608 — a number of our own


# A text for each kind. With a parameter in its place, on which the condition of a partial index could depend, SQLite
# compiles the statement anew each time it runs: four times what the answer itself costs.
HOLDING_AS_BLOB, HOLDING_AS_MANIFEST = _holding(is_manifest=False), _holding(is_manifest=True)
SUPPLIED_AS_BLOB, SUPPLIED_AS_MANIFEST = _supplied(is_manifest=False), _supplied(is_manifest=True)

EXPECTED_SIZE = """
    SELECT e.size
    FROM repositories r
    JOIN blobs c ON c.digest = ?3
    JOIN edges e ON e.child = c.id
    JOIN links l ON l.repository = r.id AND l.blob = e.parent AND l.is_manifest = 1
    JOIN blobs p ON p.id = e.parent AND p.state = 'held'
    WHERE r.registry = ?1 AND r.path = ?2 LIMIT 1
"""

DELETING = "SELECT digest, location FROM blobs WHERE state = 'deleting' ORDER BY id"

MANIFEST_TYPE = """
    SELECT m.media_type FROM blobs b JOIN manifests m ON m.blob = b.id WHERE b.digest = ? AND b.state = 'held'
"""


def _in_an_index(trusted: str) -> str:
    return f"""
    SELECT 1
    FROM repositories r
    JOIN blobs c ON c.digest = ?3
    JOIN edges e ON e.child = c.id AND e.role = 'manifest'
    JOIN blobs p ON p.id = e.parent AND p.state = 'held'
    WHERE r.registry = ?1 AND r.path = ?2 AND {linked("r.id", "p.id", "1", trusted)} LIMIT 1
"""  # noqa: S608 — SQL of our own


IN_AN_INDEX, IN_AN_INDEX_TRUSTED = _in_an_index("0"), _in_an_index("1")

REFERRERS = """
    SELECT b.digest
    FROM repositories r
    JOIN blobs s ON s.digest = ?3
    JOIN manifests m ON m.subject = s.id
    JOIN blobs b ON b.id = m.blob AND b.state = 'held'
    JOIN links l ON l.repository = r.id AND l.blob = m.blob AND l.is_manifest = 1
    WHERE r.registry = ?1 AND r.path = ?2
    ORDER BY l.linked_at, b.digest
"""

_TAG = "t.name, b.digest, t.origin, t.moved_at, t.checked_at, t.gone_at"

TAG = f"""
    SELECT {_TAG} FROM repositories r
    JOIN tags t ON t.repository = r.id AND t.name = ?3
    JOIN blobs b ON b.id = t.manifest
    WHERE r.registry = ?1 AND r.path = ?2
"""  # noqa: S608 — columns, not values

TAGS = """
    SELECT t.name FROM repositories r JOIN tags t ON t.repository = r.id
    WHERE r.registry = ? AND r.path = ? ORDER BY t.name
"""

ONLY_HERE = f"""
    SELECT r.registry, r.path, {_TAG} FROM tags t
    JOIN repositories r ON r.id = t.repository
    JOIN blobs b ON b.id = t.manifest
    WHERE t.gone_at IS NOT NULL ORDER BY t.gone_at LIMIT ?
"""  # noqa: S608 — columns, not values

PARTIAL = """
    SELECT id, digest, registry, anonymous, started_at FROM ingests
    WHERE digest = ? AND registry = ? AND anonymous = ?
"""

PARTIALS = "SELECT id, digest, registry, anonymous, started_at FROM ingests ORDER BY started_at, id"

INSTANCE = "SELECT value FROM meta WHERE key = 'instance'"

# The one that walks everything; `blobs_used` and `tags_gone` at least keep it to indices.
TOTALS = """
    SELECT (SELECT count(*) FROM blobs WHERE state = 'held'),
           (SELECT coalesce(sum(size), 0) FROM blobs WHERE state = 'held'),
           (SELECT count(*) FROM repositories r WHERE EXISTS (SELECT 1 FROM links l WHERE l.repository = r.id)),
           (SELECT count(*) FROM tags),
           (SELECT count(*) FROM tags WHERE gone_at IS NOT NULL)
"""


class Readers:
    """A few reading connections; each statement goes to the one with the least to do. Reports have their own thread,
    one at a time, so that nobody waits for them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connections: list[aiosqlite.Connection] = []
        self._busy: list[int] = []
        self._here: sqlite3.Connection | None = None
        self._lookups = 0
        self._reports = ThreadPoolExecutor(1, thread_name_prefix="catalog-reports")

    async def start(self) -> None:
        """Open them. The database exists and is in WAL mode by now. Raises as `all` does; then `close`."""
        try:
            self._here = await asyncio.to_thread(self._connect, _LOOKUP_CACHE, patience=0)
            for _ in range(_CONNECTIONS):
                connection = await aiosqlite.connect(self._path, isolation_level=None, cached_statements=64)
                self._connections.append(connection)
                self._busy.append(0)
                await connection.execute_fetchall("PRAGMA query_only = ON")
                await connection.execute_fetchall("PRAGMA wal_autocheckpoint = 0")
        except sqlite3.Error as error:
            raise failure(self._path, error) from error

    async def lookup(self, sql: str, *parameters: object) -> Sequence[Any] | None:
        """The first row, or None, of a SELECT that is a few steps down an index, whatever is held: on the event loop.
        Who asks a thousand times gives others their turn meanwhile. Raises as `all`."""
        self._lookups += 1
        if self._lookups % _TURN == 0:
            await asyncio.sleep(0)
        if self._here is None:
            raise StoreFailed("the catalog is closed")
        try:
            found: Sequence[Any] | None = self._here.execute(sql, parameters).fetchone()
        except sqlite3.Error as error:
            if is_busy(error):  # another program's lock: a thread can wait for it
                return await self.one(sql, *parameters)
            raise failure(self._path, error) from error
        return found

    async def all(self, sql: str, *parameters: object) -> Sequence[Sequence[Any]]:
        """Every row of one SELECT. Raises `StoreFailed`, or `DataInvalid` for a damaged database."""
        if not self._connections:
            raise StoreFailed("the catalog is closed")
        index = self._busy.index(min(self._busy))
        self._busy[index] += 1
        try:
            return list(await self._connections[index].execute_fetchall(sql, parameters))
        except sqlite3.Error as error:
            raise failure(self._path, error) from error
        finally:
            self._busy[index] -= 1

    async def one(self, sql: str, *parameters: object) -> Sequence[Any] | None:
        """The first row of one SELECT, or None. Raises as `all` does."""
        rows = await self.all(sql, *parameters)
        return rows[0] if rows else None

    async def report(self, fold: Callable[[Iterable[Row]], Folded], sql: str, *parameters: object) -> Folded:
        """What `fold` makes of the rows of one long SELECT, on the reports' thread. Raises as `all` does."""
        if not self._connections:
            raise StoreFailed("the catalog is closed")
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._reports, self._report, fold, sql, parameters)
        except sqlite3.Error as error:
            raise failure(self._path, error) from error

    def _report(self, fold: Callable[[Iterable[Row]], Folded], sql: str, parameters: Sequence[object]) -> Folded:
        connection = self._connect(_REPORT_CACHE)
        try:
            connection.set_progress_handler(lambda: not self._connections, _REPORT_STEPS)
            return fold(connection.execute(sql, parameters))
        finally:
            connection.close()

    async def close(self) -> None:
        """Close them; a report under way fails. Harmless when repeated."""
        here, self._here = self._here, None
        if here is not None:
            here.close()
        connections, self._connections = self._connections, []
        await asyncio.get_running_loop().run_in_executor(None, self._reports.shutdown)
        for connection in connections:
            await connection.close()

    def _connect(self, cache: int, *, patience: float = _PATIENCE_S) -> sqlite3.Connection:
        """For any thread, one at a time. `patience`: seconds to wait for another program's lock."""
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=patience, check_same_thread=False)
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute(f"PRAGMA cache_size = -{cache}")
        return connection

"""The one thread that writes the catalog, as datasette's `database.py` does it.

A command is a synchronous function run whole on this thread, so that two never interleave. Commands that wait
together commit together, each in its savepoint: one that fails rolls back alone. A caller that stops waiting tears
nothing; its command is done all the same.

This connection is also the only one that checkpoints: SQLite before 3.51.3 can corrupt a log that two connections
reset.
"""

import asyncio
import logging
import os
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from mirror.errors import DataInvalid, MirrorError, NoRoom, StoreFailed

log = logging.getLogger(__name__)
T = TypeVar("T")
Command = Callable[[sqlite3.Connection], T]

_BATCH = 500  # commands in one transaction: some 15 ms
_CHECKPOINT_EVERY = 500  # commands
_LOG_LIMIT = 64 << 20  # bytes of log, beyond which readers are waited for so that it can begin anew
_CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_ROOM_NEEDED = 1 << 20

_Job = tuple[Command[Any], bool, "asyncio.Future[Any]"]
_Outcome = tuple["asyncio.Future[Any]", Any, BaseException | None]


def damaged(path: Path, why: object) -> DataInvalid:
    """The error for a database that must not be written to."""
    return DataInvalid(
        f"the catalog {path} is damaged ({why}): stop the mirror and move it aside together with its -wal file; "
        "a start without it makes a new catalog, and the blobs stay where they are"
    )


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # without what SQLite calls the extended part


def is_corrupt(error: BaseException) -> bool:
    """Whether SQLite found the database itself to be damaged."""
    return isinstance(error, sqlite3.Error) and _code(error) in _CORRUPT


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another program's lock was in the way."""
    return _code(error) == sqlite3.SQLITE_BUSY


def failure(path: Path, error: sqlite3.Error) -> MirrorError:
    """What a caller is told of SQLite's error."""
    if is_corrupt(error):
        return damaged(path, error)
    code = _code(error)
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _is_full(path)):
        return NoRoom("the disk is full: the catalog could not be written")
    return StoreFailed(f"the catalog could not be written: {error}")


def _is_full(path: Path) -> bool:
    # The shared-memory file and fsync report a full disk as a plain I/O error.
    try:
        room = os.statvfs(path.parent)
    except OSError:
        return False
    return room.f_blocks > 0 and room.f_bavail * room.f_frsize < _ROOM_NEEDED


class Writer:
    """The writing connection and its thread. `start` opens, `run` works, `close` ends it cleanly."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._damage: DataInvalid | None = None
        self._durable = True
        self._since_checkpoint = 0
        self._closed = True

    async def start(self, connect: Callable[[], sqlite3.Connection]) -> None:
        """Begin with the connection that `connect` makes (in autocommit mode). Raises what it raises."""
        self._loop = asyncio.get_running_loop()
        started: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._main, args=(connect, started), name="catalog-writer", daemon=True)
        self._thread.start()
        await started
        self._closed = False

    def run(self, command: Command[T], *, durable: bool) -> Awaitable[T]:
        """Run `command` in a transaction; `durable`: it is on disk before this returns.

        Raises what the command raises, `NoRoom`, `StoreFailed`, or `DataInvalid` once the database is found damaged.
        """
        if self._closed or self._loop is None:
            raise StoreFailed("the catalog is closed")
        done: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put((command, durable, done))
        return done

    async def close(self) -> None:
        """Finish what waits, write the log back, close. Harmless when repeated."""
        self._closed = True
        thread, self._thread = self._thread, None
        if thread is not None and thread.is_alive():
            self._jobs.put(None)
            await asyncio.get_running_loop().run_in_executor(None, thread.join)

    # --- on the thread ------------------------------------------------------------------------------------

    def _main(self, connect: Callable[[], sqlite3.Connection], started: "asyncio.Future[None]") -> None:
        try:
            connection = connect()
        except BaseException as error:  # noqa: BLE001 — handed to whoever waits
            self._answer([(started, None, error)])
            return
        self._answer([(started, None, None)])
        try:
            while self._serve(connection):
                pass
        finally:
            self._shut(connection)

    def _serve(self, connection: sqlite3.Connection) -> bool:
        """Wait for commands, run those that wait, answer. False when told to end."""
        job = self._jobs.get()
        batch: list[_Job] = []
        while job is not None:
            batch.append(job)
            if len(batch) == _BATCH:
                break
            try:
                job = self._jobs.get_nowait()
            except Empty:
                break
        if batch:
            self._answer(self._commit(connection, batch))
            self._checkpoint(connection, len(batch))
        return job is not None

    def _commit(self, connection: sqlite3.Connection, batch: list[_Job]) -> list[_Outcome]:
        if self._damage is not None:
            return [(done, None, self._damage) for _, _, done in batch]
        outcomes: list[_Outcome] = []
        try:
            self._synchronize(connection, durable=any(durable for _, durable, _ in batch))
            connection.execute("BEGIN IMMEDIATE")
            for command, _, done in batch:
                outcomes.append(self._run_one(connection, command, done))
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 — handed to whoever waits
            self._roll_back(connection)
            refused = self._refusal(error)
            return [(done, None, refused) for _, _, done in batch]
        return outcomes

    def _run_one(self, connection: sqlite3.Connection, command: Command[Any], done: "asyncio.Future[Any]") -> _Outcome:
        """Run one command in its savepoint. Raises only where the whole transaction is lost."""
        connection.execute("SAVEPOINT command")
        try:
            result = command(connection)
        except Exception as error:  # handed to whoever waits
            if not connection.in_transaction or is_corrupt(error):
                raise  # SQLite itself has rolled all back (a full disk, a failed read), or we must
            connection.execute("ROLLBACK TO command")
            connection.execute("RELEASE command")
            return done, None, failure(self._path, error) if isinstance(error, sqlite3.Error) else error
        connection.execute("RELEASE command")
        return done, result, None

    def _refusal(self, error: Exception) -> Exception:
        """What the callers of a lost transaction are told. After damage nothing is written any more."""
        if not isinstance(error, sqlite3.Error):
            return error
        refused = failure(self._path, error)
        if isinstance(refused, DataInvalid):
            self._damage = refused
            log.critical("%s", refused)
        return refused

    def _synchronize(self, connection: sqlite3.Connection, *, durable: bool) -> None:
        if durable != self._durable:  # cannot be changed inside a transaction
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._durable = durable

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            log.warning("the catalog could not be rolled back: %s", error)

    def _answer(self, outcomes: list[_Outcome]) -> None:
        assert self._loop is not None  # noqa: S101 — set before the thread starts
        try:
            self._loop.call_soon_threadsafe(_resolve, outcomes)
        except RuntimeError:  # the loop is closed: nobody waits any more
            log.debug("%d catalog commands ended after their event loop", len(outcomes))

    def _checkpoint(self, connection: sqlite3.Connection, commands: int) -> None:
        """Write the log back from time to time, after the callers have their answers."""
        self._since_checkpoint += commands
        if self._since_checkpoint < _CHECKPOINT_EVERY or self._damage is not None:
            return
        self._since_checkpoint = 0
        try:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            if os.stat(f"{self._path}-wal").st_size > _LOG_LIMIT:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except (sqlite3.Error, OSError) as error:
            # A full disk: the log keeps what was committed, and the next checkpoint takes it along.
            log.warning("the catalog's log could not be written back: %s", error)

    def _shut(self, connection: sqlite3.Connection) -> None:
        try:
            if self._damage is None:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            log.warning("the catalog's log could not be written back: %s", error)
        finally:
            connection.close()


def _resolve(outcomes: list[_Outcome]) -> None:
    for done, result, error in outcomes:
        if done.done():  # its caller was cancelled; the command was not
            continue
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)

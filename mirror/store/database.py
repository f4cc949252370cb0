"""One SQLite database: the writer's thread and the readers beside it, started and ended together."""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from sqlite3 import Connection
from typing import Concatenate, ParamSpec, Self, TypeVar

from mirror.store.opening import open_catalog
from mirror.store.reads import Readers
from mirror.store.writer import Writer

P = ParamSpec("P")
T = TypeVar("T")


class Database:
    """Made by `start`, ended by `close`. What it raises beside that is said at `SqliteCatalog`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer = Writer(path)
        self.readers = Readers(path)

    @classmethod
    async def start(cls, path: Path) -> Self:
        """Open the catalog at `path`, making or migrating it. Raises as `open_catalog` does."""
        database = cls(path)
        try:
            await database._writer.start(partial(open_catalog, path))
            await database.readers.start()
        except BaseException:
            await database.close()
            raise
        return database

    async def close(self) -> None:
        """Finish what was accepted, write the log back, close. Harmless when repeated."""
        await self.readers.close()
        await self._writer.close()

    def write(
        self, command: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> Awaitable[T]:
        """Run a command; upstream could tell again what it writes."""
        return self._writer.run(lambda db: command(db, *args, **kwargs), durable=False)

    def write_own(
        self, command: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> Awaitable[T]:
        """Run a command with a fact of the mirror's own, which nobody could tell again: on disk before this returns."""
        return self._writer.run(lambda db: command(db, *args, **kwargs), durable=True)

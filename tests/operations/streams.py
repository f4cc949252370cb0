"""Streams of a running mirror's API, as the command line reads them."""

import json
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.fake_registry import FakeRegistry
from tests.support.mirror import Running

Row = dict[str, Any]


class Asking:
    """Questions to a mirror on its own socket."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    def stream(self, path: str, **body: Any) -> AsyncGenerator[Row, None]:
        """Each event as it comes; a refusal as one `{"status": …, "errors": …}`."""
        return self.raw(path, body)

    async def raw(self, path: str, body: Any) -> AsyncGenerator[Row, None]:
        """`stream` of any JSON."""
        async with self._session.post(f"http://socket/api/v1{path}", json=body) as response:
            if response.status != 200:
                yield {"status": response.status, **json.loads(await response.read())}
                return
            async for line in response.content:
                yield json.loads(line)

    async def ask(self, method: str, path: str, body: Any = None) -> Row:
        """One answer; a refusal as `{"status": …, "errors": …}`."""
        async with self._session.request(method, f"http://socket/api/v1{path}", json=body) as response:
            answer: Row = json.loads(await response.read())
            return answer if response.status == 200 else {"status": response.status, **answer}

    async def all(self, path: str, **body: Any) -> list[Row]:
        return [event async for event in self.stream(path, **body)]

    async def pull(self, *references: str, **more: Any) -> list[Row]:
        return await self.all("/pull", references=list(references), **more)

    async def verify(self, *references: str, **more: Any) -> list[Row]:
        return await self.all("/verify", references=list(references), **more)


Upstream = tuple[FakeRegistry, Running, Asking]


@asynccontextmanager
async def asking(mirror: Running) -> AsyncIterator[Asking]:
    """The API on the mirror's socket, where everything may be asked."""
    connector = aiohttp.UnixConnector(str(mirror.app.listeners.socket))
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Asking(session)


def of(events: list[Row], kind: str) -> list[Row]:
    """The events of one kind."""
    return [event for event in events if event.get("event") == kind]


def one(events: list[Row], kind: str) -> Row:
    """The only event of a kind."""
    (event,) = of(events, kind)
    return event


def file_of(tmp_path: Path, digest: str) -> Path:
    """Where the mirror of `upstream` keeps a blob."""
    return tmp_path / "data" / "blobs" / "sha256" / digest.removeprefix("sha256:")


def execute(data: Path, statement: str, *values: object) -> list[Any]:
    """One statement on the catalog's database, while the mirror runs."""
    db = sqlite3.connect(data / "mirror.db")
    try:
        with db:
            return list(db.execute(statement, values))
    finally:
        db.close()

"""A line per request, off the hot path: formatted by hand, written in batches by a thread."""

import asyncio
import json
import logging
import sys
from concurrent.futures import Executor
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

log = logging.getLogger(__name__)

_EVERY = 0.2  # seconds between writes
_MOST = 100_000  # lines that wait; beyond it they are dropped and counted
_PATH_LIMIT = 512


class AccessLog:
    """Lines to a file, or to standard error for `-`. Opened again for every batch, so that it can be rotated."""

    def __init__(self, path: Path, *, as_json: bool, executor: Executor) -> None:
        self._path = path
        self._as_json = as_json
        self._executor = executor
        self._lines: list[str] = []
        self._dropped = 0
        self._timer: asyncio.TimerHandle | None = None
        self._second = 0
        self._stamp = ""

    def add(
        self, now: float, client: str, method: str, path: str, status: int, size: int, took: float, cache: str
    ) -> None:
        """One request: `now` in wall seconds, `size` in body bytes, `took` in seconds, `cache` may be empty."""
        second = int(now)
        if second != self._second:
            self._second = second
            self._stamp = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        path = path[:_PATH_LIMIT]
        if self._as_json:
            line = (
                f'{{"time":"{self._stamp}","client":{json.dumps(client)},"method":{json.dumps(method)},'
                f'"path":{json.dumps(path)},"status":{status},"bytes":{size},"ms":{took * 1000:.3f},'
                f'"cache":"{cache}"}}\n'
            )
        else:
            if not path.isprintable():
                path = path.encode("unicode_escape").decode("ascii")
            line = f"{self._stamp} {client} {method} {path} {status} {size} {took * 1000:.3f}ms {cache or '-'}\n"
        if len(self._lines) >= _MOST:
            self._dropped += 1
            return
        self._lines.append(line)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_EVERY, self._flush)

    def _flush(self) -> None:
        self._timer = None
        lines, self._lines = self._lines, []
        if self._dropped:
            log.warning("the access log could not keep up: %d lines dropped", self._dropped)
            self._dropped = 0
        self._executor.submit(self._write, "".join(lines))

    async def close(self) -> None:
        """Write what waits, after what was handed over before; nothing is under way afterwards."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        await asyncio.get_running_loop().run_in_executor(self._executor, self._write, "".join(lines))

    def _write(self, text: str) -> None:
        if not text:
            return
        try:
            if str(self._path) == "-":
                _to(sys.stderr, text)
            else:
                with self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                    _to(file, text)
        except OSError as error:
            log.warning("the access log cannot be written: %s", error)


def _to(file: IO[str], text: str) -> None:
    file.write(text)
    file.flush()

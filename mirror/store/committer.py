"""Publishing in batches: all that wait together cost one hop to a thread and one fsync of each directory.

The order is restic's (`local.go` Save), taken step by step for the whole batch: write, fsync, rename, fsync of the
directory. A crash between any two leaves only files in staging, or whole blobs that nobody has been told of.
"""

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from mirror.errors import StoreFailed
from mirror.oci.digest import Digest
from mirror.store.files import close_quietly, refused, start_writeback, write_all
from mirror.store.staging import Staging

_BATCH = 128
_BATCH_BYTES = 16 << 20


@dataclass(slots=True)
class _Item:
    """One blob on its way: `data` to write at `source`, or None where the file there is durable and only moves."""

    digest: Digest
    data: bytes | None
    source: str
    destination: str
    done: "asyncio.Future[None]"
    descriptor: int = -1
    failure: StoreFailed | None = None


class Committer:
    """Takes what waits, one batch at a time, on a thread of its own. A failure concerns its own item."""

    def __init__(self, staging: Staging, folders: Mapping[str, str]) -> None:
        """`folders` are the directories of published blobs by algorithm. For the event loop; opens nothing yet."""
        self._staging = staging
        self._folders = folders
        self._directories: dict[str, int] = {}
        self._waiting: deque[_Item] = deque()
        self._running = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="blob-committer")

    def open(self) -> None:
        """Open the directories, to fsync them later. For a thread. Raises `OSError`."""
        for algorithm, folder in self._folders.items():
            self._directories[algorithm] = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def destination(self, digest: Digest) -> str:
        """Where a published blob lies."""
        return f"{self._folders[digest.algorithm]}/{digest.hex}"

    async def put(self, digest: Digest, data: bytes) -> None:
        """Publish `data`. Raises `NoRoom`, `StoreFailed`."""
        ingest_id = self._staging.new_id()
        self._staging.claim(ingest_id)
        source = self._staging.path(ingest_id)
        await self._wait(_Item(digest, data, source, self.destination(digest), self._loop.create_future()))

    async def move(self, digest: Digest, source: str) -> None:
        """Publish the durable file at `source`. Raises `NoRoom`, `StoreFailed`."""
        await self._wait(_Item(digest, None, source, self.destination(digest), self._loop.create_future()))

    async def close(self) -> None:
        """Finish what waits, and end. Harmless when repeated."""
        await self._idle.wait()
        await self._loop.run_in_executor(None, self._thread.shutdown)
        while self._directories:
            close_quietly(self._directories.popitem()[1])

    # --- on the loop --------------------------------------------------------------------------------------

    async def _wait(self, item: _Item) -> None:
        self._waiting.append(item)
        if self._idle.is_set():
            self._idle.clear()
            self._loop.call_soon(self._next)  # not at once, so that all of this turn of the loop go together
        await item.done

    def _next(self) -> None:
        """Give the thread the next batch."""
        batch: list[_Item] = []
        size = 0
        while self._waiting and len(batch) < _BATCH and size < _BATCH_BYTES:
            item = self._waiting.popleft()
            batch.append(item)
            size += len(item.data or b"")
        if not batch:
            self._idle.set()
            return
        running = self._loop.run_in_executor(self._thread, self._commit, batch)
        running.add_done_callback(lambda ended: self._finish(batch, ended.exception()))

    def _finish(self, batch: list[_Item], error: BaseException | None) -> None:
        for item in batch:
            if item.data is not None:
                self._staging.forget(os.path.basename(item.source))
            if item.done.done():  # its caller was cancelled
                continue
            failure = item.failure or error
            if failure is None:
                item.done.set_result(None)
            else:
                item.done.set_exception(failure)
        self._next()

    # --- on the thread ------------------------------------------------------------------------------------

    def _commit(self, batch: list[_Item]) -> None:
        written = [item for item in batch if item.data is not None]
        _each(written, self._write)
        _each(written, _sync)
        for item in written:
            close_quietly(item.descriptor)
        _each(batch, _rename)
        for item in written:
            if item.failure is not None:  # its file is never tried again
                with contextlib.suppress(OSError):  # the next clean-up of staging tries again
                    os.unlink(item.source)
        for algorithm in {item.digest.algorithm for item in batch if item.failure is None}:
            self._sync_directory(algorithm, batch)

    def _write(self, item: _Item) -> None:
        assert item.data is not None  # noqa: S101 — for the type checker
        self._staging.room.take(len(item.data))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        item.descriptor = os.open(item.source, flags, 0o600)
        write_all(item.descriptor, item.data, 0)
        start_writeback(item.descriptor)

    def _sync_directory(self, algorithm: str, batch: list[_Item]) -> None:
        try:
            os.fsync(self._directories[algorithm])
        except OSError as error:
            # The files may stay: each is whole, and unless it was held before, nobody is told of it.
            for item in batch:
                if item.digest.algorithm == algorithm and item.failure is None:
                    item.failure = refused(error, f"blobs/{algorithm} could not be made durable")


def _each(items: list[_Item], step: Callable[[_Item], None]) -> None:
    """Take one step with each item that has not failed yet."""
    for item in items:
        if item.failure is None:
            try:
                step(item)
            except OSError as error:
                item.failure = refused(error, f"{item.digest} could not be stored")
            except StoreFailed as error:
                item.failure = error


def _sync(item: _Item) -> None:
    os.fsync(item.descriptor)


def _rename(item: _Item) -> None:
    os.rename(item.source, item.destination)

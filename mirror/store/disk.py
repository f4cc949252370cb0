"""Blobs as files: `<data>/blobs/<algorithm>/<hex>`, the layout of the OCI image specification.

A published file is whole and durable: nothing but `Committer` moves files there, and nothing is ever written to one.
"""

import asyncio
import contextlib
import errno
import os
import re
import stat
import threading
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Self

from mirror.errors import BlobUnknown, DataInvalid, StoreFailed
from mirror.oci.digest import Digest
from mirror.store.committer import Committer
from mirror.store.files import DEFAULT_RESERVE, Room, close_quietly, refused, sync_directory
from mirror.store.protocols import BlobReader, Ingest
from mirror.store.staging import LocalIngest, Staging

_ALGORITHMS = ("sha256", "sha512")
_LOCATION = re.compile(r"blobs/(?:sha256/[0-9a-f]{64}|sha512/[0-9a-f]{128})")
_WALKED_AT_ONCE = 1000
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
# A file name that is suddenly a pipe must not hang the thread that opens it.
_READ_ONLY = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_NOT_A_FILE = frozenset({errno.ENOENT, errno.ELOOP, errno.ENXIO})  # nothing there, a symbolic link, a socket
_INGEST_THREADS = 4
_FILE_THREADS = 8


_Entries = Any  # os.scandir's iterator, which typing does not name


class DiskStore:
    """`BlobStore` on a local directory. Made by `start`, ended by `close`."""

    def __init__(self, data: Path, *, reserve: int = DEFAULT_RESERVE) -> None:
        """Makes nothing yet. `reserve`: bytes of the file system that are left alone."""
        self._data = data.absolute()
        self._files = ThreadPoolExecutor(_FILE_THREADS, thread_name_prefix="blob-files")
        self._ingests = ThreadPoolExecutor(_INGEST_THREADS, thread_name_prefix="blob-ingests")
        self._staging = Staging(self._data / "ingest", self._ingests, Room(self._data, reserve, least=reserve // 2))
        self._committer = Committer(self._staging, {name: f"{self._data}/blobs/{name}" for name in _ALGORITHMS})
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def start(cls, data: Path, *, reserve: int = DEFAULT_RESERVE) -> Self:
        """Open the store in the data directory `data`, making its folders where they are missing.

        Raises `DataInvalid` where they cannot be used.
        """
        store = cls(data, reserve=reserve)
        try:
            await store._loop.run_in_executor(store._files, store._prepare)
        except BaseException:
            await store.close()
            raise
        return store

    def _prepare(self) -> None:
        try:
            made = False
            for folder in ("", "blobs", *(f"blobs/{name}" for name in _ALGORITHMS), "ingest"):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(self._data / folder, 0o700)
                    made = True
            with contextlib.suppress(FileExistsError):
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                descriptor = os.open(self._data / "oci-layout", flags, 0o600)
                try:
                    os.write(descriptor, _LAYOUT)
                finally:
                    os.close(descriptor)
            if made:
                for folder in ("blobs", ""):
                    sync_directory(f"{self._data}/{folder}")
            self._committer.open()
        except OSError as error:
            raise DataInvalid(f"the data directory {self._data} cannot be used: {error.strerror}") from error

    async def close(self) -> None:
        """Finish what is being published, suspend open ingests, end the threads. Harmless when repeated."""
        await self._committer.close()
        await self._staging.close()
        for pool in (self._ingests, self._files):
            await self._loop.run_in_executor(None, pool.shutdown)

    # --- writing ------------------------------------------------------------------------------------------

    async def begin(self, on_written: Callable[[int], None], *, algorithm: str = "sha256") -> LocalIngest:
        return await self._staging.begin(on_written, algorithm)

    async def resume(
        self, ingest_id: str, on_written: Callable[[int], None], *, algorithm: str = "sha256"
    ) -> LocalIngest | None:
        return await self._staging.resume(ingest_id, on_written, algorithm)

    async def publish(self, ingest: Ingest, expected: Digest) -> str:
        if not isinstance(ingest, LocalIngest):
            raise TypeError("an ingest is published by the store that began it")
        try:
            source = await ingest.seal(expected, self._committer.destination(expected))
            await self._committer.move(expected, source)
        except BaseException:
            await ingest.abort()
            raise
        await ingest.moved()
        return _location(expected)

    async def put(self, data: bytes, expected: Digest) -> str:
        await self._committer.put(expected, data)
        return _location(expected)

    async def delete(self, location: str) -> int:
        return await self._loop.run_in_executor(self._files, self._delete, location)

    def _delete(self, location: str) -> int:
        path = self._path(location)
        try:
            size = os.lstat(path).st_size
            os.unlink(path)
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise refused(error, f"{location} could not be removed") from error
        return size

    # --- reading ------------------------------------------------------------------------------------------

    def open(self, digest: Digest, location: str, size: int) -> AbstractAsyncContextManager[BlobReader]:
        return self._open(digest, location, size)

    @asynccontextmanager
    async def _open(self, digest: Digest, location: str, size: int) -> AsyncGenerator[BlobReader, None]:
        # On the loop: it takes 10 µs, and a thread to do it 90 more. Sending, too, waits where the disk is slow.
        descriptor = self._open_file(digest, location, size)
        reader = _FileReader(digest, size, descriptor, self._files)
        try:
            yield reader
        finally:
            reader.close()

    def _open_file(self, digest: Digest, location: str, size: int) -> int:
        try:
            descriptor = os.open(self._path(location), _READ_ONLY)
        except OSError as error:
            if error.errno in _NOT_A_FILE:
                raise BlobUnknown(f"{digest} is missing from the store") from error
            raise refused(error, f"{location} could not be opened") from error
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size != size:
            os.close(descriptor)
            raise BlobUnknown(f"{digest} is not in the store as it was: {found.st_size} bytes in place of {size}")
        return descriptor

    async def read(self, digest: Digest, location: str, size: int) -> bytes:
        return await self._loop.run_in_executor(self._files, self._read, digest, location, size)

    def _read(self, digest: Digest, location: str, size: int) -> bytes:
        descriptor = self._open_file(digest, location, size)
        try:
            data = _read_whole(descriptor, size)
        except OSError as error:
            raise refused(error, f"{location} could not be read") from error
        finally:
            os.close(descriptor)
        if Digest.of(data, digest.algorithm) != digest:
            raise BlobUnknown(f"{digest} is not in the store as it was: its bytes have changed")
        return data

    # --- looking around -----------------------------------------------------------------------------------

    async def walk(self) -> AsyncGenerator[tuple[Digest, str, int], None]:
        """`BlobStore.walk`. What is published or deleted meanwhile may be missing. Raises `StoreFailed`."""
        for algorithm in _ALGORITHMS:
            listing = _Listing(self._data, algorithm)
            try:
                while found := await self._loop.run_in_executor(self._files, listing.more):
                    for digest, size in found:
                        yield digest, _location(digest), size
            finally:
                # In a thread, for another one may just be reading it; and whoever leaves does not wait.
                try:
                    self._files.submit(listing.close)
                except RuntimeError:  # the threads have ended: nobody reads it
                    listing.close()

    def active(self) -> frozenset[str]:
        return self._staging.active()

    async def staged(self) -> Sequence[str]:
        return await self._staging.staged()

    async def staging(self) -> Mapping[str, int]:
        return await self._staging.sizes()

    async def discard(self, ingest_id: str) -> int:
        return await self._staging.discard(ingest_id)

    async def free(self) -> int:
        return await self._loop.run_in_executor(self._files, self._staging.room.free)

    def _path(self, location: str) -> str:
        """Raises `StoreFailed` for a location that this store never gave."""
        if _LOCATION.fullmatch(location) is None:
            raise StoreFailed("the catalog names a location that is none of this store's")
        return f"{self._data}/{location}"


class _FileReader:
    """`BlobReader` on a published file. Closed by the context that made it; the sender has aborted by then."""

    def __init__(self, digest: Digest, size: int, descriptor: int, pool: ThreadPoolExecutor) -> None:
        self.digest = digest
        self.size = size
        self._descriptor = descriptor
        self._pool = pool

    async def ready(self, offset: int, end: int) -> int:
        del offset  # all of it is there
        return min(end, self.size)

    def fileno(self) -> int:
        if self._descriptor < 0:
            raise ValueError("the reader is closed")  # else a number that may be another file's by now
        return self._descriptor

    async def read(self, offset: int, count: int) -> bytes:
        loop = asyncio.get_running_loop()
        try:
            data = await loop.run_in_executor(self._pool, os.pread, self.fileno(), count, offset)
        except OSError as error:
            raise refused(error, f"{self.digest} could not be read") from error
        if not data:
            raise StoreFailed(f"{self.digest} ended early: {offset} of {self.size} bytes")
        return data

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            close_quietly(descriptor)


class _Listing:
    """The published blobs of one algorithm, some at a time. For threads: it is closed by another one than reads it."""

    def __init__(self, data: Path, algorithm: str) -> None:
        self._folder = data / "blobs" / algorithm
        self._algorithm = algorithm
        self._lock = threading.Lock()
        self._entries: _Entries = None
        self._closed = False

    def more(self) -> list[tuple[Digest, int]]:
        """Some more of them, with their sizes; empty at the end. Raises `StoreFailed`."""
        with self._lock:
            if self._closed:
                return []
            try:
                if self._entries is None:
                    self._entries = os.scandir(self._folder)
                return self._some()
            except OSError as error:
                raise refused(error, f"blobs/{self._algorithm} could not be listed") from error

    def _some(self) -> list[tuple[Digest, int]]:
        found: list[tuple[Digest, int]] = []
        for entry in self._entries:
            if _LOCATION.fullmatch(f"blobs/{self._algorithm}/{entry.name}") and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                    size = entry.stat(follow_symlinks=False).st_size
                    found.append((Digest(self._algorithm, entry.name), size))
            if len(found) == _WALKED_AT_ONCE:
                break
        return found

    def close(self) -> None:
        """Read no more of them."""
        with self._lock:
            self._closed = True
            if self._entries is not None:
                self._entries.close()


def _location(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _read_whole(descriptor: int, size: int) -> bytes:
    data = os.pread(descriptor, size, 0)
    while len(data) < size:
        more = os.pread(descriptor, size - len(data), len(data))
        if not more:
            break
        data += more
    return data

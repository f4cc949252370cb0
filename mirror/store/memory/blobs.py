"""Blobs in memory."""

import asyncio
import os
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from mirror.errors import BlobUnknown, DigestInvalid, NoRoom, StoreFailed
from mirror.oci.digest import Digest, new_hasher
from mirror.store.protocols import BlobReader, Hash, Ingest


class MemoryBlobStore:
    """`BlobStore` in a dict. `limit` is how many bytes it takes."""

    def __init__(self, *, limit: int = 1 << 40) -> None:
        self.blobs: dict[str, bytes] = {}
        self.limit = limit
        self._active: dict[str, MemoryIngest] = {}
        self._suspended: dict[str, bytes] = {}

    async def begin(self, on_written: Callable[[int], None], *, algorithm: str = "sha256") -> "MemoryIngest":
        new_hasher(algorithm)
        return self._ingest(secrets.token_hex(16), b"", algorithm, on_written)

    async def resume(
        self, ingest_id: str, on_written: Callable[[int], None], *, algorithm: str = "sha256"
    ) -> "MemoryIngest | None":
        new_hasher(algorithm)
        data = self._suspended.pop(ingest_id, None)
        return None if data is None else self._ingest(ingest_id, data, algorithm, on_written)

    def _ingest(self, ingest_id: str, data: bytes, algorithm: str, on_written: Callable[[int], None]) -> "MemoryIngest":
        ingest = self._active[ingest_id] = MemoryIngest(self, ingest_id, data, algorithm, on_written)
        return ingest

    async def publish(self, ingest: Ingest, expected: Digest) -> str:
        if not isinstance(ingest, MemoryIngest):
            raise TypeError("an ingest is published by the store that began it")
        try:
            await ingest.verify(expected)
            location = await self.put(bytes(ingest.data), expected)
        except BaseException:
            await ingest.abort()
            raise
        ingest.end()
        return location

    async def put(self, data: bytes, expected: Digest) -> str:
        self.blobs[f"memory/{expected}"] = data
        return f"memory/{expected}"

    def open(self, digest: Digest, location: str, size: int) -> AbstractAsyncContextManager[BlobReader]:
        return self._open(digest, location, size)

    @asynccontextmanager
    async def _open(self, digest: Digest, location: str, size: int) -> AsyncGenerator[BlobReader, None]:
        data = self.blobs.get(location)
        if data is None or len(data) != size:
            raise BlobUnknown(f"{digest} is missing from the store")
        yield _MemoryReader(digest, data)

    async def read(self, digest: Digest, location: str, size: int) -> bytes:
        data = self.blobs.get(location)
        if data is None or len(data) != size or Digest.of(data, digest.algorithm) != digest:
            raise BlobUnknown(f"{digest} is missing from the store")
        return data

    async def delete(self, location: str) -> int:
        return len(self.blobs.pop(location, b""))

    async def walk(self) -> AsyncGenerator[tuple[Digest, str, int], None]:
        for location, data in list(self.blobs.items()):
            yield Digest.parse(location.removeprefix("memory/")), location, len(data)

    def active(self) -> frozenset[str]:
        return frozenset(self._active)

    async def staged(self) -> Sequence[str]:
        return sorted(self._suspended)

    async def staging(self) -> Mapping[str, int]:
        open_ = {ingest_id: len(ingest.data) for ingest_id, ingest in self._active.items()}
        return open_ | {ingest_id: len(data) for ingest_id, data in self._suspended.items()}

    async def discard(self, ingest_id: str) -> int:
        return len(self._suspended.pop(ingest_id, b""))

    async def free(self) -> int:
        taken = sum(map(len, self.blobs.values())) + sum(map(len, self._suspended.values()))
        return self.limit - taken - sum(len(ingest.data) for ingest in self._active.values())

    def ended(self, ingest_id: str, kept: bytes | None) -> None:
        """An ingest is open no more; `kept` are the bytes it was suspended with."""
        self._active.pop(ingest_id, None)
        if kept is not None:
            self._suspended[ingest_id] = kept


class MemoryIngest:
    """`Ingest` on memory that has descriptors (Linux's memfd)."""

    def __init__(
        self,
        store: MemoryBlobStore,
        ingest_id: str,
        data: bytes,
        algorithm: str,
        on_written: Callable[[int], None],
    ) -> None:
        self._store = store
        self._id = ingest_id
        self._algorithm = algorithm
        self._on_written = on_written
        self._descriptor = os.memfd_create("ingest")
        os.pwrite(self._descriptor, data, 0)
        self._offset = self._written = len(data)

    @property
    def id(self) -> str:
        return self._id

    @property
    def offset(self) -> int:
        return self._offset

    @property
    def written(self) -> int:
        return self._written

    @property
    def data(self) -> bytes:
        """What is accepted."""
        return b"" if self._descriptor < 0 else os.pread(self._descriptor, self._offset, 0)

    def open_descriptor(self) -> int:
        self._check()
        return os.open(f"/proc/self/fd/{self._descriptor}", os.O_RDONLY | os.O_CLOEXEC)

    async def write(self, chunk: bytes) -> None:
        self._check()
        if not chunk:
            return
        if await self._store.free() < len(chunk):
            raise NoRoom("the disk is full: nothing more can be stored until room is made")
        os.pwrite(self._descriptor, chunk, self._offset)
        self._offset += len(chunk)
        asyncio.get_running_loop().call_soon(self._taken, self._offset)

    def _check(self) -> None:
        if self._descriptor < 0:
            raise StoreFailed(f"ingest/{self._id} is closed")

    def _taken(self, written: int) -> None:
        self._written = written
        if self._descriptor >= 0:
            self._on_written(written)

    async def verify(self, expected: Digest) -> None:
        self._check()
        found = Digest.of(self.data, expected.algorithm)
        if found != expected:
            raise DigestInvalid(f"the content is {found}, not {expected}")

    async def hash_state(self) -> Hash:
        hasher = new_hasher(self._algorithm)
        hasher.update(self.data[: self._written])
        return hasher

    async def abort(self) -> None:
        self.end()

    async def suspend(self) -> None:
        self.end(keep=True)

    def end(self, *, keep: bool = False) -> None:
        """Close it. Harmless when repeated."""
        if self._descriptor >= 0:
            self._store.ended(self._id, self.data if keep else None)
            os.close(self._descriptor)
            self._descriptor = -1


class _MemoryReader:
    """`BlobReader` of bytes in memory."""

    def __init__(self, digest: Digest, data: bytes) -> None:
        self.digest = digest
        self.size = len(data)
        self._data = data

    async def ready(self, offset: int, end: int) -> int:
        del offset
        return min(end, self.size)

    def fileno(self) -> None:
        return None

    async def read(self, offset: int, count: int) -> bytes:
        data = self._data[offset : offset + count]
        if not data:
            raise StoreFailed(f"{self.digest} ended early: {offset} of {self.size} bytes")
        return data

"""Hash what lies in the store, as the disk has it, out of everybody's way."""

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from mirror.errors import StoreFailed
from mirror.oci.digest import Digest
from mirror.store.protocols import BlobReader, Hash

WORKERS = 2
_SLICE = 16 * 1024 * 1024  # bytes hashed between two looks at whether anybody still wants it
_READ = 1024 * 1024
_NICE = 15


class Hashing:
    """A few threads of low priority. `stop` when done; what runs then ends with its slice."""

    def __init__(self, workers: int = WORKERS) -> None:
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="verify", initializer=_step_back)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(wait=False)

    async def digest(self, reader: BlobReader, tell: Callable[[int], None] = lambda _: None) -> Digest:
        """The digest of an open blob's bytes, of its own algorithm. `tell` gets how many were read, as they are.

        Read from the disk, not from the kernel's memory of it, which would hide what the disk lost. Raises
        `StoreFailed` where they cannot be read, with the `OSError` as its cause.
        """
        hasher, offset = reader.digest.hasher(), 0
        while offset < reader.size:
            end = min(offset + _SLICE, reader.size)
            descriptor = reader.fileno()
            if descriptor is None:
                data = await reader.read(offset, end - offset)
                hasher.update(data)
                count = len(data)
            else:
                count = await self._slice(descriptor, hasher, offset, end)
            if not count:
                raise StoreFailed(f"{reader.digest} ended early: {offset} of {reader.size} bytes")
            offset += count
            tell(count)
        return Digest(reader.digest.algorithm, hasher.hexdigest())

    async def _slice(self, descriptor: int, hasher: Hash, offset: int, end: int) -> int:
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._threads, _hash, descriptor, hasher, offset, end)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work])  # the descriptor is its own until then
            raise
        except OSError as error:
            raise StoreFailed(f"a blob could not be read: {error.strerror}") from error


def _step_back() -> None:
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def _hash(descriptor: int, hasher: Hash, offset: int, end: int) -> int:
    """Hash from `offset` to `end`; how many bytes there were."""
    begun = offset
    with contextlib.suppress(OSError):
        os.posix_fadvise(descriptor, offset, end - offset, os.POSIX_FADV_DONTNEED)
    while offset < end:
        data = os.pread(descriptor, min(_READ, end - offset), offset)
        if not data:
            break
        hasher.update(data)
        offset += len(data)
    with contextlib.suppress(OSError):
        os.posix_fadvise(descriptor, begun, end - begun, os.POSIX_FADV_DONTNEED)
    return offset - begun

"""What staging and the blob store do with files, on threads: errors told apart, room kept, writeback begun early."""

import asyncio
import contextlib
import ctypes
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mirror.errors import NoRoom, StoreFailed

T = TypeVar("T")

DEFAULT_RESERVE = 16 << 20
_ROOM_CHECKED_EVERY = 8 << 20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_SYNC_FILE_RANGE_WRITE = 2


def refused(error: OSError, doing: str) -> StoreFailed:
    """The error for a disk that refused `doing` (which names files relative to the data directory)."""
    if error.errno in _FULL:
        return NoRoom(f"the disk is full: {doing}")
    return StoreFailed(f"{doing}: {error.strerror or error}")


def write_all(descriptor: int, data: bytes, offset: int) -> None:
    """Write all of `data` at `offset`; a short write, as on a disk that is getting full, goes on."""
    written = os.pwrite(descriptor, data, offset)
    while written < len(data):
        written += os.pwrite(descriptor, memoryview(data)[written:], offset + written)


def _load_sync_file_range() -> Callable[[int, int, int, int], int] | None:
    try:
        function = ctypes.CDLL(None, use_errno=True).sync_file_range
    except (OSError, AttributeError):  # not Linux
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    function.restype = ctypes.c_int
    found: Callable[[int, int, int, int], int] = function
    return found


_sync_file_range = _load_sync_file_range()


def start_writeback(descriptor: int, offset: int = 0, count: int = 0) -> None:
    """Let the kernel begin to write these bytes (`count` 0: up to the end), so that a later fsync finds little to do.

    A hint: what goes wrong here, fsync tells.
    """
    if _sync_file_range is not None:
        _sync_file_range(descriptor, offset, count, _SYNC_FILE_RANGE_WRITE)


def sync_directory(path: str) -> None:
    """Make the names in a directory durable. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Room:
    """The space that may still be written on one file system; the last `reserve` bytes are left alone.

    What was promised by `free` and is written later may touch the reserve, down to `least` (by default nothing of it):
    meanwhile the catalog and others have written, too. Asks the file system every few MiB written, and at every write
    once there is little left.
    """

    def __init__(self, folder: Path, reserve: int, least: int | None = None) -> None:
        self._folder = folder
        self._reserve = reserve
        self._touchable = 0 if least is None else reserve - least
        self._granted = 0  # bytes that may be written before the file system is asked again
        self._lock = threading.Lock()

    def free(self) -> int:
        """Bytes that may still be written; below zero by what the reserve lacks. Raises `StoreFailed`."""
        try:
            found = os.statvfs(self._folder)
        except OSError as error:
            raise refused(error, "the free space could not be read") from error
        if found.f_blocks == 0:  # a tmpfs without a limit
            return 1 << 62
        return found.f_bavail * found.f_frsize - self._reserve

    def take(self, count: int) -> None:
        """Account for `count` bytes about to be written. Raises `NoRoom` where they would go below `least`."""
        with self._lock:
            if self._granted < count:
                free = self.free() + self._touchable
                if free < count:
                    raise NoRoom("the disk is full: nothing more can be stored until room is made")
                self._granted = max(count, min(free // 2, _ROOM_CHECKED_EVERY))
            self._granted -= count


async def keep(future: "asyncio.Future[T]", undo: Callable[[T], None]) -> T:
    """Wait for what a thread makes. If the caller is cancelled, the thing is made all the same, then undone."""
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:

        def discard(made: "asyncio.Future[T]") -> None:
            if not made.cancelled() and made.exception() is None:
                undo(made.result())

        future.add_done_callback(discard)
        raise


def close_quietly(descriptor: int) -> None:
    """Close, whatever the file system has to say about it now. Negative numbers are no descriptors."""
    if descriptor >= 0:
        with contextlib.suppress(OSError):
            os.close(descriptor)

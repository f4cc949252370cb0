"""Local ingests: files in `<data>/ingest`, written in order by threads, invisible until somebody publishes them.

An ingest is fed by the event loop and written by one ordered actor (`Lane`) on a small shared pool. Hashing and
`pwrite` release the interpreter's lock, so a few threads keep up with the network while the loop goes on.
"""

import asyncio
import contextlib
import logging
import os
import re
import secrets
import stat
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mirror.errors import DigestInvalid, StoreFailed
from mirror.oci.digest import Digest, new_hasher
from mirror.store.files import Room, close_quietly, keep, refused, start_writeback, write_all
from mirror.store.lane import Lane
from mirror.store.protocols import Hash

if TYPE_CHECKING:
    from hashlib import _Hash

log = logging.getLogger(__name__)

_ID = re.compile(r"[0-9a-f]{32}")
_QUEUED = 4  # batches accepted and not yet written
_WRITEBACK = 8 << 20
_REHASH = 1 << 20
_READ_ONLY = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW

_Opened = tuple[int, "_Hash", int]  # descriptor, hash so far, size


class Staging:
    """The folder of ingests. Ids are made here; none from outside reaches the file system unchecked."""

    def __init__(self, folder: Path, pool: Executor, room: Room) -> None:
        self.folder = folder
        self.room = room
        self._pool = pool
        self._active: dict[str, LocalIngest | None] = {}

    def new_id(self) -> str:
        """An id that nobody can guess and that was never used."""
        return secrets.token_hex(16)

    def path(self, ingest_id: str) -> str:
        """Where an ingest's bytes lie. Raises `ValueError` for what is no id."""
        if _ID.fullmatch(ingest_id) is None:
            raise ValueError("not an ingest's id")
        return f"{self.folder}/{ingest_id}"

    async def begin(self, on_written: Callable[[int], None], algorithm: str) -> "LocalIngest":
        """`BlobStore.begin`. Raises `NoRoom`, `StoreFailed`."""
        ingest_id = self.new_id()
        hasher = new_hasher(algorithm)
        opened = await self._open(ingest_id, partial(self._create, ingest_id, hasher))
        return self._ingest(ingest_id, opened, algorithm, on_written)

    async def resume(self, ingest_id: str, on_written: Callable[[int], None], algorithm: str) -> "LocalIngest | None":
        """`BlobStore.resume`. None also while the ingest is open. Raises `StoreFailed`."""
        if _ID.fullmatch(ingest_id) is None or ingest_id in self._active:
            return None
        hasher = new_hasher(algorithm)
        try:
            opened = await self._open(ingest_id, partial(self._reopen, ingest_id, hasher))
        except FileNotFoundError:
            return None
        return self._ingest(ingest_id, opened, algorithm, on_written)

    async def _open(self, ingest_id: str, work: Callable[[], _Opened]) -> _Opened:
        def claimed() -> _Opened:
            try:
                return work()
            except BaseException:
                self.forget(ingest_id)
                raise

        self.claim(ingest_id)
        opening = asyncio.get_running_loop().run_in_executor(self._pool, claimed)
        return await keep(opening, partial(self._left, ingest_id))

    def _left(self, ingest_id: str, opened: _Opened) -> None:
        """Whoever asked for it was cancelled: its bytes lie in staging as if suspended."""
        close_quietly(opened[0])
        self.forget(ingest_id)

    def _create(self, ingest_id: str, hasher: "_Hash") -> _Opened:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(self.path(ingest_id), flags, 0o600), hasher, 0
        except OSError as error:
            raise refused(error, "an ingest could not be begun") from error

    def _reopen(self, ingest_id: str, hasher: "_Hash") -> _Opened:
        try:
            descriptor = os.open(self.path(ingest_id), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise StoreFailed(f"ingest/{ingest_id} is not a regular file")
                return descriptor, hasher, rehash(descriptor, hasher)
            except BaseException:
                os.close(descriptor)
                raise
        except FileNotFoundError:
            raise
        except OSError as error:
            raise refused(error, f"ingest/{ingest_id} could not be resumed") from error

    def _ingest(
        self, ingest_id: str, opened: _Opened, algorithm: str, on_written: Callable[[int], None]
    ) -> "LocalIngest":
        ingest = LocalIngest(self, Lane(self._pool), ingest_id, opened, algorithm, on_written)
        self._active[ingest_id] = ingest
        return ingest

    def claim(self, ingest_id: str) -> None:
        """Count it as active: from before its file exists until `forget`. May be called on any thread."""
        self._active[ingest_id] = None

    def forget(self, ingest_id: str) -> None:
        """It is no longer open. May be called on any thread."""
        self._active.pop(ingest_id, None)

    def active(self) -> frozenset[str]:
        """`BlobStore.active`."""
        return frozenset(self._active)

    def is_active(self, ingest_id: str) -> bool:
        """Whether this process has it open."""
        return ingest_id in self._active

    async def staged(self) -> Sequence[str]:
        """`BlobStore.staged`. Raises `StoreFailed`."""
        names = await asyncio.get_running_loop().run_in_executor(self._pool, self._list)
        return [name for name in names if name not in self._active]

    def _list(self) -> list[str]:
        try:
            return sorted(name for name in os.listdir(self.folder) if _ID.fullmatch(name))
        except OSError as error:
            raise refused(error, "the staged ingests could not be listed") from error

    async def sizes(self) -> Mapping[str, int]:
        """`BlobStore.staging`. Raises `StoreFailed`."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._sizes)

    def _sizes(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for ingest_id in self._list():
            with contextlib.suppress(FileNotFoundError):  # published or dropped meanwhile
                found[ingest_id] = os.lstat(self.path(ingest_id)).st_size
        return found

    async def discard(self, ingest_id: str) -> int:
        """`BlobStore.discard`. Raises `StoreFailed`."""
        if _ID.fullmatch(ingest_id) is None or ingest_id in self._active:
            return 0
        self.claim(ingest_id)  # nobody resumes it meanwhile
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._discard, ingest_id)

    def _discard(self, ingest_id: str) -> int:
        path = self.path(ingest_id)
        try:
            size = os.lstat(path).st_size
            os.unlink(path)
            return size
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise refused(error, f"ingest/{ingest_id} could not be removed") from error
        finally:
            self.forget(ingest_id)

    async def close(self) -> None:
        """Suspend what is still open: its bytes stay, to be resumed after the next start."""
        for ingest in [ingest for ingest in self._active.values() if ingest is not None]:
            await ingest.suspend()


class LocalIngest:
    """`Ingest` on a file in staging. Methods are for the event loop; those with an underscore and "On a thread" in
    their docstring run in the lane."""

    def __init__(
        self,
        staging: Staging,
        lane: Lane,
        ingest_id: str,
        opened: _Opened,
        algorithm: str,
        on_written: Callable[[int], None],
    ) -> None:
        self._staging = staging
        self._lane = lane
        self._loop = asyncio.get_running_loop()
        self._id = ingest_id
        self._algorithm = algorithm
        self._on_written = on_written
        self._descriptor, self._hasher, self._size = opened  # the lane's
        self._flushed = self._size  # the lane's: writeback has begun up to here
        self._failure: StoreFailed | None = None  # set by the lane, for good
        self._offset = self._written = self._size
        self._slots = asyncio.Semaphore(_QUEUED)
        self._ended = False  # set by the loop: nothing more is accepted
        self._dropped = False  # set by the loop: what was accepted need not be written either
        self._paths = [staging.path(ingest_id)]

    @property
    def id(self) -> str:
        return self._id

    @property
    def offset(self) -> int:
        return self._offset

    @property
    def written(self) -> int:
        return self._written

    def open_descriptor(self) -> int:
        """`Ingest.open_descriptor`. Raises `StoreFailed`, also after `abort`."""
        for path in self._paths:  # a publish may be moving it from the first to the second
            try:
                return os.open(path, _READ_ONLY)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise refused(error, f"ingest/{self._id} could not be opened") from error
        raise StoreFailed(f"ingest/{self._id} is gone")

    async def write(self, chunk: bytes) -> None:
        """`Ingest.write`."""
        self._check()
        if not chunk:
            return
        await self._slots.acquire()
        try:
            self._check()
        except BaseException:
            self._slots.release()
            raise
        self._offset += len(chunk)
        self._lane.post(partial(self._take, chunk))

    def _check(self) -> None:
        if self._failure is not None:
            raise type(self._failure)(self._failure.message)
        if self._ended:
            raise StoreFailed(f"ingest/{self._id} is closed")

    def _take(self, chunk: bytes) -> None:
        """On a thread: write a chunk where the last one ended, tell the loop, hash it."""
        if self._failure is not None or self._dropped:
            self._tell(self._slots.release)
            return
        try:
            self._staging.room.take(len(chunk))
            write_all(self._descriptor, chunk, self._size)
        except OSError as error:
            self._failure = refused(error, f"ingest/{self._id} could not be written")
        except StoreFailed as error:
            self._failure = error
        if self._failure is not None:
            self._tell(self._slots.release)
            return
        self._size += len(chunk)
        self._tell(self._taken, self._size)
        self._hasher.update(chunk)
        if self._size - self._flushed >= _WRITEBACK:
            start_writeback(self._descriptor, self._flushed, self._size - self._flushed)
            self._flushed = self._size

    def _tell(self, callback: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _taken(self, written: int) -> None:
        self._slots.release()
        self._written = written
        if not self._dropped:
            self._on_written(written)

    async def verify(self, expected: Digest) -> None:
        """`Ingest.verify`. Another algorithm than the ingest's own costs a second reading."""
        self._check()
        found = await self._lane.run(partial(self._digest, expected.algorithm))
        if found != expected:
            raise DigestInvalid(f"the content is {found}, not {expected}")

    def _digest(self, algorithm: str) -> Digest:
        """On a thread: the digest of all that was accepted."""
        if self._failure is not None:
            raise type(self._failure)(self._failure.message)
        if algorithm == self._algorithm:
            return Digest(algorithm, self._hasher.hexdigest())
        hasher = new_hasher(algorithm)
        try:
            rehash(self._descriptor, hasher)
        except OSError as error:
            raise refused(error, f"ingest/{self._id} could not be read") from error
        return Digest(algorithm, hasher.hexdigest())

    async def hash_state(self) -> Hash:
        """`Ingest.hash_state`."""
        return await self._lane.run(self._hasher.copy)  # in the lane: every `on_written` has been told by then

    async def seal(self, expected: Digest, destination: str) -> str:
        """Verify and make durable; returns where the file lies, from where the caller moves it to `destination`.

        Raises `DigestInvalid`, `NoRoom`, `StoreFailed`. Whatever follows, the caller ends with `moved` or `abort`.
        """
        await self.verify(expected)
        self._ended = True
        self._paths.append(destination)
        await self._lane.run(self._sync)
        return self._paths[0]

    def _sync(self) -> None:
        """On a thread: fsync, once. Where it fails, the kernel may have dropped the bytes, and the next one would
        say nothing of it: the ingest is lost."""
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            self._failure = refused(error, f"ingest/{self._id} could not be made durable")
            raise self._failure from error

    async def moved(self) -> None:
        """The file is published: only the descriptor is left to close."""
        await self._lane.run(self._close)

    async def abort(self) -> None:
        """`Ingest.abort`."""
        self._ended = self._dropped = True
        if self._staging.is_active(self._id):
            await self._lane.run(self._drop)

    async def suspend(self) -> None:
        """`Ingest.suspend`. What has failed is dropped."""
        if not self._ended:
            self._ended = True
            await self._lane.run(self._drop_or_close)

    def _drop_or_close(self) -> None:
        """On a thread, after all that was accepted is written."""
        if self._failure is not None:
            self._drop()
        else:
            self._close()

    def _drop(self) -> None:
        """On a thread: close and remove."""
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._paths[0])
        except OSError as error:
            log.warning("ingest/%s could not be removed, the next clean-up tries again: %s", self._id, error)
        self._close()

    def _close(self) -> None:
        """On a thread."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            close_quietly(descriptor)
            self._staging.forget(self._id)


def rehash(descriptor: int, hasher: "_Hash") -> int:
    """Feed a whole file to `hasher`; returns its size. For a thread."""
    offset = 0
    while data := os.pread(descriptor, _REHASH, offset):
        hasher.update(data)
        offset += len(data)
    return offset

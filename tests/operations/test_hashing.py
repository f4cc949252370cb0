"""Hashing what lies in the store."""

import asyncio
import errno
import os
import threading
from pathlib import Path

import pytest

from mirror.errors import StoreFailed
from mirror.oci.digest import Digest
from mirror.operations import hashing
from mirror.operations.hashing import Hashing
from mirror.store.disk import DiskStore
from mirror.store.memory import MemoryBlobStore
from mirror.tasks import Tasks
from tests.support.fake_registry.content import random_bytes

DATA = random_bytes("hashing", 3_000_000)
DIGEST = Digest.of(DATA)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: str) -> None:
    monkeypatch.setattr(hashing, "_SLICE", 1_000_000)
    digest = Digest.of(DATA, algorithm)
    store = await DiskStore.start(tmp_path)
    location = await store.put(DATA, digest)
    read: list[int] = []
    with Hashing() as threads:
        async with store.open(digest, location, len(DATA)) as reader:
            assert await threads.digest(reader, read.append) == digest
    assert (len(read), sum(read)) == (3, len(DATA))
    await store.close()


async def test_in_memory_and_empty() -> None:
    store = MemoryBlobStore()
    with Hashing() as threads:
        for data in (DATA, b""):
            digest = Digest.of(data)
            location = await store.put(data, digest)
            async with store.open(digest, location, len(data)) as reader:
                assert await threads.digest(reader) == digest


async def test_a_disk_that_does_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await DiskStore.start(tmp_path)
    location = await store.put(DATA, DIGEST)

    def broken(*_: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pread", broken)
    with Hashing() as threads, pytest.raises(StoreFailed) as raised:
        async with store.open(DIGEST, location, len(DATA)) as reader:
            await threads.digest(reader)
    assert isinstance(raised.value.__cause__, OSError)
    monkeypatch.setattr(os, "pread", lambda *_: b"")  # cut while it is read
    with Hashing() as threads, pytest.raises(StoreFailed, match="ended early"):
        async with store.open(DIGEST, location, len(DATA)) as reader:
            await threads.digest(reader)
    await store.close()


async def test_the_file_stays_open_until_the_thread_is_done_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken by leaving at once when cancelled: the descriptor would be another file's under the thread."""
    store = await DiskStore.start(tmp_path)
    location = await store.put(DATA, DIGEST)
    reading, go_on, seen = threading.Event(), threading.Event(), []
    real = os.pread

    def slow(descriptor: int, count: int, offset: int) -> bytes:
        reading.set()
        go_on.wait(10)
        data = real(descriptor, count, offset)  # EBADF if it was closed
        seen.append(len(data))
        return data

    monkeypatch.setattr(os, "pread", slow)

    async def verify() -> None:
        with Hashing() as threads:
            async with store.open(DIGEST, location, len(DATA)) as reader:
                await threads.digest(reader)

    task = Tasks().spawn("verify", verify())
    await asyncio.to_thread(reading.wait, 10)
    task.cancel()
    await asyncio.sleep(0.01)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sum(seen) == len(DATA)
    await store.close()


async def test_its_threads_step_back() -> None:
    with Hashing(1) as threads:
        loop = asyncio.get_running_loop()
        nice = await loop.run_in_executor(
            threads._threads, lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        )
    assert nice >= hashing._NICE or nice == 19
    assert os.getpriority(os.PRIO_PROCESS, 0) < hashing._NICE

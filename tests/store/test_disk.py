import asyncio
import errno
import gc
import json
import os
import stat
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from mirror.errors import BlobUnknown, DataInvalid, StoreFailed
from mirror.oci.digest import Digest
from mirror.store.disk import DiskStore
from mirror.store.memory import MemoryBlobStore
from mirror.tasks import Tasks
from tests.store.faults import BROKEN, Disk, open_files
from tests.store.suites import HELLO, BlobStoreSuite, ignore, written

DIGEST = Digest.of(HELLO)
LOCATION = f"blobs/sha256/{DIGEST.hex}"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[DiskStore]:
    started = await DiskStore.start(tmp_path)
    yield started
    await started.close()


@pytest.fixture
def lax_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


class TestDiskStore(BlobStoreSuite):
    """The suite, with the fixture above."""


# --- the layout -------------------------------------------------------------------------------------------


async def test_it_is_an_oci_layout_that_only_its_owner_reads(tmp_path: Path, lax_umask: None) -> None:
    store = await DiskStore.start(tmp_path / "data")
    assert await store.put(HELLO, DIGEST) == LOCATION
    ingest = await written(await store.begin(ignore), HELLO)
    long = Digest.of(HELLO, "sha512")
    assert await store.publish(ingest, long) == f"blobs/sha512/{long.hex}"
    await store.close()
    found = {
        str(path.relative_to(tmp_path / "data")): stat.S_IMODE(path.stat().st_mode)
        for path in (tmp_path / "data").rglob("*")
    }
    assert found == {
        "oci-layout": 0o600,
        "ingest": 0o700,
        "blobs": 0o700,
        "blobs/sha256": 0o700,
        "blobs/sha512": 0o700,
        LOCATION: 0o600,
        f"blobs/sha512/{long.hex}": 0o600,
    }
    assert json.loads((tmp_path / "data" / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}


async def test_a_second_start_finds_everything(tmp_path: Path) -> None:
    for _ in range(2):
        store = await DiskStore.start(tmp_path)
        await store.put(HELLO, DIGEST)
        assert await store.read(DIGEST, LOCATION, 12) == HELLO
        await store.close()


async def test_a_data_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("a file")
    with pytest.raises(DataInvalid, match=str(tmp_path)):
        await DiskStore.start(tmp_path)


# --- reading ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "location", ["", "lock", "../lock", f"blobs/sha256/../{'a' * 64}", f"blobs/md5/{'a' * 64}", f"{LOCATION}\n"]
)
async def test_locations_of_others_reach_nothing(store: DiskStore, location: str) -> None:
    for use in (
        store.read(DIGEST, location, 12),
        store.delete(location),
        store.open(DIGEST, location, 12).__aenter__(),
    ):
        with pytest.raises(StoreFailed, match="none of this store's"):
            await use


@pytest.mark.parametrize("kind", ["link", "directory", "pipe"])
async def test_only_a_regular_file_is_a_blob(store: DiskStore, tmp_path: Path, kind: str) -> None:
    path = tmp_path / LOCATION
    if kind == "link":
        (tmp_path / "elsewhere").write_bytes(HELLO)
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "directory":
        path.mkdir()
    else:
        os.mkfifo(path)
    before = open_files()
    with pytest.raises(BlobUnknown):
        await asyncio.wait_for(store.open(DIGEST, LOCATION, 12).__aenter__(), 5)
    with pytest.raises(BlobUnknown):
        await asyncio.wait_for(store.read(DIGEST, LOCATION, 12), 5)
    assert open_files() == before
    assert [found async for found in store.walk()] == []


async def test_rotten_bytes_are_not_read(store: DiskStore, tmp_path: Path) -> None:
    await store.put(HELLO, DIGEST)
    (tmp_path / LOCATION).write_bytes(b"hello, w0rld")
    with pytest.raises(BlobUnknown, match="bytes have changed"):
        await store.read(DIGEST, LOCATION, 12)


async def test_a_truncated_blob_is_unknown_on_open(store: DiskStore, tmp_path: Path) -> None:
    await store.put(HELLO, DIGEST)
    (tmp_path / LOCATION).write_bytes(b"hello")
    with pytest.raises(BlobUnknown, match="5 bytes in place of 12"):
        await store.open(DIGEST, LOCATION, 12).__aenter__()


@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE, errno.EACCES])
async def test_a_disk_that_refuses_says_nothing_about_the_blob(
    store: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    await store.put(HELLO, DIGEST)
    disk = Disk(monkeypatch, tmp_path)
    disk.fail("open", code)
    with pytest.raises(StoreFailed):
        await store.open(DIGEST, LOCATION, 12).__aenter__()
    with pytest.raises(StoreFailed):
        await store.read(DIGEST, LOCATION, 12)


async def test_a_failed_read_is_the_disks_failure(
    store: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put(HELLO, DIGEST)
    async with store.open(DIGEST, LOCATION, 12) as reader:
        disk = Disk(monkeypatch, tmp_path)
        disk.fail("pread", BROKEN)
        with pytest.raises(StoreFailed, match="could not be read"):
            await reader.read(0, 5)
        with pytest.raises(StoreFailed, match="could not be read"):
            await store.read(DIGEST, LOCATION, 12)


async def test_short_reads_go_on(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.put(HELLO, DIGEST)
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, count, offset: real(descriptor, min(count, 5), offset))
    assert await store.read(DIGEST, LOCATION, 12) == HELLO


async def test_a_closed_reader_gives_no_descriptor(store: DiskStore) -> None:
    await store.put(HELLO, DIGEST)
    async with store.open(DIGEST, LOCATION, 12) as reader:
        descriptor = reader.fileno()
        assert descriptor is not None
    with pytest.raises(ValueError, match="closed"):  # the number may be another file's by now
        reader.fileno()
    with pytest.raises(ValueError, match="closed"):
        await reader.read(0, 1)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(descriptor)


async def test_a_cancelled_open_leaves_no_descriptor(store: DiskStore) -> None:
    await store.put(HELLO, DIGEST)
    before = open_files()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(store.open(DIGEST, LOCATION, 12).__aenter__()) for _ in range(20)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
    for _ in range(100):
        if open_files() == before:
            break
        await asyncio.sleep(0.01)
    assert open_files() == before


# --- the rest ---------------------------------------------------------------------------------------------


async def test_walk_passes_over_strangers_and_goes_on_in_pieces(
    store: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirror.store.disk._WALKED_AT_ONCE", 7)
    blobs = [b"%d" % number for number in range(50)]
    await asyncio.gather(*(store.put(blob, Digest.of(blob)) for blob in blobs))
    (tmp_path / "blobs" / "sha256" / "README").write_text("mine")
    (tmp_path / "blobs" / "sha256" / ("A" * 64)).write_text("upper case")
    (tmp_path / "blobs" / "sha512" / ("a" * 64)).write_text("too short")
    found = [found async for found in store.walk()]
    assert sorted(found) == sorted(
        (Digest.of(blob), f"blobs/sha256/{Digest.of(blob).hex}", len(blob)) for blob in blobs
    )


async def test_a_walk_may_be_left_at_any_time(
    store: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken by closing the folder on the loop: under the thread that reads it, or before a thread has opened it."""
    real, opening, go_on, opened = os.scandir, threading.Event(), threading.Event(), []

    def slow(path: object) -> Any:
        opening.set()
        go_on.wait(10)
        opened.append(real(str(path)))
        return opened[-1]

    monkeypatch.setattr(os, "scandir", slow)
    monkeypatch.setattr("mirror.store.disk._WALKED_AT_ONCE", 1)
    for data in (HELLO, b"another", b"a third"):
        await store.put(data, Digest.of(data))

    async def walk() -> None:
        async for _ in store.walk():
            pass

    task = Tasks().spawn("walk", walk())
    await asyncio.to_thread(opening.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    await store.close()
    assert len(opened) <= 1
    del opened[:]
    gc.collect()  # what is left open warns, and a warning is an error


@pytest.mark.parametrize("later", [False, True])
async def test_a_walk_that_fails_is_told(store: DiskStore, monkeypatch: pytest.MonkeyPatch, *, later: bool) -> None:
    class Broken:
        def __iter__(self) -> "Broken":
            return self

        def __next__(self) -> None:
            raise OSError(BROKEN, "Input/output error")

        def close(self) -> None:
            pass

    def scandir(path: object) -> Broken:
        if later:
            return Broken()
        raise OSError(BROKEN, "Input/output error")

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(StoreFailed, match="could not be listed"):
        await anext(store.walk())


async def test_a_delete_that_fails_is_told(store: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.put(HELLO, DIGEST)
    Disk(monkeypatch, tmp_path).fail("unlink", BROKEN)
    with pytest.raises(StoreFailed, match="could not be removed"):
        await store.delete(LOCATION)


async def test_an_ingest_of_another_store_is_refused(store: DiskStore) -> None:
    ingest = await MemoryBlobStore().begin(ignore)
    with pytest.raises(TypeError):
        await store.publish(ingest, DIGEST)
    await ingest.abort()


async def test_starts_and_stops_leave_no_descriptors_and_no_threads(tmp_path: Path) -> None:
    async def once() -> None:
        store = await DiskStore.start(tmp_path)
        await store.put(HELLO, DIGEST)
        ingest = await written(await store.begin(ignore), HELLO)
        await store.publish(ingest, DIGEST)
        async with store.open(DIGEST, LOCATION, 12) as reader:
            await reader.read(0, 5)
        await store.close()

    await once()
    files = open_files()
    for _ in range(50):
        await once()
    assert open_files() == files
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("blob-")] == []

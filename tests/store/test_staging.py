import asyncio
import errno
import os
import random
import stat
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import DigestInvalid, NoRoom, StoreFailed
from mirror.oci.digest import Digest
from mirror.store.disk import DiskStore
from mirror.store.files import Room
from mirror.store.protocols import Ingest
from mirror.store.staging import Staging
from tests.store.faults import BROKEN, FULL, Disk, open_files, small_disk, small_folder
from tests.store.suites import HELLO, ignore, read_descriptor, written

MIB = 1 << 20


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[DiskStore]:
    started = await DiskStore.start(tmp_path, reserve=0)
    yield started
    await started.close()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Disk:
    return Disk(monkeypatch, tmp_path)


async def failed(ingest: Ingest) -> StoreFailed:
    """Write until the failure of an earlier write comes back."""
    for _ in range(1000):
        try:
            await ingest.write(b"more")
        except StoreFailed as error:
            return error
        await asyncio.sleep(0.001)
    raise AssertionError("the failure never came back")


async def fill(ingest: Ingest, size: int) -> None:
    """Write `size` bytes, each batch after the one before is written."""
    while ingest.offset < size:
        await ingest.write(b"y" * (MIB // 4))
        await ingest.verify(Digest.of(b"y" * ingest.offset))


# --- writing ----------------------------------------------------------------------------------------------


async def test_the_file_is_as_long_as_what_is_written(store: DiskStore, tmp_path: Path) -> None:
    ingest = await store.begin(ignore)
    path = tmp_path / "ingest" / ingest.id
    for _ in range(3):  # preallocated length would be sent to readers
        await written(ingest, b"x" * MIB)
        assert path.stat().st_size == ingest.written == ingest.offset
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await ingest.abort()
    assert not path.exists()


async def test_four_batches_wait_and_the_next_caller_too(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    real = os.pwrite

    def slow(descriptor: int, data: bytes, offset: int) -> int:
        go_on.wait(5)
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", slow)
    ingest = await store.begin(ignore)
    for _ in range(4):
        await asyncio.wait_for(ingest.write(b"x"), 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ingest.write(b"y"), 0.05)
    assert ingest.offset == 4  # nothing of a cancelled write is accepted
    go_on.set()
    await ingest.write(b"z")
    await store.publish(ingest, Digest.of(b"xxxxz"))


@given(st.lists(st.binary(max_size=3000), max_size=30))
def test_any_chunks_make_the_same_blob(chunks: list[bytes]) -> None:
    async def write() -> None:
        with small_folder() as folder:
            store = await DiskStore.start(folder, reserve=0)
            ingest = await written(await store.begin(ignore), *chunks)
            whole = b"".join(chunks)
            assert read_descriptor(ingest) == whole
            digest = Digest.of(whole)
            assert await store.read(digest, await store.publish(ingest, digest), len(whole)) == whole
            await store.close()

    asyncio.run(write())


async def test_many_ingests_at_once(store: DiskStore) -> None:
    async def ingest(number: int) -> None:
        data = random.Random(number).randbytes(MIB + number)
        ingest = await store.begin(ignore)
        for start in range(0, len(data), 100_000):
            await ingest.write(data[start : start + 100_000])
        location = await store.publish(ingest, Digest.of(data))
        assert await store.read(Digest.of(data), location, len(data)) == data

    before = open_files()
    async with asyncio.TaskGroup() as group:
        for number in range(40):
            group.create_task(ingest(number))
    assert open_files() == before
    assert await store.staged() == []


async def test_writeback_is_begun_every_8_mib(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[tuple[int, int]] = []
    monkeypatch.setattr("mirror.store.staging.start_writeback", lambda fd, offset, count: begun.append((offset, count)))
    ingest = await store.begin(ignore)
    for _ in range(20):
        await ingest.write(b"x" * MIB)
    await ingest.verify(Digest.of(b"x" * 20 * MIB))
    assert begun == [(0, 8 * MIB), (8 * MIB, 8 * MIB)]
    await ingest.abort()


async def test_abort_does_not_write_what_waits(store: DiskStore, disk: Disk) -> None:
    told: list[int] = []
    ingest = await store.begin(told.append)
    held = threading.Event()
    ingest._lane.post(lambda: (held.wait(5), None)[1])
    for _ in range(4):
        await ingest.write(b"x" * MIB)
    disk.watch("pwrite")
    async with asyncio.TaskGroup() as group:
        group.create_task(ingest.abort())
        await asyncio.sleep(0.01)
        held.set()
    assert disk.calls == []
    assert told == []


async def test_a_closed_ingest_takes_nothing(store: DiskStore) -> None:
    ingest = await written(await store.begin(ignore), HELLO)
    await ingest.suspend()
    await ingest.suspend()
    for use in (ingest.write(b"x"), ingest.verify(Digest.of(HELLO)), store.publish(ingest, Digest.of(HELLO))):
        with pytest.raises(StoreFailed, match="closed"):
            await use
    await ingest.abort()  # what is suspended is no longer this object's to drop
    assert await store.staged() == [ingest.id]


async def test_an_aborted_ingest_cannot_be_opened(store: DiskStore) -> None:
    ingest = await store.begin(ignore)
    await ingest.abort()
    with pytest.raises(StoreFailed, match="gone"):
        ingest.open_descriptor()


async def test_a_published_ingest_can_still_be_opened(store: DiskStore) -> None:
    ingest = await written(await store.begin(ignore), HELLO)
    await store.publish(ingest, Digest.of(HELLO))
    assert read_descriptor(ingest) == HELLO  # a flight is joinable until its catalog commit


# --- faults -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "kind"), [(FULL, NoRoom), (BROKEN, StoreFailed)])
async def test_a_failed_write_comes_back_and_the_ingest_is_lost(
    store: DiskStore, disk: Disk, code: int, kind: type[StoreFailed]
) -> None:
    ingest = await written(await store.begin(ignore), HELLO)
    disk.fail("pwrite", code, lambda path: path.startswith("ingest/"))
    assert type(await failed(ingest)) is kind
    for use in (ingest.write(b"x"), ingest.verify(Digest.of(HELLO)), store.publish(ingest, Digest.of(HELLO))):
        with pytest.raises(kind):
            await use
    assert ingest.written == 12
    assert disk.count("pwrite") == 1  # what waited behind it is not written after a gap
    assert store.active() == frozenset()  # publish dropped it
    assert await store.staged() == []


async def test_nothing_is_written_after_a_gap(store: DiskStore, disk: Disk, tmp_path: Path) -> None:
    told: list[int] = []
    ingest = await store.begin(told.append)
    held = threading.Event()
    ingest._lane.post(lambda: (held.wait(5), None)[1])
    disk.fail("pwrite", BROKEN, lambda path: disk.count("pwrite") == 1)  # once: then the disk is well again
    for chunk in (b"lost", b"late", b"later"):
        await ingest.write(chunk)
    held.set()
    with pytest.raises(StoreFailed):
        await ingest.verify(Digest.of(b"latelater"))
    assert told == []
    assert (tmp_path / "ingest" / ingest.id).stat().st_size == 0
    await ingest.abort()


async def test_a_failed_ingest_is_not_kept_by_suspend(store: DiskStore, disk: Disk) -> None:
    ingest = await store.begin(ignore)
    disk.fail("pwrite", BROKEN)
    await failed(ingest)
    await ingest.suspend()
    assert await store.staged() == []


async def test_a_failed_fsync_drops_the_ingest_and_is_never_retried(
    store: DiskStore, disk: Disk, tmp_path: Path
) -> None:
    ingest = await written(await store.begin(ignore), HELLO)
    disk.fail("fsync", BROKEN, lambda path: path.startswith("ingest/"))
    with pytest.raises(StoreFailed, match="durable"):
        await store.publish(ingest, Digest.of(HELLO))
    with pytest.raises(StoreFailed):
        await store.publish(ingest, Digest.of(HELLO))
    assert disk.count("fsync") == 1
    assert not (tmp_path / "ingest" / ingest.id).exists()
    assert store.active() == frozenset()
    assert [found async for found in store.walk()] == []


async def test_begin_on_a_disk_that_refuses(store: DiskStore, disk: Disk) -> None:
    disk.fail("open", BROKEN)
    with pytest.raises(StoreFailed, match="could not be begun"):
        await store.begin(ignore)
    assert store.active() == frozenset()


async def test_a_file_that_cannot_be_removed_is_left_to_the_clean_up(
    store: DiskStore, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    ingest = await store.begin(ignore)
    disk.fail("unlink", BROKEN)
    await ingest.abort()
    assert "next clean-up" in caplog.text
    assert await store.staged() == [ingest.id]
    with pytest.raises(StoreFailed, match="could not be removed"):
        await store.discard(ingest.id)
    assert store.active() == frozenset()


async def test_a_full_disk_refuses_and_recovers(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 4 * MIB) as folder:
        store = await DiskStore.start(folder, reserve=MIB)
        held = await store.put(b"x" * 2 * MIB, Digest.of(b"x" * 2 * MIB))
        assert await store.free() <= MIB
        ingest = await store.begin(ignore)
        with pytest.raises(NoRoom):
            await fill(ingest, 4 * MIB)
        await ingest.abort()
        with pytest.raises(NoRoom):
            await store.put(b"z" * 2 * MIB, Digest.of(b"z" * 2 * MIB))
        assert await store.read(Digest.of(b"x" * 2 * MIB), held, 2 * MIB) == b"x" * 2 * MIB
        await store.delete(held)
        again = await store.begin(ignore)
        await again.write(b"y" * 2 * MIB)
        await store.publish(again, Digest.of(b"y" * 2 * MIB))
        assert await store.staged() == []
        await store.close()


async def test_without_a_reserve_the_disk_itself_says_no(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mirror.store.files.Room.take", lambda room, count: None)
    with small_disk(tmp_path / "small", MIB) as folder:
        store = await DiskStore.start(folder, reserve=0)
        ingest = await store.begin(ignore)
        await ingest.write(b"y" * 2 * MIB)
        with pytest.raises(NoRoom):
            await ingest.verify(Digest.of(b"y" * 2 * MIB))
        await ingest.abort()
        with pytest.raises(NoRoom):
            await store.put(b"z" * 2 * MIB, Digest.of(b"z" * 2 * MIB))
        assert await store.staged() == []
        assert store.active() == frozenset()
        await store.close()


async def test_a_writer_that_waits_learns_of_a_failure(store: DiskStore, disk: Disk) -> None:
    ingest = await store.begin(ignore)
    held = threading.Event()
    ingest._lane.post(lambda: (held.wait(5), None)[1])
    disk.fail("pwrite", BROKEN)
    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            await ingest.write(b"x")
        waiting = [group.create_task(failed(ingest)) for _ in range(3)]
        await asyncio.sleep(0.01)
        assert not any(task.done() for task in waiting)
        held.set()
    assert {type(task.result()) for task in waiting} == {StoreFailed}
    assert ingest.offset == 4
    await ingest.abort()


async def test_staging_that_cannot_be_read_is_a_failure(
    store: DiskStore, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest = await written(await store.begin(ignore), HELLO)
    disk.fail("open", errno.EMFILE)
    with pytest.raises(StoreFailed, match="could not be opened"):
        ingest.open_descriptor()
    disk.fail("pread", BROKEN)
    with pytest.raises(StoreFailed, match="could not be read"):
        await ingest.verify(Digest.of(HELLO, "sha512"))
    await ingest.abort()

    def refuse(path: object) -> None:
        raise OSError(BROKEN, "Input/output error")

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(StoreFailed, match="could not be listed"):
        await store.staged()


def test_only_ids_are_paths(tmp_path: Path) -> None:
    staging = Staging(tmp_path, ThreadPoolExecutor(1), Room(tmp_path, 0))
    assert staging.path(staging.new_id()).startswith(f"{tmp_path}/")
    for text in ("", "..", "../lock", "a" * 31, "A" * 32, "a" * 32 + "\n"):
        with pytest.raises(ValueError, match="not an ingest's id"):
            staging.path(text)


# --- resuming ---------------------------------------------------------------------------------------------


async def test_another_process_resumes_what_a_killed_one_left(tmp_path: Path) -> None:
    killed = await DiskStore.start(tmp_path)
    left = await written(await killed.begin(ignore), b"x" * 3 * MIB)  # neither suspended nor closed
    store = await DiskStore.start(tmp_path)
    assert await store.staged() == [left.id]
    told: list[int] = []
    ingest = await store.resume(left.id, told.append)
    assert ingest is not None
    assert ingest.offset == 3 * MIB
    await written(ingest, b"y")
    assert told == [3 * MIB + 1]
    await store.publish(ingest, Digest.of(b"x" * 3 * MIB + b"y"))
    await store.close()
    await killed.close()


async def test_bytes_that_changed_meanwhile_are_found_by_the_hash(store: DiskStore, tmp_path: Path) -> None:
    ingest = await written(await store.begin(ignore), HELLO)
    await ingest.suspend()
    (tmp_path / "ingest" / ingest.id).write_bytes(b"\0" * 12)  # as a power cut may leave it
    again = await store.resume(ingest.id, ignore)
    assert again is not None
    with pytest.raises(DigestInvalid):
        await store.publish(again, Digest.of(HELLO))


async def test_only_regular_files_are_resumed(store: DiskStore, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "ingest" / ("a" * 32)).symlink_to(tmp_path / "secret")
    (tmp_path / "ingest" / ("b" * 32)).mkdir()
    os.mkfifo(tmp_path / "ingest" / ("c" * 32))
    for name in "abc":
        with pytest.raises(StoreFailed):
            await asyncio.wait_for(store.resume(name * 32, ignore), 5)
    assert store.active() == frozenset()


async def test_strangers_in_the_folder_are_not_ours(store: DiskStore, tmp_path: Path) -> None:
    (tmp_path / "ingest" / "notes.txt").write_text("mine")
    assert await store.staged() == []


async def test_cancelled_begin_and_resume_leave_nothing_open(store: DiskStore) -> None:
    ingest = await written(await store.begin(ignore), HELLO)
    await ingest.suspend()
    before = open_files()
    async with asyncio.TaskGroup() as group:
        opening = [group.create_task(store.begin(ignore)) for _ in range(5)]
        resuming = group.create_task(store.resume(ingest.id, ignore))
        await asyncio.sleep(0)
        for task in (*opening, resuming):
            task.cancel()
    while store.active():
        await asyncio.sleep(0.001)
    assert open_files() == before
    assert ingest.id in await store.staged()  # its bytes are as they were


async def test_close_suspends_what_is_open(tmp_path: Path) -> None:
    before = open_files()
    store = await DiskStore.start(tmp_path)
    ingest = await written(await store.begin(ignore), HELLO)
    await store.close()
    await store.close()
    assert open_files() == before
    assert (tmp_path / "ingest" / ingest.id).read_bytes() == HELLO

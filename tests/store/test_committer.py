import asyncio
import errno
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirror.errors import NoRoom, StoreFailed
from mirror.oci.digest import Digest
from mirror.store.disk import DiskStore
from tests.store.faults import BROKEN, FULL, Disk, open_files
from tests.store.suites import HELLO, ignore, written

STEPS = ("open", "pwrite", "fsync", "rename", "unlink")
BLOBS = [b"blob %d" % number for number in range(10)]
DIGESTS = [Digest.of(blob) for blob in BLOBS]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[DiskStore]:
    started = await DiskStore.start(tmp_path, reserve=0)
    yield started
    await started.close()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Disk:
    return Disk(monkeypatch, tmp_path)


async def put_all(store: DiskStore) -> list[str | BaseException]:
    """Put all blobs in one turn of the loop."""
    return await asyncio.gather(
        *(store.put(blob, digest) for blob, digest in zip(BLOBS, DIGESTS, strict=True)), return_exceptions=True
    )


async def published(store: DiskStore) -> set[Digest]:
    return {digest async for digest, _, _ in store.walk()}


# --- the order --------------------------------------------------------------------------------------------


async def test_a_small_blob_takes_the_steps_in_their_order(store: DiskStore, disk: Disk) -> None:
    disk.watch(*STEPS)
    await store.put(HELLO, Digest.of(HELLO))
    staged = disk.calls[0][1]
    assert staged.startswith("ingest/")
    assert disk.calls == [
        ("open", staged),
        ("pwrite", staged),
        ("fsync", staged),
        ("rename", staged),
        ("fsync", "blobs/sha256"),
    ]


async def test_an_ingest_takes_the_steps_in_their_order(store: DiskStore, disk: Disk) -> None:
    ingest = await written(await store.begin(ignore), HELLO)
    disk.watch(*STEPS)
    await store.publish(ingest, Digest.of(HELLO))
    staged = f"ingest/{ingest.id}"
    assert disk.calls == [("fsync", staged), ("rename", staged), ("fsync", "blobs/sha256")]


async def test_a_batch_takes_each_step_together(store: DiskStore, disk: Disk) -> None:
    ingest = await written(await store.begin(ignore), HELLO)
    long = Digest.of(HELLO, "sha512")
    disk.watch(*STEPS)
    await asyncio.gather(put_all(store), store.put(HELLO, long))
    await store.publish(ingest, Digest.of(HELLO))
    names = [name for name, _ in disk.calls]
    assert names[:44] == ["open", "pwrite"] * 11 + ["fsync"] * 11 + ["rename"] * 11
    assert {path for _, path in disk.calls[44:46]} == {"blobs/sha256", "blobs/sha512"}  # one fsync of each
    assert names[46:] == ["fsync", "rename", "fsync"]


async def test_a_batch_is_bounded(store: DiskStore, disk: Disk) -> None:
    disk.watch("fsync")
    await asyncio.gather(*(store.put(b"%d" % number, Digest.of(b"%d" % number)) for number in range(300)))
    assert Counter(path for _, path in disk.calls)["blobs/sha256"] == 3
    disk.calls.clear()
    large = [bytes([number]) * (9 << 20) for number in range(4)]
    await asyncio.gather(*(store.put(blob, Digest.of(blob)) for blob in large))
    assert Counter(path for _, path in disk.calls)["blobs/sha256"] == 2


# --- failures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "kind"), [(FULL, NoRoom), (errno.EDQUOT, NoRoom), (BROKEN, StoreFailed)])
@pytest.mark.parametrize("step", ["open", "pwrite", "fsync", "rename"])
async def test_a_failure_concerns_its_own_blob(
    store: DiskStore, disk: Disk, step: str, code: int, kind: type[StoreFailed]
) -> None:
    chosen: list[str] = []

    def fourth(path: str) -> bool:
        if path.startswith("ingest/") and path not in chosen:
            chosen.append(path)
        return len(chosen) > 3 and path == chosen[3]

    disk.fail(step, code, fourth)
    outcomes = await put_all(store)
    assert [type(outcome) for outcome in outcomes].count(str) == 9
    assert type(outcomes[3]) is kind
    assert str(DIGESTS[3]) in str(outcomes[3])
    assert disk.calls.count((step, chosen[3])) == 1  # never tried again on the same file
    assert await published(store) == {*DIGESTS} - {DIGESTS[3]}
    assert await store.staged() == []
    assert store.active() == frozenset()


async def test_a_directory_that_is_not_durable_fails_its_whole_batch(store: DiskStore, disk: Disk) -> None:
    disk.fail("fsync", BROKEN, lambda path: path == "blobs/sha256")
    outcomes = await asyncio.gather(put_all(store), store.put(HELLO, Digest.of(HELLO, "sha512")))
    assert {type(outcome) for outcome in outcomes[0]} == {StoreFailed}
    assert outcomes[1].startswith("blobs/sha512/")


async def test_a_failed_put_can_be_tried_again_with_a_new_file(
    store: DiskStore, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        broken = Disk(patch, disk._root)
        broken.fail("fsync", BROKEN, lambda path: path.startswith("ingest/"))
        with pytest.raises(StoreFailed):
            await store.put(HELLO, Digest.of(HELLO))
    disk.watch("fsync")
    location = await store.put(HELLO, Digest.of(HELLO))
    assert broken.calls[0][1] != disk.calls[0][1]
    assert await store.read(Digest.of(HELLO), location, 12) == HELLO


async def test_publish_drops_the_ingest_if_the_move_fails(store: DiskStore, disk: Disk) -> None:
    ingest = await written(await store.begin(ignore), HELLO)
    disk.fail("rename", BROKEN)
    with pytest.raises(StoreFailed):
        await store.publish(ingest, Digest.of(HELLO))
    assert await published(store) == set()
    assert await store.staged() == []
    assert store.active() == frozenset()


# --- callers ----------------------------------------------------------------------------------------------


async def test_cancelled_callers_tear_nothing(store: DiskStore) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(store.put(blob, digest)) for blob, digest in zip(BLOBS, DIGESTS, strict=True)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
    await store.put(HELLO, Digest.of(HELLO))
    assert await published(store) == {*DIGESTS, Digest.of(HELLO)}
    assert await store.staged() == []


@pytest.mark.parametrize("turns", range(12))
async def test_a_publish_cancelled_at_any_time_is_whole_or_nothing(store: DiskStore, turns: int) -> None:
    ingest = await written(await store.begin(ignore), HELLO)
    before = open_files()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(store.publish(ingest, Digest.of(HELLO)))
        await asyncio.sleep(0)  # one that never began would drop nothing
        for _ in range(turns):
            await asyncio.sleep(0.0002)
        task.cancel()
    while store.active():
        await asyncio.sleep(0.001)
    await store.put(b"", Digest.of(b""))  # behind whatever the committer still had to do
    assert await store.staged() == []
    assert open_files() == before - 1
    if Digest.of(HELLO) in await published(store):
        assert await store.read(Digest.of(HELLO), f"blobs/sha256/{Digest.of(HELLO).hex}", 12) == HELLO


async def test_close_finishes_what_waits(tmp_path: Path) -> None:
    store = await DiskStore.start(tmp_path)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(store.put(blob, digest)) for blob, digest in zip(BLOBS, DIGESTS, strict=True)]
        await asyncio.sleep(0)
        await store.close()
    assert all(task.result() for task in tasks)
    assert len(list((tmp_path / "blobs" / "sha256").iterdir())) == 10

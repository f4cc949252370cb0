import asyncio
import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from mirror.errors import NoRoom, StoreFailed
from mirror.store import files
from mirror.store.files import Room, keep, refused, start_writeback, write_all


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, NoRoom),
        (errno.EDQUOT, NoRoom),
        (errno.EIO, StoreFailed),
        (errno.EROFS, StoreFailed),
        (errno.EMFILE, StoreFailed),
    ],
)
def test_a_full_disk_is_told_from_a_broken_one(code: int, kind: type[StoreFailed]) -> None:
    error = refused(OSError(code, os.strerror(code)), "ingest/1 could not be written")
    assert type(error) is kind
    assert "ingest/1 could not be written" in error.message


def test_short_writes_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, bytes(data[:3]), offset))
    with (tmp_path / "file").open("wb") as file:
        write_all(file.fileno(), b"hello, world", 5)
    assert (tmp_path / "file").read_bytes() == b"\0\0\0\0\0hello, world"


@pytest.mark.parametrize("available", [True, False])
def test_writeback_is_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, available: bool) -> None:
    if not available:
        monkeypatch.setattr(files, "_sync_file_range", None)
    with (tmp_path / "file").open("wb") as file:
        file.write(b"hello")
        file.flush()
        start_writeback(file.fileno())
        start_writeback(file.fileno(), 1, 2)
    start_writeback(-1)  # whatever goes wrong


class FakeStatvfs:
    """A file system with so many bytes left."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, left: int) -> None:
        self.left = left
        self.asked = 0
        monkeypatch.setattr(os, "statvfs", self)

    def __call__(self, path: object) -> SimpleNamespace:
        self.asked += 1
        return SimpleNamespace(f_blocks=1 << 40, f_bavail=self.left, f_frsize=1)


def test_the_reserve_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FakeStatvfs(monkeypatch, left=1000)
    room = Room(tmp_path, reserve=400)
    assert room.free() == 600
    room.take(600)
    disk.left = 400
    with pytest.raises(NoRoom):
        room.take(1)
    assert room.free() == 0
    disk.left = 10
    assert room.free() == -390
    disk.left = 1000  # room was made
    room.take(600)


def test_what_was_promised_may_touch_the_reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if bytes that found room when they were accepted are refused because others have written since."""
    disk = FakeStatvfs(monkeypatch, left=1000)
    room = Room(tmp_path, reserve=400, least=200)
    disk.left = 350
    assert room.free() == -50
    room.take(150)
    disk.left = 200
    with pytest.raises(NoRoom):
        room.take(1)


def test_the_file_system_is_asked_seldom_and_often_when_near(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FakeStatvfs(monkeypatch, left=1 << 40)
    room = Room(tmp_path, reserve=0)
    for _ in range(320):
        room.take(1 << 20)
    assert disk.asked == 40  # every 8 MiB
    disk.asked, disk.left = 0, 10 << 20
    for _ in range(10):
        room.take(1 << 20)
        disk.left -= 1 << 20
    assert disk.asked >= 3
    with pytest.raises(NoRoom):
        room.take(1 << 20)


def test_a_write_larger_than_the_interval_is_asked_for_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeStatvfs(monkeypatch, left=20 << 20)
    room = Room(tmp_path, reserve=0)
    with pytest.raises(NoRoom):
        room.take(21 << 20)
    room.take(20 << 20)


def test_a_tmpfs_without_limit_is_never_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_blocks=0, f_bavail=0, f_frsize=4096))
    room = Room(tmp_path, reserve=1 << 20)
    room.take(1 << 40)
    assert room.free() > 1 << 40


def test_a_file_system_that_does_not_answer_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed, match="free space"):
        Room(tmp_path / "missing", reserve=0).free()


async def test_what_a_cancelled_caller_asked_for_is_undone() -> None:
    undone: list[str] = []
    made: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(keep(made, undone.append))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        made.set_result("thing")
        await asyncio.sleep(0)
    assert undone == ["thing"]


async def test_what_failed_for_a_cancelled_caller_is_not_undone() -> None:
    undone: list[str] = []
    made: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(keep(made, undone.append))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        made.set_exception(OSError("never made"))
        await asyncio.sleep(0)
    assert undone == []


async def test_what_was_made_is_returned() -> None:
    made: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    made.set_result("thing")
    assert await keep(made, lambda thing: None) == "thing"

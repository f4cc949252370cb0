import errno
import fcntl
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.errors import DataBusy, DataInvalid
from mirror.store.lock import DataDirectory

HOLD = """
import sys
from pathlib import Path
from mirror.store.lock import DataDirectory
directory = DataDirectory.acquire(Path(sys.argv[1]), Path("/run/mirror/socket"))
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "data"


@pytest.fixture
def holder(data: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that has the data directory."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(data)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def snapshot(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Everything below a folder: mode, time of change, content."""
    return {
        str(path): (path.stat().st_mode, path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in (folder, *folder.rglob("*"))
    }


def test_it_is_made_for_its_owner_only(data: Path) -> None:
    before = os.umask(0)
    try:
        directory = DataDirectory.acquire(data, Path("/run/mirror/socket"))
    finally:
        os.umask(before)
    assert directory.path == data
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert stat.S_IMODE((data / "lock").stat().st_mode) == 0o600
    assert (data / "lock").read_text() == f"{os.getpid()}\n/run/mirror/socket\n"
    directory.release()
    directory.release()
    assert (data / "lock").read_text() == ""


def test_an_open_one_is_closed_to_others(data: Path) -> None:
    data.mkdir(parents=True, mode=0o755)
    DataDirectory.acquire(data).release()
    assert stat.S_IMODE(data.stat().st_mode) == 0o700


def test_without_a_socket_its_line_is_empty(data: Path) -> None:
    directory = DataDirectory.acquire(data)
    assert (data / "lock").read_text() == f"{os.getpid()}\n\n"
    directory.release()


def test_a_second_process_is_told_who_has_it_and_changes_nothing(data: Path, holder: "subprocess.Popen[str]") -> None:
    before = snapshot(data)
    with pytest.raises(DataBusy, match=f"in use by process {holder.pid}"):
        DataDirectory.acquire(data)
    assert snapshot(data) == before
    assert DataBusy.exit_code == 8


def test_a_killed_owner_leaves_it_free(data: Path, holder: "subprocess.Popen[str]") -> None:
    holder.kill()
    holder.wait()
    assert (data / "lock").read_text().startswith(str(holder.pid))  # and means nothing
    DataDirectory.acquire(data).release()


def test_one_process_cannot_have_it_twice(data: Path) -> None:
    directory = DataDirectory.acquire(data)
    with pytest.raises(DataBusy, match=f"process {os.getpid()}"):
        DataDirectory.acquire(data)
    directory.release()
    DataDirectory.acquire(data).release()


def test_an_owner_that_has_not_written_its_pid_yet_is_another_process(data: Path) -> None:
    data.mkdir(parents=True)
    with (data / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DataBusy, match="in use by another process"):
            DataDirectory.acquire(data)


def test_the_data_of_another_user_is_refused(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data.mkdir(parents=True)
    before = snapshot(data)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(DataInvalid, match=f"id {os.getuid()}, not to you .id 12345.: run the mirror as that user"):
        DataDirectory.acquire(data)
    assert snapshot(data) == before


def test_a_file_is_no_data_directory(data: Path) -> None:
    data.parent.mkdir()
    data.write_text("mine")
    with pytest.raises(DataInvalid, match="not a directory"):
        DataDirectory.acquire(data)
    with pytest.raises(DataInvalid):
        DataDirectory.acquire(data / "below")


def test_a_lock_that_leads_elsewhere_is_not_followed(data: Path, tmp_path: Path) -> None:
    data.mkdir(parents=True)
    (tmp_path / "victim").write_text("precious")
    (data / "lock").symlink_to(tmp_path / "victim")
    with pytest.raises(DataInvalid):
        DataDirectory.acquire(data)
    assert (tmp_path / "victim").read_text() == "precious"


@pytest.mark.parametrize(("code", "says"), [(errno.ENOLCK, "no locks"), (errno.EIO, "Input/output error")])
def test_a_file_system_without_locks_is_named(
    data: Path, monkeypatch: pytest.MonkeyPatch, code: int, says: str
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(DataInvalid, match=says):
        DataDirectory.acquire(data)
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_the_lock_is_not_inherited_by_children(data: Path) -> None:
    directory = DataDirectory.acquire(data)
    with subprocess.Popen(["sleep", "30"], close_fds=False) as child:
        directory.release()
        DataDirectory.acquire(data).release()
        child.kill()


@pytest.mark.parametrize("names", [["notes.txt"], ["passwd", "hosts"], ["oci-layout", "blobs", "index.json"], ["lock"]])
def test_a_folder_that_holds_other_things_is_left_alone(tmp_path: Path, names: list[str]) -> None:
    """Breaks if a mirror may be started in /etc: it would be made 0700, and a file called `lock` cut."""
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o755)
    for name in names:
        (folder / name).write_text("theirs")
    with pytest.raises(DataInvalid, match="holds other things"):
        DataDirectory.acquire(folder)
    assert folder.stat().st_mode & 0o777 == 0o755
    assert {each.name: each.read_text() for each in folder.iterdir()} == dict.fromkeys(names, "theirs")


@pytest.mark.parametrize("names", [[], ["lost+found"], ["lock"], ["lock", "oci-layout", "blobs", "ingest"]])
def test_a_first_start_that_was_cut_short_is_no_obstacle(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_text("123\n/run/x.sock\n" if name == "lock" else "")
    DataDirectory.acquire(tmp_path).release()


def test_other_things_beside_a_mirrors_data_are_no_obstacle(tmp_path: Path) -> None:
    for name in ("oci-layout", "mirror.db", "notes.txt", "lock"):
        (tmp_path / name).write_text("")
    DataDirectory.acquire(tmp_path).release()

import os
import sqlite3
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mirror.errors import DataInvalid, NoRoom, StoreFailed
from mirror.oci.digest import Digest
from mirror.store import opening
from mirror.store.commands.blobs import hold
from mirror.store.opening import open_catalog
from mirror.store.protocols import Proof
from tests.store.faults import small_disk
from tests.store.samples import ALPINE, TOOL


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mirror.db"


def filled(path: Path, blobs: int = 500) -> None:
    """A sound catalog, cleanly closed."""
    db = open_catalog(path)
    db.execute("BEGIN")
    for number in range(blobs):
        hold(db, Digest.of(b"%d" % number), number, "here", [(ALPINE, Proof.ANONYMOUS), (TOOL, Proof.PUSHED)], 1)
    db.execute("COMMIT")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


def files(path: Path) -> dict[str, bytes]:
    """The database and its log; its shared memory says nothing and may come and go."""
    return {found.name: found.read_bytes() for found in path.parent.glob("mirror.db*") if found.suffix != ".db-shm"}


def test_a_new_one_is_made_for_its_owner_only(path: Path) -> None:
    before = os.umask(0)
    try:
        db = open_catalog(path)
        db.execute("INSERT INTO meta VALUES ('x', 'y')")
        modes = {found.name: stat.S_IMODE(found.stat().st_mode) for found in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == {"mirror.db": 0o600, "mirror.db-wal": 0o600, "mirror.db-shm": 0o600}
    db.close()


def test_the_connection_is_as_the_writer_needs_it(path: Path) -> None:
    db = open_catalog(path)
    settings = {
        name: db.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "foreign_keys", "wal_autocheckpoint", "synchronous")
    }
    assert settings == {"journal_mode": "wal", "foreign_keys": 1, "wal_autocheckpoint": 0, "synchronous": 2}
    assert not db.in_transaction
    db.close()


def test_the_instance_keeps_its_id(path: Path) -> None:
    ids = set()
    for _ in range(2):
        db = open_catalog(path)
        ids.add(db.execute("SELECT value FROM meta WHERE key = 'instance'").fetchone()[0])
        db.close()
    assert len(ids) == 1


def test_ten_thousand_blobs_open_at_once(path: Path) -> None:
    filled(path, 10_000)
    started = time.perf_counter()
    open_catalog(path).close()
    assert time.perf_counter() - started < 1


def test_what_a_killed_process_committed_is_there(path: Path, tmp_path: Path) -> None:
    db = open_catalog(path)
    hold(db, Digest.of(b"x"), 1, "here", [], 1)
    left = tmp_path / "left"
    left.mkdir()
    for name, content in files(path).items():  # as it lies on disk: all of it in the log
        (left / name).write_bytes(content)
    db.close()
    again = open_catalog(left / "mirror.db")
    assert again.execute("SELECT count(*) FROM blobs").fetchone() == (1,)
    again.close()


# --- damage -----------------------------------------------------------------------------------------------


def garbage(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 1000)


def header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\0" * 16)


def middle(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // 4096 * 4096)
        file.write(os.urandom(4096))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def first_pages(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(100)
        file.write(os.urandom(8 * 4096))


@pytest.mark.parametrize("harm", [garbage, header, middle, cut, first_pages])
def test_damage_is_found_and_never_written_to(path: Path, harm: Callable[[Path], None]) -> None:
    filled(path)
    harm(path)
    before = files(path)
    with pytest.raises(DataInvalid, match=f"{path} is damaged.*move it aside"):
        open_catalog(path)
    assert files(path) == before


@pytest.mark.parametrize("harm", [garbage, header, cut, first_pages])
def test_a_large_one_is_looked_at_less_closely(
    path: Path, harm: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "_CHECK_WHOLE_UP_TO", 0)
    filled(path)
    open_catalog(path).close()
    harm(path)
    before = files(path)
    with pytest.raises(DataInvalid, match="damaged"):
        open_catalog(path)
    assert files(path) == before


def test_damage_beside_a_log_leaves_the_log_too(path: Path, tmp_path: Path) -> None:
    filled(path)
    db = open_catalog(path)
    hold(db, Digest.of(b"x"), 1, "here", [], 1)
    left = tmp_path / "left"
    left.mkdir()
    for name, content in files(path).items():
        (left / name).write_bytes(content)
    db.close()
    garbage(left / "mirror.db")
    before = files(left / "mirror.db")
    assert before["mirror.db-wal"]
    with pytest.raises(DataInvalid, match="damaged"):
        open_catalog(left / "mirror.db")
    assert files(left / "mirror.db") == before


def test_the_database_of_a_newer_release_is_left_as_it_is(path: Path) -> None:
    filled(path)
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 9999")
    db.close()
    before = files(path)
    with pytest.raises(DataInvalid, match="newer release"):
        open_catalog(path)
    assert files(path) == before


def test_the_database_of_another_program_is_left_as_it_is(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE bookmarks (url)")
    db.close()
    before = files(path)
    with pytest.raises(DataInvalid, match="some other program"):
        open_catalog(path)
    assert files(path) == before


def test_what_is_no_file_is_refused(path: Path, tmp_path: Path) -> None:
    path.mkdir()
    with pytest.raises(DataInvalid, match="cannot be opened"):
        open_catalog(path)
    path.rmdir()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataInvalid, match="cannot be opened"):
        open_catalog(path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 64 << 10) as folder:
        (folder / "ballast").write_bytes(b"x" * (56 << 10))
        with pytest.raises(NoRoom):
            open_catalog(folder / "mirror.db")


def test_a_database_in_use_by_another_is_a_failure_not_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_BUSY_SECONDS", 0.05)
    filled(path, 1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreFailed):
        open_catalog(path)
    other.close()

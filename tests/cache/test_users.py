"""Users: passwords are checked off the loop, remembered briefly, and forgotten when the file changes."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from mirror.cache import htpasswd
from mirror.cache import users as module
from mirror.cache.users import COST, LONGEST_PASSWORD, REMEMBERED_SECONDS, Users
from mirror.errors import RequestInvalid, StoreFailed, TooManyRequests
from tests.cache.support import StillClock, settled


def line(name: str, password: str, prefix: bytes = b"2b") -> str:
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4))
    return f"{name}:{hashed.replace(b'2b', prefix, 1).decode()}\n"


class Checks:
    """Counts bcrypt's checks, and says which hashes and which threads they were."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hashes: list[bytes] = []
        self.threads: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()
        check = bcrypt.checkpw

        def counting(password: bytes, password_hash: bytes) -> bool:
            self.hashes.append(password_hash)
            self.threads.add(threading.get_ident())
            assert self.gate.wait(10)
            return check(password, password_hash)

        monkeypatch.setattr("mirror.cache.users.bcrypt.checkpw", counting)


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Checks:
    return Checks(monkeypatch)


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "htpasswd"
    made.write_text(line("ci", "right") + line("apache", "right", b"2y") + line("old", "right", b"2a"))
    return made


@pytest.fixture
async def users(file: Path, clock: StillClock) -> AsyncIterator[Users]:
    made = Users(file, clock=clock)
    await made.start()
    yield made
    await made.close()


async def changed(users: Users, clock: StillClock, text: str) -> None:
    """The file is another one, and it is time to look."""
    await asyncio.to_thread(htpasswd.write, users.file, text)
    clock.advance(module.LOOK_EVERY)


# --- right and wrong --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "password", "right"), [
    ("ci", b"right", True), ("apache", b"right", True), ("old", b"right", True),
    ("ci", b"wrong", False), ("ci", b"", False), ("nobody", b"right", False), ("", b"right", False),
    ("ci", b"right\0", False), ("ci", b"r" * 5000, False), ("c\udcffi", b"right", False), ("CI", b"right", False),
])  # fmt: skip
async def test_passwords(users: Users, name: str, password: bytes, right: bool) -> None:
    assert await users.verify(name, password) is right
    assert await users.remembers(name, password) is right


async def test_a_password_longer_than_bcrypt_reads_is_nobodys(users: Users, clock: StillClock) -> None:
    """Breaks if 72 right bytes and any end get in (bcrypt reads no further)."""
    password = "p" * LONGEST_PASSWORD
    await changed(users, clock, line("ci", password))
    assert await users.verify("ci", password.encode())
    assert not await users.verify("ci", password.encode() + b"x")
    assert not await users.verify("ci", password.encode() + b"\0")


async def test_an_unknown_name_costs_what_a_known_one_does(users: Users, clock: StillClock, checks: Checks) -> None:
    """Breaks if who exists can be told from the time that a "no" takes."""
    expensive = f"rich:{bcrypt.hashpw(b'x', bcrypt.gensalt(6)).decode()}\n"
    await changed(users, clock, line("ci", "right") + expensive)
    for name, password in (("nobody", b"x"), ("nobody", b"x" * 100), ("rich", b"y")):
        assert not await users.verify(name, password)
    assert [each[:7] for each in checks.hashes] == [b"$2b$06$"] * 3


async def test_checks_run_off_the_loop_few_at_a_time(users: Users, checks: Checks) -> None:
    answers = await asyncio.gather(*(users.verify("ci", str(number).encode()) for number in range(8)))
    assert answers == [False] * 8
    assert threading.get_ident() not in checks.threads
    assert len(checks.threads) <= 2


async def test_no_more_wait_than_can_be_answered(users: Users, checks: Checks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if a crowd of guessers can queue without bound in front of those who know their password."""
    monkeypatch.setattr(module, "_WAITING", 3)
    checks.gate.clear()
    waiting = [asyncio.get_running_loop().create_task(users.verify("ci", str(each).encode())) for each in range(3)]
    await settled(lambda: users.checking == 3)
    with pytest.raises(TooManyRequests) as caught:
        await users.verify("ci", b"right")
    assert caught.value.retry_after > 0
    checks.gate.set()
    assert await asyncio.gather(*waiting) == [False] * 3
    assert await users.verify("ci", b"right")


# --- what is remembered -----------------------------------------------------------------------------------


async def test_a_right_password_is_checked_once_in_a_while(users: Users, clock: StillClock, checks: Checks) -> None:
    for _ in range(3):
        assert await users.verify("ci", b"right")
    assert len(checks.hashes) == 1
    assert not await users.remembers("apache", b"right")  # one's password is nobody else's
    clock.advance(REMEMBERED_SECONDS)
    assert not await users.remembers("ci", b"right")
    assert await users.verify("ci", b"right")
    assert len(checks.hashes) == 2


async def test_a_wrong_one_every_time(users: Users, checks: Checks) -> None:
    for _ in range(3):
        assert not await users.verify("ci", b"wrong")
    assert len(checks.hashes) == 3


async def test_nothing_that_is_remembered_is_a_password(users: Users) -> None:
    assert await users.verify("ci", b"right")
    (mark,) = users._remembered
    assert len(mark) == 32
    assert b"right" not in mark
    other = Users(users.file, clock=StillClock())  # another process: another key
    await other.start()
    assert other._mark("ci", b"right") != mark
    await other.close()


async def test_name_and_password_are_not_mixed_up(users: Users) -> None:
    assert users._mark("a", b"bc") != users._mark("ab", b"c")


async def test_what_is_remembered_is_bounded(users: Users, clock: StillClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REMEMBERED", 2)
    for name in ("ci", "apache", "old"):
        assert await users.verify(name, b"right")
        assert len(users._remembered) <= 2
    clock.advance(REMEMBERED_SECONDS)
    assert await users.verify("ci", b"right")
    assert len(users._remembered) <= 2


# --- the file changes -------------------------------------------------------------------------------------


async def test_a_new_password_counts_and_the_old_one_is_forgotten(users: Users, clock: StillClock) -> None:
    """Breaks if somebody whose password was taken away goes on for as long as it is remembered."""
    assert await users.verify("ci", b"right")
    await changed(users, clock, line("ci", "newer"))
    assert not await users.verify("ci", b"right")
    assert await users.verify("ci", b"newer")
    assert await users.names() == ["ci"]
    await changed(users, clock, "")
    assert not await users.verify("ci", b"newer")


async def test_a_password_found_right_while_it_was_taken_away_is_not_remembered(
    users: Users, clock: StillClock, checks: Checks
) -> None:
    checks.gate.clear()
    checking = asyncio.get_running_loop().create_task(users.verify("ci", b"right"))
    await settled(lambda: bool(checks.hashes))
    await changed(users, clock, line("ci", "newer"))
    assert not await users.remembers("ci", b"right")
    checks.gate.set()
    await checking
    assert users._remembered == {}


async def test_the_disk_is_asked_at_most_once_a_second(
    users: Users, clock: StillClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Path] = []
    signature = htpasswd.signature

    def counting(path: Path) -> Any:
        looked.append(path)
        return signature(path)

    monkeypatch.setattr(htpasswd, "signature", counting)
    for _ in range(5):
        await users.verify("ci", b"right")
    assert looked == []
    clock.advance(module.LOOK_EVERY)
    for _ in range(5):
        await users.verify("ci", b"right")
    assert len(looked) == 1


async def test_a_file_that_cannot_be_read_leaves_the_users_as_they_were(
    users: Users, clock: StillClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(htpasswd, "signature", broken)
    for _ in range(3):
        clock.advance(module.LOOK_EVERY)
        assert await users.verify("ci", b"right")
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == [
        f"{users.file} cannot be read, its users stay who they were: Permission denied"
    ]


async def test_lines_that_do_not_count_are_named_in_the_log(
    users: Users, clock: StillClock, caplog: pytest.LogCaptureFixture
) -> None:
    await changed(users, clock, line("ci", "right") + "bob:hunter2\n")
    assert await users.names() == ["ci"]
    (said,) = [record.getMessage() for record in caplog.records]
    assert "line 2 (bob)" in said
    assert "hunter2" not in said


# --- adding and removing ----------------------------------------------------------------------------------


async def test_users_are_added_changed_and_removed(users: Users) -> None:
    assert await users.add("new", "p" * LONGEST_PASSWORD)
    assert await users.verify("new", b"p" * LONGEST_PASSWORD)
    assert not await users.add("new", "other")
    assert await users.verify("new", b"other")
    assert not await users.verify("new", b"p" * LONGEST_PASSWORD)
    assert await users.names() == ["apache", "ci", "new", "old"]
    text = await asyncio.to_thread(users.file.read_text)
    assert int(text.rpartition("new:$2b$")[2][:2]) == COST >= 10
    assert await users.remove("new")
    assert not await users.remove("new")
    assert not await users.verify("new", b"other")


async def test_the_first_user_makes_the_file(tmp_path: Path, clock: StillClock) -> None:
    users = Users(tmp_path / "htpasswd", clock=clock)
    await users.start()
    assert await users.names() == []
    assert await users.add("ci", "x")
    assert await users.verify("ci", b"x")
    await users.close()


async def test_two_changes_at_once_are_both_kept(users: Users, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if each reads the file before the other has written it."""
    monkeypatch.setattr(module, "COST", 4)
    read = htpasswd.read

    def slowly(path: Path) -> str:
        text = read(path)
        threading.Event().wait(0.02)
        return text

    monkeypatch.setattr(htpasswd, "read", slowly)
    await asyncio.gather(*(users.add(f"u{number}", "x") for number in range(4)), users.remove("old"))
    assert await users.names() == ["apache", "ci", "u0", "u1", "u2", "u3"]


@pytest.mark.parametrize("password", ["", "x" * 73, "é" * 37, "a\0b", "\ud800" * 30])
async def test_a_password_that_bcrypt_cannot_keep_whole_is_refused(users: Users, password: str) -> None:
    with pytest.raises(RequestInvalid, match="1 to 72 bytes"):
        await users.add("new", password)


async def test_a_folder_that_cannot_be_written_says_so(users: Users, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(htpasswd, "write", refused)
    with pytest.raises(StoreFailed, match="cannot be written: Read-only file system; the mirror's own user has to"):
        await users.add("new", "x")
    with pytest.raises(StoreFailed):
        await users.remove("ci")
    assert await users.names() == ["apache", "ci", "old"]

"""Users are added, changed, listed and removed; who did it stands in the log, and no password anywhere."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirror.cache.rights import SOCKET, Principal, Role
from mirror.cache.users import Users
from mirror.errors import NameUnknown, RequestInvalid
from mirror.operations.users import UserAccounts
from tests.cache.support import StillClock


@pytest.fixture
async def accounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[UserAccounts]:
    monkeypatch.setattr("mirror.cache.users.COST", 4)
    users = Users(tmp_path / "htpasswd", clock=StillClock())
    await users.start()
    yield UserAccounts(users)
    await users.close()


async def test_the_life_of_a_user(accounts: UserAccounts, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert await accounts.list() == []
    assert await accounts.add(SOCKET, "zoe", "hunter2")
    assert await accounts.add(Principal(Role.USER, "boss"), "ann", "hunter2")
    assert not await accounts.add(SOCKET, "zoe", "hunter3")
    assert await accounts.list() == ["ann", "zoe"]
    await accounts.remove(SOCKET, "zoe")
    assert await accounts.list() == ["ann"]
    with pytest.raises(NameUnknown, match="no user 'zoe'"):
        await accounts.remove(SOCKET, "zoe")
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "user zoe added by socket", "user ann added by boss", "user zoe has a new password by socket",
        "user zoe removed by socket",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["", "a:b", "*", "#x", " a", "a\nb:c", "x" * 256])
async def test_a_name_that_the_file_cannot_hold(accounts: UserAccounts, name: str) -> None:
    """Breaks if a name writes a line of its own into the file."""
    with pytest.raises(RequestInvalid, match="is no user name"):
        await accounts.add(SOCKET, name, "x")
    assert await accounts.list() == []


async def test_without_a_file_it_says_what_to_write() -> None:
    accounts = UserAccounts(None)
    for call in (accounts.list(), accounts.add(SOCKET, "a", "x"), accounts.remove(SOCKET, "a")):
        with pytest.raises(RequestInvalid, match=r'write htpasswd = "/etc/mirror/htpasswd" below \[access\]'):
            await call

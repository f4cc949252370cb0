"""Who is loopback: this machine, by a name of its own, and neither through a proxy nor from a page in a browser; and
whose credentials came along.
"""

import asyncio
import base64
import threading
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import bcrypt
import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from mirror.cache.names import Names
from mirror.cache.rights import Role
from mirror.cache.users import Users
from mirror.errors import TooManyRequests, Unauthorized
from mirror.server import authentication
from mirror.server.attempts import FAILURES, WITHIN, Attempts
from mirror.server.authentication import FOREIGN, Authentication, is_loopback, read_basic
from mirror.tasks import Tasks
from tests.cache.support import StillClock, settled

NAMES = Names("docker.io", ["docker.io", "ghcr.io", "registry.corp:8443"])


def role(host: str | None, more: Mapping[str, str] | None = None, *, local: bool = True) -> Role:
    headers = {**({} if host is None else {"Host": host}), **(more or {})}
    return Authentication(NAMES.is_registry).role(CIMultiDictProxy(CIMultiDict(headers)), local=local)


@pytest.mark.parametrize("host", [
    "127.0.0.1", "127.0.0.1:5000", "127.0.0.2:5000", "127.255.255.254:80", "[::1]", "[::1]:5000", "localhost",
    "localhost:5000", "LOCALHOST:5000", "docker.io", "registry-1.docker.io", "ghcr.io:443", "GHCR.IO.",
    "registry.corp:8443",
])  # fmt: skip
def test_a_host_of_this_machine_or_a_registrys_own(host: str) -> None:
    assert role(host) is Role.LOOPBACK
    assert role(host, local=False) is Role.STRANGER


@pytest.mark.parametrize("host", [
    None, "", "evil.example", "evil.example:5000", "mirror:5000", "192.168.0.7:5000", "0.0.0.0:5000", "[::]:5000",
    "10.0.0.1", "localhost.evil.example", "127.0.0.1.evil.example", "127.evil.example", "evil.example:127", "quay.io",
    "registry.corp", "127.0.0.1:5000:5000", "127.0.0.1@evil.example", "evil.example#127.0.0.1", "128.0.0.1",
    "2130706433", "0177.0.0.1", "127.1", "::1", "[::1", "localhost:", "[fe80::1]:5000", "[::ffff:10.0.0.1]",
])  # fmt: skip
def test_any_other_host_is_somebody_elses(host: str | None) -> None:
    """A page whose name was made to resolve to 127.0.0.1 (DNS rebinding) says its own name."""
    assert role(host) is Role.STRANGER


@pytest.mark.parametrize("name", [*FOREIGN, "X-Forwarded-Prefix", "x-forwarded-ssl", "X-FORWARDED-USER"])
@pytest.mark.parametrize("value", ["127.0.0.1", "", "null"])
def test_signs_of_a_proxy_or_a_browser(name: str, value: str) -> None:
    assert role("127.0.0.1:5000", {name: value}) is Role.STRANGER
    assert role("127.0.0.1:5000", {name.lower(): value}) is Role.STRANGER
    assert role("docker.io", {name.upper(): value}) is Role.STRANGER


def test_the_signs_are_those_of_the_design() -> None:
    expected = {"Forwarded", "X-Real-IP", "Via", "Origin", "Sec-Fetch-Site"}
    assert {str(name) for name in FOREIGN if not name.startswith("X-Forwarded-")} == expected
    assert {"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} < {str(name) for name in FOREIGN}


def test_other_headers_change_nothing() -> None:
    assert role("127.0.0.1", {"User-Agent": "docker/29", "Accept": "*/*", "Authorization": "Basic x"}) is Role.LOOPBACK


@pytest.mark.parametrize(("address", "loopback"), [
    (("127.0.0.1", 5000), True),
    (("127.8.8.8", 1), True),
    (("::1", 1, 0, 0), True),
    (("::ffff:127.0.0.1", 1, 0, 0), True),
    (("::ffff:10.0.0.1", 1, 0, 0), False),
    (("10.0.0.1", 5000), False),
    (("0.0.0.0", 5000), False),
    (("fe80::1%eth0", 1, 0, 2), False),
    ("", False),
    (b"\x00abstract", False),
    (None, False),
])  # fmt: skip
def test_addresses(address: object, loopback: bool) -> None:
    assert is_loopback(address) is loopback


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "_REMEMBERED", 3)
    asked = Authentication(NAMES.is_registry)
    for number in range(10):
        headers = CIMultiDictProxy(CIMultiDict({"Host": f"h{number}.example"}))
        assert asked.role(headers, local=True) is Role.STRANGER
        assert len(asked._hosts) <= 3
    assert asked.role(CIMultiDictProxy(CIMultiDict({"Host": "127.0.0.1"})), local=True) is Role.LOOPBACK


# --- users ------------------------------------------------------------------------------------------------

HERE, THERE = "192.0.2.7", "192.0.2.8"


def basic(text: str | bytes) -> str:
    return "Basic " + base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


@pytest.mark.parametrize(("header", "name", "password"), [
    (basic("ci:secret"), "ci", b"secret"),
    (basic("ci:se:cr:et"), "ci", b"se:cr:et"),
    (basic("ci:"), "ci", b""),
    (basic("Ärger:ö"), "Ärger", "ö".encode()),
    (basic(b"ci:\xff\x00"), "ci", b"\xff\x00"),
    (basic("ci:x").replace("Basic", "bAsIc"), "ci", b"x"),
    (basic("ci:x").replace("Basic ", "Basic   "), "ci", b"x"),
])  # fmt: skip
def test_basic_is_read(header: str, name: str, password: bytes) -> None:
    assert read_basic(header) == (name, password)


@pytest.mark.parametrize("header", [
    "", "Basic", "Basic ", "Basic !!!", "Basic Y2k", basic("nocolon"), basic(b"\xff:x"), "Bearer abc", "Digest x",
    basic("ci:x") + "=", basic("ci:x") + " x", basic("ci:" + "x" * 5000), "Basic \u0663",
])  # fmt: skip
def test_anything_else_is_no_stranger(header: str) -> None:
    """Breaks if credentials that cannot be read are passed over: their owner would believe to be somebody."""
    with pytest.raises(Unauthorized):
        read_basic(header)


class Door:
    """Authentication with one user, `ci`, whose password is `right`."""

    def __init__(self, users: Users, clock: StillClock) -> None:
        self.clock = clock
        self.users = users
        self.authentication = Authentication(NAMES.is_registry, users, Attempts(clock))

    async def ask(self, password: str | None, client: str = HERE) -> str | None:
        headers = {} if password is None else {"Authorization": basic(f"ci:{password}")}
        return await self.authentication.user(CIMultiDictProxy(CIMultiDict(headers)), client)


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    clock = StillClock()
    file = tmp_path / "htpasswd"
    file.write_text("ci:" + bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode())
    users = Users(file, clock=clock)
    await users.start()
    yield Door(users, clock)
    await users.close()


async def test_right_wrong_and_none(door: Door) -> None:
    assert await door.ask("right") == "ci"
    assert await door.ask(None) is None
    with pytest.raises(Unauthorized):
        await door.ask("wrong")


async def test_without_users_nobodys_credentials_matter() -> None:
    """A reverse proxy with passwords of its own passes them on: its users are strangers here, as before."""
    headers = CIMultiDictProxy(CIMultiDict({"Authorization": "Basic nonsense"}))
    assert await Authentication(NAMES.is_registry).user(headers, HERE) is None


async def test_an_address_is_wrong_a_few_times_a_minute(door: Door) -> None:
    assert await door.ask("right", THERE) == "ci"
    for number in range(FAILURES):
        with pytest.raises(Unauthorized):
            await door.ask(f"wrong{number}")
    with pytest.raises(TooManyRequests):
        await door.ask("wrong")
    assert await door.ask("right") == "ci"  # it was right a moment ago: nobody is shut out by his neighbour
    assert await door.ask(None) is None
    door.clock.advance(WITHIN)
    with pytest.raises(Unauthorized):
        await door.ask("wrong")


async def test_the_right_password_does_not_help_a_guesser(door: Door) -> None:
    """Breaks if the limit lets the one right guess through after ten wrong ones."""
    for number in range(FAILURES):
        with pytest.raises(Unauthorized):
            await door.ask(f"wrong{number}")
    with pytest.raises(TooManyRequests):
        await door.ask("right")
    assert await door.ask("right", THERE) == "ci"


async def test_who_hangs_up_has_guessed_too(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if a guess counts only once its answer is known: clients that do not wait for it would guess on and on."""
    gate = threading.Event()
    monkeypatch.setattr("mirror.cache.users.bcrypt.checkpw", lambda *_: gate.wait(10))
    for number in range(FAILURES):
        guess = Tasks().spawn("client", door.ask(f"wrong{number}"))
        await settled(lambda: door.users.checking == number + 1)  # noqa: B023 — awaited here
        guess.cancel()
        await asyncio.wait([guess])
    with pytest.raises(TooManyRequests):
        await door.ask("wrong")
    gate.set()
    await settled(lambda: door.users.checking == 0)


async def test_what_was_right_or_not_checked_is_no_guess(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mirror.cache.users.REMEMBERED_SECONDS", 0.0)
    for _ in range(FAILURES + 1):
        assert await door.ask("right") == "ci"

    async def too_many(*_: object) -> None:
        raise TooManyRequests("busy")

    with monkeypatch.context() as busy:
        busy.setattr(door.users, "verify", too_many)
        for _ in range(FAILURES + 1):
            with pytest.raises(TooManyRequests, match="busy"):
                await door.ask("wrong")
    with pytest.raises(Unauthorized):
        await door.ask("wrong")


async def test_a_client_that_asks_for_much_at_once_is_checked_once(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = []
    check = bcrypt.checkpw

    def counting(password: bytes, password_hash: bytes) -> bool:
        checked.append(password)
        return check(password, password_hash)

    monkeypatch.setattr("mirror.cache.users.bcrypt.checkpw", counting)
    assert await asyncio.gather(*(door.ask("right") for _ in range(20))) == ["ci"] * 20
    assert len(checked) == 1

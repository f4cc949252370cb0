"""Where the mirror listens, what it says where it cannot, and how it stops."""

import asyncio
import errno
import os
import socket
import stat
from pathlib import Path

import pytest
from aiohttp import web

from mirror.errors import ConfigInvalid
from mirror.server import listeners as module
from mirror.server.listeners import Listeners
from tests.cache.scripted import Gate
from tests.server.calls import Raw, connected
from tests.server.serving import Handling, empty, serving


async def ok(raw: Raw) -> bool:
    raw.write("GET /", Host="x")
    return (await raw.answer()).status == 200


# --- addresses --------------------------------------------------------------------------------------------


async def test_several_addresses_and_what_they_are() -> None:
    async with serving(empty, "127.0.0.1:0", "127.0.0.2:0") as listeners:
        assert [host for host, _ in listeners.addresses] == ["127.0.0.1", "127.0.0.2"]
        assert listeners.bound() == set(listeners.addresses)
        for host, port in listeners.addresses:
            assert port
            async with connected(host, port) as raw:
                assert await ok(raw)


async def test_ipv6_beside_ipv4_on_one_port() -> None:
    async with serving(empty, "[::1]:0") as first:
        [(host, port)] = first.addresses
        assert host == "::1"
        async with (
            serving(empty, f"127.0.0.1:{port}"),
            connected("127.0.0.1", port) as four,
            connected("::1", port) as six,
        ):
            assert await ok(four)
            assert await ok(six)


async def test_localhost_may_be_two_addresses() -> None:
    expected = {found[4][0] for found in socket.getaddrinfo("localhost", 1, type=socket.SOCK_STREAM)}
    async with serving(empty, "localhost:0") as listeners:
        assert {host for host, _ in listeners.addresses} == expected


async def test_a_port_in_use_says_what_to_do() -> None:
    async with serving(empty) as listeners:
        [(_, port)] = listeners.addresses
        with pytest.raises(ConfigInvalid) as caught:
            async with serving(empty, "127.0.0.1:0", f"127.0.0.1:{port}"):
                pass
        assert caught.value.message == (
            f"listen: 127.0.0.1:{port} is in use by another program; "
            f"choose another address, such as --listen 127.0.0.1:{port + 1}"
        )
        assert caught.value.exit_code == 2


@pytest.mark.parametrize(("address", "said"), [
    ("192.0.2.1:5000", "192.0.2.1 is no address of this machine; 0.0.0.0:5000 listens on all of them"),
    ("nobody.invalid:5000", "nobody.invalid is no address of this machine"),
])  # fmt: skip
async def test_an_address_that_is_not_ours(address: str, said: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        async with serving(empty, address):
            pass
    assert said in caught.value.message
    assert address in caught.value.message


@pytest.mark.parametrize(("number", "said"), [
    (errno.EACCES, "you may not use this port; choose one above 1023"),
    (errno.EIO, "Input/output error"),
])  # fmt: skip
def test_other_reasons(number: int, said: str) -> None:
    for setting in ("listen", "listen_login"):
        text = module._why(OSError(number, os.strerror(number)), "0.0.0.0", 80, "0.0.0.0:80", setting)
        assert text == f"{setting}: 0.0.0.0:80: {said}"


async def test_the_setting_that_is_meant_is_named() -> None:
    async with serving(empty) as listeners:
        [(_, port)] = listeners.addresses
        with pytest.raises(ConfigInvalid) as caught:
            await listeners.listen([f"127.0.0.1:{port}"], Handling(empty), setting="listen_login")
        assert caught.value.message == (
            f"listen_login: 127.0.0.1:{port} is in use by another program; choose another address, such as"
            f" 127.0.0.1:{port + 1}"
        )
        assert await listeners.listen(["127.0.0.2:0"], Handling(empty)) == listeners.addresses[1:]


# --- the socket -------------------------------------------------------------------------------------------


async def on_socket(path: Path, group: str | None = None) -> Listeners:
    listeners = Listeners()
    await listeners.listen_on_socket(path, group, Handling(empty))
    return listeners


@pytest.mark.parametrize(("group", "mode", "folder"), [(None, 0o600, 0o700), ("root", 0o660, 0o755)])
async def test_the_sockets_mode_and_its_folders(tmp_path: Path, group: str | None, mode: int, folder: int) -> None:
    path = tmp_path / "run" / "mirror.sock"
    umask = os.umask(0o077 if group is None else 0o022)
    try:
        listeners = await on_socket(path, group)
    finally:
        os.umask(umask)
    try:
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert stat.S_IMODE(path.parent.stat().st_mode) == folder
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()
        await writer.wait_closed()
    finally:
        await listeners.close(1.0)
    assert not path.exists()


async def test_a_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "mirror.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    listeners = await on_socket(path)
    await listeners.close(1.0)
    assert not path.exists()


async def test_a_socket_that_another_mirror_listens_on_is_not_taken_away(tmp_path: Path) -> None:
    """Breaks if two mirrors with the same `socket` and other data make one of them unreachable without a word."""
    path = tmp_path / "run" / "mirror.sock"
    first = await on_socket(path)
    for _ in range(2):  # it answers after the first time, too
        with pytest.raises(ConfigInvalid, match="another mirror listens there"):
            await on_socket(path)
        await asyncio.sleep(0.05)  # whoever asked was let in, and has left
    await first.close(0.1)


@pytest.mark.parametrize("how", ["too long", "no folder", "no group"])
async def test_a_socket_that_cannot_be_made_says_so(tmp_path: Path, how: str) -> None:
    (tmp_path / "file").touch()
    path = {"too long": tmp_path / ("x" * 120), "no folder": tmp_path / "file" / "s", "no group": tmp_path / "s"}[how]
    with pytest.raises(ConfigInvalid, match="set `socket` to a path that you can write"):
        await on_socket(path, "no-such-group" if how == "no group" else None)


# --- the end ----------------------------------------------------------------------------------------------


class Slow:
    """Answers when the test lets it."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.cancelled = False

    async def __call__(self, _: web.BaseRequest) -> web.StreamResponse:
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return web.Response(body=b"done")


async def test_requests_under_way_are_finished_and_no_new_ones_accepted() -> None:
    slow = Slow()
    async with serving(slow) as listeners:
        host, port = listeners.addresses[0]
        async with connected(host, port) as idle, connected(host, port) as raw:
            raw.write("GET /", Host="x")
            await slow.gate.reached.wait()
            closing = asyncio.get_running_loop().create_task(listeners.close(10.0))
            assert await idle.rest() == b""  # idle connections end at once
            with pytest.raises(ConnectionRefusedError):
                async with connected(host, port):
                    pass
            assert not closing.done()
            slow.gate.release()
            assert (await raw.answer()).body == b"done"
            await closing
    assert not slow.cancelled


async def test_what_takes_too_long_is_cut() -> None:
    slow = Slow()
    async with serving(slow) as listeners, connected(*listeners.addresses[0]) as raw:
        raw.write("GET /", Host="x")
        await slow.gate.reached.wait()
        await listeners.close(0.0)
        assert await raw.rest() == b""
    assert slow.cancelled


async def test_closing_what_never_listened() -> None:
    listeners = Listeners()
    await listeners.close(1.0)
    assert listeners.bound() == set()


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    """Breaks if `socket` set to somebody's file deletes it."""
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    with pytest.raises(ConfigInvalid, match="set `socket`"):
        await on_socket(file)
    assert file.read_text() == "mine"


def test_somebody_elses_folder_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if another user can make /tmp/mirror-UID first, and take the commands meant for this mirror."""
    monkeypatch.setattr("os.geteuid", lambda: tmp_path.stat().st_uid + 1)
    if tmp_path.stat().st_uid == 0:
        os.chown(tmp_path, 12345, -1)
    with pytest.raises(PermissionError, match="somebody else"):
        module._make_folder(tmp_path, 0o700)


def test_the_folders_mode_does_not_depend_on_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        module._make_folder(tmp_path / "run", 0o755)
    finally:
        os.umask(before)
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o755

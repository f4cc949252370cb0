import grp
import os
import socket
from pathlib import Path

import pytest

from mirror import errors
from mirror.cli import servers, transport
from mirror.config.layers import from_environment
from tests.cli.scripted import Scripted, on_port, on_socket

GROUP = next(group for group in grp.getgrall() if group.gr_gid != 0)


def script() -> Scripted:
    played = Scripted()
    played["GET /x"] = {"version": "1"}
    return played


@pytest.fixture
def nobody(tmp_path: Path) -> dict[str, str]:
    """An environment in which no mirror runs, whatever the machine does."""
    return {"HOME": str(tmp_path)}


def test_over_a_unix_socket(tmp_path: Path) -> None:
    with on_socket(tmp_path / "s", script()):
        for server in (f"unix://{tmp_path}/s", f"{tmp_path}/s"):
            assert transport.get_json("/x", server=server, environ={}) == {"version": "1"}


def test_a_data_folder_names_its_mirror(tmp_path: Path) -> None:
    with pytest.raises(errors.ServerUnreachable, match=f"start one: mirror serve --data {tmp_path}"):
        servers.parse_server(str(tmp_path))
    (tmp_path / "lock").write_text(f"123\n{tmp_path}/s\n")
    with on_socket(tmp_path / "s", script()):
        assert transport.get_json("/x", server=str(tmp_path), environ={}) == {"version": "1"}


def test_over_tcp() -> None:
    with on_port(script()) as authority:
        for url in (f"http://{authority}", authority):
            assert transport.get_json("/x", server=url, environ={}) == {"version": "1"}


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("http://mirror:5000", ("mirror", 5000, False)),
        ("http://mirror:5000/", ("mirror", 5000, False)),
        ("https://mirror", ("mirror", 443, True)),
        ("http://mirror", ("mirror", 80, False)),
        ("mirror:5000", ("mirror", 5000, False)),
        ("http://[::1]:5000", ("::1", 5000, False)),
    ],
)
def test_servers_are_named_by_url(text: str, parsed: tuple[str, int, bool]) -> None:
    server = servers.parse_server(text)
    assert (server.host, server.port, server.tls) == parsed


@pytest.mark.parametrize("text", ["ftp://x", "http://", "http://x:y", "http://x/path", "http://u:p@x", "http://[", ""])
def test_what_names_no_server_says_what_to_write(text: str) -> None:
    with pytest.raises(servers.ServerInvalid, match="names no mirror; write http://HOST:PORT") as caught:
        servers.parse_server(text)
    assert caught.value.exit_code == errors.RequestInvalid.exit_code == 2


def test_the_flag_wins_then_the_variable(nobody: dict[str, str]) -> None:
    named = {**nobody, "MIRROR_SERVER": "http://variable:1"}
    assert servers.find("http://flag:1", named).host == "flag"
    assert servers.find(None, named).host == "variable"


def place(tmp_path: Path, where: str) -> Path:
    """A socket's path in one of the places where mirrors listen, named where it has to be."""
    data = {
        "of MIRROR_DATA": tmp_path / "data",
        "of this user": tmp_path / ".local" / "share" / "mirror",
        "of the system's data": tmp_path / "system",
    }.get(where)
    if data is None:
        path = (
            tmp_path
            / {
                "of the system": "run/mirror.sock",
                "of another data folder": "run/0123.sock",
                "of another in the session": "session/mirror/0123.sock",
            }[where]
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        return path
    data.mkdir(parents=True)
    (data / "lock").write_text(f"123\n{tmp_path}/elsewhere\n")
    return tmp_path / "elsewhere"


PLACES = [
    "of the system",
    "of this user",
    "of the system's data",
    "of another data folder",
    "of another in the session",
]


@pytest.mark.parametrize("where", PLACES)
def test_the_socket_is_found(tmp_path: Path, nobody: dict[str, str], where: str) -> None:
    environment = {**nobody, "XDG_RUNTIME_DIR": str(tmp_path / "session")}
    path = place(tmp_path, where)
    with on_socket(path, script()):
        assert servers.find(None, environment).path == path
        assert transport.get_json("/x", server=None, environ=environment) == {"version": "1"}


@pytest.mark.parametrize("where", PLACES)
def test_with_mirror_data_no_other_mirror_is_asked(tmp_path: Path, nobody: dict[str, str], where: str) -> None:
    """Breaks if a command works on the images of another mirror, `prune` and `rmi` too."""
    environment = {
        **nobody,
        "XDG_RUNTIME_DIR": str(tmp_path / "session"),
        "MIRROR_DATA": str(tmp_path / "data"),
    }
    with on_socket(place(tmp_path, where), script()):
        with pytest.raises(servers.NoServer, match=f"no mirror runs on {tmp_path}/data, the folder that MIRROR_DATA"):
            servers.find(None, environment)
        own = place(tmp_path / "own", "of MIRROR_DATA")
        with on_socket(own, script()):
            environment["MIRROR_DATA"] = str(tmp_path / "own" / "data")
            assert servers.find(None, environment).path == own


def test_mirror_data_is_read_as_the_settings_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for text in ("data", "~/data", "~nobody-of-this-name/data", "/data"):
        read = from_environment({"MIRROR_DATA": text}).leaves["data",][0]
        assert servers.data_named({"MIRROR_DATA": text}) == read
    assert servers.data_named({"MIRROR_DATA": ""}) is None


def test_the_systems_data_by_name_is_its_mirror(tmp_path: Path, nobody: dict[str, str]) -> None:
    """Also where its folder is for nobody to look into."""
    path = place(tmp_path, "of the system")
    with on_socket(path, script()):
        assert servers.find(None, {**nobody, "MIRROR_DATA": str(servers.SYSTEM_DATA)}).path == path


def test_the_users_own_comes_before_another(tmp_path: Path, nobody: dict[str, str]) -> None:
    own = place(tmp_path, "of this user")
    with on_socket(own, script()), on_socket(place(tmp_path, "of another data folder"), script()):
        assert servers.find(None, nobody).path == own


def test_of_several_others_one_has_to_be_named(tmp_path: Path, nobody: dict[str, str]) -> None:
    first = place(tmp_path, "of another data folder")
    second = first.with_name("4567.sock")
    with (
        on_socket(first, script()),
        on_socket(second, script()),
        pytest.raises(errors.ServerUnreachable, match=f"name one with --server: {first}, {second}"),
    ):
        servers.find(None, nobody)


def test_a_socket_nobody_listens_on_is_passed_over(tmp_path: Path, nobody: dict[str, str]) -> None:
    dead = place(tmp_path, "of the system")
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(dead))
    with on_socket(place(tmp_path, "of this user"), script()):
        assert servers.find(None, nobody).path == tmp_path / "elsewhere"


@pytest.mark.parametrize("lock", ["", "123\n", "123\nrelative\n", "\n\n", "\x00"])
def test_a_lock_without_a_socket_is_passed_over(tmp_path: Path, nobody: dict[str, str], lock: str) -> None:
    (tmp_path / "system").mkdir()
    (tmp_path / "system" / "lock").write_text(lock)
    with pytest.raises(errors.ServerUnreachable, match="no mirror runs here: tried"):
        servers.find(None, nobody)


def test_where_none_runs_it_says_what_was_tried_and_what_to_do(tmp_path: Path, nobody: dict[str, str]) -> None:
    with pytest.raises(errors.ServerUnreachable) as caught:
        transport.get_json("/x", server=None, environ=nobody)
    assert f"{tmp_path}/run/mirror.sock (no such file or directory)" in caught.value.message
    assert (
        "Start one with `mirror serve`, or name one with --server: its URL, socket or data folder"
        in caught.value.message
    )


def test_a_socket_that_this_user_may_not_use_is_told_apart(
    nobody: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = PermissionError(13, "Permission denied")
    monkeypatch.setattr(servers, "_failure", lambda _: refused)
    with pytest.raises(servers.NoServer, match="permission denied") as caught:
        servers.find(None, nobody)
    assert caught.value.refused == servers.SYSTEM_SOCKET


@pytest.mark.parametrize(
    ("text", "authority", "exposed"),
    [
        ("http://mirror:5000", "mirror:5000", True),
        ("https://mirror", "mirror", False),
        ("127.0.0.1:5000", "127.0.0.1:5000", False),
        ("http://[::1]:5000", "[::1]:5000", False),
        ("unix:///run/x.sock", None, False),
    ],
)
def test_what_its_login_is_stored_under_and_whether_it_can_be_read_on_the_way(
    text: str, authority: str | None, exposed: bool
) -> None:
    server = servers.parse_server(text)
    assert (server.authority, server.exposes_secrets) == (authority, exposed)


# --- whoever may not use it -------------------------------------------------------------------------------


def refused(path: Path) -> servers.NoServer:
    return servers.NoServer("no mirror runs here", refused=path)


def test_the_way_to_a_socket_is_its_group_where_it_has_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s"
    with on_socket(path, script()):
        path.chmod(0o660)
        found = os.stat_result((*path.stat()[:5], GROUP.gr_gid, *path.stat()[6:]))
        monkeypatch.setattr(Path, "stat", lambda *_, **__: found)
        error = servers.refusal(refused(path), {})
        assert error is not None
        assert f"join its group (sudo usermod -aG {GROUP.gr_name} $USER" in error.message
        monkeypatch.undo()


@pytest.mark.parametrize("mode", [0o600, None])
def test_nobody_is_told_to_join_a_group_that_opens_nothing(tmp_path: Path, mode: int | None) -> None:
    """Mode 0600, or roots group: `usermod -aG root` would be bad advice. Or the socket cannot be looked at."""
    path = tmp_path / "s"
    if mode is not None:
        path.touch()
        path.chmod(mode)
    error = servers.refusal(refused(path), {})
    assert error is not None
    assert "usermod" not in error.message
    assert "use sudo" in error.message


def test_on_data_that_somebody_named_it_is_told_too(tmp_path: Path) -> None:
    error = servers.refusal(refused(tmp_path), {"MIRROR_DATA": "/x"})
    assert error is not None
    assert error.message.startswith("a mirror runs on the folder that MIRROR_DATA names, and you may not use its")
    assert error.message.endswith("or set MIRROR_DATA to another folder")
    assert servers.refusal(servers.NoServer("no mirror runs here"), {}) is None


@pytest.mark.parametrize(
    ("lock", "said"), [("7\n/s\n", "process 7"), ("", "another process"), ("x\n", "another process")]
)
def test_who_has_a_data_folder(tmp_path: Path, lock: str, said: str) -> None:
    (tmp_path / "lock").write_text(lock)
    assert servers.holder(tmp_path) == said
    assert servers.holder(tmp_path / "gone") == "another process"


def test_what_only_looks_says_the_same(nobody: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_failure", lambda _: PermissionError(13, "Permission denied"))
    with pytest.raises(errors.Denied, match="you may not use its socket"):
        transport.get_json("/x", server=None, environ=nobody)


def test_a_folder_that_may_not_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", forbidden)
    with pytest.raises(errors.ServerUnreachable, match=r"you may not look at .*/locked: use sudo"):
        servers.find(str(tmp_path / "locked"), {})


def test_a_folder_that_may_not_be_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks where a mirror is said not to run on the folder of another user."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    for server, environ in ((str(tmp_path), {}), (None, {"MIRROR_DATA": str(tmp_path)})):
        with pytest.raises(errors.ServerUnreachable, match="you may not look at"):
            servers.find(server, environ)


def test_a_closed_folder_of_sockets_is_no_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode == os.F_OK)
    refused = servers.NoServer("none", refused=tmp_path / "mirror.sock")
    refusal = servers.refusal(refused, {})
    assert refusal is not None
    assert refusal.message.startswith(f"a mirror of another user may run here, and {tmp_path} is closed to you: ")

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import BaseServer, UnixStreamServer
from typing import Any

import pytest

from mirror import errors
from mirror.cli import transport

OK = (200, {"Content-Type": "application/json"}, b'{"version": "1"}')


def handler(status: int, headers: dict[str, str], body: bytes) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:  # a Unix peer has no address
            return "peer"

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def running(server: BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def on_socket(path: Path, answer: tuple[int, dict[str, str], bytes] = OK) -> Iterator[None]:
    with running(UnixStreamServer(str(path), handler(*answer))):
        yield


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment in which no mirror runs, whatever the machine does."""
    monkeypatch.setattr(transport, "SYSTEM_SOCKET", tmp_path / "run" / "mirror.sock")
    monkeypatch.setattr(transport, "SYSTEM_DATA", tmp_path / "system")
    return {"HOME": str(tmp_path)}


def test_over_a_unix_socket(tmp_path: Path) -> None:
    with on_socket(tmp_path / "s"):
        for server in (f"unix://{tmp_path}/s", f"{tmp_path}/s"):
            assert transport.get_json("/x", server=server, environ={}) == {"version": "1"}


def test_a_data_folder_names_its_mirror(tmp_path: Path) -> None:
    with pytest.raises(errors.ServerUnreachable, match=f"start one: mirror serve --data {tmp_path}"):
        transport.parse_server(str(tmp_path))
    (tmp_path / "lock").write_text(f"123\n{tmp_path}/s\n")
    with on_socket(tmp_path / "s"):
        assert transport.get_json("/x", server=str(tmp_path), environ={}) == {"version": "1"}


def test_over_tcp() -> None:
    server = HTTPServer(("127.0.0.1", 0), handler(*OK))
    with running(server):
        for url in (f"http://127.0.0.1:{server.server_port}", f"127.0.0.1:{server.server_port}"):
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
    server = transport.parse_server(text)
    assert (server.host, server.port, server.tls) == parsed


@pytest.mark.parametrize("text", ["ftp://x", "http://", "http://x:y", "http://x/path", "http://u:p@x", "http://[", ""])
def test_what_names_no_server_says_what_to_write(text: str) -> None:
    with pytest.raises(errors.ServerUnreachable, match="names no mirror; write http://HOST:PORT"):
        transport.parse_server(text)


def test_the_flag_wins_then_the_variable(nobody: dict[str, str]) -> None:
    named = {**nobody, "MIRROR_SERVER": "http://variable:1"}
    assert transport.find("http://flag:1", named).host == "flag"
    assert transport.find(None, named).host == "variable"


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
    "of MIRROR_DATA",
    "of this user",
    "of the system's data",
    "of another data folder",
    "of another in the session",
]


@pytest.mark.parametrize("where", PLACES)
def test_the_socket_is_found(tmp_path: Path, nobody: dict[str, str], where: str) -> None:
    environment = {**nobody, "XDG_RUNTIME_DIR": str(tmp_path / "session"), "MIRROR_DATA": str(tmp_path / "data")}
    path = place(tmp_path, where)
    with on_socket(path):
        assert transport.find(None, environment).path == path
        assert transport.get_json("/x", server=None, environ=environment) == {"version": "1"}


def test_the_users_own_comes_before_another(tmp_path: Path, nobody: dict[str, str]) -> None:
    own = place(tmp_path, "of this user")
    with on_socket(own), on_socket(place(tmp_path, "of another data folder")):
        assert transport.find(None, nobody).path == own


def test_of_several_others_one_has_to_be_named(tmp_path: Path, nobody: dict[str, str]) -> None:
    first = place(tmp_path, "of another data folder")
    second = first.with_name("4567.sock")
    with (
        on_socket(first),
        on_socket(second),
        pytest.raises(errors.ServerUnreachable, match=f"name one with --server: {first}, {second}"),
    ):
        transport.find(None, nobody)


def test_a_socket_nobody_listens_on_is_passed_over(tmp_path: Path, nobody: dict[str, str]) -> None:
    dead = place(tmp_path, "of the system")
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(dead))
    with on_socket(place(tmp_path, "of this user")):
        assert transport.find(None, nobody).path == tmp_path / "elsewhere"


@pytest.mark.parametrize("lock", ["", "123\n", "123\nrelative\n", "\n\n", "\x00"])
def test_a_lock_without_a_socket_is_passed_over(tmp_path: Path, nobody: dict[str, str], lock: str) -> None:
    (tmp_path / "system").mkdir()
    (tmp_path / "system" / "lock").write_text(lock)
    with pytest.raises(errors.ServerUnreachable, match="no mirror runs here: tried"):
        transport.find(None, nobody)


def test_where_none_runs_it_says_what_was_tried_and_what_to_do(tmp_path: Path, nobody: dict[str, str]) -> None:
    with pytest.raises(errors.ServerUnreachable) as caught:
        transport.get_json("/x", server=None, environ=nobody)
    assert f"{tmp_path}/run/mirror.sock (no such file or directory)" in caught.value.message
    assert (
        "Start one with `mirror serve`, or name one with --server: its URL, socket or data folder"
        in caught.value.message
    )


def refusal(code: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": "because"}]}).encode()


@pytest.mark.parametrize(
    ("status", "body", "error", "says"),
    [
        (401, refusal("UNAUTHORIZED"), errors.Denied, "refused: because"),
        (403, refusal("DENIED"), errors.Denied, "refused: because"),
        (404, refusal("NAME_UNKNOWN"), errors.NameUnknown, "refused: because"),
        (429, refusal("TOOMANYREQUESTS"), errors.TooManyRequests, "refused: because"),
        (503, refusal("UNAVAILABLE"), errors.Unavailable, "refused: because"),
        (500, b"", errors.MirrorError, "answered 500, but not as a mirror does; is it one?"),
        (200, b"<html>", errors.MirrorError, "answered 200, but not as a mirror does"),
        (200, b"[" * 100_000, errors.MirrorError, "answered 200, but not as a mirror does"),
        (301, b"{}", errors.MirrorError, "answered 301"),
        (404, b'{"errors": []}', errors.NameUnknown, "answered 404"),
    ],
)
def test_a_refusal_becomes_the_error_with_its_exit_code(
    tmp_path: Path, status: int, body: bytes, error: type[errors.MirrorError], says: str
) -> None:
    with on_socket(tmp_path / "s", (status, {}, body)), pytest.raises(error) as caught:
        transport.get_json("/x", server=f"{tmp_path}/s", environ={})
    assert type(caught.value) is error
    assert says in caught.value.message


def test_an_answer_over_its_cap_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_ANSWER_BYTES", 10)
    with on_socket(tmp_path / "s"), pytest.raises(errors.MirrorError, match="is it one"):
        transport.get_json("/x", server=f"{tmp_path}/s", environ={})


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"])
def test_a_server_that_speaks_otherwise_or_breaks_off(tmp_path: Path, answer: bytes) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def reply() -> None:
            peer: Any
            peer, _ = listener.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(answer)

        thread = threading.Thread(target=reply)
        thread.start()
        with pytest.raises(errors.ServerUnreachable, match="no mirror answers at"):
            transport.get_json("/x", server=str(path), environ={})
        thread.join()


def test_a_port_nobody_listens_on() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(
        errors.ServerUnreachable, match=f"no mirror answers at http://127.0.0.1:{port}: Connection refused"
    ):
        transport.get_json("/x", server=f"http://127.0.0.1:{port}", environ={})

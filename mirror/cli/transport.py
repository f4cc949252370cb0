"""How a verb reaches its mirror: the standard `http.client`, over a Unix socket or a URL.

Which mirror: `--server`, else `MIRROR_SERVER`, else the system's, else this user's, else the only one that runs here.
A mirror writes the path of its socket into the second line of `<data>/lock`; the first holds its process id.
"""

import http.client
import json
import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mirror.errors import Denied, MirrorError, NameUnknown, ServerUnreachable, TooManyRequests, Unavailable

SYSTEM_SOCKET = Path("/run/mirror/mirror.sock")
SYSTEM_DATA = Path("/var/lib/mirror")
_TIMEOUT_S = 15.0
_ANSWER_BYTES = 16 << 20
_LOCK_BYTES = 4096
_ERRORS: Mapping[int, type[MirrorError]] = {
    401: Denied,
    403: Denied,
    404: NameUnknown,
    429: TooManyRequests,
    503: Unavailable,
}


@dataclass(frozen=True, slots=True)
class Server:
    """Where a mirror listens: the path of a socket, or host and port."""

    name: str  # as people write it
    path: Path | None = None
    host: str = "localhost"
    port: int | None = None
    tls: bool = False

    def connect(self) -> http.client.HTTPConnection:
        """A connection, not yet opened."""
        if self.path is not None:
            return _UnixConnection(self.path)
        if self.tls:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(self.host, self.port, timeout=_TIMEOUT_S, context=context)
        return http.client.HTTPConnection(self.host, self.port, timeout=_TIMEOUT_S)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(_TIMEOUT_S)
            connection.connect(str(self._path))
        except BaseException:
            connection.close()
            raise
        self.sock = connection


def parse_server(text: str) -> Server:
    """`http://HOST:PORT`, `https://…`, or `unix:///PATH`; a path alone may be a socket's or a data folder's.

    Raises `ServerUnreachable`.
    """
    if text.startswith(("unix://", "/", ".")):
        return _by_path(Path(text.removeprefix("unix://")))
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not host or parts.path not in ("", "/") or parts.username:
        raise ServerUnreachable(
            f"{text!r} names no mirror; write http://HOST:PORT, https://HOST:PORT, or the path of its socket or data"
            " folder"
        )
    tls = parts.scheme == "https"
    return Server(f"{parts.scheme}://{parts.netloc}", host=host, port=port or (443 if tls else 80), tls=tls)


def _by_path(path: Path) -> Server:
    if path.is_dir():
        found = _socket_of(path)
        if found is None:
            raise ServerUnreachable(f"no mirror runs on the data folder {path}; start one: mirror serve --data {path}")
        path = found
    return Server(f"unix://{path}", path=path)


def candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    """The sockets of the system's mirror and this user's, in the order in which they are tried; each may be missing."""
    yield SYSTEM_SOCKET
    for data in _data_directories(environ):
        path = _socket_of(data)
        if path is not None:
            yield path


def _others(environ: Mapping[str, str]) -> Iterator[Path]:
    """Further sockets where mirrors keep theirs: of one that runs on a data folder of somebody's choice."""
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    for folder in (SYSTEM_SOCKET.parent, *([Path(runtime) / "mirror"] if runtime else [])):
        try:
            yield from sorted(folder.glob("*.sock"))
        except OSError:
            continue


def _data_directories(environ: Mapping[str, str]) -> Iterator[Path]:
    if environ.get("MIRROR_DATA"):
        yield Path(environ["MIRROR_DATA"])
    home = Path(environ.get("XDG_DATA_HOME", ""))
    if not home.is_absolute():
        home = Path(environ.get("HOME", "") or Path.home()) / ".local" / "share"
    yield from (home / "mirror", SYSTEM_DATA)


def _socket_of(data: Path) -> Path | None:
    """What the lock file of a data directory says, or None where there is none to read."""
    try:
        with (data / "lock").open("rb") as lock:
            lines = lock.read(_LOCK_BYTES).decode(errors="surrogateescape").splitlines()
    except OSError:
        return None
    return Path(lines[1]) if len(lines) > 1 and lines[1].startswith("/") else None


def find(server: str | None, environ: Mapping[str, str]) -> Server:
    """The mirror to talk to. Raises `ServerUnreachable` with what was tried."""
    named = server or environ.get("MIRROR_SERVER")
    if named:
        return parse_server(named)
    tried: dict[Path, str] = {}
    for path in candidates(environ):
        reason = _refusal(path)
        if reason is None:
            return Server(f"unix://{path}", path=path)
        tried[path] = reason
    running = [path for path in dict.fromkeys(_others(environ)) if path not in tried and _refusal(path) is None]
    if len(running) == 1:
        return Server(f"unix://{running[0]}", path=running[0])
    if running:
        raise ServerUnreachable(f"several mirrors run here; name one with --server: {', '.join(map(str, running))}")
    raise ServerUnreachable(
        f"no mirror runs here: tried {', '.join(f'{path} ({reason})' for path, reason in tried.items())}."
        " Start one with `mirror serve`, or name one with --server: its URL, socket or data folder"
    )


def _refusal(path: Path) -> str | None:
    """Why nobody answers at this socket, or None where somebody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_TIMEOUT_S)
        try:
            probe.connect(str(path))
        except OSError as error:
            return (error.strerror or str(error)).lower()
    return None


def get_json(path: str, *, server: str | None, environ: Mapping[str, str] | None = None) -> Any:
    """The JSON that the mirror answers a GET of `path` with.

    Raises `ServerUnreachable` where no mirror answers, else the error whose exit code fits its refusal.
    """
    target = find(server, os.environ if environ is None else environ)
    connection = target.connect()
    try:
        connection.request("GET", path, headers={"Accept": "application/json"})
        response = connection.getresponse()
        body = response.read(_ANSWER_BYTES + 1)
        if response.length and len(body) <= _ANSWER_BYTES:  # read(n) does not say so itself
            raise http.client.IncompleteRead(body, response.length)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ServerUnreachable(f"no mirror answers at {target.name}: {reason}") from error
    finally:
        connection.close()
    return _answer(target, response.status, body)


def _answer(target: Server, status: int, body: bytes) -> Any:
    try:
        value = json.loads(body) if len(body) <= _ANSWER_BYTES else None
    except (ValueError, RecursionError):
        value = None
    if status == 200 and value is not None:
        return value
    raise _ERRORS.get(status, MirrorError)(f"{target.name} {_refused(status, value)}")


def _refused(status: int, value: Any) -> str:
    match value:
        case {"errors": [{"message": str(message)}, *_]}:
            return f"refused: {message}"
        case _:
            return f"answered {status}, but not as a mirror does; is it one?"

"""Which mirror a verb talks to, and how it is connected to: a Unix socket or a URL.

`--server`, else `MIRROR_SERVER`, else that of the folder `MIRROR_DATA` and no other, else the system's, else this
user's, else the only one that runs here. A mirror writes the path of its socket into the second line of `<data>/lock`;
the first holds its process id.
"""

import errno
import http.client
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mirror.errors import Denied, MirrorError, ServerUnreachable

SYSTEM_SOCKET = Path("/run/mirror/mirror.sock")
SYSTEM_DATA = Path("/var/lib/mirror")
CONNECT_S = 15.0
_LOCK_BYTES = 4096


class ServerInvalid(MirrorError):
    """What was given as a mirror's name is none."""

    exit_code = 2


class NoServer(ServerUnreachable):
    """None was named, and none was found. `refused` is the socket of one that runs, and that this user may not use."""

    def __init__(self, message: str, *, refused: Path | None = None) -> None:
        super().__init__(message)
        self.refused = refused


@dataclass(frozen=True, slots=True)
class Server:
    """Where a mirror listens: the path of a socket, or host and port."""

    name: str  # as people write it
    path: Path | None = None
    host: str = "localhost"
    port: int | None = None
    tls: bool = False

    @property
    def authority(self) -> str | None:
        """`HOST:PORT` as in its URL: the key of its login in docker's configuration. None for a socket."""
        return None if self.path is not None else self.name.partition("://")[2]

    @property
    def exposes_secrets(self) -> bool:
        """Whether what is sent there can be read on the way."""
        return self.path is None and not self.tls and self.host not in ("localhost", "127.0.0.1", "::1")

    def connect(self, seconds: float = CONNECT_S) -> http.client.HTTPConnection:
        """A connection, not yet opened; for that it has `seconds`."""
        if self.path is not None:
            return _UnixConnection(self.path, seconds)
        if self.tls:
            return http.client.HTTPSConnection(self.host, self.port, timeout=seconds)
        return http.client.HTTPConnection(self.host, self.port, timeout=seconds)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path
        self._seconds = seconds

    def connect(self) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(self._seconds)
            connection.connect(str(self._path))
        except BaseException:
            connection.close()
            raise
        self.sock = connection


def parse_server(text: str) -> Server:
    """`http://HOST:PORT`, `https://…`, or `unix:///PATH`; a path alone may be a socket's or a data folder's.

    Raises `ServerInvalid`, and `ServerUnreachable` for a data folder on which none runs.
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
        raise ServerInvalid(
            f"{text!r} names no mirror; write http://HOST:PORT, https://HOST:PORT, or the path of its socket or data"
            " folder"
        )
    tls = parts.scheme == "https"
    return Server(f"{parts.scheme}://{parts.netloc}", host=host, port=port or (443 if tls else 80), tls=tls)


def _by_path(path: Path) -> Server:
    if _is_folder(path):
        found = _socket_of(path)
        if not found:
            raise ServerUnreachable(f"no mirror runs on the data folder {path}; start one: mirror serve --data {path}")
        (path,) = found
    return Server(f"unix://{path}", path=path)


def _is_folder(path: Path) -> bool:
    """Raises `ServerUnreachable` for what this user may not look at, or into."""
    try:
        is_folder = path.is_dir()
    except PermissionError:  # before Python 3.14
        is_folder, closed = False, True
    else:
        closed = is_folder and not os.access(path, os.R_OK | os.X_OK)
    if closed:
        raise ServerUnreachable(f"you may not look at {path}: use sudo, or run this as its owner")
    return is_folder


def data_named(environ: Mapping[str, str]) -> Path | None:
    """The folder that `MIRROR_DATA` names, read as the settings read it."""
    text = environ.get("MIRROR_DATA")
    return Path(os.path.expanduser(text)).absolute() if text else None


def holder(data: Path) -> str:
    """Who has a data folder, as far as its lock file says: `process 7`."""
    first = next(iter(_lock_of(data)), "")
    return f"process {first}" if first.isdecimal() else "another process"


def find(server: str | None, environ: Mapping[str, str]) -> Server:
    """The mirror to talk to. Raises `ServerUnreachable`, `ServerInvalid`; `NoServer`, with what was tried, where none
    was named."""
    named = server or environ.get("MIRROR_SERVER")
    if named:
        return parse_server(named)
    data = data_named(environ)
    if data is not None:
        _is_folder(data)
    tried: dict[Path, OSError] = {}
    for path in _of_data(data) if data else _usual(environ):
        failure = _failure(path)
        if failure is None:
            return Server(f"unix://{path}", path=path)
        tried[path] = failure
    if data is not None:
        raise _none(f"on {data}, the folder that MIRROR_DATA names", tried)
    running = [path for path in dict.fromkeys(_others(environ)) if path not in tried and _failure(path) is None]
    if len(running) == 1:
        return Server(f"unix://{running[0]}", path=running[0])
    if running:
        raise ServerUnreachable(f"several mirrors run here; name one with --server: {', '.join(map(str, running))}")
    raise _none("here", tried)


def _none(where: str, tried: Mapping[Path, OSError]) -> NoServer:
    told = ", ".join(f"{path} ({_reason(error)})" for path, error in tried.items())
    return NoServer(
        f"no mirror runs {where}{f': tried {told}' if told else ''}."
        " Start one with `mirror serve`, or name one with --server: its URL, socket or data folder",
        refused=next((path for path, error in tried.items() if error.errno == errno.EACCES), None),
    )


# --- where they listen ------------------------------------------------------------------------------------


def _usual(environ: Mapping[str, str]) -> Iterator[Path]:
    """The sockets of the system's mirror and this user's, in the order in which they are tried; each may be missing."""
    yield SYSTEM_SOCKET
    home = Path(environ.get("XDG_DATA_HOME", ""))
    if not home.is_absolute():
        home = Path(environ.get("HOME", "") or Path.home()) / ".local" / "share"
    for data in (home / "mirror", SYSTEM_DATA):
        yield from _socket_of(data)


def _of_data(data: Path) -> Iterator[Path]:
    """The socket of this folder's mirror, and of no other."""
    yield from _socket_of(data)
    if data == SYSTEM_DATA:  # which nobody else may look into, while its socket may be a group's
        yield SYSTEM_SOCKET


def _others(environ: Mapping[str, str]) -> Iterator[Path]:
    """Further sockets where mirrors keep theirs: of one that runs on a data folder of somebody's choice."""
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    for folder in (SYSTEM_SOCKET.parent, *([Path(runtime) / "mirror"] if runtime else [])):
        try:
            yield from sorted(folder.glob("*.sock"))
        except OSError:
            continue


def _lock_of(data: Path) -> list[str]:
    """The lines of a data directory's lock file; none where it cannot be read."""
    try:
        with (data / "lock").open("rb") as lock:
            return lock.read(_LOCK_BYTES).decode(errors="surrogateescape").splitlines()
    except OSError:
        return []


def _socket_of(data: Path) -> list[Path]:
    """The socket that the lock file of a data folder names; none where it names none."""
    return [Path(line) for line in _lock_of(data)[1:2] if line.startswith("/")]


def refusal(error: NoServer, environ: Mapping[str, str]) -> Denied | None:
    """What to say where a mirror runs that is not for this user."""
    if error.refused is None:
        return None
    folder = error.refused.parent
    if os.access(folder, os.F_OK) and not os.access(folder, os.X_OK):
        return Denied(
            f"a mirror of another user may run here, and {folder} is closed to you: use sudo, name a mirror with"
            " --server, or set MIRROR_DATA to a folder of your own"
        )
    where = "a mirror runs on the folder that MIRROR_DATA names" if data_named(environ) else "a mirror runs here"
    other = "another folder" if data_named(environ) else "a folder of your own"
    return Denied(
        f"{where}, and you may not use its socket {error.refused}: {_way_in(error.refused)},"
        f" name another mirror with --server, or set MIRROR_DATA to {other}"
    )


def _way_in(path: Path) -> str:
    """How a user gets to use a socket: by its group, where it is the group's and not root's."""
    import grp

    try:
        found = path.stat()
        group = grp.getgrgid(found.st_gid).gr_name if found.st_gid and found.st_mode & 0o020 else None
    except (OSError, KeyError):
        group = None
    if group is None:
        return "use sudo, have its settings name a socket_group that you are in"
    return f"use sudo, join its group (sudo usermod -aG {group} $USER, then log in anew)"


def _failure(path: Path) -> OSError | None:
    """Why nobody answers at this socket, or None where somebody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(CONNECT_S)
        try:
            probe.connect(str(path))
        except OSError as error:
            return error
    return None


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()

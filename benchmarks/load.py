"""The other side: clients that cost so little that the server beside them on two cores is what is measured.

Bodies are never copied to us: `MSG_TRUNC` lets the kernel throw them away (tcp(7)). Connections are kept open, as
container clients keep them.
"""

import re
import select
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.support.packages import program
from tests.support.processes import environment

ACCEPT = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "oci.image.index.v1",
        "oci.image.manifest.v1",
        "docker.distribution.manifest.list.v2",
        "docker.distribution.manifest.v2",
    )
)
"""What container clients say; docker-registry hides OCI manifests from everybody else."""

_PIECE = 4 << 20
_HEAD = 16 << 10
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_REQUESTS = re.compile(r"^\s*(\d+) requests in ", re.MULTILINE)
_ERRORS = re.compile(r"Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)")
_SILENCE_S = 60.0

_scrap = memoryview(bytearray(_PIECE))  # what MSG_TRUNC wants to be given, and leaves as it is


class LoadError(Exception):
    """A server answered something else than what was asked for, or not at all."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where to ask."""

    host: str
    port: int

    def request(self, path: str) -> bytes:
        """A GET as container clients send it."""
        return f"GET {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nAccept: {ACCEPT}\r\n\r\n".encode()


class Reader:
    """One connection, one GET at a time."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.socket = socket.create_connection((server.host, server.port), timeout=_SILENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._head = b""
        self._left = -1  # bytes of the body still to come; -1 while the head is being read
        self.received = 0

    def ask(self, path: str) -> None:
        """Send a request."""
        self.socket.sendall(self._server.request(path))
        self._head, self._left, self.received = b"", -1, 0

    def take(self) -> bool:
        """Take what has arrived (waits where the socket does). True when the answer is whole.

        Raises `LoadError` for any answer but a whole 200.
        """
        if self._left < 0:
            self._take_head()
        elif self._left:
            count = self.socket.recv_into(_scrap, min(_PIECE, self._left), socket.MSG_TRUNC)
            self._count(count)
        return self._left == 0

    def get(self, path: str) -> int:
        """A request and its whole answer; the body's bytes."""
        self.ask(path)
        while not self.take():
            pass
        return self.received

    def close(self) -> None:
        self.socket.close()

    def _take_head(self) -> None:
        data = self.socket.recv(_HEAD)
        if not data:
            raise LoadError("the connection was closed before an answer")
        self._head += data
        head, separator, body = self._head.partition(b"\r\n\r\n")
        if not separator:
            return
        length = _LENGTH.search(head + b"\r\n")
        if b" 200 " not in head[:16] or length is None:
            raise LoadError(self._head[:300].decode(errors="replace"))
        self._left = int(length[1])
        if body:
            self._count(len(body))

    def _count(self, count: int) -> None:
        if count == 0:
            raise LoadError(f"the connection was closed with {self._left} bytes to come")
        self._left -= count
        self.received += count


def one_after_another(server: Server, path: str, count: int) -> None:
    """`count` GETs on one connection."""
    reader = Reader(server)
    try:
        for _ in range(count):
            reader.get(path)
    finally:
        reader.close()


def together(server: Server, paths: Sequence[str], *, on_start: Callable[[], None] | None = None) -> float:
    """A GET of each path, each on a connection of its own, all at once. Seconds until the last one is whole."""
    return _drive(server, [[path] for path in paths], on_start)


def shared_out(server: Server, paths: Sequence[str], readers: int) -> float:
    """GETs of all paths over so many connections, each taking its share in order. Seconds until the last is whole."""
    return _drive(server, [list(paths[number::readers]) for number in range(readers)], None)


def _drive(server: Server, work: list[list[str]], on_start: Callable[[], None] | None) -> float:
    readers = {reader.socket.fileno(): (reader, iter(paths)) for paths in work for reader in [Reader(server)]}
    poll = select.epoll()
    began = time.monotonic()
    try:
        for number, (reader, paths) in readers.items():
            reader.ask(next(paths))
            reader.socket.setblocking(False)
            poll.register(number, select.EPOLLIN)
        if on_start is not None:
            on_start()
        left = len(readers)
        while left:
            events = poll.poll(_SILENCE_S)
            if not events:
                raise LoadError(f"nothing came for {_SILENCE_S:.0f} s")
            for number, _ in events:
                reader, paths = readers[number]
                if reader.take():
                    path = next(paths, None)
                    if path is None:
                        poll.unregister(number)
                        left -= 1
                    else:
                        reader.ask(path)
        return time.monotonic() - began
    finally:
        poll.close()
        for reader, _ in readers.values():
            reader.close()


def hammer(server: Server, path: str, seconds: int, *, connections: int = 8) -> int:
    """As many GETs as the server answers in that time (wrk); how many. Raises `LoadError` if one of them failed."""
    words = [program("wrk") or "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-H", f"Accept: {ACCEPT}"]
    url = f"http://{server.host}:{server.port}{path}"
    done = subprocess.run(
        [*words, url], env=environment(), capture_output=True, text=True, check=True, timeout=seconds + _SILENCE_S
    )
    failed, found = _ERRORS.search(done.stdout), _REQUESTS.search(done.stdout)
    if failed or found is None:
        raise LoadError(done.stdout)
    return int(found[1])

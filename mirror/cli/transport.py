"""Questions to a mirror's `/api/v1/`, and its answers: JSON, or a stream of JSON lines, over `http.client`.

A verb keeps one connection open for as long as it runs. A mirror that runs only for the sake of commands
(`cli.local`) sees by it that this one is not done yet.
"""

import contextlib
import http.client
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self, cast
from urllib.parse import urlencode

from mirror.cli import servers
from mirror.errors import (
    DataBusy,
    Denied,
    DigestInvalid,
    MirrorError,
    NameUnknown,
    Offline,
    RequestInvalid,
    ServerUnreachable,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)

API = "/api/v1"
Query = Mapping[str, str | int | bool | Sequence[str] | None]

_ANSWER_S = 120.0  # a search or a login waits for a registry
_KEPT_S = 5.0  # an idle connection may be closed by its other end at the moment of use: see `_send`
_ANSWER_BYTES = 128 << 20
_LINE_BYTES = 16 << 20
_CHUNK_BYTES = 1 << 16
_STATUSES: Mapping[int, type[MirrorError]] = MappingProxyType(
    {
        400: RequestInvalid,
        401: Unauthorized,
        403: Denied,
        404: NameUnknown,
        429: TooManyRequests,
        503: Unavailable,
    }
)
_EXIT_CODES: Mapping[int, type[MirrorError]] = MappingProxyType(
    {
        error.exit_code: error
        for error in (
            MirrorError,
            RequestInvalid,
            NameUnknown,
            Denied,
            TooManyRequests,
            DigestInvalid,
            DataBusy,
            Offline,
        )
    }
)


class BrokeOff(ServerUnreachable):
    """It answered, and left in the middle of its events."""


class Api:
    """One mirror, as a context manager. Every method raises `ServerUnreachable` where it does not answer, and the
    error whose exit code fits where it refuses. `login` gives user and password for a mirror that is named by URL,
    `patience` the seconds that it has for each answer."""

    def __init__(
        self, server: servers.Server, login: tuple[str, str] | None = None, *, patience: float = _ANSWER_S
    ) -> None:
        self.server = server
        self._patience = patience
        self._headers = {"Accept": "application/json"}
        if login is not None:
            self._headers["Authorization"] = basic(*login)
        self._connection = server.connect(min(patience, servers.CONNECT_S))
        self._used_at: float | None = None

    def __enter__(self) -> Self:
        try:
            self._connect()
        except OSError as error:
            raise self._unreachable(error) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def get(self, path: str, query: Query | None = None) -> dict[str, Any]:
        """The document at `path` below `API`."""
        return self.call("GET", path, query=query)

    def call(self, method: str, path: str, body: object = None, *, query: Query | None = None) -> dict[str, Any]:
        """One request and its document; an answer without one is an empty one."""
        status, data = self.request(method, API + path + _query(query), body)
        value = self._document(status, data) if data or status != http.client.NO_CONTENT else {}
        return value if isinstance(value, dict) else {}

    def pages(self, path: str, key: str, query: Query, *, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """The documents of a list that comes in pages, as long as there is a `next` and fewer than `limit` entries
        under `key` came. A cursor that comes twice ends it: no answer of a mirror's."""
        seen: set[str] = set()
        cursor, left = None, limit
        while True:
            page = self.get(path, {**query, "limit": left, "cursor": cursor})
            yield page
            cursor = page.get("next")
            if left is not None:
                entries = page.get(key)
                left -= len(entries) if isinstance(entries, list) else 0
            if not isinstance(cursor, str) or cursor in seen or (left is not None and left <= 0):
                return
            seen.add(cursor)

    def stream(self, path: str, body: object) -> Iterator[dict[str, Any]]:
        """The events that a POST is answered with, its last one (`end`) included."""
        ended = False
        response = self._send("POST", API + path, body)
        try:
            if response.status != http.client.OK:
                self._document(response.status, response.read(_ANSWER_BYTES))
            if self._connection.sock is not None:
                self._connection.sock.settimeout(None)  # a registry may take its time
            for line in _lines(response):
                event = _event(line)
                if event is None:
                    raise self._broken("it sent what is no event")
                ended = event.get("event") == "end"
                yield event
                if ended:
                    return
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(_reason(error)) from error
        finally:
            response.close()
            self._connection.close()
        if not ended:
            raise self._broken("it ended in the middle")

    def request(
        self, method: str, path: str, body: object = None, *, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """One request to any path of the server, and its whole answer. `headers` win over those that it has anyway."""
        try:
            response = self._send(method, path, body, headers)
            data = response.read(_ANSWER_BYTES + 1)
            if response.length and len(data) <= _ANSWER_BYTES:  # read(n) does not say so itself
                raise http.client.IncompleteRead(data, response.length)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise self._unreachable(error) from error
        if len(data) > _ANSWER_BYTES:
            self._connection.close()
        self._used_at = time.monotonic()
        return response.status, data

    def _send(
        self, method: str, path: str, body: object, more: Mapping[str, str] | None = None
    ) -> http.client.HTTPResponse:
        data = None if body is None else json.dumps(body).encode()
        headers = self._headers if data is None else {**self._headers, "Content-Type": "application/json"}
        try:
            self._connect()
            self._connection.request(method, path, data, {**headers, **(more or {})})
            return self._connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise self._unreachable(error) from error

    def _connect(self) -> None:
        """Connect, anew where the connection was idle so long that its other end may be about to close it."""
        if self._used_at is not None and time.monotonic() - self._used_at > _KEPT_S:
            self._connection.close()
        if self._connection.sock is None:
            self._connection.connect()
            _prepare(cast("socket.socket", self._connection.sock), self._patience, remote=self.server.path is None)

    def _document(self, status: int, body: bytes) -> Any:
        value = None
        if len(body) <= _ANSWER_BYTES:
            with contextlib.suppress(ValueError, RecursionError):
                value = json.loads(body)
        if http.client.OK <= status < http.client.MULTIPLE_CHOICES and value is not None:
            return value
        raise self._refusal(status, value)

    def _refusal(self, status: int, value: Any) -> MirrorError:
        kind = _STATUSES.get(status, MirrorError)
        match value:
            case {"errors": [{"message": str(message), **entry}, *_]}:
                detail = entry.get("detail")
                code = detail.get("exit_code") if isinstance(detail, dict) else None
                return (_EXIT_CODES.get(code, kind) if isinstance(code, int) else kind)(self._advised(status, message))
            case _:
                return kind(f"{self.server.name} answered {status}, but not as a mirror does; is it one?")

    def _advised(self, status: int, message: str) -> str:
        if status == http.client.UNAUTHORIZED and self.server.authority:
            return f"{message}; log in with `mirror login --server {self.server.name}`"
        return message

    def _unreachable(self, error: Exception) -> ServerUnreachable:
        return ServerUnreachable(f"no mirror answers at {self.server.name}: {_reason(error)}")

    def _broken(self, reason: str) -> "BrokeOff":
        return BrokeOff(f"the mirror at {self.server.name} broke off: {reason}")


def error_of(event: Mapping[str, Any]) -> MirrorError:
    """The error that an event tells of, with its exit code."""
    code = event.get("exit_code")
    kind = _EXIT_CODES.get(code, MirrorError) if isinstance(code, int) else MirrorError
    return kind(str(event.get("message") or "failed, and the mirror did not say why"))


def running(server: str | None, environ: Mapping[str, str] | None = None) -> Api:
    """A mirror that runs already. Raises as `servers.find`, and `Denied` where this user may not use the one that
    runs."""
    environ = os.environ if environ is None else environ
    try:
        target = servers.find(server, environ)
    except servers.NoServer as error:
        raise servers.refusal(error, environ) or error from None
    return Api(target, login_for(target, environ))


def get_json(path: str, *, server: str | None, environ: Mapping[str, str] | None = None) -> Any:
    """The JSON that a mirror which runs already answers a GET of `path` with."""
    with running(server, environ) as api:
        status, body = api.request("GET", path)
        return api._document(status, body)  # noqa: SLF001 - of this module


def login_for(server: servers.Server, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """This user's login at a mirror that is named by URL, as `mirror login --server` stored it."""
    if server.authority is None:
        return None
    from mirror import docker_config

    return docker_config.DockerConfig(environ).get(server.authority)


def basic(username: str, password: str) -> str:
    """The value of `Authorization` (RFC 7617)."""
    import base64

    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def _prepare(connected: socket.socket, patience: float, *, remote: bool) -> None:
    """Patience, and for a host that vanishes while it streams a way to notice it."""
    connected.settimeout(patience)
    if remote:
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3)):
            connected.setsockopt(socket.IPPROTO_TCP, option, value)


def _query(query: Query | None) -> str:
    pairs = [(key, item) for key, value in (query or {}).items() for item in _values(value)]
    return "?" + urlencode(pairs) if pairs else ""


def _values(value: str | int | bool | Sequence[str] | None) -> list[str]:  # noqa: FBT001 - one of what a query holds
    if value is None:
        return []
    if isinstance(value, bool):
        return ["true" if value else "false"]
    return [str(value)] if isinstance(value, (str, int)) else list(value)


def _lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Lines as they come; an unfinished last one is none."""
    rest = b""
    while data := response.read1(_CHUNK_BYTES):
        *lines, rest = (rest + data).split(b"\n")
        if len(rest) > _LINE_BYTES:
            raise http.client.LineTooLong("an event")
        yield from (line for line in lines if line.strip())


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__

"""A mirror's API as it is documented, played from a script on a Unix socket or a port: no mirror, no store.

An answer is a document, a list of stream events (a number among them is a pause in seconds, `BREAK` an end in the
middle), or what a function makes of the request. What was asked stands in `requests`.
"""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseServer, ThreadingMixIn, UnixStreamServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

BREAK = object()
"""In a list of events: the connection ends here."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked; `query` holds every value of a key."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    body: Any
    headers: Mapping[str, str]

    @property
    def what(self) -> str:
        return f"{self.method} {self.path.removeprefix('/api/v1')}"


@dataclass(frozen=True, slots=True)
class Raw:
    """A whole answer of its own kind."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def refusal(status: int, message: str, exit_code: int, code: str = "UNKNOWN") -> Raw:
    """An error in the API's shape."""
    entry = {"code": code, "message": message, "detail": {"exit_code": exit_code}}
    return Raw(status, json.dumps({"errors": [entry]}).encode(), {"Content-Type": "application/json"})


def failed(name: str, message: str, exit_code: int, code: str = "UNKNOWN") -> dict[str, Any]:
    """The event on one item that failed."""
    return {"event": "error", "name": name, "code": code, "message": message, "exit_code": exit_code}


Answer = Raw | dict[str, Any] | list[Any]


class Scripted:
    """The script (`GET /images` → answer) and what was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer | Callable[[Request], Answer]] = {}
        self.requests: list[Request] = []
        self.connections = 0

    def __setitem__(self, what: str, answer: Answer | Callable[[Request], Answer]) -> None:
        self.answers[what] = answer

    @property
    def asked(self) -> list[str]:
        return [request.what for request in self.requests]

    @property
    def last(self) -> Request:
        return self.requests[-1]

    def answer(self, request: Request) -> Answer:
        self.requests.append(request)
        answer = self.answers.get(request.what, refusal(404, f"{request.what} stands in no script", 4))
        return answer(request) if callable(answer) else answer


class _Handler(BaseHTTPRequestHandler):
    script: Scripted
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        self.script.connections += 1
        super().setup()

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # who asked may leave at any time
            super().handle()

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()

    def play(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length)) if length else None
        request = Request(self.command, parts.path, parse_qs(parts.query), body, dict(self.headers))
        answer = self.script.answer(request)
        try:
            if isinstance(answer, list):
                self._stream(answer)
            else:
                self._whole(answer)
        except OSError:  # who asked is gone
            self.close_connection = True

    def _whole(self, answer: Raw | dict[str, Any]) -> None:
        raw = answer if isinstance(answer, Raw) else Raw(200, json.dumps(answer).encode())
        self.send_response(raw.status)
        for name, value in {"Content-Length": str(len(raw.body)), **raw.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw.body)

    def _stream(self, events: list[Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in events:
            if event is BREAK:
                self.close_connection = True
                return
            if isinstance(event, (int, float)):
                time.sleep(event)
                continue
            line = event if isinstance(event, bytes) else json.dumps(event).encode() + b"\n"
            self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def address_string(self) -> str:  # a Unix peer has no address
        return "peer"

    def log_message(self, *_: object) -> None:
        pass


def _handler(script: Scripted) -> type[BaseHTTPRequestHandler]:
    methods = ("GET", "POST", "PUT", "DELETE", "HEAD")
    return type("Handler", (_Handler,), {"script": script, **{f"do_{method}": _Handler.play for method in methods}})


class _UnixServer(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    request_queue_size = 16


@contextmanager
def _served(server: BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def on_socket(path: Path, script: Scripted) -> Iterator[None]:
    """Play `script` on a Unix socket."""
    with _served(_UnixServer(str(path), _handler(script))):
        yield
    path.unlink()


@contextmanager
def on_port(script: Scripted) -> Iterator[str]:
    """Play `script` on a port of 127.0.0.1; gives `HOST:PORT`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(script))
    server.daemon_threads = True
    with _served(server):
        yield f"127.0.0.1:{server.server_port}"

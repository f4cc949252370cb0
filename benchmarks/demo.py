"""`make demo`: what a mirror does for the wire, seen without Docker and without a network.

A small registry of our own stands in for Docker Hub, at the speed of an office line. Eight cold clients pull an image
through `mirror serve` at once; then one pulls it warm; then the registry stops, and one pulls it again. After each
pull a line says what crossed the wire. Every client checks every digest.
"""

import contextlib
import hashlib
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NoReturn

from mirror.cli.output import human_size
from mirror.config.registries import WELL_KNOWN

REPOSITORY, TAG = "demo/app", "1"
CLIENTS = 8
TAG_TTL_S = 3.0
LINE_BYTES_PER_S = 25_000_000  # 200 Mbit/s
LAYERS = (12 << 20, 6 << 20, 2 << 20)
DEADLINE_S = 20.0
_TIMEOUT_S = 15.0
_PIECE = 256 << 10
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"


class DemoError(Exception):
    """The demonstration cannot go on; the message says why."""


# --- the registry -----------------------------------------------------------------------------------------


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def make_image() -> dict[str, bytes]:
    """An image's content by path below `/v2/<repository>/`. The bytes do not compress, and are the same each time."""
    source = random.Random(0)
    layers = [source.randbytes(size) for size in LAYERS]
    diff_ids = [_digest(layer) for layer in layers]
    config = json.dumps(
        {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    ).encode()
    parts = [(_CONFIG_TYPE, config), *((_LAYER_TYPE, layer) for layer in layers)]
    descriptors = [{"mediaType": kind, "digest": _digest(data), "size": len(data)} for kind, data in parts]
    manifest = json.dumps(
        {"schemaVersion": 2, "mediaType": _MANIFEST_TYPE, "config": descriptors[0], "layers": descriptors[1:]}
    ).encode()
    return {
        **{f"blobs/{_digest(data)}": data for _, data in parts},
        f"manifests/{TAG}": manifest,
        f"manifests/{_digest(manifest)}": manifest,
    }


@dataclass(slots=True)
class Registry:
    """Serves one image on loopback, paced like one line for all. Counts requests (but for pings) and bytes sent."""

    content: Mapping[str, bytes]
    requests: int = 0
    sent: int = 0
    _line: threading.Lock = field(default_factory=threading.Lock)
    _counting: threading.Lock = field(default_factory=threading.Lock)
    _server: ThreadingHTTPServer | None = None

    def start(self) -> int:
        """Listen on a free port and return it."""
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                registry.answer(self)

            do_HEAD = do_GET  # noqa: N815 - the same

            def log_message(self, *_: object) -> None:  # its own log would stand between our lines
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """Refuse connections from now on."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request as a registry does; what is sent is counted as it goes."""
        if self._server is None:  # a connection from before the stop
            request.close_connection = True
            return
        prefix = f"/v2/{REPOSITORY}/"
        path = request.path.partition("?")[0]
        body = b"{}" if path == "/v2/" else self.content.get(path.removeprefix(prefix))
        if path != "/v2/":
            self._count(requests=1)
        if body is None:
            body = b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"unknown"}]}'
            request.send_response(404)
        else:
            request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.send_header("Content-Type", _MANIFEST_TYPE if "/manifests/" in path else "application/octet-stream")
        if "/manifests/" in path:
            request.send_header("Docker-Content-Digest", _digest(body))
        request.end_headers()
        if request.command == "GET":
            self._send(request, body)

    def _send(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        for start in range(0, len(body), _PIECE):
            piece = body[start : start + _PIECE]
            with self._line:
                time.sleep(len(piece) / LINE_BYTES_PER_S)
            try:
                request.wfile.write(piece)
            except OSError:
                request.close_connection = True
                return
            self._count(sent=len(piece))

    def _count(self, *, requests: int = 0, sent: int = 0) -> None:
        with self._counting:
            self.requests += requests
            self.sent += sent


# --- the mirror -------------------------------------------------------------------------------------------


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _settings(folder: Path, upstream: int) -> str:
    others = "".join(f'[registries."{name}"]\nenabled = false\n' for name in WELL_KNOWN if name != "docker.io")
    return (
        f"data = {json.dumps(str(folder / 'data'))}\nsocket = {json.dumps(str(folder / 'socket'))}\n"
        f'[registries."docker.io"]\nurl = "http://127.0.0.1:{upstream}"\ntag_ttl = {TAG_TTL_S}\n{others}'
    )


def _environment(folder: Path) -> dict[str, str]:
    """Ours, without what would change the mirror: its own variables, proxies, somebody's logins."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MIRROR_") and not name.lower().endswith("_proxy")
    }
    return {**kept, "DOCKER_CONFIG": str(folder / "docker")}


@contextlib.contextmanager
def mirror(folder: Path, upstream: int) -> Iterator[int]:
    """`mirror serve` in a process of its own, its data below `folder`; gives its port. It is gone afterwards."""
    config, log, port = folder / "mirror.toml", folder / "mirror.log", _free_port()
    config.write_text(_settings(folder, upstream))
    command = [sys.executable, "-m", "mirror", "serve", "--config", str(config), "--listen", f"127.0.0.1:{port}"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=_environment(folder), stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        _wait(process, port, log)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + 8
    while time.monotonic() < end:
        if process.poll() is not None:
            raise DemoError(f"mirror serve ended with exit code {process.returncode}:\n{log.read_text()[-2000:]}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise DemoError(f"mirror serve did not listen within 8 s:\n{log.read_text()[-2000:]}")


# --- the clients ------------------------------------------------------------------------------------------


def pull(port: int) -> int:
    """Pull the image as a client of the mirror does, check every digest, and return the bytes received."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        manifest = _get(connection, f"manifests/{TAG}")
        parsed = json.loads(manifest)
        received = len(manifest)
        for blob in [parsed["config"], *parsed["layers"]]:
            data = _get(connection, f"blobs/{blob['digest']}")
            if _digest(data) != blob["digest"]:
                raise DemoError(f"the bytes of {blob['digest']} are others")
            received += len(data)
        return received
    except (OSError, http.client.HTTPException) as error:
        raise DemoError(f"a client lost the mirror: {error!r}") from error
    finally:
        connection.close()


def _get(connection: http.client.HTTPConnection, path: str) -> bytes:
    connection.request("GET", f"/v2/{REPOSITORY}/{path}", headers={"Accept": f"{_MANIFEST_TYPE}, */*"})
    response = connection.getresponse()
    body = response.read()
    if response.status != 200:
        raise DemoError(f"GET {path}: {response.status} {body[:500].decode(errors='replace')}")
    return body


def measured_pull(name: str, registry: Registry, port: int, clients: int) -> str:
    """`clients` pulls at once, as a line of the table."""
    requests, sent, start = registry.requests, registry.sent, time.monotonic()
    with ThreadPoolExecutor(clients) as pool:
        served = sum(pool.map(pull, [port] * clients))
    seconds = time.monotonic() - start
    requests, sent = registry.requests - requests, registry.sent - sent
    return _line(name, clients, requests, human_size(sent), human_size(served), f"{seconds:.2f}")


def _line(name: str, *cells: object) -> str:
    return (
        f"{name:<31}"
        + "".join(f"{cell:>{width}}" for cell, width in zip(cells, (7, 11, 10, 12, 9), strict=True)).rstrip()
    )


def demonstrate(folder: Path) -> None:
    """The three pulls, a line each. Raises `DemoError`."""
    registry = Registry(make_image())
    try:
        with mirror(folder, registry.start()) as port:
            size = sum(map(len, registry.content.values())) - len(registry.content[f"manifests/{TAG}"])
            print(f"An image of {len(LAYERS)} layers, {human_size(size)}, behind a line of 200 Mbit/s.\n", flush=True)
            print(_line("", "", "upstream", "upstream", "to clients", ""))
            print(_line("pull", "clients", "requests", "bytes", "bytes", "seconds"), flush=True)
            print(measured_pull("cold, eight clients at once", registry, port, CLIENTS), flush=True)
            print(measured_pull("warm", registry, port, 1), flush=True)
            registry.stop()
            time.sleep(TAG_TTL_S + 0.2)  # past the tag's freshness: the mirror has to ask, and gets no answer
            print(measured_pull("upstream stopped, tag expired", registry, port, 1), flush=True)
            alone = CLIENTS * (len(LAYERS) + 2)
            print(f"\nWithout the mirror, the first eight alone: {alone} requests, {human_size(CLIENTS * size)}.")
    finally:
        registry.stop()


def _ended(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def _too_long(_number: int, _frame: object) -> NoReturn:
    raise DemoError(f"not done after {DEADLINE_S:.0f} s")


def main() -> int:
    """Exit code 0 when each pull delivered every byte. Leaves no file and no process behind."""
    signal.signal(signal.SIGTERM, _ended)
    signal.signal(signal.SIGALRM, _too_long)
    signal.setitimer(signal.ITIMER_REAL, DEADLINE_S - 4)  # the rest is for ending what was started
    folder = Path(tempfile.mkdtemp(prefix="mirror-demo-"))
    try:
        demonstrate(folder)
    except DemoError as error:
        print(f"the demonstration failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

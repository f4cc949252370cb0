"""Pushing 1 GiB in 16 layers, as docker does (POST, one PATCH, PUT; five at a time), beside docker-registry; and what
of an image goes on to its registry when one of its layers has changed.

The client sends files with `sendfile`; what it costs is not counted.
"""

import hashlib
import http.client
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.load import LoadError, Server
from benchmarks.measure import spending
from benchmarks.peers import Distribution, Mirror, Peer
from benchmarks.rounds import Measure, Row, compared, in_seconds, interleaved
from benchmarks.upstream import MIB
from tests.support.fake_registry import FakeRegistry
from tests.support.processes import scratch_folder

_LAYERS = 16
_LAYER = 64 * MIB
_AT_ONCE = 5  # docker's `max-concurrent-uploads`
_NAME = "bench/app"
_CONFIG = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
_TYPE = "application/vnd.oci.image.manifest.v1+json"
_PEER = "docker-registry"
_TARGET = "push.test"


@dataclass(frozen=True, slots=True)
class _Push:
    """Seconds of wall time until the manifest was accepted, and of the server's CPU."""

    wall: float
    cpu: float


_Layer = tuple[Path, str]


def _layers(count: int, size: int) -> list[_Layer]:
    """Files that no compression makes smaller, and their digests."""
    folder = scratch_folder("layers")
    made = []
    for number in range(count):
        file = folder / str(number)
        data = os.urandom(size)
        file.write_bytes(data)
        made.append((file, f"sha256:{hashlib.sha256(data).hexdigest()}"))
    return made


class _Client:
    """One connection, kept open."""

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection(server.host, server.port, timeout=120)

    def ask(self, method: str, target: str, expected: int, body: bytes | None = None, kind: str = "") -> str:
        """The `Location` of an answer. Raises `LoadError` for another status."""
        headers = {"Content-Type": kind} if kind else {}
        self._connection.request(method, target, body=body, headers=headers)
        return self._answer(expected)

    def send(self, target: str, file: Path) -> str:
        """PATCH a file."""
        size = file.stat().st_size
        self._connection.putrequest("PATCH", target)
        self._connection.putheader("Content-Type", "application/octet-stream")
        self._connection.putheader("Content-Length", str(size))
        self._connection.endheaders()
        with file.open("rb") as opened:
            self._connection.sock.sendfile(opened)
        return self._answer(202)

    def close(self) -> None:
        self._connection.close()

    def _answer(self, expected: int) -> str:
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status != expected:
            raise LoadError(f"{answer.status}: {text[:300].decode(errors='replace')}")
        location = answer.getheader("Location") or ""
        return "/" + location.split("://", 1)[1].partition("/")[2] if "://" in location else location


def _upload(server: Server, name: str, layer: _Layer) -> None:
    file, digest = layer
    with closing(_Client(server)) as client:
        place = client.send(client.ask("POST", f"/v2/{name}/blobs/uploads/", 202), file)
        client.ask("PUT", f"{place}{'&' if '?' in place else '?'}digest={digest}", 201)


def _push(server: Server, name: str, tag: str, layers: list[_Layer], new: list[_Layer]) -> None:
    """An image of these layers, of which `new` are not there yet."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(partial(_upload, server, name), new))
    config = f"sha256:{hashlib.sha256(_CONFIG).hexdigest()}"
    kind = "application/vnd.oci.image.layer.v1.tar"
    manifest = {
        "schemaVersion": 2,
        "mediaType": _TYPE,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config,
            "size": len(_CONFIG),
        },
        "layers": [{"mediaType": kind, "digest": digest, "size": file.stat().st_size} for file, digest in layers],
    }
    with closing(_Client(server)) as client:
        place = client.ask("POST", f"/v2/{name}/blobs/uploads/", 202)
        client.ask("PUT", f"{place}{'&' if '?' in place else '?'}digest={config}", 201, _CONFIG)
        client.ask("PUT", f"/v2/{name}/manifests/{tag}", 201, json.dumps(manifest).encode(), _TYPE)


def _measured(make: Callable[[], Peer], layers: list[_Layer]) -> _Push:
    peer = make()
    with closing(peer):
        peer.start()
        os.sync()
        with spending(peer.pid) as spent:
            _push(peer.server, _NAME, "1", layers, layers)
        return _Push(spent.wall, spent.cpu)


def _compare(quick: bool) -> Iterator[Row]:
    layers = _layers(_LAYERS, _LAYER)
    makers: dict[str, Callable[[], Peer]] = {
        "mirror": lambda: Mirror(None, own=[f"{_NAME}"]),
        _PEER: lambda: Distribution(None),
    }
    found = interleaved(1 if quick else 5, {name: partial(_measured, make, layers) for name, make in makers.items()})
    what = "pushing 1 GiB in 16 layers, "
    walls = {name: [push.wall for push in each] for name, each in found.items()}
    yield from compared(what + "wall", walls, {_PEER: 1.0}, in_seconds)
    cpus = {name: [push.cpu for push in each] for name, each in found.items()}
    yield from compared(what + "CPU", cpus, {_PEER: 1.0}, in_seconds)


def _one_layer(_: bool) -> Iterator[Row]:
    """With `push = "through"`: the registry behind counts what comes."""
    layers = _layers(10, 8 * MIB)
    with FakeRegistry().in_thread() as registry:
        target = {"url": registry.url, "push": "through"}
        mirror = Mirror(None, more={_TARGET: target})
        with closing(mirror):
            mirror.start()
            name = f"{_TARGET}/{_NAME}"
            _push(mirror.server, name, "1", layers[:9], layers[:9])
            before = registry.received("*")
            _push(mirror.server, name, "2", [*layers[:8], layers[9]], layers[9:])
            sent = (registry.received("*") - before) / (8 * MIB)
    yield Row("a changed layer of 9, bytes sent to the registry", f"{sent:.3f} ×", "the layer", "1 ×", sent, 1.02)


MEASURE = Measure("push", "pushing 1 GiB in 16 layers, beside docker-registry", _compare)
ONE_LAYER = Measure("forward", "what goes on to its registry when one of 9 layers has changed", _one_layer)

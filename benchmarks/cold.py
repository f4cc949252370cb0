"""A 1 GiB blob that nobody holds yet, asked for by sixteen at once and by one: wall time, CPU, upstream bytes.

Every round begins with an empty server in a folder of its own.
"""

import os
import statistics
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from benchmarks.load import together
from benchmarks.measure import spending, wait_for
from benchmarks.peers import Distribution, Mirror, Peer
from benchmarks.rounds import Measure, Row, compared, in_seconds, interleaved
from benchmarks.upstream import MIB, Blob, Upstream

_SIZE = 1024 * MIB
_PEER = "docker-registry proxy"


@dataclass(frozen=True, slots=True)
class _Pull:
    """`wall` until the last reader had everything, `stored` until it was kept for good, `cpu` of all of it, seconds;
    `sent` by upstream, in sizes of the blob."""

    wall: float
    stored: float
    cpu: float
    sent: float


def _pull(make: Callable[[], Peer], upstream: Upstream, blob: Blob, readers: int) -> _Pull:
    peer = make()
    with closing(peer):
        peer.start()
        os.sync()
        upstream.forget_sent()
        with spending(peer.pid) as spent:
            wall = together(peer.server, [peer.blob_path(blob)] * readers)
            stored = wall + wait_for(lambda: peer.holds(blob))
    return _Pull(wall, stored, spent.cpu, upstream.sent_bytes() / blob.size)


def _measured(rounds: int, readers: int) -> dict[str, list[_Pull]]:
    with Upstream() as upstream:
        blob = upstream.add_blob(_SIZE)
        upstream.start()
        makers: dict[str, Callable[[], Peer]] = {
            "mirror": lambda: Mirror(upstream.url),
            _PEER: lambda: Distribution(upstream),
        }
        return interleaved(
            rounds, {name: partial(_pull, make, upstream, blob, readers) for name, make in makers.items()}
        )


def _sixteen(quick: bool) -> Iterator[Row]:
    pulls = _measured(1 if quick else 3, 16)
    sent = {name: statistics.median(pull.sent for pull in each) for name, each in pulls.items()}
    what = "16 cold readers of 1 GiB, "
    yield Row(what + "upstream bytes", f"{sent['mirror']:.3f} ×", _PEER, f"{sent[_PEER]:.2f} ×", sent["mirror"], 1.01)
    walls = {name: [pull.wall for pull in each] for name, each in pulls.items()}
    yield from compared(what + "wall", walls, {_PEER: 0.6}, in_seconds)
    cpus = {name: [pull.cpu for pull in each] for name, each in pulls.items()}
    yield from compared(what + "CPU", cpus, {_PEER: 0.55}, in_seconds)


def _one(quick: bool) -> Iterator[Row]:
    pulls = _measured(1 if quick else 5, 1)
    what = "1 cold reader of 1 GiB, "
    stored = {name: [pull.stored for pull in each] for name, each in pulls.items()}
    yield from compared(what + "until committed", stored, {_PEER: 0.6}, in_seconds)
    cpus = {name: [pull.cpu for pull in each] for name, each in pulls.items()}
    yield from compared(what + "CPU", cpus, {_PEER: 0.6}, in_seconds)


SIXTEEN = Measure("sixteen", "16 cold readers of one 1 GiB blob, beside docker-registry in proxy mode", _sixteen)
ONE = Measure("one", "1 cold reader of 1 GiB, beside docker-registry in proxy mode", _one)

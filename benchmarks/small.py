"""2,000 cold blobs of 20 KiB, asked for over sixteen connections: CPU of the server for each, storing included."""

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial

from benchmarks.load import shared_out
from benchmarks.measure import spending, wait_for
from benchmarks.peers import Distribution, Mirror, Peer
from benchmarks.rounds import Measure, Row, compared, interleaved, microseconds
from benchmarks.upstream import Blob, Upstream

_COUNT = 2000
_SIZE = 20 << 10
_READERS = 16
_PEER = "docker-registry proxy"


def _run(quick: bool) -> Iterator[Row]:
    with Upstream() as upstream:
        blobs = [upstream.add_blob(_SIZE) for _ in range(_COUNT)]
        upstream.start()
        contenders: dict[str, Callable[[], float]] = {
            "mirror": lambda: _cpu(Mirror(upstream.url), blobs),
            _PEER: lambda: _cpu(Distribution(upstream), blobs),
        }
        figures = interleaved(1 if quick else 3, contenders)
    yield from compared("2,000 cold blobs of 20 KiB, CPU a blob", figures, {_PEER: 0.25}, microseconds)


def _cpu(peer: Peer, blobs: list[Blob]) -> float:
    with closing(peer):
        peer.start()
        with spending(peer.pid) as spent:
            shared_out(peer.server, [peer.blob_path(blob) for blob in blobs], _READERS)
            for blob in blobs:
                wait_for(partial(peer.holds, blob))
    return spent.cpu / len(blobs)


MEASURE = Measure("small", "2,000 cold blobs of 20 KiB, beside docker-registry in proxy mode", _run)

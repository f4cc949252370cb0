"""A 64 MiB blob that is held, over one connection: CPU of the server for each request."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

from benchmarks.load import one_after_another
from benchmarks.measure import spending, wait_for
from benchmarks.peers import Distribution, Mirror, Peer, StaticFiles
from benchmarks.rounds import Measure, Row, compared, interleaved, milliseconds
from benchmarks.upstream import MIB, Blob, Upstream

_SIZE = 64 * MIB
_LIMITS = {"nginx": 1.15, "docker-registry": 0.6}


def _run(quick: bool) -> Iterator[Row]:
    rounds, requests = (2, 40) if quick else (5, 100)
    with Upstream() as upstream, ExitStack() as stack:
        blob = upstream.add_blob(_SIZE)
        upstream.start()
        registry = Distribution(None)
        registry.seed(upstream)
        contenders: dict[str, Callable[[], float]] = {}
        for peer in (Mirror(upstream.url), StaticFiles(upstream), registry):
            stack.callback(peer.close)
            peer.start()
            one_after_another(peer.server, peer.blob_path(blob), 3)
            wait_for(partial(peer.holds, blob))
            contenders[peer.name] = partial(_cpu, peer, blob, requests)
        figures = interleaved(rounds, contenders)
    yield from compared("hot 64 MiB blob, CPU a request", figures, _LIMITS, milliseconds)


def _cpu(peer: Peer, blob: Blob, requests: int) -> float:
    with spending(peer.pid) as spent:
        one_after_another(peer.server, peer.blob_path(blob), requests)
    return spent.cpu / requests


MEASURE = Measure("hot", "a held 64 MiB blob, beside nginx and docker-registry", _run)

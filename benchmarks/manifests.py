"""A manifest that is held, by tag and by digest, access log on: CPU of the server for each request."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

from benchmarks.load import hammer, one_after_another
from benchmarks.measure import spending
from benchmarks.peers import Distribution, Drayage, Mirror, Peer, manifest_path
from benchmarks.rounds import Measure, Row, compared, interleaved, microseconds
from benchmarks.upstream import Upstream

_TAG = "1"
_LAYERS = 8  # of an ordinary image


def _run(quick: bool) -> Iterator[Row]:
    rounds, seconds = (2, 1) if quick else (5, 2)
    with Upstream() as upstream, ExitStack() as stack:
        manifest = upstream.add_image(_TAG, [upstream.add_blob(1000) for _ in range(_LAYERS)])
        upstream.start()
        registry = Distribution(None)
        registry.seed(upstream)
        peers: list[Peer] = [Mirror(upstream.url), Drayage(upstream), registry, Distribution(upstream)]
        for peer in peers:
            stack.callback(peer.close)
            peer.start()
        for words, reference in (("tag", _TAG), ("digest", manifest.digest)):
            path = manifest_path(reference)
            contenders: dict[str, Callable[[], float]] = {}
            for peer in peers:
                one_after_another(peer.server, path, 100)
                contenders[peer.name] = partial(_cpu, peer, path, seconds)
            figures = interleaved(rounds, contenders)
            limit = 0.2 if words == "tag" else None
            limits = {"drayage": 1.0, "docker-registry": limit, "docker-registry proxy": limit}
            yield from compared(f"warm manifest by {words}, CPU a request", figures, limits, microseconds)


def _cpu(peer: Peer, path: str, seconds: int) -> float:
    with spending(peer.pid) as spent:
        requests = hammer(peer.server, path, seconds)
    return spent.cpu / requests


MEASURE = Measure("manifests", "a held manifest by tag and digest, beside drayage and docker-registry", _run)

"""What Prometheus reads. No label names a repository.

Requests are counted in a plain dictionary, which only the event loop touches: a Prometheus counter takes a lock for
each of them.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mirror.cache.content import Cache
from mirror.cache.traffic import Traffic
from mirror.cache.transfer import Counters
from mirror.upstream.protocols import SourceState

KINDS = ("manifest", "blob", "tags", "referrers", "upload", "other")
RESULTS = (*(str(each) for each in Cache), "ok", "error")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Disk:
    """What blobs and staging take, what they may (None: as much as the disk gives), and what went since the start."""

    used: int
    max_size: int | None
    evicted_images: int
    evicted_bytes: int
    deleted_blobs: int
    deleted_bytes: int


class Metrics:
    """The figures of one application, in a registry of their own."""

    def __init__(
        self,
        *,
        traffic: Traffic,
        states: Callable[[], list[SourceState]],
        shared: Callable[[], int],
        disk: Callable[[], Disk],
        sent: Mapping[str, Counters],
    ) -> None:
        self._registry = CollectorRegistry()
        self._requests = {(kind, result): 0 for kind in KINDS for result in RESULTS}
        self._registry.register(_Live(self._requests, traffic, states, shared, disk, sent))

    def count(self, kind: str, result: str) -> None:
        """One answered request."""
        self._requests[kind, result] += 1

    def render(self) -> bytes:
        """The exposition format."""
        return generate_latest(self._registry)


class _Live(Collector):
    """Read where the figures live, when they are asked for."""

    def __init__(
        self,
        requests: Mapping[tuple[str, str], int],
        traffic: Traffic,
        states: Callable[[], list[SourceState]],
        shared: Callable[[], int],
        disk: Callable[[], Disk],
        sent: Mapping[str, Counters],
    ) -> None:
        self._disk = disk
        self._sent = sent
        self._requests = requests
        self._traffic = traffic
        self._states = states
        self._shared = shared

    def collect(self) -> Iterable[Metric]:
        requests = CounterMetricFamily(
            "mirror_requests", "Requests by what they asked for and what came of it", labels=["kind", "result"]
        )
        for labels, count in self._requests.items():
            requests.add_metric(labels, count)
        yield requests
        served = CounterMetricFamily("mirror_served_bytes", "Body bytes sent to clients", labels=["registry"])
        for registry, count in self._traffic.served.items():
            served.add_metric([registry], count)
        yield served
        fetched = CounterMetricFamily("mirror_fetched_bytes", "Body bytes from upstream", labels=["registry", "as"])
        up = GaugeMetricFamily("mirror_upstream_up", "1 while the registry answers", labels=["registry", "as"])
        left = GaugeMetricFamily("mirror_upstream_pulls_left", "What its pull limit leaves", labels=["registry", "as"])
        for state in self._states():
            who = [state.registry, "anonymous" if state.anonymous else "credentials"]
            fetched.add_metric(who, state.fetched_bytes)
            up.add_metric(who, int(state.up))
            if state.pulls_left is not None:
                left.add_metric(who, state.pulls_left)
        yield fetched
        yield up
        yield left
        yield CounterMetricFamily(
            "mirror_shared_downloads", "Readers that joined a download under way", value=self._shared()
        )
        yield from _sent(self._sent)
        yield from _disk(self._disk())


def _sent(sent: Mapping[str, Counters]) -> Iterable[Metric]:
    data = CounterMetricFamily("mirror_sent_bytes", "Bytes of blobs sent to registries", labels=["registry"])
    blobs = CounterMetricFamily(
        "mirror_sent_blobs", "Blobs of images sent to registries, by how they came there", labels=["registry", "how"]
    )
    for registry, counters in sent.items():
        data.add_metric([registry], counters.bytes)
        for how, count in (
            ("pushed", counters.pushed),
            ("mounted", counters.mounted),
            ("existing", counters.existing),
        ):
            blobs.add_metric([registry, how], count)
    yield data
    yield blobs


def _disk(disk: Disk) -> Iterable[Metric]:
    yield GaugeMetricFamily("mirror_stored_bytes", "What blobs and staging take", value=disk.used)
    if disk.max_size is not None:
        yield GaugeMetricFamily("mirror_max_size_bytes", "What they may take", value=disk.max_size)
    yield CounterMetricFamily("mirror_evicted_images", "Images that had to make room", value=disk.evicted_images)
    yield CounterMetricFamily("mirror_evicted_bytes", "What that freed", value=disk.evicted_bytes)
    yield CounterMetricFamily("mirror_deleted_blobs", "Blobs deleted, for whatever reason", value=disk.deleted_blobs)
    yield CounterMetricFamily("mirror_deleted_bytes", "What that freed", value=disk.deleted_bytes)

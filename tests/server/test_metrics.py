"""What Prometheus reads; never a repository's name."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mirror.cache.content import Cache
from mirror.cache.traffic import Traffic
from mirror.cache.transfer import Counters
from mirror.server.metrics import KINDS, RESULTS, Disk, Metrics
from mirror.upstream.protocols import SourceState
from tests.server.calls import Wire

UP = SourceState("docker.io", True, True, None, None, None, 76, 100, 1234)
DISK = Disk(used=1, max_size=2, evicted_images=3, evicted_bytes=4, deleted_blobs=5, deleted_bytes=6)
DOWN = SourceState("ghcr.io", False, False, 1.0, "no", 2.0, None, None, 0)


def samples(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Name and labels → value."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def labelled(**labels: str) -> frozenset[tuple[str, str]]:
    return frozenset(labels.items())


def test_figures_are_read_where_they_live() -> None:
    traffic = Traffic()
    sent = {"ghcr.io": Counters(images=9, pushed=3, mounted=2, existing=1, bytes=5000)}
    metrics = Metrics(traffic=traffic, states=lambda: [UP, DOWN], shared=lambda: 7, disk=lambda: DISK, sent=sent)
    metrics.count("manifest", "hit")
    metrics.count("manifest", "hit")
    metrics.count("blob", "miss")
    traffic.served["docker.io"] += 4096
    found = samples(metrics.render())
    anonymous = frozenset({("registry", "docker.io"), ("as", "anonymous")})
    credentials = frozenset({("registry", "ghcr.io"), ("as", "credentials")})
    assert found["mirror_requests_total", labelled(kind="manifest", result="hit")] == 2
    assert found["mirror_requests_total", labelled(kind="blob", result="miss")] == 1
    assert found["mirror_requests_total", labelled(kind="blob", result="hit")] == 0
    assert found["mirror_served_bytes_total", labelled(registry="docker.io")] == 4096
    assert found["mirror_fetched_bytes_total", anonymous] == 1234
    assert (found["mirror_upstream_up", anonymous], found["mirror_upstream_up", credentials]) == (1, 0)
    assert found["mirror_upstream_pulls_left", anonymous] == 76
    assert ("mirror_upstream_pulls_left", credentials) not in found
    assert found["mirror_shared_downloads_total", frozenset()] == 7
    for name, value in {
        "mirror_stored_bytes": 1, "mirror_max_size_bytes": 2, "mirror_evicted_images_total": 3,
        "mirror_evicted_bytes_total": 4, "mirror_deleted_blobs_total": 5, "mirror_deleted_bytes_total": 6,
    }.items():  # fmt: skip
        assert found[name, frozenset()] == value
    assert found["mirror_sent_bytes_total", labelled(registry="ghcr.io")] == 5000
    for how, count in (("pushed", 3), ("mounted", 2), ("existing", 1)):
        assert found["mirror_sent_blobs_total", labelled(registry="ghcr.io", how=how)] == count
    traffic.served["docker.io"] += 1
    assert samples(metrics.render())["mirror_served_bytes_total", labelled(registry="docker.io")] == 4097


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("result", [*Cache, "ok", "error"])
def test_every_kind_and_result_can_be_counted(kind: str, result: str) -> None:
    metrics = Metrics(traffic=Traffic(), states=list, shared=lambda: 0, disk=lambda: Disk(0, None, 0, 0, 0, 0), sent={})
    metrics.count(kind, result)
    found = samples(metrics.render())
    assert found["mirror_requests_total", labelled(kind=kind, result=str(result))] == 1
    assert ("mirror_max_size_bytes", frozenset()) not in found
    assert str(result) in RESULTS


async def test_over_http_and_without_names(wire: Wire) -> None:
    for path in (
        "/v2/library/alpine/manifests/3",
        "/v2/library/alpine/manifests/3",
        "/v2/library/alpine/blobs/{small}",
        "/v2/team/many/tags/list",
        "/v2/library/alpine/referrers/{image}",
        "/v2/",
        "/nonsense",
    ):
        await wire.mirror.get(wire.content.filled(path))
    answer = await wire.mirror.get("/metrics")
    found = samples(answer.body)
    for kind, result in (
        ("manifest", "miss"), ("manifest", "hit"), ("blob", "miss"), ("tags", "ok"), ("referrers", "ok"),
        ("other", "ok"), ("other", "error"),
    ):  # fmt: skip
        assert found["mirror_requests_total", labelled(kind=kind, result=result)] == 1, (kind, result)
    assert found["mirror_served_bytes_total", labelled(registry="docker.io")] == (
        1000 + 2 * len(wire.content.image.manifest.raw)
    )
    for name in (b"alpine", b"many", b"library", b"sha256"):
        assert name not in answer.body

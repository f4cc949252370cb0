"""faults.md, "upstream dead, DNS gone, TLS expired, 503": held images at once, at most one probe per interval."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mirror.upstream.breaker import INTERVAL
from tests.faults.support import HUB, MIB, cached, hub, later, until, warned
from tests.support.fake_registry import Authority, Behaviour, FakeRegistry
from tests.support.fake_registry.behaviours import close, garbage, reset, status
from tests.support.fake_registry.content import random_bytes
from tests.support.mirror import mirror_in_process
from tests.support.processes import free_port

DAY = 86400.0
OUTAGES: dict[str, Behaviour | None] = {
    "dead": None,  # nobody listens
    "503": status(503),
    "500": status(500),
    "reset": reset(),
    "closed": close(),
    "no HTTP": garbage(),
}


async def break_down(registry: FakeRegistry, name: str) -> None:
    """The outage begins."""
    behaviour = OUTAGES[name]
    if behaviour is None:
        await registry.stop()
    else:
        registry.script("*", behaviour, times=None)


async def recover(registry: FakeRegistry, name: str) -> None:
    if OUTAGES[name] is None:
        await registry.start()
    registry.unscript()


@pytest.mark.parametrize("name", OUTAGES)
async def test_what_is_held_is_served_through_an_outage(name: str, tmp_path: Path) -> None:
    """Breaks if an error of upstream's becomes the answer where a manifest is held, or if a stale one is not said to
    be stale; and if an outage is taken for the registry's word that the tag is gone."""
    async with hub(tmp_path) as (registry, mirror):
        image = registry.add_image("library/x", "1", layers=[MIB])
        layer = image.layers[0]
        await mirror.get("/v2/library/x/manifests/1")
        await mirror.get(f"/v2/library/x/blobs/{layer[0]}")
        await mirror.idle()
        await break_down(registry, name)
        later(mirror, DAY)
        for method in ("GET", "HEAD"):
            by_tag = await mirror.get("/v2/library/x/manifests/1", method)
            assert (by_tag.status, cached(by_tag)) == (200, "stale")
            assert warned(by_tag).startswith('299 - "')
            assert by_tag.headers["Docker-Content-Digest"] == image.digest
        by_digest = await mirror.get(f"/v2/library/x/manifests/{image.digest}")
        assert (by_digest.body, cached(by_digest), warned(by_digest)) == (image.manifest.raw, "hit", "")
        blob = await mirror.get(f"/v2/library/x/blobs/{layer[0]}")
        assert (blob.body == layer[1], cached(blob)) == (True, "hit")
        assert json.loads((await mirror.get("/v2/library/x/tags/list")).body)["tags"] == ["1"]
        missing = await mirror.get("/v2/library/x/manifests/2")
        assert (missing.status, missing.code) == (404, "MANIFEST_UNKNOWN")
        assert HUB in json.loads(missing.body)["errors"][0]["message"]
        status_ = json.loads((await mirror.get("/api/v1/status")).body)
        assert status_["data"]["only_here"] == 0
        await until(lambda: not mirror.app.upstreams.states()[0].up, "status never says that it is down")

        await recover(registry, name)
        later(mirror, INTERVAL + 1)
        fresh = await mirror.get("/v2/library/x/manifests/1")
        assert (fresh.status, cached(fresh), warned(fresh)) == (200, "revalidated", "")
        assert mirror.app.upstreams.states()[0].up


async def test_at_most_one_probe_per_interval(tmp_path: Path) -> None:
    """Breaks if every request for something that is not held asks a dead registry (`Breaker.check`)."""
    async with hub(tmp_path) as (registry, mirror):
        registry.script("*", status(503), times=None)
        await mirror.get("/v2/library/x/manifests/1")
        await until(lambda: not mirror.app.upstreams.states()[0].up)
        for interval in range(3):
            registry.forget()
            asked = (mirror.get(f"/v2/library/x{number}/manifests/{interval}") for number in range(20))
            assert {reply.status for reply in await asyncio.gather(*asked)} == {404}
            assert registry.count() == (1 if interval else 0), registry.seen()
            assert registry.count("GET /v2/") == registry.count()
            later(mirror, INTERVAL + 1)


async def test_an_answer_that_is_slow_to_come_is_not_an_outage(tmp_path: Path) -> None:
    """Breaks if one failure opens the breaker although `GET /v2/` answers: one broken image would take the rest
    along."""
    async with hub(tmp_path) as (registry, mirror):
        registry.add_image("library/x", "1")
        registry.script("*/library/broken/*", status(500), times=None)
        assert (await mirror.get("/v2/library/broken/manifests/1")).status == 404
        await until(lambda: registry.count("GET /v2/"))
        assert (await mirror.get("/v2/library/x/manifests/1")).status == 200


async def test_the_honest_answer_is_503_where_it_is_wanted(tmp_path: Path) -> None:
    """Breaks if `on_upstream_failure` is ignored, or if it turns the registry's own 404 into a 503."""
    async with hub(tmp_path, on_upstream_failure="error") as (registry, mirror):
        registry.add_image("library/x", "1")
        unknown = await mirror.get("/v2/library/x/manifests/2")
        assert (unknown.status, unknown.code) == (404, "MANIFEST_UNKNOWN")
        registry.script("*", status(500), times=None)
        for path in ("manifests/1", f"blobs/sha256:{'1' * 64}"):
            failed = await mirror.get(f"/v2/library/x/{path}")
            assert (failed.status, failed.code) == (503, "UNAVAILABLE")
            assert HUB in json.loads(failed.body)["errors"][0]["message"]


async def test_a_registry_that_is_not_configured_is_unknown(tmp_path: Path) -> None:
    """Breaks if a registry named by `ns`, path or Host is reached without standing in the settings: an open proxy."""
    async with hub(tmp_path) as (registry, mirror), FakeRegistry() as other:
        other.add_image("library/x", "1")
        name = f"127.0.0.1:{other.port}"
        for path in (
            f"/v2/library/x/manifests/1?ns={name}",
            f"/v2/{name}/library/x/manifests/1",
            f"/{name}/v2/library/x/manifests/1",
            "/v2/library/x/manifests/1?ns=quay.io",  # well-known, but disabled here
        ):
            reply = await mirror.get(path)
            assert (reply.status, reply.code) == (404, "NAME_UNKNOWN"), path
        assert registry.count() == other.count() == 0


async def test_negative_answers_are_brief(tmp_path: Path) -> None:
    """Breaks if a "no" is not remembered (dockerd repeats a HEAD as a GET), or is remembered for long."""
    async with hub(tmp_path) as (registry, mirror):
        assert (await mirror.get("/v2/library/x/manifests/1", "HEAD")).status == 404
        asked = registry.count()
        assert asked
        assert (await mirror.get("/v2/library/x/manifests/1")).status == 404
        assert registry.count() == asked
        registry.add_image("library/x", "1")
        later(mirror, 11)
        assert (await mirror.get("/v2/library/x/manifests/1")).status == 200


async def test_failures_are_not_cached(tmp_path: Path) -> None:
    """Breaks if a 5xx is remembered as such: the next request must be able to succeed."""
    async with hub(tmp_path) as (registry, mirror):
        image = registry.add_image("library/x", "1", layers=[1000])
        registry.script("HEAD */manifests/*", status(500))
        assert (await mirror.get("/v2/library/x/manifests/1")).status == 404
        await until(lambda: registry.count("GET /v2/"))
        assert (await mirror.get("/v2/library/x/manifests/1")).status == 200
        registry.script("GET */blobs/*", status(502))
        digest = image.layers[0][0]
        assert (await mirror.get(f"/v2/library/x/blobs/{digest}")).status == 404
        assert (await mirror.get(f"/v2/library/x/blobs/{digest}")).status == 200


async def test_no_failure_is_ever_a_429(tmp_path: Path) -> None:
    """Breaks if upstream's 429 is passed on: containerd resends it five times without a pause."""
    for failing in ("fallback", "error"):
        async with hub(tmp_path / failing, on_upstream_failure=failing) as (registry, mirror):
            registry.script("*", status(429, headers={"Retry-After": "3"}), times=None)
            reply = await mirror.get("/v2/library/x/manifests/1")
            assert reply.status == (404 if failing == "fallback" else 503)


class TestTls:
    """Certificates that are not good."""

    @pytest.mark.parametrize(
        "server",
        [
            pytest.param(lambda ca: ca.server(days=-1), id="expired"),
            pytest.param(lambda ca: ca.server("elsewhere.example"), id="another name"),
        ],
    )
    async def test_it_is_an_outage_and_never_falls_back_to_http(
        self, server: Callable[[Authority], object], tmp_path: Path
    ) -> None:
        """Breaks if TLS failure is retried without verification or over http, or is taken for a 404 of the
        registry's."""
        authority = await asyncio.to_thread(_authority, tmp_path)
        good, bad = await asyncio.to_thread(lambda: (authority.server(), server(authority)))
        port = free_port()
        section = {"url": f"https://127.0.0.1:{port}", "ca_file": str(authority.certificate)}
        async with mirror_in_process(tmp_path / "data", {HUB: section}) as mirror:
            async with FakeRegistry(tls=good, port=port) as registry:
                image = registry.add_image("library/x", "1")
                assert (await mirror.get("/v2/library/x/manifests/1")).status == 200
            later(mirror, DAY)
            async with FakeRegistry(tls=bad, port=port) as registry:  # type: ignore[arg-type]
                registry.add_image("library/x", "1", seed="evil")
                stale = await mirror.get("/v2/library/x/manifests/1")
                assert (stale.body, cached(stale)) == (image.manifest.raw, "stale")
                assert "certificate" in warned(stale)
                assert (await mirror.get("/v2/library/x/manifests/2")).status == 404
                assert registry.requests == []
            async with FakeRegistry(port=port) as plain:  # the same port, now without TLS
                plain.add_image("library/x", "1", seed="evil")
                later(mirror, INTERVAL + 1)
                stale = await mirror.get("/v2/library/x/manifests/1")
                assert (stale.body, cached(stale)) == (image.manifest.raw, "stale")
                assert plain.requests == []


def _authority(folder: Path) -> Authority:
    folder = folder / "ca"
    folder.mkdir()
    return Authority(folder)


async def test_it_starts_with_every_upstream_dead_and_serves_what_it_holds(tmp_path: Path) -> None:
    """Breaks if a start waits for, or fails with, an upstream; or if held tags live in memory only."""
    registry = FakeRegistry()
    layer = random_bytes("dead", MIB)
    async with hub(tmp_path, registry=registry) as (_, mirror):
        image = registry.add_image("library/x", "1", layers=[layer])
        await mirror.get("/v2/library/x/manifests/1")
        await mirror.get(f"/v2/library/x/blobs/{image.layers[0][0]}")
        await mirror.idle()
    registries: dict[str, dict[str, object] | str] = {
        HUB: registry.url,
        "nowhere.example": {"url": "https://nowhere.invalid"},
    }
    async with mirror_in_process(tmp_path / "data", registries) as mirror:
        later(mirror, DAY)
        await mirror.app.announce()
        stale = await mirror.get("/v2/library/x/manifests/1")
        assert (stale.body, cached(stale)) == (image.manifest.raw, "stale")
        assert (await mirror.get(f"/v2/library/x/blobs/{image.layers[0][0]}")).body == layer
        gone = await mirror.get("/v2/x/x/manifests/1?ns=nowhere.example")
        assert gone.status == 404
        assert "nowhere.example" in json.loads(gone.body)["errors"][0]["message"]


async def test_offline_by_choice_asks_nobody(tmp_path: Path) -> None:
    """Breaks if anything is sent upstream while `offline` is on."""
    async with hub(tmp_path) as (registry, mirror):
        image = registry.add_image("library/x", "1")
        await mirror.get("/v2/library/x/manifests/1")
        mirror.app.policy.offline = True
        registry.forget()
        later(mirror, DAY)
        stale = await mirror.get("/v2/library/x/manifests/1")
        assert (stale.body, cached(stale)) == (image.manifest.raw, "stale")
        for path in ("manifests/2", f"blobs/sha256:{'1' * 64}", "referrers/sha256:" + "1" * 64):
            assert (await mirror.get(f"/v2/library/x/{path}")).status == 404
        assert registry.count() == 0

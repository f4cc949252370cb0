"""Where requests go: proxies, redirects, loops (faults.md, "upstream reached only by a proxy", "upstream is this
mirror", "open proxy, SSRF")."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.faults.support import HUB, hub
from tests.support.fake_registry import FakeProxy, FakeRegistry
from tests.support.fake_registry.behaviours import redirect
from tests.support.fake_registry.content import random_bytes
from tests.support.mirror import mirror_in_process
from tests.support.processes import free_port


def message(body: bytes) -> str:
    return str(json.loads(body)["errors"][0]["message"])


async def test_an_upstream_that_only_a_proxy_reaches(tmp_path: Path) -> None:
    """Breaks if `proxy` is not used, for manifests or blobs: the name is known to nobody else."""
    async with FakeRegistry() as registry, FakeProxy() as proxy:
        host, _, port = registry.url.removeprefix("http://").rpartition(":")
        proxy.hosts["registry.example"] = (host, int(port))
        image = registry.add_image("library/x", "1", layers=[random_bytes("proxy", 300_000)])
        section = {"url": "http://registry.example", "proxy": proxy.url}
        async with mirror_in_process(tmp_path / "data", {HUB: section}) as mirror:
            assert (await mirror.get("/v2/library/x/manifests/1")).body == image.manifest.raw
            blob = await mirror.get(f"/v2/library/x/blobs/{image.layers[0][0]}")
            assert blob.body == random_bytes("proxy", 300_000)
            await mirror.idle()


async def test_an_upstream_that_is_this_mirror_is_named_at_once(tmp_path: Path) -> None:
    """Breaks if a request does not say who caused it: the mirror would wait for itself."""
    port = free_port()
    here = f"127.0.0.1:{port}"
    async with mirror_in_process(tmp_path / "data", {HUB: f"http://{here}"}, listen=[here]) as mirror:
        async with asyncio.timeout(10):
            for path in ("manifests/1", f"blobs/sha256:{'1' * 64}", "tags/list"):
                reply = await mirror.get(f"/v2/library/x/{path}")
                assert reply.status == 404, path
        reply = await mirror.get("/v2/library/x/manifests/1")
        assert "leads back to this mirror" in message(reply.body)


async def test_a_chain_of_mirrors_works(tmp_path: Path) -> None:
    """Breaks if every mirror is taken for a loop."""
    async with hub(tmp_path / "far") as (registry, far):
        image = registry.add_image("library/x", "1", layers=[random_bytes("chain", 400_000)])
        async with mirror_in_process(tmp_path / "near", {HUB: far.url}) as near:
            assert (await near.get("/v2/library/x/manifests/1")).body == image.manifest.raw
            digest = image.layers[0][0]
            assert (await near.get(f"/v2/library/x/blobs/{digest}")).body == random_bytes("chain", 400_000)
            assert registry.count(f"GET */blobs/{digest}") == 1
            await near.idle()
            await far.idle()


async def test_no_redirect_leads_to_the_mirror_itself(tmp_path: Path) -> None:
    """Breaks if a registry can make the mirror ask itself: it would come in as loopback, and read everything."""
    async with hub(tmp_path) as (registry, mirror):
        image = registry.add_image("library/x", "1")
        registry.script("GET */blobs/*", redirect(f"{mirror.url}/api/v1/status"), times=None)
        reply = await mirror.get(f"/v2/library/x/blobs/{image.layers[0][0]}")
        assert reply.status == 404
        assert b"uptime" not in reply.body


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1:1/", "http://"])
async def test_only_http_is_followed(tmp_path: Path, target: str) -> None:
    """Breaks if a `Location` is taken as it comes."""
    async with hub(tmp_path) as (registry, mirror):
        image = registry.add_image("library/x", "1")
        registry.script("*", redirect(target), times=None)
        assert (await mirror.get("/v2/library/x/manifests/1")).status == 404
        assert (await mirror.get(f"/v2/library/x/blobs/{image.layers[0][0]}")).status == 404


async def test_a_redirect_loop_ends(tmp_path: Path) -> None:
    """Breaks if hops are not counted."""
    async with hub(tmp_path) as (registry, mirror):
        image = registry.add_image("library/x", "1")
        registry.script("GET */blobs/*", redirect("{target}"), times=None)
        assert (await mirror.get(f"/v2/library/x/blobs/{image.layers[0][0]}")).status == 404
        assert registry.count("GET */blobs/*") < 40


async def test_redirects_of_every_kind_of_request_are_followed(tmp_path: Path) -> None:
    """registry.k8s.io redirects manifests, tags and blobs. Breaks if only blobs are followed."""
    async with hub(tmp_path) as (front, mirror), FakeRegistry() as back:
        image = back.add_image("library/x", "1", layers=[random_bytes("k8s", 300_000)])
        front.script("*/v2/library/*", redirect(back.url + "{target}"), times=None)
        assert (await mirror.get("/v2/library/x/manifests/1")).body == image.manifest.raw
        assert json.loads((await mirror.get("/v2/library/x/tags/list")).body)["tags"] == ["1"]
        blob = await mirror.get(f"/v2/library/x/blobs/{image.layers[0][0]}")
        assert blob.body == random_bytes("k8s", 300_000)
        await mirror.idle()


async def test_foreign_layer_urls_are_never_followed(tmp_path: Path) -> None:
    """CVE-2020-15157. Breaks if a manifest's `urls` are asked."""
    async with hub(tmp_path) as (registry, mirror), FakeRegistry() as elsewhere:
        digest = elsewhere.add_blob("library/x", random_bytes("foreign", 1000))
        layer = {
            "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "digest": digest,
            "size": 1000,
            "urls": [f"{elsewhere.url}/v2/library/x/blobs/{digest}"],
        }
        image = registry.add_image("library/x", "0")
        manifest = json.loads(image.manifest.raw) | {"layers": [layer]}
        registry.add_manifest("library/x", json.dumps(manifest).encode(), media_type=image.manifest.media_type, tag="1")
        assert (await mirror.get("/v2/library/x/manifests/1")).status == 200
        assert (await mirror.get(f"/v2/library/x/blobs/{digest}")).status == 404
        assert elsewhere.count() == 0

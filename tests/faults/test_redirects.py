"""faults.md, "open proxy, SSRF" and "credentials to a hostile realm or redirect": where an upstream may not lead us."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.faults.support import HUB, cached, hub, later, stranger
from tests.support.fake_registry import Authority, FakeProxy, FakeRegistry
from tests.support.fake_registry.behaviours import challenge, header, redirect
from tests.support.fake_registry.content import FakeImage, random_bytes
from tests.support.mirror import Reply, Running, mirror_in_process


def message(reply: Reply) -> str:
    return str(json.loads(reply.body)["errors"][0]["message"])


@asynccontextmanager
async def with_a_secret(
    tmp_path: Path, listen: str = "127.0.0.1:0"
) -> AsyncIterator[tuple[Running, FakeImage, FakeRegistry]]:
    """A mirror that holds a private image, and another registry that everybody may ask, which is hostile."""
    async with FakeRegistry() as registry, FakeRegistry() as hostile:
        registry.access.scheme, registry.access.private, registry.access.users = "bearer", ["library/*"], {"me": "pw"}
        image = registry.add_image("library/secret", "secret-tag", layers=[random_bytes("secret", 300_000)])
        hostile.add_image("x/x", "1")
        registries: dict[str, dict[str, object] | str] = {
            HUB: {"url": registry.url, "username": "me", "password": "pw"},
            "hostile.example": hostile.url,
        }
        async with mirror_in_process(tmp_path / "data", registries, listen=[listen]) as mirror:
            for path in ("manifests/secret-tag", f"manifests/{image.digest}", f"blobs/{image.layers[0][0]}"):
                assert (await mirror.get(f"/v2/library/secret/{path}", Host="127.0.0.1")).status == 200
            await mirror.idle()
            yield mirror, image, hostile


REFUSALS = (
    "an address that this mirror listens on",
    "leads back to this mirror",  # 0.0.0.0 reaches a listener on 127.0.0.1: there its own id tells
    "could not be reached",  # 127.0.0.2, where nobody listens on it
)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2", "[::ffff:127.0.0.1]", "0.0.0.0"])
@pytest.mark.parametrize("listen", ["127.0.0.1:0", "0.0.0.0:0"], ids=["loopback", "every address"])
async def test_no_redirect_reads_the_mirrors_private_content(listen: str, host: str, tmp_path: Path) -> None:
    """Breaks if the guard looks at names, or at one spelling of our address: the mirror would ask itself, come in as
    loopback, and hand a private image to a stranger."""
    async with with_a_secret(tmp_path, listen) as (mirror, image, hostile):
        port = urlsplit(mirror.url).port
        inside = f"http://{host}:{port}/v2/library/secret"
        layer = image.layers[0]
        hostile.script("*/manifests/*", redirect(f"{inside}/manifests/{image.digest}"), times=None)
        hostile.script("*/blobs/*", redirect(f"{inside}/blobs/{layer[0]}"), times=None)
        for path in ("manifests/9", f"manifests/{image.digest}", f"blobs/{layer[0]}"):
            reply = await stranger(mirror, f"/v2/x/x/{path}?ns=hostile.example")
            assert reply.status == 404, path
            assert any(words in message(reply) for words in REFUSALS), message(reply)
            assert image.manifest.raw not in reply.body
            assert layer[1] not in reply.body
            head = await stranger(mirror, f"/v2/x/x/{path}?ns=hostile.example", "HEAD")
            assert head.status == 404, path


async def test_no_realm_leads_to_the_mirror_itself(tmp_path: Path) -> None:
    """Breaks if the token service is reached by other rules than a redirect's target."""
    async with with_a_secret(tmp_path) as (mirror, _, hostile):
        loop = challenge(f'Bearer realm="{mirror.url}/api/v1/status",service="x",scope="repository:x/x:pull"')
        hostile.script("*", loop, times=None)
        reply = await stranger(mirror, "/v2/x/x/manifests/1?ns=hostile.example")
        assert reply.status == 404
        report = json.loads((await mirror.get("/api/v1/status")).body)
        row = next(row for row in report["registries"] if row["name"] == "hostile.example")
        assert "this mirror listens on" in row["reason"]


async def test_no_link_leads_to_the_mirror_itself(tmp_path: Path) -> None:
    """Breaks if the next page of a list is fetched from wherever `Link` says: here the private repository's tags."""
    async with with_a_secret(tmp_path) as (mirror, _, hostile):
        hostile.add_image("x/x", "public")
        link = f'<{mirror.url}/v2/library/secret/tags/list>; rel="next"'
        hostile.script("*/tags/list*", header("Link", link), times=None)
        reply = await stranger(mirror, "/v2/x/x/tags/list?ns=hostile.example")
        assert b"secret-tag" not in reply.body
        assert (await mirror.get("/v2/library/secret/tags/list")).status == 200


async def test_https_never_leads_to_http(tmp_path: Path) -> None:
    """Breaks if a redirect is followed out of TLS: whoever sits on the way would choose what is fetched."""
    authority = await asyncio.to_thread(_authority, tmp_path)
    server = await asyncio.to_thread(authority.server)
    async with FakeRegistry(tls=server) as registry, FakeRegistry() as plain:
        plain.content = registry.content
        image = registry.add_image("library/x", "1")
        section = {"url": registry.url, "ca_file": str(authority.certificate)}
        async with mirror_in_process(tmp_path / "data", {HUB: section}) as mirror:
            registry.script("*/v2/library/*", redirect(plain.url + "{target}"), times=None)
            for path in ("manifests/1", f"manifests/{image.digest}", f"blobs/{image.layers[0][0]}"):
                reply = await mirror.get(f"/v2/library/x/{path}")
                assert reply.status == 404
                assert "it led from https to http" in message(reply)
            assert plain.requests == []
            registry.unscript()
            later(mirror, 60)
            assert (await mirror.get("/v2/library/x/manifests/1")).body == image.manifest.raw


async def test_tls_through_a_proxy(tmp_path: Path) -> None:
    """Breaks if https goes around the proxy, or if CONNECT weakens TLS; and if the proxy's password is shown."""
    authority = await asyncio.to_thread(_authority, tmp_path)
    server = await asyncio.to_thread(authority.server, "registry.example")
    async with FakeRegistry(tls=server) as registry, FakeProxy() as proxy:
        proxy.hosts = dict.fromkeys(("registry.example", "other.example"), (registry.host, registry.port))
        proxy.login = ("user", "s3cret")
        image = registry.add_image("library/x", "1", layers=[random_bytes("tls", 300_000)])
        through = f"http://user:s3cret@{proxy.host}:{proxy.port}"
        trusted = {"proxy": through, "ca_file": str(authority.certificate)}
        registries: dict[str, dict[str, object] | str] = {
            HUB: {"url": "https://registry.example", **trusted},
            "other.example": {"url": "https://other.example", **trusted},  # not the name in the certificate
            "wrong.example": {
                "url": "https://registry.example",
                **trusted,
                "proxy": through.replace("s3cret", "wr0ng"),
            },
        }
        async with mirror_in_process(tmp_path / "data", registries) as mirror:
            assert (await mirror.get("/v2/library/x/manifests/1")).body == image.manifest.raw
            assert (await mirror.get(f"/v2/library/x/blobs/{image.layers[0][0]}")).body == image.layers[0][1]
            assert set(proxy.tunnels) == {"registry.example:443"}
            asked = registry.count()
            mismatch = await mirror.get("/v2/library/x/manifests/1?ns=other.example")
            assert (mismatch.status, "certificate" in message(mismatch)) == (404, True)
            refused = await mirror.get("/v2/library/x/manifests/1?ns=wrong.example")
            assert (refused.status, "proxy" in message(refused)) == (404, True)
            assert registry.count() == asked
            said = message(refused) + message(mismatch) + (await mirror.get("/api/v1/status")).body.decode()
            assert "s3cret" not in said
            assert "wr0ng" not in said


async def test_a_proxy_that_is_gone_is_an_outage(tmp_path: Path) -> None:
    """Breaks if requests go around a proxy that does not answer."""
    async with FakeRegistry() as registry, FakeProxy() as proxy:
        image = registry.add_image("library/x", "1")
        section = {"url": registry.url, "proxy": proxy.url}
        async with mirror_in_process(tmp_path / "data", {HUB: section}) as mirror:
            assert (await mirror.get("/v2/library/x/manifests/1")).status == 200
            await proxy.stop()
            registry.forget()
            later(mirror, 61)
            stale = await mirror.get("/v2/library/x/manifests/1")
            assert (stale.body, cached(stale)) == (image.manifest.raw, "stale")
            assert registry.count() == 0


async def test_a_redirect_to_a_registry_is_not_that_registry(tmp_path: Path) -> None:
    """Breaks if a redirect to another configured registry's host is asked with that registry's credentials."""
    async with with_a_secret(tmp_path) as (mirror, image, hostile):
        url = mirror.app.settings.registries[HUB].urls[0]
        hostile.script("*", redirect(f"{url}/v2/library/secret/manifests/{image.digest}"), times=None)
        reply = await stranger(mirror, f"/v2/x/x/manifests/{image.digest}?ns=hostile.example")
        assert reply.status == 404
        assert image.manifest.raw not in reply.body


async def test_what_a_redirect_gave_proves_nothing_about_where_it_led(tmp_path: Path) -> None:
    """Breaks if content is linked where it came from rather than where it was asked for."""
    async with hub(tmp_path) as (registry, mirror), FakeRegistry() as elsewhere:
        layer = random_bytes("elsewhere", 300_000)
        digest = elsewhere.add_blob("library/other", layer)
        registry.add_blob("library/x", layer)
        registry.script(
            "GET */library/x/blobs/*", redirect(f"{elsewhere.url}/v2/library/other/blobs/{digest}"), times=None
        )
        assert (await mirror.get(f"/v2/library/x/blobs/{digest}")).body == layer
        await mirror.idle()
        report = json.loads((await mirror.get("/api/v1/status")).body)
        assert report["data"]["repositories"] == 1


def _authority(folder: Path) -> Authority:
    folder = folder / "ca"
    folder.mkdir()
    return Authority(folder)

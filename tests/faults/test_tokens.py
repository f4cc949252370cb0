"""faults.md, "token expires in mid-pull, 401 loop, CDN URL expires" and "our credentials refused or expired"."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faults.support import HUB, MIB, begin, cached, client, later, stranger, until, warned
from tests.support.fake_registry import FakeCdn, FakeRegistry, Gate
from tests.support.fake_registry.behaviours import both, challenge, close_after, hang_after, redirect, status
from tests.support.fake_registry.content import random_bytes
from tests.support.mirror import Running, mirror_in_process

ME = {"username": "me", "password": "secret"}


@asynccontextmanager
async def guarded(
    tmp_path: Path, section: Mapping[str, object] | None = None, **more: Any
) -> AsyncIterator[tuple[FakeRegistry, Running]]:
    """A docker.io with a token service, where `library/secret` is private, and a mirror with credentials."""
    async with FakeRegistry() as registry:
        registry.access.scheme = "bearer"
        registry.access.users["me"] = "secret"
        registry.access.private = ["library/secret"]
        settings = {"url": registry.url, **(ME if section is None else section)}
        async with mirror_in_process(tmp_path / "data", {HUB: settings}, **more) as mirror:
            yield registry, mirror


@pytest.mark.parametrize("section", [{}, ME], ids=["anonymous", "credentials"])
@pytest.mark.parametrize("expired", [401, 403])
async def test_a_token_that_expires_in_mid_pull_is_renewed(
    section: dict[str, str], expired: int, tmp_path: Path
) -> None:
    """Breaks if a token is kept until it is refused and the refusal believed, or if a resumption shows the old one."""
    async with guarded(tmp_path, section) as (registry, mirror):
        registry.access.expired = expired
        layer = random_bytes("token", 2 * MIB)
        image = registry.add_image("library/x", "1", layers=[layer])
        await mirror.get("/v2/library/x/manifests/1")
        gate = Gate()
        registry.script("GET */blobs/*", hang_after(MIB, gate))
        async with client(mirror, f"/v2/library/x/blobs/{image.layers[0][0]}") as reader:
            body = await reader.read(MIB - 65536)
            for token in registry.access.tokens.values():
                token.expires = 0.0
            tokens = registry.count("GET /token")
            gate.release()
            assert body + await reader.read(MIB + 65536) == layer
        assert registry.count("GET /token") == tokens + 1


async def test_a_401_loop_ends(tmp_path: Path) -> None:
    """Breaks if a fresh token that is refused is renewed once more, and once more."""
    async with guarded(tmp_path) as (registry, mirror):
        registry.add_image("library/x", "1")
        loop = challenge(f'Bearer realm="{registry.url}/token",service="fake",scope="repository:library/x:pull"')
        registry.script("*/manifests/*", loop, times=None)
        assert (await mirror.get("/v2/library/x/manifests/1")).status == 404
        assert registry.count("*/manifests/*") <= 6  # two sources, and each: nothing, a token, a renewed one
        assert registry.count("GET /token") <= 4


async def test_a_401_loop_in_mid_pull_ends(tmp_path: Path) -> None:
    """Breaks if a flight that is refused in mid-body asks for tokens as fast as it can."""
    async with guarded(tmp_path, {}) as (registry, mirror):
        layer = random_bytes("loop", 2 * MIB)
        digest = registry.add_blob("library/x", layer)
        loop = challenge(f'Bearer realm="{registry.url}/token",service="fake",scope="repository:library/x:pull"')
        registry.script(lambda r: r.method == "GET" and "Authorization" in r.headers, close_after(MIB))
        registry.script("GET */blobs/*", loop, times=3)
        assert (await mirror.get(f"/v2/library/x/blobs/{digest}")).body == layer
        assert registry.count("GET /token") <= 4


async def test_an_expired_cdn_url_is_never_used_again(tmp_path: Path) -> None:
    """Breaks if a flight resumes at the URL it was redirected to instead of asking the registry anew."""
    async with guarded(tmp_path) as (registry, mirror), FakeCdn() as cdn:
        cdn.serve(registry)
        layer = random_bytes("cdn", 2 * MIB)
        image = registry.add_image("library/x", "1", layers=[layer])
        gate = Gate()
        cdn.script("GET *", hang_after(MIB, gate))
        async with client(mirror, f"/v2/library/x/blobs/{image.layers[0][0]}") as reader:
            body = await reader.read(MIB - 65536)
            for target, (content, name, digest, _) in cdn._signed.items():
                cdn._signed[target] = (content, name, digest, 0.0)  # it has expired
            gate.release()
            assert body + await reader.read(MIB + 65536) == layer
        assert cdn.sent() <= 1.2 * len(layer)
        targets = [request.target for request in cdn.requests]
        assert len(set(targets)) == len(targets) == 2
        assert [request.headers.get("Range") for request in cdn.requests] == [None, f"bytes={MIB}-"]


async def test_a_url_that_is_refused_at_once_is_asked_for_anew(tmp_path: Path) -> None:
    """Breaks if a store's 403 is taken for the registry's word about the content."""
    async with guarded(tmp_path) as (registry, mirror), FakeCdn() as cdn:
        cdn.serve(registry)
        image = registry.add_image("library/x", "1")
        cdn.script("GET *", status(403, body=b"<Error><Code>AccessDenied</Code></Error>"))
        reply = await mirror.get(f"/v2/library/x/blobs/{image.layers[0][0]}")
        assert (reply.status, reply.body) == (200, image.layers[0][1])


async def test_authorization_is_not_carried_to_another_host(tmp_path: Path) -> None:
    """Breaks if a redirect is followed with the headers of the first request (CVE-2026-34518): tokens and passwords
    would be the CDN's."""
    async with guarded(tmp_path) as (registry, mirror), FakeCdn() as cdn, FakeRegistry() as elsewhere:
        image = registry.add_image("library/secret", "1", layers=[1000, 2 * MIB])
        cdn.serve(registry)
        elsewhere.content = registry.content
        registry.script("GET */manifests/*", redirect(f"{elsewhere.url}{{target}}"), times=None)
        cdn.script("GET *", close_after(MIB))
        assert (await mirror.get("/v2/library/secret/manifests/1")).body == image.manifest.raw
        for digest, layer in image.layers:
            assert (await mirror.get(f"/v2/library/secret/blobs/{digest}")).body == layer
        assert cdn.requests
        assert elsewhere.requests
        for request in [*cdn.requests, *elsewhere.requests]:
            assert "Authorization" not in request.headers
            assert "Cookie" not in request.headers


async def test_basic_credentials_are_not_carried_either(tmp_path: Path) -> None:
    """Breaks as the last one does, with the password itself."""
    async with guarded(tmp_path) as (registry, mirror), FakeCdn() as cdn:
        registry.access.scheme = "basic"
        cdn.serve(registry)
        image = registry.add_image("library/secret", "1")
        reply = await mirror.get(f"/v2/library/secret/blobs/{image.layers[0][0]}")
        assert reply.body == image.layers[0][1]
        assert all("Authorization" not in request.headers for request in cdn.requests)


async def test_a_hostile_realm_gets_no_credentials(tmp_path: Path) -> None:
    """Breaks if the realm of a challenge is believed wherever it leads (CVE-2026-33540)."""
    async with guarded(tmp_path) as (registry, mirror), FakeRegistry(host="127.0.0.2") as thief:
        registry.add_image("library/secret", "1")
        thief.access.users["me"] = "secret"
        registry.access.realm = f"{thief.url}/token"
        reply = await mirror.get("/v2/library/secret/manifests/1")
        assert reply.status == 404
        assert all("Authorization" not in request.headers for request in thief.requests)


@pytest.mark.parametrize("scheme", ["bearer", "basic"])
async def test_our_credentials_refused_are_an_outage(scheme: str, tmp_path: Path) -> None:
    """Breaks if a refusal of our password is taken for the registry's word about the content: private images would be
    dropped, and `status` would say nothing."""
    async with guarded(tmp_path) as (registry, mirror):
        registry.access.scheme = scheme  # type: ignore[assignment]
        image = registry.add_image("library/secret", "1")
        layer = image.layers[0]
        assert (await mirror.get("/v2/library/secret/manifests/1")).status == 200
        await mirror.get(f"/v2/library/secret/blobs/{layer[0]}")
        await mirror.idle()
        registry.access.users["me"] = "changed"
        registry.access.tokens.clear()
        later(mirror, 3600)
        stale = await mirror.get("/v2/library/secret/manifests/1")
        assert (stale.status, stale.body, cached(stale)) == (200, image.manifest.raw, "stale")
        assert "credentials" in warned(stale)
        assert "secret" not in warned(stale).replace("library/secret", "")
        assert (await mirror.get(f"/v2/library/secret/blobs/{layer[0]}")).body == layer[1]
        new = await mirror.get("/v2/library/secret/manifests/2")
        assert new.status == 404
        row = json.loads((await mirror.get("/api/v1/status")).body)["registries"][0]
        assert row["state"] == "credentials refused"
        assert "correct them or log in again" in row["reason"]
        # it is mended without a restart once the password is right again
        registry.access.users["me"] = "secret"
        later(mirror, 61)
        mended = await mirror.get("/v2/library/secret/manifests/1")
        assert (mended.body, warned(mended)) == (image.manifest.raw, "")


async def test_public_images_do_without_credentials_that_are_refused(tmp_path: Path) -> None:
    """Breaks if a refused password stops what needs none."""
    async with guarded(tmp_path) as (registry, mirror):
        registry.access.users["me"] = "changed"
        image = registry.add_image("library/x", "1")
        reply = await mirror.get("/v2/library/x/manifests/1")
        assert (reply.status, reply.body) == (200, image.manifest.raw)
        assert (await mirror.get(f"/v2/library/x/blobs/{image.layers[0][0]}")).body == image.layers[0][1]


async def test_private_content_goes_dark_after_private_stale(tmp_path: Path) -> None:
    """Breaks if what the registry no longer confirms is served for ever to those who could read it once."""
    async with guarded(tmp_path, private_stale="7d") as (registry, mirror):
        image = registry.add_image("library/secret", "1")
        layer = image.layers[0][0]
        paths = ("manifests/1", f"manifests/{image.digest}", f"blobs/{layer}")
        for path in paths:
            assert (await mirror.get(f"/v2/library/secret/{path}")).status == 200
        await mirror.idle()
        await registry.stop()
        later(mirror, 6 * 86400)
        assert [(await mirror.get(f"/v2/library/secret/{path}")).status for path in paths] == [200] * 3
        later(mirror, 2 * 86400)
        assert [(await mirror.get(f"/v2/library/secret/{path}")).status for path in paths] == [404] * 3
        assert (await mirror.get("/v2/library/secret/tags/list")).status == 404
        await registry.start()
        later(mirror, 60)
        assert [(await mirror.get(f"/v2/library/secret/{path}")).status for path in paths] == [200] * 3


async def test_private_content_that_is_removed_follows(tmp_path: Path) -> None:
    """Breaks if `on_upstream_gone = "keep"` keeps what only our credentials could read."""
    async with guarded(tmp_path) as (registry, mirror):
        registry.add_image("library/secret", "1")
        assert (await mirror.get("/v2/library/secret/manifests/1")).status == 200
        registry.repository("library/secret").tags.clear()
        later(mirror, 61)
        assert (await mirror.get("/v2/library/secret/manifests/1")).status == 404
        assert json.loads((await mirror.get("/api/v1/status")).body)["only_here"] == []


@pytest.mark.parametrize("stranger_first", [False, True])
async def test_what_became_private_stays_public_as_far_as_it_was(stranger_first: bool, tmp_path: Path) -> None:
    """Breaks if proofs are overwritten (then the old goes dark) or stand on the repository (then the new leaks); and
    if the stale answer that a stranger got is repeated to those who may see the new one."""
    async with guarded(tmp_path) as (registry, mirror):
        registry.access.private = []
        old = registry.add_image("library/x", "1", seed="old")
        assert (await stranger(mirror, "/v2/library/x/manifests/1")).status == 200
        assert (await stranger(mirror, f"/v2/library/x/blobs/{old.layers[0][0]}")).status == 200
        await mirror.idle()
        registry.access.private = ["library/x"]
        registry.access.tokens.clear()
        new = registry.add_image("library/x", "1", seed="new")
        later(mirror, 3600)
        if stranger_first:
            assert (await stranger(mirror, "/v2/library/x/manifests/1")).body == old.manifest.raw
        mine = await mirror.get("/v2/library/x/manifests/1")
        assert mine.body == new.manifest.raw
        assert (await mirror.get(f"/v2/library/x/blobs/{new.layers[0][0]}")).status == 200
        await mirror.idle()
        for path in (f"manifests/{old.digest}", f"blobs/{old.layers[0][0]}"):
            assert (await stranger(mirror, f"/v2/library/x/{path}")).status == 200
        for path in ("manifests/1", f"manifests/{new.digest}", f"blobs/{new.layers[0][0]}"):
            assert (await stranger(mirror, f"/v2/library/x/{path}")).status == 404


async def test_an_outage_is_no_answer_about_who_may_read(tmp_path: Path) -> None:
    """Breaks if visibility is forgotten, or guessed, while the registry cannot be asked."""
    async with guarded(tmp_path) as (registry, mirror):
        registry.add_image("library/secret", "1")
        image = registry.add_image("library/x", "1")
        assert (await mirror.get("/v2/library/secret/manifests/1")).status == 200
        assert (await stranger(mirror, "/v2/library/x/manifests/1")).status == 200
        await registry.stop()
        later(mirror, 3600)
        assert (await stranger(mirror, "/v2/library/secret/manifests/1")).status == 404
        assert (await stranger(mirror, "/v2/library/x/manifests/1")).body == image.manifest.raw


async def test_a_redirect_that_breaks_off_is_resumed(tmp_path: Path) -> None:
    """Breaks if a redirected body is not counted as the flight's own."""
    async with guarded(tmp_path) as (registry, mirror), FakeCdn() as cdn:
        cdn.serve(registry)
        layer = random_bytes("redirected", 2 * MIB)
        digest = registry.add_blob("library/x", layer)
        cdn.script("GET *", both(close_after(MIB)), times=1)
        pull = begin(mirror.get(f"/v2/library/x/blobs/{digest}"))
        await until(pull.done)
        assert pull.result().body == layer
        assert cdn.sent() <= 1.2 * len(layer)

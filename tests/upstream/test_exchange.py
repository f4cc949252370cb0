"""Redirects, one hop at a time, and where they may lead. What breaks a test is said in its docstring."""

from pathlib import Path
from typing import Any

import aiohttp.resolver
import pytest

from mirror.errors import UpstreamError, UpstreamForbidden, UpstreamGone, UpstreamInvalid
from mirror.upstream import guard
from mirror.upstream.client import RegistrySource
from tests.support.fake_registry import Authority, FakeProxy, FakeRegistry
from tests.support.fake_registry import behaviours as b
from tests.support.fake_registry.content import FakeImage
from tests.upstream.support import REPOSITORY, TAG, layer, no_secret_in, read, source

MANIFEST = "GET */manifests/*"


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch) -> str:
    """127.0.0.1 counts as a public address, so that a registry there may not lead to 127.0.0.2."""
    honest = guard.is_public

    def is_public(address: guard.IPAddress) -> bool:
        return str(address) == "127.0.0.1" or honest(address)

    monkeypatch.setattr("mirror.upstream.guard.is_public", is_public)
    monkeypatch.setattr("mirror.upstream.transport.is_public", is_public)
    return "127.0.0.1"


async def refused(url: str, **values: Any) -> UpstreamForbidden:
    async with source(url, **values) as upstream:
        with pytest.raises(UpstreamForbidden) as caught:
            await upstream.manifest(TAG)
    no_secret_in(caught.value)
    return caught.value


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_redirects_come_on_manifests_too(
    registry: FakeRegistry, image: FakeImage, upstream: RegistrySource, code: int
) -> None:
    async with FakeRegistry() as other:
        other.content = registry.content
        registry.script("*", b.redirect(f"{other.url}{{target}}", code), times=None)
        assert (await upstream.manifest(TAG)).raw == image.manifest.raw
        descriptor = await upstream.head(TAG)
        assert descriptor is not None
        assert str(descriptor.digest) == image.digest
        assert (await upstream.tags(REPOSITORY, None)).names == ("1",)
        assert {request.method for request in other.requests} == {"GET", "HEAD"}
        assert other.requests[0].headers["Accept"] == registry.requests[0].headers["Accept"]


@pytest.mark.parametrize(
    "location",
    ["/v2/x?a=b%2Fc&d=%7e~!*'()&e=+%20", "x?sig=%2B%2b==", "../../../up?x=%C3%A9", "//{host}/v2/y%2fz?q"],
)
async def test_a_relative_location_is_kept_byte_for_byte(
    registry: FakeRegistry, image: FakeImage, upstream: RegistrySource, location: str
) -> None:
    """Fails if the query is parsed and written again: a signature is over the bytes."""
    registry.script(MANIFEST, b.redirect(location.replace("{host}", registry.url.removeprefix("http://"))))
    with pytest.raises(UpstreamGone):
        await upstream.manifest(TAG)
    asked = registry.requests[-1].target
    assert asked.endswith(location.removeprefix("//{host}").removeprefix("../../.."))


async def test_a_location_that_is_not_ascii_is_quoted(
    registry: FakeRegistry, image: FakeImage, upstream: RegistrySource
) -> None:
    """Fails if it breaks out of the request line, or kills the request with an error of encoding."""
    registry.script(MANIFEST, b.redirect("/v2/a b\xe9?x=y z"))
    with pytest.raises(UpstreamError):
        await upstream.manifest(TAG)
    assert " " not in registry.requests[-1].target


@pytest.mark.parametrize("location", ["", "http://", "http://[::1", "http://host:99999/", "http:///path"])
async def test_a_location_that_is_none(
    registry: FakeRegistry, image: FakeImage, upstream: RegistrySource, location: str
) -> None:
    registry.script(MANIFEST, b.status(307, headers={"Location": location} if location else {}), times=None)
    with pytest.raises(UpstreamInvalid):
        await upstream.manifest(TAG)
    assert len(registry.requests) <= 11


async def test_redirects_without_end(registry: FakeRegistry, image: FakeImage, upstream: RegistrySource) -> None:
    registry.script(MANIFEST, b.redirect("{target}"), times=None)
    with pytest.raises(UpstreamInvalid, match="more than 10 redirects"):
        await upstream.manifest(TAG)
    assert len(registry.requests) == 11


@pytest.mark.parametrize("location", ["ftp://host/x", "file:///etc/passwd", "unix:///run/x.sock"])
async def test_other_schemes_are_not_followed(registry: FakeRegistry, image: FakeImage, location: str) -> None:
    registry.script(MANIFEST, b.redirect(location))
    async with source(registry.url) as upstream:
        with pytest.raises((UpstreamForbidden, UpstreamInvalid)):
            await upstream.manifest(TAG)


async def test_a_user_in_a_location_is_dropped(
    registry: FakeRegistry, image: FakeImage, upstream: RegistrySource
) -> None:
    """Fails if a redirect can make us show credentials of its choice."""
    registry.script(MANIFEST, b.redirect(registry.url.replace("http://", "http://user:word@") + "{target}"))
    assert (await upstream.manifest(TAG)).raw == image.manifest.raw
    assert "Authorization" not in registry.requests[-1].headers


async def test_from_https_to_http_is_not_followed(registry: FakeRegistry, image: FakeImage, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with FakeRegistry(tls=authority.server()) as secure:
        secure.content = registry.content
        secure.script("*", b.redirect(f"{registry.url}{{target}}"), times=None)
        error = await refused(secure.url, ca_file=authority.certificate)
        assert "from https to http://" in error.message
    assert registry.requests == []


async def test_nothing_leads_back_to_where_this_mirror_listens(registry: FakeRegistry, image: FakeImage) -> None:
    """Not a redirect, not a realm; by address, by name, by wildcard. Fails if the check is made on the name alone."""
    async with FakeRegistry() as ours:
        ours.content = registry.content
        for listening in (("127.0.0.1", ours.port), ("0.0.0.0", ours.port)):
            for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]"):
                target = f"http://{host}:{ours.port}"
                for fault in (b.redirect(f"{target}{{target}}"), b.challenge(f'Bearer realm="{target}/token"')):
                    registry.unscript()
                    registry.script(MANIFEST, fault, times=None)
                    error = await refused(registry.url, listening=lambda listening=listening: {listening})
                    assert "this mirror listens on" in error.message
        assert ours.requests == []


async def test_from_a_public_address_nothing_leads_inside(
    registry: FakeRegistry, image: FakeImage, public: str
) -> None:
    """Fails if the address connected to is not looked at: the name may be any."""
    async with FakeRegistry(host="127.0.0.2") as inside:
        inside.content = registry.content
        for fault in (b.redirect(f"{inside.url}{{target}}"), b.challenge(f'Bearer realm="{inside.url}/token"')):
            registry.unscript()
            registry.script(MANIFEST, fault, times=None)
            error = await refused(registry.url)
            assert "`addresses`" in error.message
        assert inside.requests == []
        registry.unscript()
        registry.script(MANIFEST, b.redirect(f"{inside.url}{{target}}"))
        async with source(registry.url, addresses=("127.0.0.2/32",)) as upstream:
            assert (await upstream.manifest(TAG)).raw == image.manifest.raw


async def test_a_name_that_resolves_to_the_inside_is_refused(
    registry: FakeRegistry, image: FakeImage, public: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: what counts is what is connected to. Fails if a name is checked, and resolved again later."""

    async def resolve(_: object, host: str, port: int = 0, family: int = 0) -> list[dict[str, Any]]:
        return [
            {"hostname": host, "host": address, "port": port, "family": 2, "proto": 0, "flags": 0}
            for address in ("127.0.0.2", "127.0.0.3")
        ]

    monkeypatch.setattr(aiohttp.resolver.ThreadedResolver, "resolve", resolve)
    async with FakeRegistry(host="127.0.0.2") as inside:
        registry.script(MANIFEST, b.redirect(f"http://innocent.test:{inside.port}{{target}}"))
        error = await refused(registry.url)
        assert "`addresses`" in error.message
        assert inside.requests == []


async def test_a_chain_through_the_outside_does_not_come_back_in(
    registry: FakeRegistry, image: FakeImage, public: str
) -> None:
    """Inside, outside, inside. Fails if the registry's own place counts for the whole chain."""
    async with FakeRegistry(host="127.0.0.2") as first, FakeRegistry(host="127.0.0.3") as last:
        first.script("*", b.redirect(f"{registry.url}{{target}}"))
        registry.script("*", b.redirect(f"{last.url}{{target}}"))
        await refused(first.url)
        assert registry.count() == 1
        assert last.requests == []


async def test_a_listed_network_leads_no_further_inside(registry: FakeRegistry, image: FakeImage, public: str) -> None:
    """Outside, listed, inside. Fails if an answer from a listed network counts as one from a registry inside."""
    async with FakeRegistry(host="127.0.0.2") as listed, FakeRegistry(host="127.0.0.3") as inside:
        listed.content = inside.content = registry.content
        registry.script(MANIFEST, b.redirect(f"{listed.url}{{target}}"), times=None)
        for fault in (b.redirect(f"{inside.url}{{target}}"), b.challenge(f'Bearer realm="{inside.url}/token"')):
            listed.script(MANIFEST, fault)
            await refused(registry.url, addresses=("127.0.0.2/32",))
        assert inside.requests == []


async def test_behind_a_proxy_names_are_checked(registry: FakeRegistry, image: FakeImage) -> None:
    async with FakeProxy() as proxy:
        proxy.hosts["registry.test"] = ("127.0.0.1", registry.port)
        for host in ("localhost", "10.0.0.1", "[::1]"):
            registry.script(MANIFEST, b.redirect(f"http://{host}{{target}}"))
            await refused("http://registry.test", proxy=proxy.url)
        assert all(request.target.startswith("http://registry.test/") for request in proxy.requests)
        proxy.hosts["other.test"] = ("127.0.0.1", registry.port)
        registry.script(MANIFEST, b.redirect("http://other.test{target}"))
        # Through the proxy the fake sees the path alone
        async with source("http://registry.test", proxy=proxy.url) as upstream:
            assert (await upstream.manifest(TAG)).raw == image.manifest.raw


async def test_our_token_is_shown_to_the_registry_alone(registry: FakeRegistry, image: FakeImage) -> None:
    """Another port is another origin. Fails if headers are carried from hop to hop."""
    registry.access.scheme = "bearer"
    async with FakeRegistry() as other:
        other.content = registry.content
        registry.locate = lambda request: f"{other.url}{request.target}"
        other.script("*", b.redirect(f"{registry.url}/v2/{REPOSITORY.path}/manifests/1"))
        async with source(registry.url) as upstream:
            await read(upstream, layer(image)[0])
        assert "Authorization" not in other.requests[0].headers
        assert "Authorization" in registry.requests[-1].headers  # back at home

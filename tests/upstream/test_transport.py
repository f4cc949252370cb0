"""Connections: TLS, proxies, what every request carries. What breaks a test is said in its docstring."""

import asyncio
import logging
import os
from pathlib import Path

import pytest

from mirror.clock import Clock
from mirror.errors import ConfigInvalid, UpstreamUnreachable
from mirror.upstream.transport import Authority as AcceptedAuthority
from tests.support.fake_registry import Authority, FakeProxy, FakeRegistry
from tests.support.fake_registry import behaviours as b
from tests.support.fake_registry.content import FakeImage
from tests.upstream.support import REPOSITORY, TAG, no_secret_in, read, source


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


async def test_tls_with_an_authority_of_our_own(authority: Authority) -> None:
    async with FakeRegistry(tls=authority.server()) as registry:
        image = registry.add_image(REPOSITORY.path, "1")
        async with source(registry.url, ca_file=authority.certificate) as upstream:
            assert (await upstream.manifest(TAG)).raw == image.manifest.raw
        async with source(registry.url) as upstream:
            with pytest.raises(
                UpstreamUnreachable, match=r"certificate that was not accepted: (self|unable|certificate)"
            ):
                await upstream.manifest(TAG)


@pytest.mark.parametrize(
    ("names", "days", "reason"), [(("localhost", "127.0.0.1"), -1, "expired"), (("other.test",), 1, "not valid for")]
)
async def test_a_bad_certificate_is_said_and_never_evaded(
    authority: Authority, names: tuple[str, ...], days: int, reason: str
) -> None:
    """Fails if TLS is given up for http, or the certificate is not looked at: there is plain http on the same name."""
    async with FakeRegistry(tls=authority.server(*names, days=days)) as registry:
        registry.add_image(REPOSITORY.path, "1")
        async with source(registry.url, ca_file=authority.certificate) as upstream:
            with pytest.raises(UpstreamUnreachable, match=reason):
                await upstream.manifest(TAG)
        assert registry.requests == []


async def test_an_authority_that_changes_is_read_again(authority: Authority, tmp_path: Path) -> None:
    clock = Clock()
    file = tmp_path / "ca.pem"
    other = Authority(tmp_path)
    file.write_bytes(other.certificate.read_bytes())
    async with FakeRegistry(tls=authority.server()) as registry:
        registry.add_image(REPOSITORY.path, "1")
        async with source(registry.url, ca_file=file, clock=clock) as upstream:
            with pytest.raises(UpstreamUnreachable):
                await upstream.manifest(TAG)
            file.write_bytes(authority.certificate.read_bytes())
            clock.shift += 60
            await upstream.manifest(TAG)


async def test_an_authority_that_cannot_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At first it is an error; later the last one stays. Fails if a half-written file locks everybody out."""
    clock, file = Clock(), tmp_path / "missing.pem"
    accepted = AcceptedAuthority(file, clock)
    with pytest.raises(ConfigInvalid, match=r"missing\.pem"):
        await accepted.changed()
    clock.shift += 60
    file.write_bytes(Authority(tmp_path).certificate.read_bytes())
    assert await accepted.changed()
    context = accepted.context
    clock.shift += 60
    file.write_text("half")
    os.utime(file, (1, 1))
    with caplog.at_level(logging.WARNING):
        assert not await accepted.changed()
    assert accepted.context is context
    assert "stays in force" in caplog.text


async def test_a_request_with_an_unreadable_authority_is_an_outage(tmp_path: Path) -> None:
    """Fails if a configuration error passes through: images held here must be served on."""
    async with source("https://127.0.0.1:1", ca_file=tmp_path / "missing.pem") as upstream:
        with pytest.raises(UpstreamUnreachable, match="ca_file"):
            await upstream.manifest(TAG)


async def test_through_a_proxy_with_a_password() -> None:
    """By absolute URL. Fails if the proxy is left out, or its password is shown."""
    async with FakeRegistry() as registry, FakeProxy() as proxy:
        image = registry.add_image(REPOSITORY.path, "1")
        proxy.hosts["registry.test"] = ("127.0.0.1", registry.port)
        proxy.login = ("user", "pass-word-7")
        address = proxy.url.removeprefix("http://")
        async with source("http://registry.test", proxy=f"http://user:pass-word-7@{address}") as upstream:
            assert (await upstream.manifest(TAG)).raw == image.manifest.raw
            assert await read(upstream, image.layers[0][0], 10, 20) == image.layers[0][1][10:20]
        assert registry.requests
        async with source("http://registry.test", proxy=f"http://user:wrong@{address}") as upstream:
            with pytest.raises(Exception, match="407") as caught:
                await upstream.manifest(TAG)
            no_secret_in(caught.value)


async def test_tls_through_a_proxy(authority: Authority) -> None:
    """By CONNECT, from the environment; the certificate is the registry's. `NO_PROXY` is obeyed."""
    async with FakeRegistry(tls=authority.server("registry.test")) as registry, FakeProxy() as proxy:
        image = registry.add_image(REPOSITORY.path, "1")
        proxy.hosts["registry.test"] = ("127.0.0.1", registry.port)
        environment = {"HTTPS_PROXY": proxy.url}
        async with source("https://registry.test", ca_file=authority.certificate, environment=environment) as upstream:
            assert (await upstream.manifest(TAG)).raw == image.manifest.raw
        assert proxy.tunnels == ["registry.test:443"]
        environment["NO_PROXY"] = ".test"
        async with source("https://registry.test", environment=environment) as upstream:
            with pytest.raises(UpstreamUnreachable, match="name was not found"):
                await upstream.manifest(TAG)


async def test_a_dead_proxy_is_named(unused_tcp_port: int) -> None:
    proxy = f"http://user:pass-word-7@127.0.0.1:{unused_tcp_port}"
    for url in ("http://registry.test", "https://registry.test"):
        async with source(url, proxy=proxy) as upstream:
            with pytest.raises(UpstreamUnreachable, match="proxy") as caught:
                await upstream.manifest(TAG)
            no_secret_in(caught.value)


async def test_connections_are_used_again(registry: FakeRegistry, image: FakeImage) -> None:
    """After a challenge and after an error too. Fails if a body is left unread: a handshake for every request."""
    registry.access.scheme = "bearer"
    async with source(registry.url) as upstream:
        for _ in range(3):
            await upstream.head(TAG)
            await upstream.manifest(TAG)
            await read(upstream, image.layers[1][0])
            registry.script("GET */tags/list", b.status(404))
            with pytest.raises(Exception, match="does not have it"):
                await upstream.tags(REPOSITORY, None)
    assert registry.connections == 1


async def test_no_cookie_and_no_netrc(
    registry: FakeRegistry, image: FakeImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails if the session keeps cookies, or shows what ~/.netrc has for the host."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    registry.script("*", b.header("Set-Cookie", "id=1"))
    async with source(registry.url) as upstream:
        await upstream.manifest(TAG)
        await upstream.manifest(TAG)
    assert not any({"Cookie", "Authorization"} & set(request.headers) for request in registry.requests)


async def test_a_cancelled_request_leaves_nothing(registry: FakeRegistry, image: FakeImage) -> None:
    """At every moment. Fails if a response is left open (its warning is an error here)."""
    registry.access.scheme = "bearer"
    registry.script("*", b.pace(20_000), times=None)
    async with source(registry.url) as upstream:
        for milliseconds in range(0, 60, 3):
            registry.access.tokens.clear()
            try:
                async with asyncio.timeout(milliseconds / 1000):
                    await upstream.manifest(TAG)
            except TimeoutError:
                pass

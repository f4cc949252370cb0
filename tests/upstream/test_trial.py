"""Trying a login at a registry. What breaks a test is said in its docstring."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from mirror.errors import (
    MirrorError,
    NameUnknown,
    Offline,
    UpstreamCredentialsRefused,
    UpstreamForbidden,
    UpstreamInvalid,
    UpstreamLimited,
    UpstreamUnreachable,
)
from mirror.upstream.protocols import LoginStore
from mirror.upstream.registries import Registries
from tests.support.fake_registry import Behaviour, FakeProxy, FakeRegistry
from tests.support.fake_registry import behaviours as b
from tests.upstream.support import NAME, PASSWORD, TAG, USER, no_secret_in, upstreams


def guarded(registry: FakeRegistry, scheme: Any) -> None:
    registry.access.scheme, registry.access.users = scheme, {USER: PASSWORD}


async def log_in(made: LoginStore, password: str = PASSWORD) -> str:
    return await made.log_in(NAME, USER, password)


def nothing_stored(folder: Path) -> bool:
    return not (folder / "config.json").exists()


def environment(folder: Path) -> dict[str, str]:
    return {"DOCKER_CONFIG": str(folder)}


@pytest.mark.parametrize("scheme", ["basic", "bearer", "none"])
async def test_a_login_that_is_right(registry: FakeRegistry, tmp_path: Path, scheme: str) -> None:
    guarded(registry, scheme)
    async with upstreams(url=registry.url, environment=environment(tmp_path)) as made:
        assert not made.has_credentials(NAME)
        assert await log_in(made) == str(tmp_path / "config.json")
        assert made.has_credentials(NAME)


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
async def test_one_that_is_wrong(registry: FakeRegistry, tmp_path: Path, scheme: str) -> None:
    """Fails if anything is kept, or used, that the registry did not accept."""
    guarded(registry, scheme)
    async with upstreams(url=registry.url, environment=environment(tmp_path)) as made:
        with pytest.raises(UpstreamCredentialsRefused) as caught:
            await log_in(made, "wrong")
        no_secret_in(caught.value)
        assert "wrong" not in caught.value.message
        assert nothing_stored(tmp_path)
        assert not made.has_credentials(NAME)
        assert made.states()[0].up
        await log_in(made)  # nothing of the failure stands in the way


@pytest.mark.parametrize("status", [401, 403])
async def test_a_registry_that_asks_nobody_may_refuse_all_the_same(
    registry: FakeRegistry, tmp_path: Path, status: int
) -> None:
    """Fails if the password is never shown to it."""
    registry.script(lambda request: "Authorization" in request.headers, b.status(status), times=None)
    async with upstreams(url=registry.url, environment=environment(tmp_path)) as made:
        with pytest.raises(UpstreamCredentialsRefused):
            await log_in(made)
    assert nothing_stored(tmp_path)


async def test_a_token_that_is_worth_nothing(registry: FakeRegistry, tmp_path: Path) -> None:
    """The token service takes the password, the registry then does not take the token. Fails if only the first is
    looked at."""
    guarded(registry, "bearer")
    registry.script("GET /v2/", b.challenge(f'Bearer realm="{registry.url}/token",service="fake"'), times=None)
    async with upstreams(url=registry.url, environment=environment(tmp_path)) as made:
        with pytest.raises(UpstreamCredentialsRefused):
            await log_in(made)
    assert nothing_stored(tmp_path)


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (b.status(500), UpstreamUnreachable),
        (b.status(404), UpstreamInvalid),
        (b.status(204), UpstreamInvalid),
        (b.limited("60"), UpstreamLimited),
        (b.reset(), UpstreamUnreachable),
        (b.hang(), UpstreamUnreachable),
        (b.challenge('Bearer realm="https://other.test/token"'), UpstreamForbidden),
    ],
    ids=["500", "404", "204", "429", "reset", "hang", "foreign realm"],
)
async def test_where_it_cannot_be_known(
    registry: FakeRegistry, tmp_path: Path, behaviour: Behaviour, error: type[MirrorError]
) -> None:
    guarded(registry, "basic")
    registry.script("GET /v2/", behaviour, times=None)
    async with upstreams(url=registry.url, environment=environment(tmp_path), headers_seconds=0.5) as made:
        with pytest.raises(error) as caught:
            await log_in(made)
        no_secret_in(caught.value)
    assert nothing_stored(tmp_path)


@pytest.mark.parametrize("scheme", ["basic", "bearer", "none"])
async def test_a_password_goes_over_no_open_line(registry: FakeRegistry, tmp_path: Path, scheme: str) -> None:
    """Plain http to another machine. Fails if it is sent before that is looked at."""
    guarded(registry, scheme)
    async with FakeProxy() as proxy:
        proxy.hosts["plain.test"] = ("127.0.0.1", registry.port)
        where = f"http://127.0.0.1:{proxy.port}"
        async with upstreams(url="http://plain.test", proxy=where, environment=environment(tmp_path)) as made:
            with pytest.raises(UpstreamForbidden, match="over plain http"):
                await log_in(made)
    assert registry.count("GET /v2/") == 1
    assert not any("Authorization" in request.headers for request in registry.requests)
    assert nothing_stored(tmp_path)


async def test_offline_nobody_is_asked(registry: FakeRegistry, tmp_path: Path) -> None:
    async with upstreams(url=registry.url, environment=environment(tmp_path), offline=lambda: True) as made:
        with pytest.raises(Offline):
            await log_in(made)
    assert registry.count() == 0
    assert nothing_stored(tmp_path)


async def test_only_registries_that_are_there(tmp_path: Path) -> None:
    async with upstreams(url="https://registry.test", environment=environment(tmp_path)) as made:
        for asked in (made.log_in("other.test", USER, PASSWORD), made.log_out("other.test")):
            with pytest.raises(NameUnknown):
                await asked


async def test_of_several_urls_each_that_accepts_it_gets_it(registry: FakeRegistry, tmp_path: Path) -> None:
    """Fails if the second URL of a registry, which takes over when the first fails, is then asked without."""
    guarded(registry, "basic")
    async with FakeRegistry() as second, FakeRegistry() as dead:
        guarded(second, "bearer")
        urls = (registry.url, second.url, dead.url)
        await dead.stop()
        async with upstreams(url=urls, environment=environment(tmp_path)) as made:
            await log_in(made)
            text = await asyncio.to_thread((tmp_path / "config.json").read_text)
            assert [f"127.0.0.1:{each.port}" in text for each in (registry, second, dead)] == [True, True, False]
            second.access.users = {}
            with pytest.raises(UpstreamCredentialsRefused):
                await log_in(made)


async def test_used_at_once_and_forgotten_at_once(registry: FakeRegistry, tmp_path: Path) -> None:
    """Without a restart, although wrong credentials were refused a moment ago. Fails if the file is read later, or the
    refusal is remembered."""
    guarded(registry, "bearer")
    registry.access.private = ["*"]
    image = registry.add_image("team/app", "1")
    old = {"auths": {f"127.0.0.1:{registry.port}": {"auth": "YWxpY2U6b2xk"}}}  # alice:old
    (tmp_path / "config.json").write_text(json.dumps(old))
    async with upstreams(url=registry.url, environment=environment(tmp_path)) as made:
        with pytest.raises(UpstreamCredentialsRefused):
            await fetch(made)
        assert made.states()[1].refused
        await log_in(made)
        assert not made.states()[1].refused
        assert await fetch(made) == image.manifest.raw
        assert await made.log_out(NAME)
        assert not made.has_credentials(NAME)
        assert not await made.log_out(NAME)


async def fetch(made: Registries) -> bytes:
    return (await made.source(NAME, anonymous=False).manifest(TAG)).raw


async def test_the_settings_come_first(registry: FakeRegistry) -> None:
    async with upstreams(url=registry.url, username=USER, password=PASSWORD) as made:
        assert made.set_by_settings(NAME)
    async with upstreams(url=registry.url) as made:
        assert not made.set_by_settings(NAME)

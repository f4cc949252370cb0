"""The token service's answers: sound, broken, hostile."""

import asyncio
import json
from pathlib import Path

import pytest

from mirror.errors import UpstreamError, UpstreamForbidden, UpstreamInvalid, UpstreamLimited, UpstreamUnreachable
from mirror.upstream.realms import _suffixes
from tests.support.fake_registry import Authority, FakeRegistry
from tests.support.fake_registry import behaviours as b
from tests.support.fake_registry.content import FakeImage
from tests.upstream.support import PASSWORD, TAG, USER, no_secret_in, source


@pytest.fixture(autouse=True)
def bearer(registry: FakeRegistry, image: FakeImage) -> None:
    registry.access.scheme = "bearer"


@pytest.mark.parametrize("field", ["token", "access_token"])
async def test_either_name(registry: FakeRegistry, field: str) -> None:
    registry.access.token_field = field
    async with source(registry.url) as upstream:
        assert (await upstream.manifest(TAG)).raw


async def test_many_at_once_wait_for_one_token(registry: FakeRegistry) -> None:
    """Fails if a cold start asks the token service once per request."""
    async with source(registry.url) as upstream:
        await asyncio.gather(*(upstream.manifest(TAG) for _ in range(20)))
    assert registry.count("GET /token") == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"token": 7}',
        b'{"token": ""}',
        json.dumps({"token": "a\r\nX-Evil: 1"}).encode(),
        json.dumps({"token": "with space"}).encode(),
        json.dumps({"token": "x" * 40_000}).encode(),
        b'{"token": "secret-token"' + b" " * (1 << 16) + b"}",
        b"[" * 60_000,
    ],
    ids=range(11),
)
async def test_answers_without_a_usable_token(registry: FakeRegistry, body: bytes) -> None:
    """Too long, no JSON, a token that would break out of its header. Fails if any of it is sent on or read whole."""
    registry.script("GET /token", b.status(200, body=body))
    async with source(registry.url) as upstream:
        with pytest.raises(UpstreamInvalid) as caught:
            await upstream.manifest(TAG)
    no_secret_in(caught.value)
    assert registry.count("GET */manifests/*") == 1


@pytest.mark.parametrize("expires", ["-1", "0", '"soon"', "null", "true", "1e400", "[]"])
async def test_an_expiry_that_is_none_means_60_seconds(registry: FakeRegistry, expires: str) -> None:
    async with source(registry.url) as upstream:
        registry.script(
            "GET /token",
            b.wrong_bytes(lambda body: json.dumps(json.loads(body)).replace("300", expires).encode()),
        )
        assert (await upstream.manifest(TAG)).raw
        assert (await upstream.manifest(TAG)).raw
    assert registry.count("GET /token") == 1


@pytest.mark.parametrize(
    ("code", "kind"),
    [(400, UpstreamInvalid), (404, UpstreamInvalid), (500, UpstreamUnreachable), (429, UpstreamLimited)],
)
async def test_statuses(registry: FakeRegistry, code: int, kind: type[UpstreamError]) -> None:
    registry.script("GET /token", b.status(code, headers={"Retry-After": "7"}))
    async with source(registry.url) as upstream:
        with pytest.raises(kind) as caught:
            await upstream.manifest(TAG)
    if isinstance(caught.value, UpstreamLimited):
        assert caught.value.retry_after == 7


@pytest.mark.parametrize(
    "realm", ["", "token", "ftp://host/token", "http://[bad/token", "http:///token", "http://h:99999/"]
)
async def test_realms_that_are_no_url(registry: FakeRegistry, realm: str) -> None:
    registry.script("GET */manifests/*", b.challenge(f'Bearer realm="{realm}",service="s"'), times=None)
    async with source(registry.url) as upstream:
        with pytest.raises(UpstreamError):
            await upstream.manifest(TAG)
    assert registry.count("GET /token") == 0


async def test_redirects_of_the_token_service(registry: FakeRegistry) -> None:
    registry.script("GET /token", b.redirect("/token?moved=1"))
    async with source(registry.url) as upstream:
        assert (await upstream.manifest(TAG)).raw
    registry.script("GET /token", b.redirect("/token"), times=None)
    async with source(registry.url) as upstream:
        with pytest.raises(UpstreamInvalid, match="without end"):
            await upstream.manifest(TAG)


async def test_an_identity_token_is_changed_for_another(registry: FakeRegistry, tmp_path: Path) -> None:
    """POST, as `spec/auth/oauth.md` says. Fails if it is sent as a password."""
    registry.access.private = ["team/*"]
    registry.access.identity_tokens["refresh-me"] = "alice"
    config = {"auths": {registry.url.removeprefix("http://"): {"identitytoken": "refresh-me"}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    async with source(registry.url, anonymous=False, environment={"DOCKER_CONFIG": str(tmp_path)}) as upstream:
        assert (await upstream.manifest(TAG)).raw
    (asked,) = registry.seen("POST /token")
    assert b"grant_type=refresh_token" in asked.body
    assert "Authorization" not in asked.headers


async def test_the_public_suffixes_are_there_before_they_are_needed(registry: FakeRegistry) -> None:
    """Fails if the first login reads the list on the loop: 50 ms in which nobody is served."""
    registry.access.users[USER] = PASSWORD
    _suffixes.cache_clear()
    async with source(registry.url, anonymous=False) as upstream:
        await upstream.manifest(TAG)
    assert _suffixes.cache_info().currsize == 1


async def test_from_https_no_realm_over_http_is_asked(registry: FakeRegistry, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with FakeRegistry(tls=authority.server()) as secure:
        secure.access.scheme, secure.access.realm = "bearer", f"{registry.url}/token"
        async with source(secure.url, ca_file=authority.certificate) as upstream:
            with pytest.raises(UpstreamForbidden, match="plain http"):
                await upstream.manifest(TAG)
    assert registry.requests == []

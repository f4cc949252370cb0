"""Challenges, and what a refusal means. What breaks a test is said in its docstring."""

import base64
import json
import logging
from pathlib import Path
from typing import Literal

import pytest

from mirror.clock import Clock
from mirror.errors import (
    UpstreamCredentialsRefused,
    UpstreamError,
    UpstreamForbidden,
    UpstreamGone,
    UpstreamUnreachable,
)
from mirror.oci.names import Reference, Repository
from tests.support.fake_registry import FakeCdn, FakeProxy, FakeRegistry
from tests.support.fake_registry import behaviours as b
from tests.support.fake_registry.content import FakeImage
from tests.upstream.support import NAME, PASSWORD, REPOSITORY, TAG, USER, layer, no_secret_in, read, source, upstreams

MISSING = Reference(Repository(NAME, "team/none"), "1", None)


@pytest.fixture
def hub(registry: FakeRegistry, image: FakeImage) -> FakeRegistry:
    """A registry as Docker Hub: tokens, and 401 for what is missing or private."""
    registry.access.scheme, registry.access.hub = "bearer", True
    registry.access.users[USER] = PASSWORD
    return registry


@pytest.fixture
def basic(registry: FakeRegistry, image: FakeImage) -> FakeRegistry:
    """A registry that knows user and password only."""
    registry.access.scheme = "basic"
    registry.access.users[USER] = PASSWORD
    return registry


def authorizations(registry: FakeRegistry, match: str = "*") -> list[str | None]:
    """The scheme each request showed."""
    headers = (request.headers.get("Authorization") for request in registry.seen(match))
    return [header.partition(" ")[0] if header else None for header in headers]


async def outcome(upstream: object, reference: Reference = TAG) -> UpstreamError | None:
    """The error of fetching a manifest, None where it came."""
    try:
        await upstream.manifest(reference)  # type: ignore[attr-defined]
    except UpstreamError as error:
        no_secret_in(error)
        return error
    return None


# --- bearer -----------------------------------------------------------------------------------------------


async def test_a_token_for_everybody(hub: FakeRegistry, image: FakeImage) -> None:
    """Fails if an anonymous source sends credentials, or the challenge's query, service or scope is lost."""
    hub.access.realm = f"{hub.url}/token?account=x%20y"
    async with source(hub.url, username=USER, password=PASSWORD) as upstream:
        assert await outcome(upstream) is None
    (asked,) = hub.seen("GET /token")
    assert asked.query == {"account": ["x y"], "service": ["fake"], "scope": [f"repository:{REPOSITORY.path}:pull"]}
    assert "Authorization" not in asked.headers
    assert authorizations(hub, "GET */manifests/*") == [None, "Bearer"]


async def test_a_known_challenge_is_not_asked_for_again(hub: FakeRegistry, image: FakeImage) -> None:
    """Not for the same repository, and for another only the token is new. Fails if every request pays a 401."""
    other = Repository(NAME, "team/other")
    hub.add_image(other.path, "1", seed="other")
    async with source(hub.url) as upstream:
        await upstream.head(TAG)
        await upstream.manifest(TAG)
        await read(upstream, image.config[0])
        await upstream.manifest(Reference(other, "1", None))
    assert authorizations(hub, "* /v2/*") == [None, "Bearer", "Bearer", "Bearer", "Bearer"]
    assert hub.count("GET /token") == 2


async def test_what_is_private_is_gone_for_strangers_and_there_for_us(hub: FakeRegistry) -> None:
    hub.access.private = ["team/*"]
    async with upstreams(url=hub.url, username=USER, password=PASSWORD) as made:
        gone = await outcome(made.source(NAME, anonymous=True))
        assert isinstance(gone, UpstreamGone)
        assert gone.refused
        assert await outcome(made.source(NAME, anonymous=False)) is None
    kinds = {request.headers.get("Authorization", "").partition(" ")[0] for request in hub.seen("GET /token")}
    assert kinds == {"", "Basic"}


async def test_what_docker_hub_does_not_have_is_401_and_gone(hub: FakeRegistry) -> None:
    """With credentials too: the token service accepted them. Fails if that counts as refused credentials, or is
    tried for ever."""
    for anonymous in (True, False):
        hub.forget()
        async with source(hub.url, anonymous=anonymous) as upstream:
            error = await outcome(upstream, MISSING)
            assert isinstance(error, UpstreamGone)
            assert error.refused
            assert upstream.state().up
        assert hub.count("GET */manifests/*") == 2
        assert hub.count("GET /token") == 1


async def test_403_after_a_token_is_gone(hub: FakeRegistry) -> None:
    hub.access.hub, hub.access.private, hub.access.readers = False, ["team/*"], {USER: ["else/*"]}
    async with source(hub.url, anonymous=False) as upstream:
        error = await outcome(upstream)
    assert isinstance(error, UpstreamGone)
    assert error.refused


@pytest.mark.parametrize("anonymous", [True, False])
async def test_a_token_service_that_refuses_a_repository(hub: FakeRegistry, *, anonymous: bool) -> None:
    """GHCR's: 403 for what may not be read, however good the credentials. Fails if it is taken for a wrong password:
    one name nobody has would shut out all others."""
    hub.access.denies, hub.access.private, hub.access.readers = True, ["team/*"], {USER: ["else/*"]}
    hub.add_image("else/app", "1")
    async with source(hub.url, anonymous=anonymous) as upstream:
        error = await outcome(upstream)
        assert isinstance(error, UpstreamGone)
        assert error.refused
        if not anonymous:
            assert await outcome(upstream, Reference(Repository(NAME, "else/app"), "1", None)) is None
            assert upstream.state().up


async def test_refused_credentials_are_no_answer(hub: FakeRegistry, caplog: pytest.LogCaptureFixture) -> None:
    """Said once in the log and in the state, and not tried again at once (accounts get locked). Fails if they count
    as an answer about the image."""
    clock = Clock()
    hub.access.users[USER] = "another"
    with caplog.at_level(logging.WARNING):
        async with source(hub.url, anonymous=False, clock=clock) as upstream:
            for _ in range(3):
                assert isinstance(await outcome(upstream), UpstreamCredentialsRefused)
            state = upstream.state()
            assert not state.up
            assert state.refused
            assert state.reason is not None
            assert "log in again" in state.reason
            assert hub.count("GET /token") == 2  # for the repository, and for none
            clock.shift += 61
            assert isinstance(await outcome(upstream), UpstreamCredentialsRefused)
            clock.shift += 61
            hub.access.users[USER] = PASSWORD
            assert await outcome(upstream) is None
            assert upstream.state().up
    assert len(caplog.records) == 1
    no_secret_in(caplog.text)


async def test_a_token_from_before_does_not_vouch_for_a_password(hub: FakeRegistry) -> None:
    """A probe left a token for no repository. Fails if that one shows the credentials to be good, long after they
    were withdrawn: what is private would count as gone, and be dropped."""
    async with source(hub.url, anonymous=False) as upstream:
        await upstream.probe()
        hub.access.users[USER] = "another"
        assert isinstance(await outcome(upstream), UpstreamCredentialsRefused)


async def test_a_token_that_expires_is_renewed_once(hub: FakeRegistry, image: FakeImage) -> None:
    """In the middle of a pull, unseen. Fails if there is no second try, or more than one."""
    for status in (401, 403):
        hub.access.expired = status
        async with source(hub.url) as upstream:
            await upstream.manifest(TAG)
            for token in hub.access.tokens.values():
                token.expires = 0
            hub.forget()
            assert await read(upstream, layer(image)[0]) == layer(image)[1]
        assert hub.count("GET */blobs/*") == 2
        assert hub.count("GET /token") == 1


async def test_a_token_is_renewed_before_it_expires(hub: FakeRegistry) -> None:
    """60 s where nothing is said. Fails if the token is used up to its end, and some request finds it expired."""
    clock = Clock()
    for seconds, told in ((60.0, False), (1000.0, True)):
        hub.access.token_seconds, hub.access.tell_expiry = seconds, told
        hub.forget()
        async with source(hub.url, clock=clock) as upstream:
            await upstream.head(TAG)
            clock.shift += seconds * 0.75
            await upstream.head(TAG)
            assert hub.count("GET /token") == 1
            clock.shift += seconds * 0.24
            await upstream.head(TAG)
            assert hub.count("GET /token") == 2
            assert authorizations(hub, "HEAD *") == [None, "Bearer", "Bearer", "Bearer"]


async def test_a_loop_of_401_ends(hub: FakeRegistry) -> None:
    """Fails if every 401 is answered with another token."""
    hub.script("GET */manifests/*", b.challenge(f'Bearer realm="{hub.url}/token",service="s"'), times=None)
    for anonymous in (True, False):
        hub.forget()
        async with source(hub.url, anonymous=anonymous) as upstream:
            assert isinstance(await outcome(upstream), UpstreamGone)
        assert hub.count("GET */manifests/*") == 2
    no_realm = b.challenge("Bearer", 'Digest realm="x"', "")
    hub.unscript()
    hub.script("GET */manifests/*", no_realm, times=None)
    async with source(hub.url) as upstream:
        assert isinstance(await outcome(upstream), UpstreamGone)


async def test_a_challenge_that_changes_each_time_ends_too(hub: FakeRegistry) -> None:
    """Fails if every other scope is worth another try."""
    for number in range(20):
        scope = f"repository:{REPOSITORY.path}:pull,{number}"
        hub.script("GET */manifests/*", b.challenge(f'Bearer realm="{hub.url}/token",scope="{scope}"'))
    async with source(hub.url) as upstream:
        assert isinstance(await outcome(upstream), UpstreamGone)
    assert hub.count("GET */manifests/*") == 3


async def test_several_challenges_in_several_lines(hub: FakeRegistry) -> None:
    """Fails if only the first is read."""
    hub.script("GET */manifests/*", b.challenge("Negotiate", f'Basic realm="x", Bearer realm="{hub.url}/token"'))
    async with source(hub.url) as upstream:
        assert await outcome(upstream) is None


async def test_scopes_other_than_the_usual(hub: FakeRegistry) -> None:
    """Each is sent by itself, and remembered for the repository."""
    scopes = f"repository:{REPOSITORY.path}:pull repository:base/x:pull"
    challenge = b.challenge(f'Bearer realm="{hub.url}/token",scope="{scopes}"')
    hub.script("GET */manifests/*", challenge)
    async with source(hub.url) as upstream:
        assert await outcome(upstream) is None
        assert await outcome(upstream) is None
    (asked,) = hub.seen("GET /token")
    assert asked.query["scope"] == scopes.split()


async def test_a_password_that_changed_meanwhile_is_tried_in_the_same_request(
    hub: FakeRegistry, tmp_path: Path
) -> None:
    """As a helper's next token, or a password file written anew. Fails if a rotation is an outage for a minute."""
    clock, file = Clock(), tmp_path / "password"
    hub.access.private = ["team/*"]
    file.write_text(PASSWORD)
    async with source(hub.url, anonymous=False, username=USER, password_file=file, clock=clock) as upstream:
        assert await outcome(upstream) is None
        hub.access.users[USER] = "rotated"
        hub.access.tokens.clear()
        file.write_text("rotated")
        assert await outcome(upstream) is None
        hub.access.users[USER] = "again"
        hub.access.tokens.clear()
        file.write_text("wrong")
        assert isinstance(await outcome(upstream), UpstreamCredentialsRefused)


async def test_a_repository_refused_beforehand_is_asked_for_all_the_same(hub: FakeRegistry) -> None:
    """The scope we guess is not the registry's word. Fails if a refused guess ends the matter."""
    hub.access.denies, hub.access.private = True, ["team/secret"]
    other = Reference(Repository(NAME, "team/secret"), "1", None)
    hub.add_image("team/secret", "1", seed="secret")
    async with source(hub.url) as upstream:
        assert await outcome(upstream) is None
        hub.script("GET /v2/team/secret/*", b.HONEST)
        for _ in range(2):
            assert isinstance(await outcome(upstream, other), UpstreamGone)
        assert hub.count("GET /v2/team/secret/*") == 1  # the second time it is the registry's word
        hub.access.private = []
        assert await outcome(upstream, other) is None


async def test_what_is_remembered_of_origins_is_bounded(
    hub: FakeRegistry, image: FakeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirror.upstream.auth._ORIGINS", 1)
    monkeypatch.setattr("mirror.upstream.auth._PATHS", 1)
    monkeypatch.setattr("mirror.upstream.tokens._KEPT", 1)
    hub.add_image("team/other", "1")
    async with FakeRegistry() as other, source(hub.url) as upstream:
        other.content, other.access.scheme = hub.content, "bearer"
        hub.locate = lambda request: f"{other.url}{request.target}"
        for name in ("app", "other", "app"):
            assert await outcome(upstream, Reference(Repository(NAME, f"team/{name}"), "1", None)) is None
            assert await read(upstream, layer(image)[0]) == layer(image)[1]


# --- basic ------------------------------------------------------------------------------------------------


async def test_a_registry_that_knows_basic_only(basic: FakeRegistry) -> None:
    async with upstreams(url=basic.url, username=USER, password=PASSWORD) as made:
        ours = made.source(NAME, anonymous=False)
        assert await outcome(ours) is None
        assert await outcome(ours) is None
        assert authorizations(basic) == [None, "Basic", "Basic"]
        gone = await outcome(made.source(NAME, anonymous=True))
        assert isinstance(gone, UpstreamGone)
        assert gone.refused


async def test_basic_credentials_that_are_refused(basic: FakeRegistry) -> None:
    basic.access.users[USER] = "another"
    async with source(basic.url, anonymous=False) as upstream:
        assert isinstance(await outcome(upstream), UpstreamCredentialsRefused)
        assert isinstance(await outcome(upstream), UpstreamCredentialsRefused)
    assert basic.count("GET */manifests/*") == 2


async def test_a_403_for_good_basic_credentials_is_about_the_repository(basic: FakeRegistry) -> None:
    """The ping tells it from an expired password. Fails if either passes for the other."""
    basic.access.private, basic.access.readers = ["team/*"], {USER: []}
    async with source(basic.url, anonymous=False) as upstream:
        gone = await outcome(upstream)
        assert isinstance(gone, UpstreamGone)
        assert gone.refused
        assert upstream.state().up
    basic.access.users[USER], basic.access.expired = "another", 403
    async with source(basic.url, anonymous=False) as upstream:
        assert isinstance(await outcome(upstream), UpstreamCredentialsRefused)


# --- where credentials may go -----------------------------------------------------------------------------


async def test_credentials_are_not_sent_to_a_realm_of_another_domain(hub: FakeRegistry) -> None:
    """Fails if the registry chooses who gets our password (CVE-2026-33540). 127.0.0.2 is another host."""
    async with FakeRegistry(host="127.0.0.2") as thief:
        hub.access.realm = f"{thief.url}/token"
        async with source(hub.url, anonymous=False) as upstream:
            error = await outcome(upstream)
            assert isinstance(error, UpstreamForbidden)
            assert "`realms`" in error.message
        assert thief.requests == []
        thief.access.users, thief.access.scheme = hub.access.users, "bearer"
        thief.access.tokens = hub.access.tokens
        async with source(hub.url, anonymous=False, realms=("127.0.0.2",)) as upstream:
            assert await outcome(upstream) is None
        assert thief.count("GET /token") == 1
        async with source(hub.url) as upstream:
            assert await outcome(upstream) is None  # without credentials anybody may give a token


async def test_a_realm_that_redirects_gets_the_same_rules(hub: FakeRegistry) -> None:
    async with FakeRegistry(host="127.0.0.2") as thief:
        hub.script("GET /token", b.redirect(f"{thief.url}{{target}}"), times=None)
        async with source(hub.url, anonymous=False) as upstream:
            assert isinstance(await outcome(upstream), UpstreamForbidden)
        assert thief.requests == []


@pytest.mark.parametrize("scheme", ["bearer", "basic"])
async def test_credentials_go_over_plain_http_to_loopback_only(
    hub: FakeRegistry, tmp_path: Path, scheme: Literal["bearer", "basic"]
) -> None:
    """What docker's configuration has for a host too. Fails if a password goes in the clear over the network, to a
    token service or to the registry itself."""
    hub.access.scheme = scheme
    login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"registry.test": {"auth": login}}}))
    environment = {"DOCKER_CONFIG": str(tmp_path)}
    hub.access.realm = "http://registry.test/token"
    async with FakeProxy() as proxy:
        proxy.hosts["registry.test"] = ("127.0.0.1", hub.port)
        for insecure, schemes in ((False, set()), (True, {"Basic"})):
            hub.forget()
            async with source(
                "http://registry.test", anonymous=False, environment=environment, proxy=proxy.url, insecure=insecure
            ) as upstream:
                error = await outcome(upstream)
                assert (error is None) is insecure
                assert insecure or isinstance(error, UpstreamForbidden)
            match = "GET /token" if scheme == "bearer" else "GET */manifests/*"
            assert set(authorizations(hub, match)) - {None} == schemes


async def test_a_store_that_asks_for_a_token_gets_one_without_credentials(
    hub: FakeRegistry, image: FakeImage, cdn: FakeCdn
) -> None:
    """registry.k8s.io leads to registries that want a token of their own. Fails if ours or our password goes there."""
    async with FakeRegistry() as other:
        other.content, other.access.scheme = hub.content, "bearer"
        hub.locate = lambda request: f"{other.url}{request.target}"
        async with source(hub.url, anonymous=False) as upstream:
            assert await read(upstream, layer(image)[0]) == layer(image)[1]
            assert await read(upstream, layer(image)[0]) == layer(image)[1]
        assert authorizations(other, "GET */blobs/*") == [None, "Bearer", "Bearer"]
        assert authorizations(other, "GET /token") == [None]
        shown = {request.headers.get("Authorization") for request in other.requests}
        assert not shown & {request.headers.get("Authorization") for request in hub.requests} - {None}


async def test_a_token_service_in_an_outage_is_no_answer(hub: FakeRegistry) -> None:
    hub.script("GET /token", b.status(503), times=None)
    async with source(hub.url) as upstream:
        assert isinstance(await outcome(upstream), UpstreamUnreachable)

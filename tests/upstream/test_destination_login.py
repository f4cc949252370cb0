"""Who pushes: scopes, tokens that run out, and whom nothing is shown. What breaks a test is said in its docstring."""

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from mirror.clock import Clock
from mirror.errors import (
    UpstreamCredentialsRefused,
    UpstreamError,
    UpstreamForbidden,
    UpstreamGone,
    UpstreamRefused,
    UpstreamUnreachable,
)
from tests.support.fake_registry import FakeRegistry, Intake
from tests.support.fake_registry import behaviours as b
from tests.upstream.pushing import DATA, DIGEST, OTHER, begun, chunks, push
from tests.upstream.support import NAME, PASSWORD, REPOSITORY, TAG, USER, destination, no_secret_in, upstreams


@pytest.fixture
def hub(registry: FakeRegistry) -> FakeRegistry:
    """A registry with a token service, where `USER` may push to team/… and nobody else."""
    registry.access.scheme = "bearer"
    registry.access.users[USER] = PASSWORD
    registry.access.writers = {USER: ["team/*"]}
    return registry


def asked(registry: FakeRegistry) -> list[list[str]]:
    """The scopes of each request for a token."""
    return [request.query.get("scope", []) for request in registry.seen("GET /token")]


# --- scopes -----------------------------------------------------------------------------------------------


async def test_one_token_does_for_all(hub: FakeRegistry) -> None:
    """Fails if a token is asked for by what each request alone needs: the body of a PATCH could not be sent again."""
    async with destination(hub.url, anonymous=False) as target:
        with pytest.raises(UpstreamGone):
            await target.size(REPOSITORY, DIGEST)
        await push(target)
        assert await target.size(REPOSITORY, DIGEST) == len(DATA)
    assert asked(hub) == [["repository:team/app:pull,push"]]
    shown = [request.headers.get("Authorization") for request in hub.seen("* */blobs/*")]
    assert shown[0] is None
    assert len(set(shown)) == 2


async def test_a_token_of_a_pull_is_not_used(hub: FakeRegistry) -> None:
    hub.add_image(REPOSITORY.path, "1")
    async with upstreams(url=hub.url, username=USER, password=PASSWORD) as made:
        await made.source(NAME, anonymous=False).head(TAG)
        await push(made.destination(NAME))
        await made.source(NAME, anonymous=False).head(TAG)
    assert asked(hub) == [["repository:team/app:pull"], ["repository:team/app:pull,push"]]


async def test_a_mount_asks_for_both(hub: FakeRegistry) -> None:
    """Also where the challenge does not name the other repository."""
    hub.add_blob(OTHER.path, DATA)
    hub.access.private = ["team/*"]
    async with destination(hub.url, anonymous=False) as target:
        await target.begin(REPOSITORY, DIGEST)
        assert await target.begin(REPOSITORY, DIGEST, OTHER) is None
    assert asked(hub)[-1] == ["repository:team/app:pull,push", "repository:team/base:pull"]
    assert hub.count("POST *") == 3


async def test_the_upload_that_became_of_a_mount(hub: FakeRegistry) -> None:
    """Fails if its body is sent without a token, because none was asked for this alone before."""
    async with destination(hub.url, anonymous=False) as target:
        session = await target.begin(REPOSITORY, DIGEST, OTHER)
        assert session is not None
        await target.finish(REPOSITORY, await target.send(REPOSITORY, session, chunks(DATA), len(DATA)), DIGEST)
    assert hub.count("PATCH *") == 1


@pytest.mark.parametrize("denies", [False, True])
async def test_a_mount_from_where_we_may_not_read(hub: FakeRegistry, denies: bool) -> None:
    """Is an upload. Fails if a token service that refuses all because of one scope ends the push."""
    hub.add_blob(OTHER.path, DATA)
    hub.access.private, hub.access.readers, hub.access.denies = [OTHER.path], {USER: [REPOSITORY.path]}, denies
    async with destination(hub.url, anonymous=False) as target:
        assert await target.begin(REPOSITORY, DIGEST, OTHER) is not None
        await push(target)


async def test_a_delete_asks_for_what_the_registry_wants(hub: FakeRegistry) -> None:
    """Fails if the action is guessed: some token services answer 400 to a `delete`."""
    image = hub.add_image(REPOSITORY.path, "1")
    async with destination(hub.url, anonymous=False) as target:
        assert await target.head(TAG) is not None
        await target.delete(TAG)
        await push(target)
    assert str(image.digest) not in hub.repository(REPOSITORY.path).tags.values()
    scope = "repository:team/app:"
    assert asked(hub) == [[f"{scope}pull,push"], [f"{scope}delete"]]
    hub.forget()
    hub.script(
        "DELETE *",
        b.challenge(f'Bearer realm="{hub.url}/token",service="fake",scope="repository:team/app:pull,push"'),
        times=None,
    )
    async with destination(hub.url, anonymous=False) as target:
        await target.size(REPOSITORY, DIGEST)
        with pytest.raises(UpstreamRefused):
            await target.delete(TAG)
    assert all(scopes == [f"{scope}pull,push"] for scopes in asked(hub))


# --- tokens that run out ----------------------------------------------------------------------------------


async def test_a_token_that_runs_out_before_the_body(hub: FakeRegistry) -> None:
    clock = Clock()
    async with destination(hub.url, anonymous=False, clock=clock) as target:
        session = await begun(target)
        clock.shift += 290
        hub.access.tokens.clear()
        await target.send(REPOSITORY, session, chunks(DATA), len(DATA))
    assert hub.count("PATCH *") == 1


@pytest.mark.parametrize("early", [False, True])
async def test_a_token_that_is_refused_with_the_body(hub: FakeRegistry, early: bool) -> None:
    """The caller goes on from what is there, with another. Fails if the body is sent twice, or half of one is kept."""
    async with destination(hub.url, anonymous=False) as target:
        session = await begun(target)
        hub.access.tokens.clear()
        if early:
            hub.script_intake("PATCH *", Intake(10, "answer"))
        with pytest.raises(UpstreamUnreachable):
            await target.send(REPOSITORY, session, chunks(DATA), len(DATA))
        resumed = await target.resume(REPOSITORY, session.location)
        assert resumed is not None
        assert resumed.offset == 0
        resumed = await target.send(REPOSITORY, resumed, chunks(DATA), len(DATA))
        hub.access.tokens.clear()
        await target.finish(REPOSITORY, resumed, DIGEST)
    assert hub.count("PATCH *") == 2
    assert hub.repository(REPOSITORY.path).blobs == {str(DIGEST): DATA}


# --- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("denies", [False, True], ids=["a lesser token", "no token"])
async def test_who_may_not_push(hub: FakeRegistry, denies: bool) -> None:
    hub.access.writers, hub.access.denies = {USER: ["other/*"]}, denies
    async with destination(hub.url, anonymous=False) as target:
        with pytest.raises(UpstreamRefused, match="refused an upload to team/app") as caught:
            await begun(target)
        assert "no login" not in caught.value.message
    async with destination(hub.url) as target:
        with pytest.raises(UpstreamRefused, match="no login"):
            await begun(target)


async def test_basic(registry: FakeRegistry) -> None:
    registry.access.scheme, registry.access.users = "basic", {USER: PASSWORD}
    async with destination(registry.url, anonymous=False) as target:
        await push(target)
        registry.access.writers = {}
        with pytest.raises(UpstreamRefused, match="DENIED"):
            await begun(target)
        registry.access.users = {USER: "another"}
        with pytest.raises(UpstreamCredentialsRefused):
            await begun(target)
    async with destination(registry.url) as target:
        with pytest.raises(UpstreamRefused, match="no login"):
            await begun(target)


async def test_a_login_is_believed_at_once(hub: FakeRegistry, tmp_path: Path) -> None:
    """Fails if a push waits out the minute after a refusal, although the login is another now."""
    async with upstreams(registries={NAME: {"url": hub.url}}, environment={"DOCKER_CONFIG": str(tmp_path)}) as made:
        target = made.destination(NAME)
        with pytest.raises(UpstreamRefused, match="no login"):
            await target.begin(REPOSITORY, DIGEST)
        await made.log_in(NAME, USER, PASSWORD)
        assert await target.begin(REPOSITORY, DIGEST) is not None
        hub.access.users[USER] = "another"
        hub.access.tokens.clear()
        with pytest.raises(UpstreamCredentialsRefused):
            await target.begin(REPOSITORY, DIGEST)
        hub.access.users[USER] = PASSWORD
        await made.log_in(NAME, USER, PASSWORD)
        assert await target.begin(REPOSITORY, DIGEST) is not None


# --- others -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["none", "basic", "bearer"])
async def test_another_host_is_shown_nothing(registry: FakeRegistry, hub: FakeRegistry, scheme: str) -> None:
    """Fails if a registry, or who has broken into it, sends our password elsewhere by a `Location`."""
    async with FakeRegistry() as stranger:
        stranger.pushes = hub.pushes  # which the uploads go to
        hub.pushes.locate = lambda place: f"http://{USER}:x@{stranger.host}:{stranger.port}{place}"
        if scheme == "basic":
            stranger.script("PATCH *", b.challenge('Basic realm="your password"'))
        elif scheme == "bearer":
            stranger.script("PATCH *", b.challenge(f'Bearer realm="{stranger.url}/token",service="x"'))
        async with destination(hub.url, anonymous=False) as target:
            session = await begun(target)
            try:
                session = await target.send(REPOSITORY, session, chunks(DATA), len(DATA))
            except UpstreamError:
                assert scheme != "none"
                resumed = await target.resume(REPOSITORY, session.location)
                assert resumed is not None
                session = await target.send(REPOSITORY, resumed, chunks(DATA), len(DATA))
            await target.finish(REPOSITORY, session, DIGEST)
        assert hub.repository(REPOSITORY.path).blobs == {str(DIGEST): DATA}
        assert stranger.count("PATCH *") >= 1
        for request in stranger.requests:
            shown = request.headers.get("Authorization", "")
            assert all(token not in shown for token in hub.access.tokens)
            assert "Basic" not in shown


async def test_a_location_leads_nowhere_it_may_not(registry: FakeRegistry, caplog: pytest.LogCaptureFixture) -> None:
    """Fails if a registry makes the mirror send to itself."""
    caplog.set_level(logging.DEBUG)
    async with FakeRegistry() as inner:
        own = {("127.0.0.1", inner.port)}
        registry.pushes.locate = lambda place: f"{inner.url}{place}"
        async with destination(registry.url, listening=lambda: own) as target:
            session = await begun(target)
            with pytest.raises(UpstreamForbidden, match="this mirror listens on"):
                await target.send(REPOSITORY, session, chunks(b"abc"), 3)
        assert inner.requests == []


async def test_no_secret_is_told(hub: FakeRegistry, caplog: pytest.LogCaptureFixture) -> None:
    """Not even by a registry that throws back what it was sent."""
    caplog.set_level(logging.DEBUG)
    async with destination(hub.url, anonymous=False) as target:
        session = await begun(target)
        token = next(iter(hub.access.tokens))
        body = (
            f'{{"errors":[{{"code":"DENIED","message":"token {token} of {USER}:{PASSWORD} '
            f'at {session.location} is sig=no good"}}]}}'
        ).encode()
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "POST *": lambda: target.begin(REPOSITORY, DIGEST),
            "PATCH *": lambda: target.send(REPOSITORY, session, chunks(DATA), len(DATA)),
            "PUT *": lambda: target.finish(REPOSITORY, session, DIGEST),
        }
        for match, call in calls.items():
            for code in (400, 403):
                hub.unscript()
                hub.script(match, b.status(code, body=body))
                with pytest.raises(UpstreamRefused) as caught:
                    await call()
                no_secret_in(caught.value.message.replace("sig=no", ""))
                assert "st%2Fate" not in caught.value.message
            hub.script(match, b.reset(), times=None)
            with pytest.raises(UpstreamUnreachable) as broken:
                await call()
            no_secret_in(broken.value)
            assert "uploads" not in broken.value.message
    no_secret_in(caplog.text)
    assert "st%2Fate" not in caplog.text

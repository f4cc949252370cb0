"""Finding repositories in a registry. What breaks a test is said in its docstring."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mirror.clock import Clock
from mirror.errors import (
    NameUnknown,
    NoSearch,
    Offline,
    UpstreamCredentialsRefused,
    UpstreamInvalid,
    UpstreamLimited,
    UpstreamUnreachable,
)
from mirror.upstream import search as module
from mirror.upstream.protocols import Found, Searches
from mirror.upstream.registries import Registries
from tests.support.fake_registry import Authority, Behaviour, FakeProxy, FakeRegistry
from tests.support.fake_registry import behaviours as b
from tests.upstream.support import NAME, PASSWORD, USER, no_secret_in, upstreams


async def find(
    made: Searches, term: str, limit: int = 25, *, anonymous: bool = True, registry: str = NAME
) -> list[str]:
    return [each.path for each in await made.search(registry, term, limit, anonymous=anonymous)]


def answer(value: object) -> Behaviour:
    return b.status(200, body=value if isinstance(value, bytes) else json.dumps(value).encode())


def hold(registry: FakeRegistry, *names: str) -> None:
    for name in names:
        registry.repository(name)


# --- docker's old search ----------------------------------------------------------------------------------


async def test_what_a_search_says(registry: FakeRegistry) -> None:
    registry.searches = True
    hold(registry, "team/app", "team/apple", "other/thing")
    registry.described["team/app"] = {"description": "An app.", "star_count": 7, "is_automated": True}
    async with upstreams(url=registry.url) as made:
        assert await made.search(NAME, "app", 25, anonymous=True) == [
            Found("team/app", "An app.", 7, automated=True),
            Found("team/apple"),
        ]
        assert await find(made, "app", 1) == ["team/app"]
        assert await find(made, "none") == []
    assert registry.requests[0].target == "/v1/search?q=app&n=25"
    assert registry.count("GET /v2/_catalog") == 0


@pytest.mark.parametrize("term", ["a b", "a&n=7", "ä+", "%2F", "x#y?z"])
async def test_a_term_is_a_text(registry: FakeRegistry, term: str) -> None:
    """Fails if a term can add parameters of its own."""
    registry.searches = True
    async with upstreams(url=registry.url) as made:
        await find(made, term, 9)
    assert registry.requests[0].query == {"q": [term], "n": ["9"]}


async def test_what_is_no_repository_is_left_out(registry: FakeRegistry) -> None:
    results: list[Any] = [
        {"name": "good/one", "star_count": "7", "description": 7, "is_official": "yes"},
        {"name": "../etc"},
        {"name": "Upper"},
        {"name": "a\x1b[2J"},
        {"name": ""},
        {"name": None},
        {},
        7,
        None,
        {"name": "good/two", "description": "x" * 5000, "star_count": -1},
    ]
    registry.script("GET /v1/search", answer({"results": results}))
    async with upstreams(url=registry.url) as made:
        assert await made.search(NAME, "x", 25, anonymous=True) == [Found("good/one"), Found("good/two", "x" * 1000)]


@pytest.mark.parametrize("value", [b"<html>", b"[]", b"{}", b"7", b'{"results": 7}', b"[" * 100_000, b""])
async def test_what_is_no_search_is_as_good_as_none(registry: FakeRegistry, value: bytes) -> None:
    """Some registries answer every path with a page."""
    registry.catalog = True
    hold(registry, "team/app")
    registry.script("GET /v1/search", answer(value))
    async with upstreams(url=registry.url) as made:
        assert await find(made, "app") == ["team/app"]


async def test_an_empty_answer_of_a_search_is_an_answer(registry: FakeRegistry) -> None:
    registry.catalog = True
    hold(registry, "team/app")
    registry.script("GET /v1/search", answer({"results": None}))
    async with upstreams(url=registry.url) as made:
        assert await find(made, "app") == []


# --- the catalog ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 501, 503])
async def test_without_a_search_the_catalog_is_looked_through(registry: FakeRegistry, status: int) -> None:
    registry.catalog, registry.page_size = True, 2
    hold(registry, *(f"team/app{n}" for n in range(5)), "other/thing")
    registry.script("GET /v1/search", b.status(status), times=None)
    async with upstreams(url=registry.url) as made:
        assert await find(made, "APP") == [f"team/app{n}" for n in range(5)]
        assert await find(made, "*") == []
        assert await find(made, "other/") == ["other/thing"]
        assert (await made.search(NAME, "", 25, anonymous=True))[0] == Found("other/thing")
        assert made.states()[0].up


async def test_as_many_pages_as_are_needed(registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails if a catalog of millions is read to its end."""
    registry.catalog, registry.page_size = True, 2
    hold(registry, *(f"team/app{n}" for n in range(9)))
    async with upstreams(url=registry.url) as made:
        assert len(await find(made, "app", 3)) == 3
        assert registry.count("GET /v2/_catalog") == 2
        registry.forget()
        monkeypatch.setattr(module, "CATALOG_PAGES", 3)
        assert await find(made, "app8") == []
        assert registry.count("GET /v2/_catalog") == 3


async def test_pages_in_a_circle_end(registry: FakeRegistry) -> None:
    registry.catalog = True
    hold(registry, "team/app")
    link = b.header("Link", '</v2/_catalog?n=1000>; rel="next"')
    registry.script("GET /v2/_catalog", link, times=None)
    async with upstreams(url=registry.url) as made:
        assert set(await find(made, "app")) == {"team/app"}
    assert registry.count("GET /v2/_catalog") < 5


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405])
async def test_neither_is_said_plainly(registry: FakeRegistry, status: int) -> None:
    registry.script("GET /v2/_catalog", b.status(status), times=None)
    async with upstreams(url=registry.url) as made:
        with pytest.raises(NoSearch, match=f"{NAME} offers no search") as caught:
            await find(made, "x")
    assert (caught.value.status, caught.value.exit_code, caught.value.code) == (404, 4, "UNSUPPORTED")


@pytest.mark.parametrize("value", [b"<html>", b"[]", b"{}", b'{"repositories": 7}'])
async def test_what_is_no_catalog_is_none(registry: FakeRegistry, value: bytes) -> None:
    registry.script("GET /v2/_catalog", answer(value))
    async with upstreams(url=registry.url) as made:
        with pytest.raises(NoSearch):
            await find(made, "x")


async def test_a_registry_with_a_path_has_its_names_below_it(registry: FakeRegistry) -> None:
    registry.catalog = True
    hold(registry, "hub/library/app", "hub/app", "hubris/app", "app")
    async with upstreams(url=f"{registry.url}/v2/hub") as made:
        assert await find(made, "app") == ["app", "library/app"]
        registry.searches = True
        assert await find(made, "app") == ["library/app", "app"]


# --- who asks ---------------------------------------------------------------------------------------------


async def test_with_credentials_and_without(registry: FakeRegistry) -> None:
    registry.catalog = True
    registry.access.scheme, registry.access.users = "basic", {USER: PASSWORD}
    hold(registry, "team/app")
    async with upstreams(url=registry.url, username=USER, password=PASSWORD) as made:
        with pytest.raises(NoSearch):
            await find(made, "app")
        assert await find(made, "app", anonymous=False) == ["team/app"]


async def test_refused_credentials_are_named(registry: FakeRegistry) -> None:
    registry.catalog = True
    registry.access.scheme = "basic"
    async with upstreams(url=registry.url, username=USER, password=PASSWORD) as made:
        with pytest.raises(UpstreamCredentialsRefused) as caught:
            await find(made, "app", anonymous=False)
    no_secret_in(caught.value)


async def test_a_token_for_the_catalog_stands_in_nobodys_way(registry: FakeRegistry) -> None:
    """The token service gives none for the catalog. Fails if the ping then asks for the same, and the registry counts
    as down."""
    registry.add_image("team/app", "1")
    registry.access.scheme = "bearer"
    wanted = f'Bearer realm="{registry.url}/token",service="fake",scope="registry:catalog:*"'
    registry.script("GET /v2/_catalog", b.challenge(wanted), times=None)
    registry.script(lambda request: "scope=registry" in request.target, b.status(403), times=None)
    async with upstreams(url=registry.url) as made:
        with pytest.raises(NoSearch):
            await find(made, "app")
        await made.probe()
        assert made.states()[0].up


async def test_credentials_follow_no_redirect(registry: FakeRegistry) -> None:
    async with FakeRegistry() as elsewhere:
        elsewhere.searches = True
        hold(elsewhere, "team/app")
        registry.script("GET /v1/search", b.redirect(elsewhere.url + "{target}"), times=None)
        registry.access.users = {USER: PASSWORD}
        elsewhere.access.scheme = "basic"
        async with upstreams(url=registry.url, username=USER, password=PASSWORD) as made:
            assert await find(made, "app", anonymous=False) == ["team/app"]
        assert "Authorization" not in elsewhere.requests[0].headers


# --- what goes wrong --------------------------------------------------------------------------------------


async def test_a_dead_registry(registry: FakeRegistry) -> None:
    await registry.stop()
    async with upstreams(url=registry.url) as made:
        with pytest.raises(UpstreamUnreachable):
            await find(made, "app")
        with pytest.raises(NameUnknown):
            await find(made, "app", registry="other.test")


async def test_a_limit_is_believed(registry: FakeRegistry) -> None:
    registry.script("GET /v1/search", b.limited("60"))
    async with upstreams(url=registry.url) as made:
        for _ in range(2):
            with pytest.raises(UpstreamLimited):
                await find(made, "app")
    assert registry.count() == 1


async def test_a_search_that_never_ends(registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.2)
    registry.script("GET /v1/search", b.hang_after(1), times=None)
    registry.searches = True
    async with upstreams(url=registry.url, idle_timeout=60) as made:
        with pytest.raises(UpstreamUnreachable, match="no answer within"):
            await find(made, "app")


async def test_a_body_without_end(registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BODY_LIMIT", 1000)
    registry.script("GET /v1/search", answer({"results": ["x" * 2000]}))
    async with upstreams(url=registry.url) as made:
        with pytest.raises(UpstreamInvalid, match="larger than 1000"):
            await find(made, "app")


async def test_offline_nothing_is_sent(registry: FakeRegistry) -> None:
    """By nobody: not by a source, not by a probe, not by a search. Fails if one of them has a way of its own."""
    offline = True
    registry.searches = True
    async with upstreams(url=registry.url, offline=lambda: offline) as made:
        with pytest.raises(Offline, match=NAME):
            await find(made, "app")
        await made.probe()
        assert registry.count() == 0
        assert made.states()[0].up
        offline = False
        assert await find(made, "app") == []


# --- Docker Hub itself ------------------------------------------------------------------------------------


@asynccontextmanager
async def hub(tmp_path: Path, clock: Clock) -> AsyncIterator[tuple[FakeRegistry, Registries]]:
    """Docker Hub under its own names, behind a proxy that knows where they are here."""
    authority = await asyncio.to_thread(Authority, tmp_path)
    context = await asyncio.to_thread(authority.server, "index.docker.io", "registry-1.docker.io")
    async with FakeRegistry(tls=context) as index, FakeProxy() as proxy:
        proxy.hosts = dict.fromkeys(("index.docker.io", "registry-1.docker.io"), ("127.0.0.1", index.port))
        index.searches = True
        section = {
            "url": "https://registry-1.docker.io",
            "proxy": f"http://127.0.0.1:{proxy.port}",
            "ca_file": authority.certificate,
            "username": USER,
            "password": PASSWORD,
        }
        async with upstreams(registries={"docker.io": section}, clock=clock) as made:
            yield index, made


async def test_docker_hub_has_its_search_elsewhere(tmp_path: Path) -> None:
    """And gets no password there, nor for its pulls what was said of searches."""
    clock = Clock()
    async with hub(tmp_path, clock) as (index, made):
        hold(index, "library/nginx", "team/nginx-plus")
        for anonymous in (True, False):
            assert await find(made, "library/nginx", registry="docker.io", anonymous=anonymous) == [
                "nginx",
                "team/nginx-plus",
            ]
        request = index.requests[0]
        assert (request.headers["Host"], request.target) == ("index.docker.io", "/v1/search?q=nginx&n=25")
        assert not any("Authorization" in request.headers for request in index.requests)
        index.script("GET /v1/search", b.limited("60"))
        index.forget()
        for _ in range(2):
            with pytest.raises(UpstreamLimited):
                await find(made, "nginx", registry="docker.io")
        assert index.count() == 1
        assert all(state.up for state in made.states())
        clock.shift += 61
        assert await find(made, "nginx", registry="docker.io")
        for behaviour in (b.status(404), answer(b"<html>")):
            index.script("GET /v1/search", behaviour)
            with pytest.raises(UpstreamInvalid):
                await find(made, "nginx", registry="docker.io")

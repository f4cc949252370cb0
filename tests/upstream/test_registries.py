"""All registries together: building, states, probes, closing."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any, Literal

import pytest

from mirror.clock import Clock
from mirror.errors import ConfigInvalid, NameUnknown, UpstreamGone, UpstreamLoop, UpstreamUnreachable
from mirror.oci.digest import Digest
from mirror.upstream.protocols import Destination, Source, Upstreams
from tests.support.fake_registry import FakeProxy, FakeRegistry
from tests.support.fake_registry import behaviours as b
from tests.support.fake_registry.content import FakeImage
from tests.upstream.support import NAME, PASSWORD, REPOSITORY, TAG, USER, no_secret_in, source, upstreams


async def test_they_keep_the_contract() -> None:
    async with upstreams(url="https://registry.test") as made:
        contract: Upstreams = made
        each: Source = contract.source(NAME, anonymous=True)
        assert each.key == (NAME, True)
        assert contract.source(NAME, anonymous=True) is each
        target: Destination = contract.destination(NAME)
        assert target.registry == NAME


async def test_only_what_is_configured_and_enabled() -> None:
    async with upstreams(registries={NAME: {"url": "https://a.test", "enabled": False}}) as made:
        for name in (NAME, "other.test"):
            with pytest.raises(NameUnknown, match="not configured"):
                made.source(name, anonymous=True)
            with pytest.raises(NameUnknown, match="not configured"):
                made.destination(name)
        assert made.states() == []


async def test_who_has_credentials(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({"auths": {"b.test": {"auth": "YTpi"}}, "credHelpers": {"c.test": "x"}})
    )
    registries: dict[str, dict[str, Any]] = {
        "a.test": {"url": "https://a.test", "username": USER, "password": PASSWORD},
        "b.test": {"url": "https://b.test"},
        "c.test": {"url": ("https://d.test", "https://c.test")},
        "d.test": {"url": "https://d.test"},
        "docker.io": {"url": "https://elsewhere.test"},
    }
    async with upstreams(registries=registries, environment={"DOCKER_CONFIG": str(tmp_path)}) as made:
        assert {name: made.has_credentials(name) for name in registries} == {
            "a.test": True, "b.test": True, "c.test": True, "d.test": False, "docker.io": False,
        }  # fmt: skip
        assert len(made.states()) == 8
        no_secret_in(made.states(), made)


async def test_a_later_docker_login_is_noticed(tmp_path: Path) -> None:
    """Fails if it takes a restart."""
    clock = Clock()
    environment = {"DOCKER_CONFIG": str(tmp_path)}
    async with upstreams(url="https://registry.test", environment=environment, clock=clock) as made:
        assert not made.has_credentials(NAME)
        (tmp_path / "config.json").write_text(json.dumps({"auths": {"registry.test": {"auth": "YTpi"}}}))
        clock.shift += 5
        async with asyncio.timeout(5):
            while not made.has_credentials(NAME):
                await asyncio.sleep(0.01)
        assert len(made.states()) == 2


@pytest.mark.parametrize("values", [{"proxy": "http://[bad"}, {"addresses": ("10.0.0.0/99",)}, {"url": "nonsense"}])
async def test_settings_that_cannot_be_used(values: dict[str, Any]) -> None:
    with pytest.raises((ConfigInvalid, ValueError)):
        async with upstreams(registries={NAME: {"url": "https://registry.test", **values}}):
            pass


async def test_it_starts_with_everything_dead(unused_tcp_port: int) -> None:
    """And says so after one probe. Fails if a dead upstream keeps the mirror from starting."""
    url = f"http://127.0.0.1:{unused_tcp_port}"
    async with upstreams(registries={"a.test": {"url": url}, "b.test": {"url": url}}) as made:
        assert all(state.up and not state.checked for state in made.states())
        await made.probe()
        for state in made.states():
            assert not state.up
            assert state.since is not None
            assert state.retry_at is not None
            assert "could not be reached" in (state.reason or "")


async def test_a_probe_is_parallel_and_bounded(
    registry: FakeRegistry, image: FakeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirror.upstream.registries.PROBE_SECONDS", 0.5)
    async with FakeRegistry() as silent:
        silent.script("*", b.hang(), times=None)
        registries = {f"r{n}.test": {"url": silent.url} for n in range(5)} | {NAME: {"url": registry.url}}
        async with upstreams(registries=registries) as made:
            began = time.monotonic()
            await made.probe()
            assert time.monotonic() - began < 1
            assert [state.checked for state in made.states()] == [False] * 5 + [True]
    assert registry.count("GET /v2/") == 1


async def test_a_push_that_arrives_tells_those_who_pull(registry: FakeRegistry, image: FakeImage) -> None:
    """Breaks where each waits for a probe of its own: a registry that takes pushes is refused to those who pull."""
    registry.script("*", b.status(503), times=None)
    async with upstreams(url=registry.url, username=USER, password=PASSWORD) as made:
        await made.probe()
        assert not any(state.up for state in made.states())
        registry.forget()
        registry.unscript()
        await made.destination(NAME).size(REPOSITORY, Digest.parse(image.layers[0][0]))
        assert all(state.up for state in made.states())


async def test_a_probe_finds_credentials_that_are_refused(registry: FakeRegistry, image: FakeImage) -> None:
    schemes: tuple[Literal["basic", "bearer"], ...] = ("basic", "bearer")
    for scheme in schemes:
        registry.access.scheme = scheme
        async with upstreams(url=registry.url, username=USER, password=PASSWORD) as made:
            await made.probe()
            anonymous, ours = made.states()
            assert anonymous.up
            assert not ours.up
            assert ours.refused
            assert ours.reason is not None
            assert "credentials" in ours.reason
            no_secret_in(ours)


async def test_docker_hub_is_asked_for_its_limit(registry: FakeRegistry) -> None:
    """By HEAD, which costs nothing, and only where it is Docker Hub."""
    registry.add_image("ratelimitpreview/test", "latest")
    registry.limits = {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "42;w=21600"}
    async with FakeProxy() as proxy:
        proxy.hosts["registry-1.docker.io"] = ("127.0.0.1", registry.port)
        registries = {"docker.io": {"url": "http://registry-1.docker.io", "proxy": proxy.url}}
        async with upstreams(registries=registries) as made:
            await made.probe()
            (state,) = made.states()
            assert (state.pulls_left, state.pulls_limit) == (42, 100)
    assert [request.method for request in registry.seen("* */manifests/*")] == ["HEAD"]
    registry.forget()
    async with upstreams(registries={"docker.io": {"url": registry.url}}) as made:
        await made.probe()
    assert registry.count("* */manifests/*") == 0


async def test_a_mirror_that_is_its_own_upstream_is_named_by_the_probe(registry: FakeRegistry) -> None:
    registry.script("*", b.status(508, headers={"Mirror-Loop": "this-mirror"}), times=None)
    async with upstreams(url=registry.url) as made:
        await made.probe()
        (state,) = made.states()
        assert not state.up
        assert state.reason is not None
        assert "leads back to this mirror" in state.reason
        with pytest.raises(UpstreamLoop):
            await made.source(NAME, anonymous=True).manifest(TAG)


async def test_closing_ends_probes_and_connections(registry: FakeRegistry, image: FakeImage) -> None:
    registry.script("*", b.hang(), times=None)
    async with upstreams(url=registry.url, headers_seconds=0.1) as made:
        with pytest.raises(UpstreamUnreachable):
            await made.source(NAME, anonymous=True).manifest(TAG)
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert not any(name.startswith("probe") for name in names)


def test_a_registry_in_a_thread_of_its_own() -> None:
    """What synchronous tests with real clients use."""

    async def ask(url: str) -> bytes:
        async with source(url) as upstream:
            return (await upstream.manifest(TAG)).raw

    with FakeRegistry().in_thread() as registry:
        image = registry.add_image(TAG.repository.path, "1")
        assert asyncio.run(ask(registry.url)) == image.manifest.raw
        assert registry.count("GET */manifests/*") == 1


async def test_a_push_goes_to_the_first_url(registry: FakeRegistry, unused_tcp_port: int) -> None:
    """Fails if it goes wherever the pulls were answered last: the other may be a mirror of the first."""
    digest = Digest.of(b"")
    async with upstreams(url=(f"http://127.0.0.1:{unused_tcp_port}", registry.url)) as made:
        with pytest.raises(UpstreamGone):
            await made.source(NAME, anonymous=True).size(REPOSITORY, digest)
        for _ in range(2):
            with pytest.raises(UpstreamUnreachable):
                await made.destination(NAME).begin(REPOSITORY, digest)
    assert registry.count("POST *") == 0

"""`docker search` and `podman search` of the mirror, and what they find is pulled from there."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from tests.real.conftest import Seeded
from tests.support.clients import Dockerd, Podman
from tests.support.fake_registry import FakeRegistry
from tests.support.mirror import MirrorProcess
from tests.support.processes import CommandError

pytestmark = pytest.mark.real

Mirrors = Callable[..., MirrorProcess]
QUAY, BARE = "quay.test", "bare.test"


@pytest.fixture
def registries() -> Iterator[dict[str, FakeRegistry]]:
    """A docker.io with a search, a quay.test with a catalog, a bare.test with neither."""
    with FakeRegistry().in_thread() as hub, FakeRegistry().in_thread() as quay, FakeRegistry().in_thread() as bare:
        hub.searches, quay.catalog = True, True
        for name in ("library/server", "team/server"):
            hub.add_image(name, "1", seed=name)
        hub.described["server"] = {"description": "Serves.", "star_count": 7}
        quay.add_image("org/app", "1")
        bare.add_image("org/thing", "1")
        yield {"docker.io": hub, QUAY: quay, BARE: bare}


def _urls(registries: dict[str, FakeRegistry]) -> dict[str, str]:
    return {name: registry.url for name, registry in registries.items()}


def _docker(client: Dockerd, term: str, *options: str) -> list[dict[str, str]]:
    said = client.command("search", "--no-trunc", "--format", "{{json .}}", *options, term)
    return [json.loads(line) for line in said.splitlines()]


def _podman(client: Podman, term: str) -> list[str]:
    said = client.command("search", "--tls-verify=false", "--format", "{{.Name}}", term)
    return said.split()


def test_docker_search(registries: dict[str, FakeRegistry], mirror: Mirrors, dockerd: Callable[..., Dockerd]) -> None:
    served = mirror(_urls(registries))
    client = dockerd(served.authority)
    found = _docker(client, f"{served.authority}/server")
    assert [(each["Name"], each["StarCount"], each["Description"]) for each in found] == [
        ("server", "7", "Serves."),
        ("team/server", "0", ""),
    ]
    assert found[0]["IsOfficial"] in ("[OK]", "true")
    assert [each["Name"] for each in _docker(client, f"{served.authority}/server", "--filter", "stars=3")] == ["server"]
    assert len(_docker(client, f"{served.authority}/server", "--limit", "1")) == 1
    assert [each["Name"] for each in _docker(client, f"{served.authority}/{QUAY}/app")] == [f"{QUAY}/org/app"]
    with pytest.raises(CommandError, match="404"):
        _docker(client, f"{served.authority}/{BARE}/thing")
    with urllib.request.urlopen(f"{served.url}/v2/{BARE}/org/thing/manifests/1") as answer:  # what is held is found
        assert answer.status == 200
    assert [each["Name"] for each in _docker(client, f"{served.authority}/{BARE}/thing")] == [f"{BARE}/org/thing"]


def test_podman_search(
    registries: dict[str, FakeRegistry], mirror: Mirrors, podman: Callable[..., Podman], upstream: Seeded
) -> None:
    urls = {**_urls(registries), "real.test": upstream.registry.url}
    served = mirror(urls)
    client = podman(served.authority, registries=["docker.io"])
    assert _podman(client, f"{served.authority}/server") == [
        f"{served.authority}/server",
        f"{served.authority}/team/server",
    ]
    assert _podman(client, f"{served.authority}/{QUAY}/app") == [f"{served.authority}/{QUAY}/org/app"]
    assert _podman(client, f"{served.authority}/real.test/busybox") == [f"{served.authority}/real.test/library/busybox"]
    name = f"{served.authority}/real.test/library/busybox"
    client.pull(f"{name}:1", "--tls-verify=false")
    assert client.image_id(f"{name}:1") == upstream.image("library/busybox").config.digest
    assert _podman(client, f"{served.authority}/") == [name]  # without a term it reads the catalog
    for registry in registries.values():
        registry.searches = registry.catalog = False
    assert _podman(client, f"{served.authority}/busy") == [name]

"""A real containerd pulls through the mirror, which its hosts.toml names: `?ns=` says which registry is meant."""

from __future__ import annotations

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.real.conftest import CROWD, OTHER, Seeded, at_once, staged, staged_bytes, wrong_blobs
from tests.support.clients import Containerd
from tests.support.fake_registry import FakeRegistry, Gate
from tests.support.fake_registry.behaviours import hang_after
from tests.support.images import GREETING, MIB, Image, Index
from tests.support.mirror import MirrorProcess
from tests.support.processes import wait_until
from tests.support.registry import DockerRegistry

pytestmark = pytest.mark.real

Mirrors = Callable[..., MirrorProcess]
Containerds = Callable[..., Containerd]


def _pull_all(client: Containerd, upstream: Seeded) -> None:
    """Every image anew, and each is the one that was pushed."""
    for held in client.images():
        client.rmi(held)
    assert client.content() == set()
    for name in upstream.images:
        client.pull(f"docker.io/{name}:1")
    assert client.images() == {f"docker.io/{name}:1": image.digest for name, image in upstream.images.items()}
    assert upstream.blobs() <= client.content()


def test_cold_warm_and_with_the_upstream_gone(upstream: Seeded, mirror: Mirrors, containerd: Containerds) -> None:
    served = mirror({"docker.io": upstream.registry.url})
    client = containerd(served.authority)

    _pull_all(client, upstream)
    assert upstream.fetched() == dict.fromkeys(upstream.blobs(), 1)
    assert client.run("docker.io/library/busybox:1") == f"{GREETING}\n"
    assert wrong_blobs(served.data) == []

    upstream.forget()
    _pull_all(client, upstream)
    assert {request.method for request in upstream.requests()} == {"HEAD"}

    upstream.registry.stop()
    _pull_all(client, upstream)

    served.stop()
    served.start()
    _pull_all(client, upstream)
    assert client.run("docker.io/library/multi:1") == f"{GREETING}\n"


def test_the_image_is_that_of_a_direct_pull(upstream: Seeded, mirror: Mirrors, containerd: Containerds) -> None:
    served = mirror({"docker.io": upstream.registry.url})
    through, direct = containerd(served.authority), containerd(upstream.registry.authority)
    for client in (through, direct):
        for name in upstream.images:
            client.fetch(f"docker.io/{name}:1")
    assert through.images() == direct.images()
    assert through.content() == direct.content()


def test_by_digest(upstream: Seeded, mirror: Mirrors, containerd: Containerds) -> None:
    served = mirror({"docker.io": upstream.registry.url})
    client = containerd(served.authority)
    name = f"docker.io/library/multi@{upstream.images['library/multi'].digest}"
    client.pull(name)
    assert client.run(name) == f"{GREETING}\n"
    assert not any(request.target.endswith("/manifests/1") for request in upstream.requests())
    upstream.registry.stop()
    client.rmi(name)
    client.pull(name)
    assert upstream.blobs("library/multi") <= client.content()


def test_only_the_platform_asked_for_is_fetched(upstream: Seeded, mirror: Mirrors, containerd: Containerds) -> None:
    served = mirror({"docker.io": upstream.registry.url})
    client = containerd(served.authority)
    client.fetch("docker.io/library/platforms:1", "--platform", "linux/amd64")
    index = upstream.images["library/platforms"]
    assert isinstance(index, Index)
    assert upstream.fetched() == dict.fromkeys(upstream.blobs("library/platforms"), 1)
    assert {f"blobs/sha256/{path.name}" for path in (served.data / "blobs/sha256").iterdir()} == {
        f"blobs/{digest.replace(':', '/')}"
        for digest in (index.digest, index.child("amd64").digest, *upstream.blobs("library/platforms"))
    }


def test_an_attestation_is_fetched_when_it_is_asked_for(
    upstream: Seeded, mirror: Mirrors, containerd: Containerds
) -> None:
    served = mirror({"docker.io": upstream.registry.url})
    client = containerd(served.authority)
    client.fetch("docker.io/library/platforms:1", "--platform", "linux/amd64", "--platform", "unknown/unknown")
    index = upstream.images["library/platforms"]
    assert isinstance(index, Index)
    attestations = [child for child in index.children if child.platform["os"] == "unknown"]
    wanted = {blob.digest for child in attestations for blob in child.blobs}
    assert upstream.fetched() == dict.fromkeys(upstream.blobs("library/platforms") | wanted, 1)
    assert wanted <= client.content()
    assert index.child("arm64").digest not in client.content()


def test_ten_at_once(crowd: Seeded, mirror: Mirrors, containerd: Containerds) -> None:
    crowd.forget()
    served = mirror({"docker.io": crowd.registry.url})
    client = containerd(served.authority)
    at_once(client.pull, [f"docker.io/library/app{n}:1" for n in range(CROWD)])
    assert crowd.fetched() == dict.fromkeys(crowd.blobs(), 1)
    assert crowd.blobs() <= client.content()
    assert client.run("docker.io/library/app7:1") == f"{GREETING}\n"


def test_every_registry_through_one_address(
    upstream: Seeded, other: Seeded, mirror: Mirrors, containerd: Containerds
) -> None:
    served = mirror({"docker.io": upstream.registry.url, OTHER: other.registry.url})
    client = containerd(served.authority, registries=("docker.io", OTHER))
    client.pull("docker.io/library/busybox:1")
    client.pull(f"{OTHER}/library/busybox:1")
    client.pull(f"{OTHER}/team/app:1")
    assert client.images() == {
        "docker.io/library/busybox:1": upstream.images["library/busybox"].digest,
        f"{OTHER}/library/busybox:1": other.images["library/busybox"].digest,
        f"{OTHER}/team/app:1": other.images["team/app"].digest,
    }
    assert client.run(f"{OTHER}/team/app:1") == f"{GREETING}\n"
    shared = upstream.image("library/busybox").layers[0].digest
    assert upstream.fetched()[shared] == 1
    assert shared not in other.fetched()  # a public layer is not downloaded again for another registry's image


def test_the_default_of_hosts_toml_and_a_path_in_its_url(
    upstream: Seeded, other: Seeded, mirror: Mirrors, containerd: Containerds
) -> None:
    served = mirror({"docker.io": upstream.registry.url, OTHER: other.registry.url})
    client = containerd(served.authority, registries=("_default",))
    client.fetch(f"{OTHER}/team/app:1")
    client.fetch("docker.io/library/layers:1")
    client.add_host("docker.io", f"{served.url}/v2/docker.io")  # path and `ns` at once
    client.fetch("docker.io/library/multi:1")
    assert other.blobs("team/app") | upstream.blobs("library/layers", "library/multi") <= client.content()


def test_a_large_layer(large_image: Image, need: Callable[..., None], mirror: Mirrors, containerd: Containerds) -> None:
    need("docker-registry")
    with DockerRegistry() as registry:
        hub = Seeded(registry, {"library/large": large_image})
        registry.push(large_image, "library/large", "1")
        hub.forget()
        served = mirror({"docker.io": registry.url})
        client = containerd(served.authority)
        client.fetch("docker.io/library/large:1")
        assert hub.blobs() <= client.content()
        assert hub.fetched() == dict.fromkeys(hub.blobs(), 1)
    wait_until(lambda: staged(served.data) == [], 5, "an empty staging")
    assert wrong_blobs(served.data) == []


def test_sigterm_lets_a_large_pull_come_to_its_end(
    large_image: Image, large_hub: FakeRegistry, mirror: Mirrors, containerd: Containerds
) -> None:
    layer = large_image.layers[0]
    gate = Gate()
    large_hub.script(f"GET */blobs/{layer.digest}", hang_after(layer.size // 2, gate))
    served = mirror({"docker.io": large_hub.url})
    client = containerd(served.authority)
    with ThreadPoolExecutor(1) as pool:
        pull = pool.submit(client.fetch, "docker.io/library/large:1")
        wait_until(lambda: staged_bytes(served.data) > layer.size // 2 - MIB, 60, "half of the layer in staging")
        served.daemon.signal(signal.SIGTERM)
        wait_until(lambda: "ending" in served.log, 5, "the end's first word")
        gate.release()  # the connection breaks, and even now the rest is fetched
        assert served.daemon.wait(15) == 0
        pull.result()
    assert {blob.digest for blob in large_image.blobs} <= client.content()
    assert staged(served.data) == []
    assert wrong_blobs(served.data) == []
    large_hub.forget()
    served.start()
    client.rmi("docker.io/library/large:1")
    client.fetch("docker.io/library/large:1")
    assert large_hub.count("GET */blobs/*") == 0

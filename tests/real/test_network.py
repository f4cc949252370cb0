"""Clients on another machine (a network namespace) know the mirror only by what `serve` printed, and are strangers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence

import pytest

from tests.real.conftest import OTHER, Seeded
from tests.support.clients import Containerd, Dockerd, Podman, Skopeo
from tests.support.images import GREETING, Layout, busybox_image
from tests.support.mirror import MirrorProcess
from tests.support.netns import Namespace
from tests.support.processes import run
from tests.support.registry import PASSWORD, USER, DockerRegistry

pytestmark = pytest.mark.real

Mirrors = Callable[..., MirrorProcess]

_ASK = """
import http.client, json, sys
for authority, path, headers in json.load(sys.stdin):
    connection = http.client.HTTPConnection(authority, timeout=10)
    connection.request("GET", path, headers=headers)
    print(connection.getresponse().status)
    connection.close()
"""
Question = tuple[str, str, dict[str, str]]  # host:port, path, headers


def _ask(questions: Sequence[Question], *, inside: Namespace | None = None) -> list[int]:
    """The status of each GET, asked from here or from the other machine."""
    words = [sys.executable, "-c", _ASK]
    said = run([*(inside.prefix if inside is not None else []), *words], stdin=json.dumps(questions))
    return [int(line) for line in said.split()]


def _printed(served: MirrorProcess, namespace: Namespace) -> tuple[dict[str, list[str]], str]:
    """The daemon.json and the address in it, to which the other machine gets a way, as in any network."""
    printed = served.daemon_json()
    (address,) = printed["insecure-registries"]
    host = address.rpartition(":")[0]
    if host != namespace.host_address:
        namespace.run("ip", "route", "add", f"{host}/32", "via", namespace.host_address)
    return printed, address


def test_dockerd_elsewhere_needs_nothing_but_what_was_printed(
    upstream: Seeded, mirror: Mirrors, namespace: Namespace, dockerd: Callable[..., Dockerd]
) -> None:
    served = mirror({"docker.io": upstream.registry.url}, host="0.0.0.0")
    printed, address = _printed(served, namespace)
    assert printed == {"registry-mirrors": [f"http://{address}"], "insecure-registries": [address]}
    assert not address.startswith(("127.", "0.", "localhost"))
    assert "open to the network" in served.log

    client = dockerd(address, inside=namespace, config=printed)
    client.pull("busybox:1")
    client.pull(f"{address}/library/layers:1")
    assert client.run("busybox:1") == f"{GREETING}\n"
    assert client.image_id("busybox:1") == upstream.image("library/busybox").config.digest
    assert upstream.fetched() == dict.fromkeys(upstream.blobs("library/busybox", "library/layers"), 1)

    upstream.registry.stop()
    client.rmi("busybox:1")
    client.pull("busybox:1")
    assert client.run("busybox:1") == f"{GREETING}\n"


def test_every_client_elsewhere_pulls_every_registry(
    upstream: Seeded,
    other: Seeded,
    mirror: Mirrors,
    namespace: Namespace,
    containerd: Callable[..., Containerd],
    podman: Callable[..., Podman],
    skopeo: Callable[..., Skopeo],
) -> None:
    served = mirror({"docker.io": upstream.registry.url, OTHER: other.registry.url}, host=namespace.host_address)
    both = ["docker.io", OTHER]
    first = containerd(served.authority, registries=both, inside=namespace)
    second = podman(served.authority, registries=both, inside=namespace)
    third = skopeo(served.authority, registries=both, inside=namespace)
    for client in (first, second, third):
        client.pull("docker.io/library/layers:1")
        client.pull(f"{OTHER}/team/app:1")
    assert second.run(f"{OTHER}/team/app:1") == f"{GREETING}\n"
    assert upstream.fetched() == dict.fromkeys(upstream.blobs("library/layers"), 1)


def test_who_comes_from_elsewhere_is_a_stranger(
    need: Callable[..., None], layout: Layout, upstream: Seeded, mirror: Mirrors, namespace: Namespace
) -> None:
    """He reads what is public, and neither the status nor what only the mirror's credentials may read."""
    need("docker-registry")
    with DockerRegistry(authentication=True) as private:
        private.push(busybox_image(layout), "team/secret", "1")
        registries = {
            "docker.io": upstream.registry.url,
            "private.test": {"url": private.url, "username": USER, "password": PASSWORD},
        }
        served = mirror(registries, host="0.0.0.0")
        _, address = _printed(served, namespace)
        secret = "/v2/team/secret/manifests/1?ns=private.test"
        questions: list[Question] = [
            (place, path, lie)
            for place in (address, f"{namespace.host_address}:{served.port}")
            for path in (secret, "/v2/private.test/team/secret/tags/list", "/api/v1/status")
            for lie in ({}, {"Host": "localhost"}, {"Host": "private.test"}, {"X-Forwarded-For": "127.0.0.1"})
        ]
        denied = ([404] * 8 + [403] * 4) * 2

        assert _ask(questions, inside=namespace) == denied
        assert _ask([(served.authority, secret, {})]) == [200]  # from this machine; now it is held
        assert _ask(questions, inside=namespace) == denied
        served.stop()
        served.start()
        assert _ask(questions, inside=namespace) == denied
        assert _ask([(address, "/v2/library/busybox/manifests/1", {})], inside=namespace) == [200]
        assert _ask([(served.authority, "/api/v1/status", {}), (address, "/api/v1/status", {})]) == [200, 403]

"""Names given with `mirror tag` are pulled by real clients, and removed with `mirror rmi`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.real.conftest import Seeded, wrong_blobs
from tests.support.clients import Containerd, Dockerd, Podman, Skopeo
from tests.support.images import GREETING
from tests.support.mirror import MirrorProcess
from tests.support.processes import CommandError

pytestmark = pytest.mark.real

Mirrors = Callable[..., MirrorProcess]


def test_docker_pulls_an_own_name(upstream: Seeded, mirror: Mirrors, dockerd: Callable[..., Dockerd]) -> None:
    served = mirror({"docker.io": upstream.registry.url})
    client = dockerd(served.authority)
    client.pull("busybox:1")
    client.rmi("busybox:1")
    served.command("tag", "busybox:1", "team/app:1")
    upstream.registry.stop()
    name = f"{served.authority}/team/app:1"
    client.pull(name)
    assert client.image_id(name) == upstream.image("library/busybox").config.digest
    assert client.run(name) == f"{GREETING}\n"
    with pytest.raises(CommandError, match=r"not found|manifest unknown"):
        client.pull(f"{served.authority}/docker.io/team/app:1")
    with pytest.raises(CommandError, match=r"not found|manifest unknown"):
        client.pull(f"{served.authority}/team/app:2")

    said = served.command("rmi", "busybox:1")
    assert said == "Untagged: busybox:1\nFreed: 0B\n"
    client.rmi(name)
    client.pull(name)
    said = served.command("rmi", "team/app:1")
    assert said.startswith("Untagged: team/app:1\nDeleted: sha256:")
    assert not any((served.data / "blobs" / "sha256").iterdir())
    client.rmi(name)
    with pytest.raises(CommandError, match=r"not found|manifest unknown"):
        client.pull(name)


def test_others_pull_an_own_name(
    upstream: Seeded,
    mirror: Mirrors,
    podman: Callable[..., Podman],
    skopeo: Callable[..., Skopeo],
    containerd: Callable[..., Containerd],
) -> None:
    served = mirror({"docker.io": upstream.registry.url})
    skopeo(served.authority).pull("docker.io/library/layers:1")
    served.command("tag", "layers:1", "team/app:1")
    upstream.registry.stop()
    name = f"{served.authority}/team/app:1"
    podman_client, containerd_client = podman(served.authority), containerd(served.authority)
    podman_client.pull(name)
    assert podman_client.image_id(name) == upstream.image("library/layers").config.digest
    containerd_client.pull(name)
    assert containerd_client.images()[name] == upstream.image("library/layers").digest
    skopeo(served.authority).pull(name)
    assert wrong_blobs(served.data) == []


def test_what_is_public_cannot_be_hidden(upstream: Seeded, mirror: Mirrors, dockerd: Callable[..., Dockerd]) -> None:
    served = mirror({"docker.io": upstream.registry.url})
    client = dockerd(served.authority)
    client.pull("busybox:1")
    for target in ("layers:1", "layers:mine", "library/mine:1"):
        with pytest.raises(CommandError):
            served.command("tag", "busybox:1", target)
    client.pull("layers:1")
    assert client.image_id("layers:1") == upstream.image("library/layers").config.digest
    served.command("tag", "busybox:1", "busybox:mine")
    client.pull(f"{served.authority}/busybox:mine")
    assert client.image_id(f"{served.authority}/busybox:mine") == upstream.image("library/busybox").config.digest

"""What the tests with real clients share: packages, a registry with images, and clients that clean up.

Each of `dockerd`, `containerd`, `podman`, `skopeo` and `buildah` is a factory: called with where a mirror of docker.io
listens (host:port), it returns a started client, closed when the test ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import images
from tests.support.clients import Buildah, Client, Containerd, Dockerd, Podman, Skopeo
from tests.support.images import MIB, Image, Index, Layout
from tests.support.leftovers import Snapshot, left_since, unmount_below
from tests.support.netns import Namespace
from tests.support.packages import PackagesError, install
from tests.support.processes import SCRATCH, end_processes, remove_scratch, session_processes
from tests.support.registry import DockerRegistry

LAYER_SIZES = (1000, 20_000, 300_000, 5 * MIB)


@dataclass(frozen=True, slots=True)
class Seeded:
    """A registry and what lies in it. The names have no tag: all are tagged "1"."""

    registry: DockerRegistry
    images: dict[str, Image | Index]

    def image(self, name: str) -> Image:
        """What a client on linux/amd64 gets for that name."""
        found = self.images[name]
        return found.child("amd64") if isinstance(found, Index) else found


@pytest.fixture(scope="session", autouse=True)
def clean_machine() -> Iterator[None]:
    """Fails the session if anything that these tests started or set up is still there at its end."""
    before = Snapshot.take()
    yield
    left = left_since(before)
    end_processes(session_processes)
    unmount_below(SCRATCH)
    remove_scratch()
    assert left == []


@pytest.fixture(scope="session")
def packages(clean_machine: None) -> frozenset[str]:
    """Installs, as root, what is missing; the packages that are missing all the same."""
    try:
        return frozenset(install())
    except PackagesError as error:
        pytest.fail(str(error))


@pytest.fixture(scope="session")
def need(packages: frozenset[str]) -> Callable[..., None]:
    """Call it with packages (and `root=True`): skips the test where one is missing; in CI that is a failure."""

    def check(*names: str, root: bool = False) -> None:
        reasons = [f"package {name} is not installed" for name in names if name in packages]
        if root and os.geteuid() != 0:
            reasons.append("needs root")
        if reasons and os.environ.get("CI") == "true":
            pytest.fail("; ".join(reasons))
        if reasons:
            pytest.skip("; ".join(reasons))

    return check


@pytest.fixture(scope="session")
def layout(need: Callable[..., None]) -> Iterator[Layout]:
    """Where the session's images lie."""
    need("busybox-static")
    folder = Path(tempfile.mkdtemp(prefix="mirror-images-"))
    yield Layout(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def seeded_registry(need: Callable[..., None], layout: Layout) -> Iterator[Seeded]:
    """A docker-registry on loopback with library/busybox, docker2 (schema 2), layers, multi (an index with
    attestations) and list (a manifest list). Do not write to it; `requests()` is everybody's."""
    need("docker-registry")
    made: dict[str, Image | Index] = {
        "library/busybox": images.busybox_image(layout),
        "library/docker2": images.busybox_image(layout, label="docker2", flavor=images.DOCKER),
        "library/layers": images.layered_image(layout, LAYER_SIZES),
        "library/multi": images.platforms_index(layout, attestations=True),
        "library/list": images.platforms_index(layout, flavor=images.DOCKER),
    }
    with DockerRegistry() as registry:
        for name, image in made.items():
            registry.push(image, name, "1")
        yield Seeded(registry, made)


@pytest.fixture(scope="session")
def large_image(layout: Layout) -> Image:
    """An image with one layer of 300 MiB, made once a session; push it where it is wanted."""
    return images.large_image(layout)


@pytest.fixture
def namespace(need: Callable[..., None]) -> Iterator[Namespace]:
    """Another host: a network namespace that reaches us at `host_address`."""
    need("iproute2", root=True)
    with Namespace() as made:
        yield made


@pytest.fixture
def clients() -> Iterator[Callable[[Client], None]]:
    """Starts the client that it is called with, and closes it when the test ends."""
    with contextlib.ExitStack() as stack:

        def keep(client: Client) -> None:
            stack.enter_context(client)

        yield keep


@pytest.fixture
def dockerd(need: Callable[..., None], clients: Callable[[Client], None]) -> Callable[..., Dockerd]:
    """Makes a dockerd whose registry mirror, and insecure registry, is at the given host:port."""
    need("docker.io", "containerd", root=True)

    def make(mirror: str, *, inside: Namespace | None = None) -> Dockerd:
        client = Dockerd([f"http://{mirror}"], insecure=[mirror], inside=inside)
        clients(client)
        return client

    return make


@pytest.fixture
def containerd(need: Callable[..., None], clients: Callable[[Client], None]) -> Callable[..., Containerd]:
    """Makes a containerd with a hosts.toml for docker.io (or another `registry`) that names host:port."""
    need("containerd", root=True)

    def make(mirror: str, *, registry: str = "docker.io", inside: Namespace | None = None) -> Containerd:
        client = Containerd({registry: f"http://{mirror}", mirror: f"http://{mirror}"}, inside=inside)
        clients(client)
        return client

    return make


@pytest.fixture
def podman(need: Callable[..., None], clients: Callable[[Client], None]) -> Callable[..., Podman]:
    """Makes a podman whose mirror of docker.io is at host:port, or host:port/path."""
    need("podman", root=True)

    def make(mirror: str, *, inside: Namespace | None = None) -> Podman:
        client = Podman({"docker.io": mirror}, insecure=[mirror.partition("/")[0]], inside=inside)
        clients(client)
        return client

    return make


@pytest.fixture
def skopeo(need: Callable[..., None], clients: Callable[[Client], None]) -> Callable[..., Skopeo]:
    """Makes a skopeo whose mirror of docker.io is at host:port, or host:port/path."""
    need("skopeo")

    def make(mirror: str, *, inside: Namespace | None = None) -> Skopeo:
        client = Skopeo({"docker.io": mirror}, insecure=[mirror.partition("/")[0]], inside=inside)
        clients(client)
        return client

    return make


@pytest.fixture
def buildah(need: Callable[..., None], clients: Callable[[Client], None]) -> Callable[..., Buildah]:
    """Makes a buildah whose mirror of docker.io is at host:port, or host:port/path."""
    need("buildah", root=True)

    def make(mirror: str, *, inside: Namespace | None = None) -> Buildah:
        client = Buildah({"docker.io": mirror}, insecure=[mirror.partition("/")[0]], inside=inside)
        clients(client)
        return client

    return make

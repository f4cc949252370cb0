"""What the tests with real clients share: packages, a registry with images, and clients that clean up.

Each of `dockerd`, `containerd`, `podman`, `skopeo` and `buildah` is a factory: called with where a mirror of docker.io
listens (host:port), it returns a started client, closed when the test ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import secrets
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.support import images
from tests.support.clients import Buildah, Client, Containerd, Dockerd, Podman, Skopeo
from tests.support.fake_registry import FakeRegistry
from tests.support.images import MIB, Image, Index, Layout
from tests.support.leftovers import Snapshot, left_since, unmount_below
from tests.support.mirror import MirrorProcess
from tests.support.netns import Namespace
from tests.support.packages import PackagesError, install
from tests.support.processes import (
    SCRATCH,
    end_processes,
    remove_scratch,
    scratch_folder,
    session_processes,
    wait_until,
)
from tests.support.registry import DockerRegistry, Request

LAYER_SIZES = (1000, 20_000, 300_000, 5 * MIB)
CROWD = 10  # how many different images, or clients, pull at once
OTHER = "quay.test"  # the second registry that the mirrors know
A = TypeVar("A")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Seeded:
    """A registry and what lies in it. The names have no tag: all are tagged "1"."""

    registry: DockerRegistry
    images: dict[str, Image | Index]

    def image(self, name: str) -> Image:
        """What a client on linux/amd64 gets for that name."""
        found = self.images[name]
        return found.child("amd64") if isinstance(found, Index) else found

    def blobs(self, *names: str) -> set[str]:
        """The digests of all blobs that a client on linux/amd64 needs for these names, or for every one."""
        return {blob.digest for name in names or self.images for blob in self.image(name).blobs}

    def requests(self) -> list[Request]:
        """What was asked since `forget`, pings left out; complete for every answer that was given before this call."""
        mark = f"/v2/?mark={secrets.token_hex(4)}"
        connection = http.client.HTTPConnection(self.registry.authority, timeout=10)
        connection.request("GET", mark)
        connection.getresponse().read()
        connection.close()
        wait_until(lambda: any(each.target == mark for each in self.registry.requests()), 5, "the log's last line")
        return [
            each for each in self.registry.requests() if not each.target.startswith("/v2/?") and each.target != "/v2/"
        ]

    def fetched(self) -> Counter[str]:
        """How often each blob was asked for with GET since `forget`: digest → count."""
        return Counter(
            each.target.rpartition("/")[2]
            for each in self.requests()
            if each.method == "GET" and "/blobs/" in each.target
        )

    def forget(self) -> None:
        """Let the log begin here."""
        self.registry.forget_requests()


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
        "library/platforms": _two_platforms(layout),
    }
    with DockerRegistry() as registry:
        for name, image in made.items():
            registry.push(image, name, "1")
        yield Seeded(registry, made)


def _two_platforms(layout: Layout) -> Index:
    """Two platforms with nothing in common, and an attestation for each."""
    made = []
    for architecture, size in (("amd64", 400_000), ("arm64", 500_000)):
        layers = [images.random_layer(layout, size // n, seed=f"{architecture}-{n}") for n in (1, 9)]
        made.append(layout.add_image(layers, platform={"os": "linux", "architecture": architecture}))
    return layout.add_index([*made, *(images.attestation(layout, image) for image in made)])


@pytest.fixture(scope="session")
def crowd(need: Callable[..., None], layout: Layout) -> Iterator[Seeded]:
    """A docker-registry of its own with ten runnable images, library/app0 and so on, that share their first layer."""
    need("docker-registry")
    base = images.busybox_image(layout).layers[0]
    config = {"Env": ["PATH=/bin"], "Cmd": ["echo", *images.GREETING.split()]}
    made: dict[str, Image | Index] = {
        f"library/app{n}": layout.add_image(
            [base, images.random_layer(layout, 300_000, seed=f"app{n}")],
            config={**config, "Labels": {"mirror.tests": f"app{n}"}},
        )
        for n in range(CROWD)
    }
    with DockerRegistry() as registry:
        for name, image in made.items():
            registry.push(image, name, "1")
        yield Seeded(registry, made)


@pytest.fixture(scope="session")
def other_registry(need: Callable[..., None], layout: Layout) -> Iterator[Seeded]:
    """The registry behind the name `OTHER`: team/app, runnable, and library/busybox, which is another image than
    docker.io's."""
    need("docker-registry")
    made: dict[str, Image | Index] = {
        "team/app": images.busybox_image(layout, label="team"),
        "library/busybox": images.busybox_image(layout, label="another busybox"),
    }
    with DockerRegistry() as registry:
        for name, image in made.items():
            registry.push(image, name, "1")
        yield Seeded(registry, made)


@pytest.fixture
def upstream(seeded_registry: Seeded) -> Iterator[Seeded]:
    """The seeded registry with an empty log; a test may stop it, it is started again afterwards."""
    seeded_registry.forget()
    yield seeded_registry
    seeded_registry.registry.start()


@pytest.fixture
def other(other_registry: Seeded) -> Iterator[Seeded]:
    """`other_registry` with an empty log; a test may stop it."""
    other_registry.forget()
    yield other_registry
    other_registry.registry.start()


@pytest.fixture
def mirror() -> Iterator[Callable[..., MirrorProcess]]:
    """Runs `mirror serve` for the given registries (name → URL or section; the first is the default one).

    Tags are asked for anew at every pull (`tag_ttl = 0`) unless a section says otherwise, so that nothing that needs
    the upstream goes unnoticed. After the test, a log with a traceback in it is a failure.
    """
    with contextlib.ExitStack() as stack:
        started: list[MirrorProcess] = []

        def make(registries: Mapping[str, Mapping[str, object] | str], **more: Any) -> MirrorProcess:
            folder = scratch_folder("mirror")
            sections = {
                name: {"tag_ttl": "0s", **({"url": value} if isinstance(value, str) else value)}
                for name, value in registries.items()
            }
            environment = {"MIRROR_SOCKET": str(folder / "mirror.sock"), **more.pop("environment", {})}
            made = MirrorProcess(folder, sections, environment=environment, **more)
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            stack.enter_context(made)
            started.append(made)
            return made

        yield make
        for each in started:
            assert "Traceback" not in each.log, each.log
            assert "unexpected" not in each.log, each.log


@pytest.fixture(scope="session")
def large_image(layout: Layout) -> Image:
    """An image with one layer of 300 MiB, made once a session; push it where it is wanted."""
    return images.large_image(layout)


def at_once(call: Callable[[A], T], arguments: Sequence[A]) -> list[T]:
    """What `call` gives for each argument, all at the same time."""
    with ThreadPoolExecutor(len(arguments)) as pool:
        return list(pool.map(call, arguments))


def wrong_blobs(data: Path) -> list[str]:
    """The blobs of a data directory whose content is not what their name says."""
    wrong = []
    for path in (data / "blobs" / "sha256").iterdir():
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != path.name:
                wrong.append(path.name)
    return wrong


def staged(data: Path) -> list[Path]:
    """What lies in a data directory's staging."""
    folder = data / "ingest"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def staged_bytes(data: Path) -> int:
    """How much that is."""
    sizes = []
    for path in staged(data):
        with contextlib.suppress(FileNotFoundError):
            sizes.append(path.stat().st_size)
    return sum(sizes)


@pytest.fixture
def large_hub(large_image: Image) -> Iterator[FakeRegistry]:
    """A scripted docker.io with library/large:1, `large_image`: for what must go wrong at a certain byte."""
    with FakeRegistry().in_thread() as registry:
        registry.add_layout_image("library/large", "1", large_image)
        yield registry


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

    def make(mirror: str, *, inside: Namespace | None = None, config: Mapping[str, object] | None = None) -> Dockerd:
        if config is not None:
            client = Dockerd(config=config, inside=inside)
        else:
            client = Dockerd([f"http://{mirror}"], insecure=[mirror], inside=inside)
        clients(client)
        return client

    return make


@pytest.fixture
def containerd(need: Callable[..., None], clients: Callable[[Client], None]) -> Callable[..., Containerd]:
    """Makes a containerd with a hosts.toml for docker.io (or other `registries`) that names host:port."""
    need("containerd", root=True)

    def make(mirror: str, *, registries: Sequence[str] = ("docker.io",), inside: Namespace | None = None) -> Containerd:
        client = Containerd(dict.fromkeys((*registries, mirror), f"http://{mirror}"), inside=inside)
        clients(client)
        return client

    return make


def _mirrors(mirror: str, registries: Sequence[str]) -> dict[str, str]:
    return {name: f"{mirror}/{name}" for name in registries} or {"docker.io": mirror}


@pytest.fixture
def podman(need: Callable[..., None], clients: Callable[[Client], None]) -> Callable[..., Podman]:
    """Makes a podman whose mirror of docker.io is at host:port, or host:port/path; or that finds each of `registries`
    at host:port/registry."""
    need("podman", root=True)

    def make(mirror: str, *, registries: Sequence[str] = (), inside: Namespace | None = None) -> Podman:
        client = Podman(_mirrors(mirror, registries), insecure=[mirror.partition("/")[0]], inside=inside)
        clients(client)
        return client

    return make


@pytest.fixture
def skopeo(need: Callable[..., None], clients: Callable[[Client], None]) -> Callable[..., Skopeo]:
    """Makes a skopeo whose mirror of docker.io is at host:port, or host:port/path; or that finds each of `registries`
    at host:port/registry."""
    need("skopeo")

    def make(mirror: str, *, registries: Sequence[str] = (), inside: Namespace | None = None) -> Skopeo:
        client = Skopeo(_mirrors(mirror, registries), insecure=[mirror.partition("/")[0]], inside=inside)
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

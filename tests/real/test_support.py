"""The test support itself: every real client pulls straight from a real registry, and nothing stays behind."""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.real.conftest import LAYER_SIZES, Seeded
from tests.support import images
from tests.support.clients import Buildah, Containerd, Dockerd, Podman, Skopeo
from tests.support.images import GREETING, Image, Index, Layout
from tests.support.leftovers import Snapshot, left_since
from tests.support.netns import Namespace
from tests.support.processes import (
    CommandError,
    Daemon,
    NotReadyError,
    answers_tcp,
    free_port,
    run,
    scratch_folder,
    session_processes,
    wait_until,
)
from tests.support.registry import PASSWORD, USER, DockerRegistry, UploadError, push

pytestmark = pytest.mark.real


def test_a_command_that_fails_says_why() -> None:
    with pytest.raises(CommandError, match="that is why") as failure:
        run(["sh", "-c", "echo that is why >&2; exit 3"])
    assert failure.value.code == 3


def test_a_command_that_hangs_is_killed_with_its_children() -> None:
    with pytest.raises(CommandError, match="killed after"):
        run(["sh", "-c", "sleep 77 & sleep 77"], timeout=0.2)
    wait_until(lambda: not any("sleep 77" in line for line in session_processes().values()), 5, "its end")


def test_a_daemon_that_dies_at_its_start_shows_its_log() -> None:
    daemon = Daemon("dies", ["sh", "-c", "echo no luck >&2; exit 1"], folder=scratch_folder("d"), ready=lambda: False)
    with pytest.raises(NotReadyError, match="no luck"):
        daemon.start()
    assert not daemon.running


def test_a_daemon_that_ignores_sigterm_is_killed() -> None:
    script = "trap '' TERM; echo up; while :; do sleep 0.05; done"
    folder = scratch_folder("d")
    daemon = Daemon(
        "deaf", ["sh", "-c", script], folder=folder, ready=lambda: b"up" in (folder / "deaf.out").read_bytes()
    )
    daemon._stop_seconds = 0.2
    with daemon:
        pid = daemon.pid
        assert pid in session_processes()
    assert pid not in session_processes()


def test_images_are_the_same_each_time(layout: Layout, tmp_path: Path) -> None:
    other = Layout(tmp_path / "other")
    for make in (images.busybox_image, images.platforms_index):
        assert make(layout).digest == make(other).digest
    assert images.layered_image(layout, [5, 500]).digest == images.layered_image(other, [5, 500]).digest


def test_an_image_is_what_it_says(layout: Layout) -> None:
    image = images.layered_image(layout, [5, 70_000])
    manifest = json.loads(image.manifest.read())
    config = json.loads(image.config.read())
    assert [layer["digest"] for layer in manifest["layers"]] == [layer.digest for layer in image.layers]
    for layer, diff_id, size in zip(image.layers, config["rootfs"]["diff_ids"], [5, 70_000], strict=True):
        assert layer.digest == f"sha256:{hashlib.sha256(layer.read()).hexdigest()}"
        assert layer.size == layer.path.stat().st_size
        assert diff_id == f"sha256:{hashlib.sha256(gzip.decompress(layer.read())).hexdigest()}"
        with tarfile.open(layer.path) as tar:
            assert [entry.size for entry in tar] == [size]


def test_an_index_carries_attestations_as_buildkit_writes_them(layout: Layout) -> None:
    index = images.platforms_index(layout, attestations=True)
    entries = json.loads(index.manifest.read())["manifests"]
    assert [entry["platform"]["architecture"] for entry in entries] == ["amd64", "arm64", "unknown", "unknown"]
    assert [entry["annotations"]["vnd.docker.reference.digest"] for entry in entries[2:]] == [
        index.child("amd64").digest,
        index.child("arm64").digest,
    ]
    assert index.child("amd64").layers == index.child("arm64").layers
    assert index.child("amd64").config != index.child("arm64").config


def test_a_layout_can_be_copied_by_skopeo(layout: Layout, tmp_path: Path, skopeo: Callable[..., Skopeo]) -> None:
    own = Layout(tmp_path / "layout")
    image = images.busybox_image(own)
    own.tag(image, "1")
    skopeo("127.0.0.1:1").copy(f"oci:{own.folder}:1", f"dir:{tmp_path}/copy")
    assert (tmp_path / "copy" / "manifest.json").read_bytes() == image.manifest.read()


def test_a_registry_keeps_its_content_and_port_over_a_restart(need: Callable[..., None], layout: Layout) -> None:
    need("docker-registry")
    image = images.layered_image(layout, [100])
    with DockerRegistry() as registry:
        registry.push(image, "a/b", "1")
        registry.restart()
        registry.forget_requests()
        registry.push(image, "a/b", "2")  # nothing is uploaded twice
        wait_until(lambda: len(registry.requests()) == 3, 5, "three requests")
        assert [request.method for request in registry.requests()] == ["HEAD", "HEAD", "PUT"]


def test_a_registry_asks_for_the_login(need: Callable[..., None], layout: Layout) -> None:
    need("docker-registry")
    with DockerRegistry(authentication=True) as registry:
        with pytest.raises(UploadError, match="401"):
            push(images.layered_image(layout, [100]), registry.url, "a/b", "1")
        registry.push(images.layered_image(layout, [100]), "a/b", "1")
        wait_until(lambda: registry.requests()[-1].method == "PUT", 5, "the last line")
        assert {401, 201} <= {request.status for request in registry.requests()}


def test_a_registry_in_proxy_mode_pulls_through(seeded_registry: Seeded, skopeo: Callable[..., Skopeo]) -> None:
    with DockerRegistry(proxy_of=seeded_registry.registry.url) as proxy:
        manifest = skopeo(proxy.authority).manifest(f"{proxy.authority}/library/busybox:1")
    assert manifest == seeded_registry.image("library/busybox").manifest.read()


def test_dockerd_pulls_and_runs(seeded_registry: Seeded, dockerd: Callable[..., Dockerd]) -> None:
    place = seeded_registry.registry.authority
    client = dockerd(place)
    for name in seeded_registry.images:
        client.pull(f"{place}/{name}:1")
        assert client.image_id(f"{place}/{name}:1") == seeded_registry.image(name).config.digest
    client.pull("multi:1")  # through --registry-mirror
    assert client.run("multi:1") == f"{GREETING}\n"
    assert {f"{place}/{name}:1" for name in seeded_registry.images} | {"multi:1"} == client.images()


def test_dockerd_is_refused_the_internet_at_once(seeded_registry: Seeded, dockerd: Callable[..., Dockerd]) -> None:
    client = dockerd(seeded_registry.registry.authority)
    begin = time.monotonic()
    with pytest.raises(CommandError, match="proxyconnect"):
        client.pull("not-there:1")
    assert time.monotonic() - begin < 5


def test_dockerd_pushes_after_a_login(
    need: Callable[..., None], layout: Layout, dockerd: Callable[..., Dockerd]
) -> None:
    need("docker-registry")
    image = images.busybox_image(layout, flavor=images.DOCKER)
    with DockerRegistry(authentication=True) as registry:
        registry.push(image, "team/app", "1")
        client = dockerd(registry.authority)
        with pytest.raises(CommandError, match="no basic auth credentials"):
            client.pull(f"{registry.authority}/team/app:1")
        client.login(registry.authority, USER, PASSWORD)
        client.pull(f"{registry.authority}/team/app:1")
        client.tag(f"{registry.authority}/team/app:1", f"{registry.authority}/team/app:2")
        client.push(f"{registry.authority}/team/app:2")


def test_dockerd_keeps_images_over_a_restart(seeded_registry: Seeded, dockerd: Callable[..., Dockerd]) -> None:
    client = dockerd(seeded_registry.registry.authority)
    client.pull("busybox:1")
    client.stop()
    client.start()
    assert client.images() == {"busybox:1"}


def test_containerd_pulls_and_runs(seeded_registry: Seeded, containerd: Callable[..., Containerd]) -> None:
    place = seeded_registry.registry.authority
    client = containerd(place)
    for name in seeded_registry.images:
        client.pull(f"{place}/{name}:1")
    client.fetch("docker.io/library/layers:1")
    layers = seeded_registry.image("library/layers")
    assert {layers.digest, *(blob.digest for blob in layers.blobs)} <= client.content()
    assert client.images()[f"{place}/library/multi:1"] == seeded_registry.images["library/multi"].digest
    assert client.run(f"{place}/library/multi:1") == f"{GREETING}\n"
    client.rmi("docker.io/library/layers:1")
    client.rmi(f"{place}/library/layers:1")
    assert layers.digest not in client.content()


def test_podman_pulls_and_runs(seeded_registry: Seeded, podman: Callable[..., Podman]) -> None:
    place = seeded_registry.registry.authority
    client = podman(place)
    for name in seeded_registry.images:
        client.pull(f"docker.io/{name}:1")
        assert client.image_id(f"docker.io/{name}:1") == seeded_registry.image(name).config.digest
    client.pull(f"{place}/library/busybox:1")
    assert client.run(f"{place}/library/busybox:1") == f"{GREETING}\n"


def test_podman_and_buildah_push(
    need: Callable[..., None], layout: Layout, podman: Callable[..., Podman], buildah: Callable[..., Buildah]
) -> None:
    need("docker-registry")
    with DockerRegistry(authentication=True) as registry:
        place = registry.authority
        registry.push(images.busybox_image(layout), "library/base", "1")
        client, builder = podman(place), buildah(place)
        client.login(place, USER, PASSWORD)
        client.pull(f"{place}/library/base:1")
        client.tag(f"{place}/library/base:1", f"{place}/team/copy:1")
        client.push(f"{place}/team/copy:1")
        login = f"--creds={USER}:{PASSWORD}"
        builder.pull(f"{place}/library/base:1", login)
        builder.build(f"FROM {place}/library/base:1\nRUN echo built > /built\nCMD cat /built\n", f"{place}/team/app:1")
        builder.push(f"{place}/team/app:1", login)
        client.pull(f"{place}/team/app:1")
        assert client.run(f"{place}/team/app:1") == "built\n"


def test_skopeo_copies_and_inspects(seeded_registry: Seeded, skopeo: Callable[..., Skopeo]) -> None:
    place = seeded_registry.registry.authority
    client = skopeo(place)
    for name in seeded_registry.images:
        folder = client.pull(f"docker.io/{name}:1")
        manifest = (folder / "manifest.json").read_bytes()
        assert manifest == seeded_registry.image(name).manifest.read()
    index = seeded_registry.images["library/multi"]
    assert isinstance(index, Index)
    assert client.manifest("docker.io/library/multi:1") == index.manifest.read()
    assert client.inspect("docker.io/library/multi:1")["Digest"] == index.digest
    assert client.tags(f"{place}/library/multi") == ["1"]


def test_buildah_pulls(seeded_registry: Seeded, buildah: Callable[..., Buildah]) -> None:
    client = buildah(seeded_registry.registry.authority)
    found = client.pull("docker.io/library/busybox:1")
    assert f"sha256:{found}" == seeded_registry.image("library/busybox").config.digest


def test_clients_in_another_namespace_pull_from_us(
    need: Callable[..., None],
    layout: Layout,
    namespace: Namespace,
    dockerd: Callable[..., Dockerd],
    containerd: Callable[..., Containerd],
    podman: Callable[..., Podman],
    skopeo: Callable[..., Skopeo],
) -> None:
    need("docker-registry")
    image = images.busybox_image(layout)
    with DockerRegistry(host=namespace.host_address) as registry:
        registry.push(image, "library/busybox", "1")
        place = registry.authority
        docker = dockerd(place, inside=namespace)
        docker.pull(f"{place}/library/busybox:1")
        assert docker.run("busybox:1") == f"{GREETING}\n"
        containerd(place, inside=namespace).pull("docker.io/library/busybox:1")
        other = podman(place, inside=namespace)
        other.pull("docker.io/library/busybox:1")
        assert other.run("docker.io/library/busybox:1") == f"{GREETING}\n"
        skopeo(place, inside=namespace).pull("docker.io/library/busybox:1")
        assert _reaches(namespace, namespace.host_address, registry.port)
        assert not _reaches(namespace, "127.0.0.1", registry.port)  # its loopback is its own


def _reaches(namespace: Namespace, host: str, port: int) -> bool:
    """Whether a connection from inside comes about at once."""
    try:
        namespace.run("timeout", "0.5", "bash", "-c", f"exec 3<>/dev/tcp/{host}/{port}")
    except CommandError:
        return False
    return True


def test_a_namespace_can_be_slow_and_can_be_cut_off(
    need: Callable[..., None], layout: Layout, namespace: Namespace, skopeo: Callable[..., Skopeo]
) -> None:
    need("docker-registry")
    with DockerRegistry(host=namespace.host_address) as registry:
        registry.push(images.layered_image(layout, [1_000_000]), "library/slow", "1")
        client = skopeo(registry.authority, inside=namespace)
        namespace.shape("8mbit")
        begin = time.monotonic()
        client.pull("docker.io/library/slow:1")
        assert time.monotonic() - begin > 0.8
        namespace.unshape()
        namespace.cut()
        assert not _reaches(namespace, namespace.host_address, registry.port)
        namespace.mend()
        client.manifest(f"{registry.authority}/library/slow:1")


def test_large_layers_arrive_whole(
    need: Callable[..., None], large_image: Image, containerd: Callable[..., Containerd]
) -> None:
    need("docker-registry")
    assert large_image.layers[0].size > 300 * images.MIB
    with DockerRegistry() as registry:
        registry.push(large_image, "library/large", "1")
        client = containerd(registry.authority)
        client.fetch("docker.io/library/large:1")
        assert large_image.layers[0].digest in client.content()


def test_a_crashed_dockerd_leaves_nothing(seeded_registry: Seeded, dockerd: Callable[..., Dockerd]) -> None:
    before = Snapshot.take()
    client = dockerd(seeded_registry.registry.authority)
    client.pull("busybox:1")
    client.command("run", "--detach", "--network", "none", "busybox:1", "sleep", "300")
    left = "\n".join(Snapshot.take().added_since(before))
    assert "mounts: overlay" in left
    assert "containerd-shim" in left
    client.kill()
    client.close()
    assert left_since(before) == []


def test_leftovers_are_seen(tmp_path: Path) -> None:
    before = Snapshot.take()
    port = free_port()
    server = Daemon(
        "server",
        ["python3", "-m", "http.server", "--bind", "127.0.0.1", str(port)],
        folder=scratch_folder("server"),
        ready=answers_tcp("127.0.0.1", port),
    )
    with server:
        assert [line for line in Snapshot.take().added_since(before) if "http.server" in line]
    assert left_since(before) == []


def test_the_seeded_layers_have_their_sizes(seeded_registry: Seeded) -> None:
    for layer, size in zip(seeded_registry.image("library/layers").layers, LAYER_SIZES, strict=True):
        assert size < layer.size <= size * 1.01 + 12 * 1024

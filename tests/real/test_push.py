"""Real clients push to the mirror, and others pull it back: own names, without a registry in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.real.conftest import Seeded, wrong_blobs
from tests.support.clients import Buildah, Containerd, Dockerd, Podman, Skopeo
from tests.support.images import GREETING, Image, Index, Layout, random_layer
from tests.support.mirror import MirrorProcess
from tests.support.processes import CommandError, wait_until
from tests.support.registry import DockerRegistry, push

pytestmark = pytest.mark.real

Mirrors = Callable[..., MirrorProcess]


def test_docker_pushes_and_pulls_back(upstream: Seeded, mirror: Mirrors, dockerd: Callable[..., Dockerd]) -> None:
    served = mirror({"docker.io": upstream.registry.url})
    client = dockerd(served.authority)
    client.pull("busybox:1")
    name = f"{served.authority}/team/app:1"
    client.tag("busybox:1", name)
    client.push(name)  # a layer that is public "already exists" under a name that is not own yet
    assert "Layer already exists" in client.push(name)
    client.rmi(name)
    client.rmi("busybox:1")
    upstream.registry.stop()
    served.stop()
    served.start()
    client.pull(name)
    assert client.image_id(name) == upstream.image("library/busybox").config.digest
    assert client.run(name) == f"{GREETING}\n"
    with pytest.raises(CommandError, match=r"not found|manifest unknown|denied"):
        client.pull(f"{served.authority}/docker.io/team/app:1")
    assert wrong_blobs(served.data) == []


def test_podman_skopeo_buildah_and_containerd_push(
    upstream: Seeded,
    mirror: Mirrors,
    podman: Callable[..., Podman],
    skopeo: Callable[..., Skopeo],
    buildah: Callable[..., Buildah],
    containerd: Callable[..., Containerd],
) -> None:
    served = mirror({"docker.io": upstream.registry.url})
    source = f"{served.authority}/docker.io/library/layers:1"
    wanted = upstream.image("library/layers")

    by_podman = f"{served.authority}/team/podman:1"
    client = podman(served.authority)
    client.pull(source)
    client.tag(source, by_podman)
    client.push(by_podman)

    by_skopeo = f"{served.authority}/team/skopeo:1"
    skopeo(served.authority).copy(f"docker://{source}", f"docker://{by_skopeo}")

    by_containerd = f"{served.authority}/team/containerd:1"
    daemon = containerd(served.authority)
    daemon.pull(source)
    daemon.command("images", "tag", source, by_containerd)
    daemon.push(by_containerd, "--plain-http")

    builder = buildah(served.authority)
    by_buildah = f"{served.authority}/team/buildah:1"
    builder.build(f"FROM {source}\nLABEL built=here\n", by_buildah)
    builder.push(by_buildah)

    upstream.registry.stop()
    for name in (by_podman, by_skopeo, by_containerd):
        client.pull(name)
        assert client.image_id(name) == wanted.config.digest
    client.pull(by_buildah)
    assert wrong_blobs(served.data) == []


# --- on to its registry ---------------------------------------------------------------------------------------------

TARGET = "push.test"


@pytest.fixture
def target(need: Callable[..., None]) -> Iterator[DockerRegistry]:
    """Debian's docker-registry: where pushes go."""
    need("docker-registry")
    with DockerRegistry() as registry:
        yield registry


def blobs_sent(target: DockerRegistry) -> list[str]:
    """The digests of the blobs that were uploaded to it."""
    return [
        parse_qs(urlsplit(each.target).query)["digest"][0]
        for each in target.requests()
        if each.method == "PUT" and "/blobs/uploads/" in each.target
    ]


def nine_layers(layout: Layout) -> tuple[Image, Image]:
    """Two images of nine layers, of which they have eight in common."""
    common = [random_layer(layout, 50_000, seed=f"common {number}") for number in range(8)]
    first, second = (layout.add_image([*common, random_layer(layout, 50_000, seed=seed)]) for seed in ("one", "two"))
    return first, second


def test_only_what_is_missing_goes_on(
    upstream: Seeded, target: DockerRegistry, mirror: Mirrors, skopeo: Callable[..., Skopeo], layout: Layout
) -> None:
    """`app:2` shares 8 of 9 layers with `app:1`: one is sent. The same in another repository: all are mounted. Once
    more: no blob at all."""
    served = mirror({"docker.io": upstream.registry.url, TARGET: {"url": target.url, "push": "through"}})
    client = skopeo(served.authority)
    for tag, image in zip(("nine-1", "nine-2"), nine_layers(layout), strict=True):
        layout.tag(image, tag)
    there = f"docker://{served.authority}/{TARGET}/me"
    client.copy(f"oci:{layout.folder}:nine-1", f"{there}/app:1")
    assert len(blobs_sent(target)) == 10  # and a config
    target.forget_requests()
    client.copy(f"oci:{layout.folder}:nine-2", f"{there}/app:2")
    assert len(blobs_sent(target)) == 2
    target.forget_requests()
    client.copy(f"oci:{layout.folder}:nine-2", f"{there}/other:2")
    assert blobs_sent(target) == []
    assert sum(each.status == 201 and "mount=" in each.target for each in target.requests()) == 10
    target.forget_requests()
    client.copy(f"oci:{layout.folder}:nine-2", f"{there}/app:2")
    assert blobs_sent(target) == []
    assert [each.method for each in target.requests() if "/blobs/" in each.target] == ["HEAD"] * 10
    direct = skopeo(target.authority)
    assert direct.manifest(f"{target.authority}/me/app:2") == client.manifest(f"{served.authority}/{TARGET}/me/app:2")


def test_mirror_push(upstream: Seeded, target: DockerRegistry, mirror: Mirrors, skopeo: Callable[..., Skopeo]) -> None:
    """From the command line: an index whole, of which one platform is held; once more nothing; elsewhere mounted."""
    served = mirror({"docker.io": upstream.registry.url, TARGET: target.url})
    index = upstream.images["library/multi"]
    assert isinstance(index, Index)
    layers = {layer.digest for child in index.children for layer in child.layers}
    served.command("pull", "multi:1")
    said = served.command("push", "multi:1", "--to", f"{TARGET}/me").splitlines()
    assert said[-2] == f"1: digest: {index.digest} size: {index.manifest.size}"
    assert said[-1].startswith(f"sent {len(layers)} of {len(layers)} layers, ")
    assert sorted(blobs_sent(target)) == sorted(blob.digest for blob in index.blobs)
    target.forget_requests()
    said = served.command("push", "multi:1", "--to", f"{TARGET}/me").splitlines()
    assert said[-1].startswith(f"sent 0 of {len(layers)} layers, 0B of ")
    served.command("tag", "multi:1", "team/base:1")
    assert served.command("push", "-q", "team/base:1", "--to", f"{TARGET}/you") == f"{TARGET}/you/team/base:1\n"
    assert blobs_sent(target) == []
    direct = skopeo(target.authority)
    assert direct.manifest(f"{target.authority}/you/team/base:1") == index.manifest.read()


def test_a_queue_outlives_an_outage_and_a_kill(
    upstream: Seeded, target: DockerRegistry, mirror: Mirrors, layout: Layout
) -> None:
    """Twenty pushes while the registry is down, the mirror killed in between: all arrive, children first, each blob
    once."""
    served = mirror({"docker.io": upstream.registry.url, TARGET: {"url": target.url, "push": "queue"}})
    base = random_layer(layout, 200_000, seed="queue base")
    made: list[Image | Index] = [
        layout.add_image([base, random_layer(layout, 20_000, seed=f"queue {number}")]) for number in range(19)
    ]
    made.append(upstream.images["library/multi"])
    target.stop()
    for number, image in enumerate(made):
        if number == 10:
            served.kill()
            served.start()
        push(image, served.url, f"{TARGET}/me/app", str(number))
    served.kill()
    served.start()
    *children, top = made[-1].manifests
    names = [*(f":{number}" for number in range(19)), *(f"@{child.digest}" for child in children), ":19"]
    assert served.command("queue", "--format", "{{.Name}}").splitlines() == [f"{TARGET}/me/app{name}" for name in names]
    target.start()
    assert served.command("queue", "retry") == f"Tried now: {len(names)} pushes\n"
    wait_until(lambda: served.command("queue", "--format", "{{.ID}}") == "", 60, "an empty queue")
    puts = [each.target for each in target.requests() if each.method == "PUT"]
    taken = [target.rpartition("/")[2] for target in puts if "/manifests/" in target]
    assert list(dict.fromkeys(taken)) == [name[1:] for name in names]  # children first
    assert sorted(blobs_sent(target)) == sorted({blob.digest for image in made for blob in image.blobs})
    pulled = served.command("tags", f"{TARGET}/me/app", "--format", "{{.Tag}} {{.Digest}}")
    assert f"19 {top.digest[7:19]}" in pulled

"""podman and skopeo pull through the mirror: registries.conf gives every registry a path of its own there."""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.real.conftest import CROWD, OTHER, Seeded, at_once, staged, staged_bytes, wrong_blobs
from tests.support.clients import Containerd, Dockerd, Podman, Skopeo
from tests.support.fake_registry import FakeRegistry, Gate
from tests.support.fake_registry.behaviours import hang_after
from tests.support.fake_registry.content import digest_of
from tests.support.images import GREETING, MIB, Blob, Image, Index
from tests.support.mirror import MirrorProcess
from tests.support.processes import CommandError, free_port, wait_until

pytestmark = pytest.mark.real

_FROM_UPSTREAM = re.compile(r"served, ([\d.]+)([kM])B from upstream")

Mirrors = Callable[..., MirrorProcess]
Podmans = Callable[..., Podman]
Skopeos = Callable[..., Skopeo]


def _podman_pulls_all(client: Podman, upstream: Seeded) -> None:
    """Every image anew, and each is the one that was pushed."""
    client.command("rmi", "--all", "--force")
    assert client.images() == set()
    for name in upstream.images:
        client.pull(f"docker.io/{name}:1")
        assert client.image_id(f"docker.io/{name}:1") == upstream.image(name).config.digest


def _skopeo_pulls_all(client: Skopeo, upstream: Seeded) -> None:
    for name in upstream.images:
        assert _content(client.pull(f"docker.io/{name}:1")) == upstream.blobs(name) | {upstream.image(name).digest}


def _content(folder: Path) -> set[str]:
    """What skopeo wrote: the digests of its manifest, config and layers (it verifies them itself)."""
    manifest = (folder / "manifest.json").read_bytes()
    read = json.loads(manifest)
    blobs = {each["digest"] for each in (read["config"], *read["layers"])}
    assert all((folder / digest.removeprefix("sha256:")).exists() for digest in blobs)
    return blobs | {digest_of(manifest)}


def test_podman_cold_warm_and_with_the_upstream_gone(upstream: Seeded, mirror: Mirrors, podman: Podmans) -> None:
    served = mirror({"docker.io": upstream.registry.url})
    client = podman(served.authority, registries=["docker.io"])

    _podman_pulls_all(client, upstream)
    assert upstream.fetched() == dict.fromkeys(upstream.blobs(), 1)
    assert client.run("docker.io/library/busybox:1") == f"{GREETING}\n"

    upstream.forget()
    _podman_pulls_all(client, upstream)
    assert {request.method for request in upstream.requests()} == {"HEAD"}

    upstream.registry.stop()
    _podman_pulls_all(client, upstream)

    served.stop()
    served.start()
    _podman_pulls_all(client, upstream)
    assert client.run("docker.io/library/multi:1") == f"{GREETING}\n"


def test_skopeo_cold_warm_and_with_the_upstream_gone(upstream: Seeded, mirror: Mirrors, skopeo: Skopeos) -> None:
    served = mirror({"docker.io": upstream.registry.url})
    client = skopeo(served.authority, registries=["docker.io"])

    _skopeo_pulls_all(client, upstream)
    assert upstream.fetched() == dict.fromkeys(upstream.blobs(), 1)
    # a public layer is there for every repository at once: upstream is not even asked
    assert not any(each.method == "HEAD" and "/blobs/" in each.target for each in upstream.requests())
    assert wrong_blobs(served.data) == []

    upstream.forget()
    _skopeo_pulls_all(client, upstream)
    assert {request.method for request in upstream.requests()} == {"HEAD"}

    upstream.registry.stop()
    _skopeo_pulls_all(client, upstream)

    served.stop()
    served.start()
    _skopeo_pulls_all(client, upstream)


def test_podman_gets_the_image_of_a_direct_pull(upstream: Seeded, mirror: Mirrors, podman: Podmans) -> None:
    served = mirror({"docker.io": upstream.registry.url})
    through, direct = podman(served.authority, registries=["docker.io"]), podman(upstream.registry.authority)
    for name in upstream.images:
        assert through.pull(f"docker.io/{name}:1") == direct.pull(f"docker.io/{name}:1")
        asked = ["image", "inspect", "--format", "{{.Id}} {{.Digest}} {{.RootFS.Layers}} {{.Config.Cmd}}"]
        assert through.command(*asked, f"docker.io/{name}:1") == direct.command(*asked, f"docker.io/{name}:1")


def test_by_digest(upstream: Seeded, mirror: Mirrors, podman: Podmans, skopeo: Skopeos) -> None:
    served = mirror({"docker.io": upstream.registry.url})
    first, second = (
        podman(served.authority, registries=["docker.io"]),
        skopeo(served.authority, registries=["docker.io"]),
    )
    image, index = upstream.image("library/layers"), upstream.images["library/multi"]
    first.pull(f"docker.io/library/multi@{index.digest}")
    second.pull(f"docker.io/library/layers@{image.digest}")
    assert not any(request.target.endswith("/manifests/1") for request in upstream.requests())
    upstream.registry.stop()
    first.pull(f"docker.io/library/layers@{image.digest}")
    second.pull(f"docker.io/library/multi@{index.digest}")
    assert first.run(f"docker.io/library/multi@{index.digest}") == f"{GREETING}\n"


def test_only_the_platform_asked_for_is_fetched(
    upstream: Seeded, mirror: Mirrors, podman: Podmans, skopeo: Skopeos
) -> None:
    served = mirror({"docker.io": upstream.registry.url})
    index = upstream.images["library/platforms"]
    assert isinstance(index, Index)
    podman(served.authority, registries=["docker.io"]).pull("docker.io/library/platforms:1")
    assert upstream.fetched() == dict.fromkeys(upstream.blobs("library/platforms"), 1)
    upstream.forget()
    client = skopeo(served.authority, registries=["docker.io"])
    client.command(
        "--override-arch", "arm64", "copy", "docker://docker.io/library/platforms:1", f"dir:{client.folder}/arm64"
    )
    assert upstream.fetched() == dict.fromkeys((blob.digest for blob in index.child("arm64").blobs), 1)


def test_every_registry_through_one_address(
    upstream: Seeded, other: Seeded, mirror: Mirrors, podman: Podmans, skopeo: Skopeos
) -> None:
    served = mirror({"docker.io": upstream.registry.url, OTHER: other.registry.url})
    client = podman(served.authority, registries=["docker.io", OTHER])
    client.pull("docker.io/library/busybox:1")
    for name in other.images:
        client.pull(f"{OTHER}/{name}:1")
        assert client.image_id(f"{OTHER}/{name}:1") == other.image(name).config.digest
    assert client.image_id("docker.io/library/busybox:1") == upstream.image("library/busybox").config.digest
    assert client.run(f"{OTHER}/team/app:1") == f"{GREETING}\n"
    second = skopeo(served.authority, registries=["docker.io", OTHER])
    assert second.manifest(f"{OTHER}/team/app:1") == other.images["team/app"].manifest.read()
    assert second.tags(f"{served.authority}/{OTHER}/team/app") == ["1"]
    assert second.tags(f"{served.authority}/docker.io/library/busybox") == ["1"]
    with pytest.raises(CommandError, match=r"manifest unknown|not known"):
        second.manifest(f"{served.authority}/{OTHER}/team/none:1")
    shared = upstream.image("library/busybox").layers[0].digest
    assert upstream.fetched()[shared] == 1
    assert shared not in other.fetched()


def test_ten_podmans_at_once(crowd: Seeded, mirror: Mirrors, podman: Podmans) -> None:
    crowd.forget()
    served = mirror({"docker.io": crowd.registry.url})
    client = podman(served.authority, registries=["docker.io"])
    found = at_once(client.pull, [f"docker.io/library/app{n}:1" for n in range(CROWD)])
    assert [f"sha256:{each}" for each in found] == [image.config.digest for image in map(crowd.image, crowd.images)]
    assert crowd.fetched() == dict.fromkeys(crowd.blobs(), 1)


def test_ten_clients_of_every_kind_at_once(
    upstream: Seeded,
    mirror: Mirrors,
    dockerd: Callable[..., Dockerd],
    containerd: Callable[..., Containerd],
    podman: Podmans,
    skopeo: Skopeos,
) -> None:
    served = mirror({"docker.io": upstream.registry.url})
    copier = skopeo(served.authority, registries=["docker.io"])
    pulls: list[Callable[[str], object]] = [
        dockerd(served.authority).pull,
        containerd(served.authority).pull,
        podman(served.authority, registries=["docker.io"]).pull,
        *[copier.pull] * (CROWD - 3),
    ]
    at_once(lambda pull: pull("docker.io/library/layers:1"), pulls)
    assert upstream.fetched() == dict.fromkeys(upstream.blobs("library/layers"), 1)
    gets = [each for each in upstream.requests() if each.method == "GET" and "/manifests/" in each.target]
    assert len(gets) == 1
    served.stop()
    size = sum(blob.size for blob in upstream.image("library/layers").blobs)
    paid = sum(float(number) * (1e6 if unit == "M" else 1e3) for number, unit in _FROM_UPSTREAM.findall(served.log))
    assert 0.99 < paid / size < 1.01  # whoever joined a download paid nothing for it


def test_tls_on_the_plain_port_is_no_event(upstream: Seeded, mirror: Mirrors, podman: Podmans) -> None:
    served = mirror({"docker.io": upstream.registry.url})
    podman(served.authority, registries=["docker.io"]).pull("docker.io/library/busybox:1")  # tries https first
    host, _, port = served.authority.rpartition(":")
    context = ssl.create_default_context()
    with socket.create_connection((host, int(port)), timeout=10) as plain, pytest.raises((ssl.SSLError, OSError)):
        context.wrap_socket(plain, server_hostname="localhost")
    served.stop()
    told = [line for line in served.log.splitlines() if "ending" not in line]
    assert len([line for line in told if "library/busybox" in line]) == 1
    assert not [line for line in told if any(word in line.lower() for word in ("error", "traceback", "bad", "tls"))]


# --- the mirror ends in the middle of a pull ---------------------------------------------------------------------


def _half(hub: FakeRegistry, layer: Blob) -> Gate:
    """Let the large layer stop half-way, once, until the gate opens; then the connection breaks."""
    gate = Gate()
    hub.script(f"GET */blobs/{layer.digest}", hang_after(layer.size // 2, gate))
    return gate


def _until_half(served: MirrorProcess, layer: Blob) -> None:
    wait_until(lambda: staged_bytes(served.data) > layer.size // 2 - MIB, 60, "half of the layer in staging")


def test_sigterm_ends_a_large_pull_that_does_not_end_itself(
    large_image: Image, large_hub: FakeRegistry, mirror: Mirrors, podman: Podmans, skopeo: Skopeos
) -> None:
    layer = large_image.layers[0]
    _half(large_hub, layer)
    served = mirror({"docker.io": large_hub.url})
    client = skopeo(served.authority, registries=["docker.io"])
    with ThreadPoolExecutor(1) as pool:
        pull = pool.submit(client.pull, "docker.io/library/large:1")
        _until_half(served, layer)
        begin = time.monotonic()
        served.daemon.signal(signal.SIGTERM)
        assert served.daemon.wait(15) == 0
        assert 9 < time.monotonic() - begin < 13  # all that goes on has one deadline together
        with pytest.raises(CommandError):
            pull.result()
    assert wrong_blobs(served.data) == []
    assert [path.stat().st_size > layer.size // 2 - MIB for path in staged(served.data)] == [True]
    served.start()
    again = podman(served.authority, registries=["docker.io"])
    again.pull("docker.io/library/large:1")
    assert again.image_id("docker.io/library/large:1") == large_image.config.digest
    assert large_hub.sent(f"*/blobs/{layer.digest}") < layer.size + 8 * MIB  # what was staged is not fetched again
    wait_until(lambda: staged(served.data) == [], 5, "an empty staging")


@pytest.mark.parametrize("end", ["SIGKILL", "a second SIGTERM"])
def test_ended_at_once_it_goes_on_where_it_was(
    end: str, large_image: Image, large_hub: FakeRegistry, mirror: Mirrors, skopeo: Skopeos
) -> None:
    layer = large_image.layers[0]
    _half(large_hub, layer)
    served = mirror({"docker.io": large_hub.url})
    client = skopeo(served.authority, registries=["docker.io"])
    with ThreadPoolExecutor(1) as pool:
        pull = pool.submit(client.pull, "docker.io/library/large:1")
        _until_half(served, layer)
        if end == "SIGKILL":
            served.kill()
        else:
            served.daemon.signal(signal.SIGTERM)
            wait_until(lambda: "ending" in served.log, 5, "the end's first word")
            served.daemon.signal(signal.SIGTERM)
            assert served.daemon.wait(2) == 1
        with pytest.raises(CommandError):
            pull.result()
    served.start()
    client.pull("docker.io/library/large:1")
    assert large_hub.sent(f"*/blobs/{layer.digest}") < layer.size + 8 * MIB
    assert wrong_blobs(served.data) == []


def test_a_second_mirror_on_the_same_data_is_refused(upstream: Seeded, mirror: Mirrors, skopeo: Skopeos) -> None:
    served = mirror({"docker.io": upstream.registry.url})
    before = (served.data / "lock").read_bytes()
    with pytest.raises(CommandError) as refused:
        served.command("serve", "--data", str(served.data), "--listen", f"127.0.0.1:{free_port()}")
    assert refused.value.code == 8
    assert f"{served.data} is in use by process {served.daemon.pid}" in refused.value.stderr
    assert "Traceback" not in refused.value.stderr
    assert (served.data / "lock").read_bytes() == before
    skopeo(served.authority, registries=["docker.io"]).pull("docker.io/library/busybox:1")
    assert '"hits"' in served.command("status", "--format", "json")

"""A real dockerd pulls through the mirror, which stands in its `registry-mirrors`."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.real.conftest import CROWD, Seeded, at_once, staged, staged_bytes, wrong_blobs
from tests.support.clients import Dockerd
from tests.support.fake_registry import FakeRegistry
from tests.support.fake_registry.behaviours import hang_after
from tests.support.images import GREETING, MIB, Image, Index
from tests.support.mirror import MirrorProcess
from tests.support.processes import CommandError, wait_until

pytestmark = pytest.mark.real

Mirrors = Callable[..., MirrorProcess]
Dockerds = Callable[..., Dockerd]


def _short(name: str) -> str:
    return name.removeprefix("library/")


def _pull_all(client: Dockerd, upstream: Seeded) -> None:
    """Every image anew, and each is the one that was pushed."""
    for held in client.images():
        client.rmi(held)
    for name in upstream.images:
        client.pull(f"{_short(name)}:1")
        assert client.image_id(f"{_short(name)}:1") == upstream.image(name).config.digest


def test_cold_warm_and_with_the_upstream_gone(upstream: Seeded, mirror: Mirrors, dockerd: Dockerds) -> None:
    served = mirror({"docker.io": upstream.registry.url})
    client = dockerd(served.authority)

    _pull_all(client, upstream)
    assert upstream.fetched() == dict.fromkeys(upstream.blobs(), 1)  # shared layers too: each once, over all images
    assert client.run("busybox:1") == f"{GREETING}\n"
    assert wrong_blobs(served.data) == []

    upstream.forget()
    _pull_all(client, upstream)
    assert upstream.requests()
    assert {request.method for request in upstream.requests()} == {"HEAD"}  # tags are looked at, nothing is fetched

    upstream.registry.stop()
    _pull_all(client, upstream)

    served.stop()
    served.start()
    _pull_all(client, upstream)
    assert client.run("multi:1") == f"{GREETING}\n"


def test_the_image_is_that_of_a_direct_pull(upstream: Seeded, mirror: Mirrors, dockerd: Dockerds) -> None:
    served = mirror({"docker.io": upstream.registry.url})
    through, direct = dockerd(served.authority), dockerd("127.0.0.1:1")
    for name in upstream.images:
        through.pull(f"{_short(name)}:1")
        direct.pull(f"{upstream.registry.authority}/{name}:1")
        asked = ["image", "inspect", "--format", "{{.Id}} {{.RootFS.Layers}} {{.Config.Cmd}} {{.Architecture}}"]
        found = through.command(*asked, f"{_short(name)}:1")
        assert found == direct.command(*asked, f"{upstream.registry.authority}/{name}:1")


def test_by_digest(upstream: Seeded, mirror: Mirrors, dockerd: Dockerds) -> None:
    served = mirror({"docker.io": upstream.registry.url})
    client = dockerd(served.authority)
    index = upstream.images["library/multi"]
    for reference in (f"layers@{upstream.images['library/layers'].digest}", f"multi@{index.digest}"):
        client.pull(reference)
    assert client.run(f"multi@{index.digest}") == f"{GREETING}\n"
    assert not any(request.target.endswith("/manifests/1") for request in upstream.requests())
    upstream.registry.stop()
    for image in client.command("images", "--quiet").split():
        client.rmi(image)
    client.pull(f"multi@{index.digest}")
    assert client.image_id(f"multi@{index.digest}") == upstream.image("library/multi").config.digest


def test_only_the_platform_that_runs_here_is_fetched(upstream: Seeded, mirror: Mirrors, dockerd: Dockerds) -> None:
    served = mirror({"docker.io": upstream.registry.url})
    dockerd(served.authority).pull("platforms:1")
    index = upstream.images["library/platforms"]
    assert isinstance(index, Index)
    assert upstream.fetched() == dict.fromkeys(upstream.blobs("library/platforms"), 1)
    manifests = {each.target.rpartition("/")[2] for each in upstream.requests() if "/manifests/" in each.target}
    assert manifests == {"1", index.digest, index.child("amd64").digest}


def test_ten_at_once(crowd: Seeded, mirror: Mirrors, dockerd: Dockerds) -> None:
    crowd.forget()
    served = mirror({"docker.io": crowd.registry.url})
    client = dockerd(served.authority)
    at_once(client.pull, [f"app{n}:1" for n in range(CROWD)])
    assert crowd.fetched() == dict.fromkeys(crowd.blobs(), 1)
    for name in crowd.images:
        assert client.image_id(f"{_short(name)}:1") == crowd.image(name).config.digest
    assert client.run("app7:1") == f"{GREETING}\n"


def test_another_registry_by_its_prefixed_name(
    upstream: Seeded, other: Seeded, mirror: Mirrors, dockerd: Dockerds
) -> None:
    served = mirror({"docker.io": upstream.registry.url, "quay.test": other.registry.url})
    client = dockerd(served.authority)
    client.pull("busybox:1")
    for name in other.images:
        client.pull(f"{served.authority}/quay.test/{name}:1")
        assert client.image_id(f"{served.authority}/quay.test/{name}:1") == other.image(name).config.digest
    assert client.image_id("busybox:1") == upstream.image("library/busybox").config.digest
    with pytest.raises(CommandError, match=r"not found|manifest unknown"):
        client.pull(f"{served.authority}/elsewhere.test/team/app:1")


def test_a_line_in_the_log_for_each_image(upstream: Seeded, mirror: Mirrors, dockerd: Dockerds) -> None:
    served = mirror({"docker.io": {"url": upstream.registry.url, "tag_ttl": "1h"}})
    client = dockerd(served.authority)

    def lines() -> list[str]:
        return re.findall(r"docker\.io/library/layers:1  .*", served.log)

    client.pull("layers:1")
    wait_until(lambda: len(lines()) == 1, 10, "the first line")  # it comes by itself once the pull is over
    client.rmi("layers:1")
    client.pull("layers:1")
    served.stop()  # tells what is still open
    size = rf"{sum(blob.size for blob in upstream.image('library/layers').blobs) / 1e6:.2f}\dMB"
    cold, warm = lines()
    assert re.search(rf"  miss  5 blobs, {size} served, {size} from upstream, \S+ s, to 127.0.0.1$", cold)
    assert re.search(rf"  hit  5 blobs, {size} served, 0B from upstream, \S+ s, to 127.0.0.1$", warm)


def test_killed_in_the_middle_of_a_large_layer(
    large_image: Image, large_hub: FakeRegistry, mirror: Mirrors, dockerd: Dockerds
) -> None:
    layer = large_image.layers[0]
    large_hub.script(f"GET */blobs/{layer.digest}", hang_after(layer.size // 2))
    served = mirror({"docker.io": large_hub.url})
    client = dockerd(served.authority)
    with ThreadPoolExecutor(1) as pool:
        pull = pool.submit(client.pull, "large:1")
        wait_until(lambda: staged_bytes(served.data) > layer.size // 2 - MIB, 60, "half of the layer in staging")
        served.kill()
        served.start()
        pull.result()  # dockerd comes back by itself, and gets the rest
    assert client.image_id("large:1") == large_image.config.digest
    assert large_hub.sent(f"*/blobs/{layer.digest}") < layer.size + 8 * MIB
    assert wrong_blobs(served.data) == []
    wait_until(lambda: staged(served.data) == [], 5, "an empty staging")

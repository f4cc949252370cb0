"""faults.md, "upstream is this mirror; two mirrors upstream of each other": named at once, and never taken for an
answer about the content."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.faults.support import HUB, MIB, begin, cached, later, warned
from tests.support.fake_registry import FakeRegistry
from tests.support.fake_registry.content import random_bytes
from tests.support.mirror import Reply, Running, mirror_in_process
from tests.support.processes import free_port

NAMED = "leads back to this mirror"
PATHS = ("manifests/1", f"manifests/sha256:{'1' * 64}", f"blobs/sha256:{'1' * 64}")


def message(reply: Reply) -> str:
    return str(json.loads(reply.body)["errors"][0]["message"])


@asynccontextmanager
async def two_mirrors(tmp_path: Path) -> AsyncIterator[tuple[Running, Running]]:
    """Each is the other's upstream."""
    one, two = (f"127.0.0.1:{free_port()}" for _ in range(2))
    async with (
        mirror_in_process(tmp_path / "one", {HUB: f"http://{two}"}, listen=[one]) as first,
        mirror_in_process(tmp_path / "two", {HUB: f"http://{one}"}, listen=[two]) as second,
    ):
        yield first, second


async def test_two_mirrors_both_name_the_loop(tmp_path: Path) -> None:
    """Breaks if the second one renders the loop as a plain 404: the first would say that its upstream does not have
    the image, and nobody would look at `url`."""
    async with two_mirrors(tmp_path) as mirrors:
        for mirror in mirrors:
            for path in PATHS:
                reply = await mirror.get(f"/v2/library/{id(mirror)}/{path}")
                assert reply.status == 404
                assert NAMED in message(reply), path
            row = json.loads((await mirror.get("/api/v1/status")).body)["registries"][0]
            assert NAMED in row["reason"]


async def test_a_loop_is_no_answer_about_what_is_held(tmp_path: Path) -> None:
    """Breaks as the last one does: the held tag would be marked as gone, and a private one dropped."""
    ports = [free_port(), free_port()]
    one, two = (f"127.0.0.1:{port}" for port in ports)
    async with FakeRegistry() as registry:
        image = registry.add_image("library/x", "1")
        async with mirror_in_process(tmp_path / "one", {HUB: registry.url}) as first:
            await first.get("/v2/library/x/manifests/1")
    async with (
        mirror_in_process(tmp_path / "one", {HUB: f"http://{two}"}, listen=[one]) as first,
        mirror_in_process(tmp_path / "two", {HUB: f"http://{one}"}, listen=[two]),
    ):
        later(first, 3600)
        reply = await first.get("/v2/library/x/manifests/1")
        assert (reply.body, cached(reply)) == (image.manifest.raw, "stale")
        assert NAMED in warned(reply)
        assert json.loads((await first.get("/api/v1/status")).body)["only_here"] == []


@pytest.mark.parametrize("path", PATHS)
async def test_two_mirrors_asked_at_the_same_time(path: str, tmp_path: Path) -> None:
    """Breaks if a request that a mirror caused waits for the one that caused it: each would hold what the other waits
    for, until a time limit ends both."""
    async with two_mirrors(tmp_path) as mirrors, asyncio.timeout(10):
        asking = [begin(mirror.get(f"/v2/library/x/{path}")) for mirror in mirrors for _ in range(3)]
        for reply in await asyncio.gather(*asking):
            assert reply.status == 404
            assert NAMED in message(reply)


async def test_a_mirror_of_a_mirror_of_itself_serves_what_one_of_them_holds(tmp_path: Path) -> None:
    """Breaks if a loop is refused before what is held is looked at: B asks A for an image that A holds fresh."""
    one, two = (f"127.0.0.1:{free_port()}" for _ in range(2))
    layer = random_bytes("held", MIB)
    async with FakeRegistry() as registry:
        image = registry.add_image("library/x", "1", layers=[layer])
        async with mirror_in_process(tmp_path / "one", {HUB: registry.url}) as first:
            await first.get("/v2/library/x/manifests/1")
            await first.get(f"/v2/library/x/blobs/{image.layers[0][0]}")
            await first.idle()
    async with (
        mirror_in_process(tmp_path / "one", {HUB: f"http://{two}"}, listen=[one]),
        mirror_in_process(tmp_path / "two", {HUB: f"http://{one}"}, listen=[two]) as second,
    ):
        assert (await second.get("/v2/library/x/manifests/1")).body == image.manifest.raw
        assert (await second.get(f"/v2/library/x/blobs/{image.layers[0][0]}")).body == layer

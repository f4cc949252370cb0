"""`POST /api/v1/pull` against a scripted registry: what comes, and what it costs."""

import asyncio
from typing import Any

import pytest

from tests.faults.support import MIB, begin, client, until
from tests.operations.streams import Upstream, of, one
from tests.support.fake_registry import Gate
from tests.support.fake_registry.behaviours import hang_after

NAME = "docker.io/library/alpine:3"
BLOBS = "GET */blobs/*"


async def test_everything_is_here_afterwards(upstream: Upstream) -> None:
    registry, mirror, api = upstream
    image = registry.add_image("library/alpine", "3", layers=[1000, 3 * MIB])
    events = await api.pull("alpine:3")
    assert events[0] == {"event": "image", "name": NAME}
    whole = sum(len(data) for _, data in [*image.layers, image.config])
    assert one(events, "pulled") == {
        "event": "pulled",
        "name": NAME,
        "digest": image.digest,
        "platform": "linux/amd64",
        "status": "newer",
        "bytes_fetched": whole,
        "bytes_held": 0,
    }
    assert events[-1] == {"event": "end", "ok": 1, "failed": 0}
    assert registry.sent("*/blobs/*") == whole
    registry.forget()
    for digest, data in [*image.layers, image.config]:
        assert (await mirror.get(f"/v2/library/alpine/blobs/{digest}")).body == data
    assert (await mirror.get("/v2/library/alpine/manifests/3")).status == 200
    assert registry.count() == 0


async def test_layers_tell_how_far_they_are(upstream: Upstream) -> None:
    registry, _, api = upstream
    image = registry.add_image("library/alpine", "3", layers=[1000, 3 * MIB])
    await api.pull("alpine:3")
    image_2 = registry.add_image("library/alpine", "3", layers=[1000, 2 * MIB], seed="other")
    registry.content.repository("library/alpine").tags["3"] = image_2.digest
    large = image.layers[1][0]
    again = await api.pull("alpine:3")
    states = {(event["digest"], event["state"]) for event in of(again, "layer")}
    for digest, _data in image_2.layers:
        assert {state for each, state in states if each == digest} >= {"waiting", "downloading", "complete"}
    assert large not in {digest for digest, _ in states}
    assert image_2.config[0] not in {digest for digest, _ in states}  # docker shows layers
    for event in of(again, "layer"):
        assert 0 <= event["done"] <= event["size"]
    third = await api.pull("alpine:3")
    assert [event["state"] for event in of(third, "layer")] == ["exists", "exists"]
    assert one(third, "pulled")["status"] == "up_to_date"


async def test_progress_is_told_from_time_to_time_not_for_each_chunk(upstream: Upstream) -> None:
    """Broken by telling every change of a flight: 64 MiB in chunks of at most 1 MiB are more than 64 of them."""
    registry, _, api = upstream
    registry.add_image("library/alpine", "3", layers=[64 * MIB])
    began = asyncio.get_running_loop().time()
    events = await api.pull("alpine:3")
    took = asyncio.get_running_loop().time() - began
    told = [event for event in of(events, "layer") if event["state"] == "downloading"]
    assert len(told) <= took / 0.1 + 2


async def test_the_registry_is_asked_within_the_ttl(upstream: Upstream) -> None:
    registry, mirror, api = upstream
    registry.add_image("library/alpine", "3")
    assert (await mirror.get("/v2/library/alpine/manifests/3")).status == 200
    newer = registry.add_image("library/alpine", "3", layers=[5000], seed="newer")
    assert (await mirror.get("/v2/library/alpine/manifests/3")).headers["Docker-Content-Digest"] != newer.digest
    assert one(await api.pull("alpine:3"), "pulled")["digest"] == newer.digest
    registry.forget()
    assert (await mirror.get("/v2/library/alpine/manifests/3")).headers["Docker-Content-Digest"] == newer.digest
    assert registry.count() == 0


async def test_a_no_of_a_moment_ago_is_asked_again(upstream: Upstream) -> None:
    """Broken by believing the brief memory of a registry's "no": what was just pushed there would not be found."""
    registry, _, api = upstream
    registry.add_image("library/alpine", "2")
    assert one(await api.pull("alpine:3"), "error")["exit_code"] == 4
    registry.add_image("library/alpine", "3")
    assert one(await api.pull("alpine:3"), "pulled")["name"] == NAME


async def test_by_digest(upstream: Upstream) -> None:
    registry, _, api = upstream
    image = registry.add_image("library/alpine", "3")
    registry.add_image("library/alpine", "3", layers=[5000], seed="newer")
    for name in (f"alpine@{image.digest}", f"alpine:3@{image.digest}"):
        pulled = one(await api.pull(name), "pulled")
        assert (pulled["name"], pulled["digest"]) == (f"docker.io/library/{name}", image.digest)


async def test_one_download_for_clients_and_a_pull(upstream: Upstream) -> None:
    registry, mirror, api = upstream
    image = registry.add_image("library/alpine", "3", layers=[4 * MIB])
    digest, data = image.layers[0]
    gate = Gate()
    registry.script(BLOBS, hang_after(MIB, gate), times=1)
    path = f"/v2/library/alpine/blobs/{digest}"
    async with client(mirror, path) as first:
        pulling = begin(api.pull("alpine:3"))
        others = [begin(mirror.get(path)) for _ in range(7)]
        await until(lambda: registry.count(f"GET */blobs/{image.config[0]}"))
        gate.release()
        assert await first.rest() == data
        assert {(await other).body for other in others} == {data}
        assert one(await pulling, "pulled")["bytes_fetched"] == len(data) + len(image.config[1])
    assert registry.sent(f"*/blobs/{digest}") <= len(data) + MIB  # what was on its way when the connection broke
    assert len(registry.seen(f"GET */blobs/{digest}")) == 2  # the broken one, and its rest


async def test_no_byte_of_a_layer_passes_through(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken by reading a flight instead of following it."""
    from mirror.cache import readers

    registry, _, api = upstream
    image = registry.add_image("library/alpine", "3", layers=[3 * MIB, 1000])
    read: list[str] = []
    real = readers.FlightReader.read

    async def spied(self: Any, offset: int, count: int) -> bytes:
        read.append(str(self.digest))
        return await real(self, offset, count)

    monkeypatch.setattr(readers.FlightReader, "read", spied)
    assert one(await api.pull("alpine:3"), "pulled")
    assert not {digest for digest, _ in image.layers} & set(read)


async def test_many_at_once_share_their_layers(upstream: Upstream) -> None:
    registry, _, api = upstream
    for number in range(6):
        registry.add_image(
            f"library/app{number}",
            "1",
            layers=[50_000, 300_000],
            seed="base",
            extra={"annotations": {"n": str(number)}},
        )
    names = [f"app{number}:1" for number in range(6)]
    planned = await api.pull(*names, dry_run=True)
    assert registry.count(BLOBS) == 0
    foreseen = sum(event["fetch_bytes"] for event in of(planned, "plan"))
    events = await api.pull(*names, jobs=4)
    assert {event["name"] for event in of(events, "pulled")} == {f"docker.io/library/{name}" for name in names}
    assert sum(event["bytes_fetched"] for event in of(events, "pulled")) == foreseen == registry.sent("*/blobs/*")
    sizes = {event["bytes_fetched"] + event["bytes_held"] for event in of(events, "pulled")}
    assert sizes == {event["fetch_bytes"] + event["held_bytes"] for event in of(planned, "plan")}


async def test_at_most_so_many_images_at_a_time(upstream: Upstream) -> None:
    registry, _, api = upstream
    gate = Gate()
    for number in range(5):
        registry.add_image(f"library/app{number}", "1", layers=[1000], seed=str(number))
    registry.script(BLOBS, hang_after(10, gate), times=None)
    pulling = begin(api.pull(*(f"app{number}:1" for number in range(5)), jobs=2))
    await until(lambda: registry.count(BLOBS) >= 2)
    await asyncio.sleep(0.05)
    assert len({request.path for request in registry.seen("HEAD */manifests/1")}) == 2
    registry.unscript()
    gate.release()
    assert (await pulling)[-1] == {"event": "end", "ok": 5, "failed": 0}


async def test_a_name_twice_is_one_image(upstream: Upstream) -> None:
    registry, _, api = upstream
    registry.add_image("library/alpine", "latest")
    events = await api.pull("alpine", "alpine:latest", "docker.io/library/alpine", "alpine")
    assert len(of(events, "image")) == len(of(events, "pulled")) == events[-1]["ok"] == 1

"""design.md §5: ranges of a blob that is flying, of one at rest; conditional requests."""

import asyncio
from pathlib import Path

import pytest

from tests.faults.support import KIB, MIB, Client, cached, client, hub, stored, until
from tests.support.fake_registry import Gate
from tests.support.fake_registry.behaviours import both, hang_after, wrong_bytes
from tests.support.fake_registry.content import random_bytes
from tests.support.mirror import Running

SIZE = 4 * MIB


async def first_half(mirror: Running, path: str, gate: Gate) -> Client:
    """A reader of a flight that has come half the way and stops there until `gate` opens."""
    reader = await (await Client.connect(mirror)).ask(path)
    await reader.read(SIZE // 2 - 64 * KIB)
    await until(lambda: mirror.app.upstreams.states()[0].fetched_bytes == SIZE // 2)
    assert not gate._released.is_set()
    return reader


@pytest.mark.parametrize(("start", "end"), [(0, None), (0, 100), (MIB, None), (MIB, MIB + 1), (2 * MIB, SIZE - 1)])
async def test_a_range_the_flight_has_reached_follows_it(start: int, end: int | None, tmp_path: Path) -> None:
    """Breaks if a range costs a request of its own where the flight has, or is about to have, its bytes."""
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("follows", SIZE)
        digest = registry.add_blob("library/x", layer)
        path = f"/v2/library/x/blobs/{digest}"
        gate = Gate()
        registry.script("GET */blobs/*", hang_after(SIZE // 2, gate))
        whole = await first_half(mirror, path, gate)
        last = SIZE - 1 if end is None else end - 1
        asked = f"bytes={start}-" if end is None else f"bytes={start}-{last}"
        async with client(mirror, path, Range=asked) as part:
            assert part.status == 206
            assert part.headers["content-range"] == f"bytes {start}-{last}/{SIZE}"
            assert part.headers["content-length"] == str(last + 1 - start)
            gate.release()
            assert await part.rest() == layer[start : last + 1]
        assert await whole.read(SIZE // 2 + 64 * KIB) == layer[SIZE // 2 - 64 * KIB :]
        await whole.close()
        assert registry.sent("*/blobs/*") == SIZE


async def test_a_range_beyond_the_flight_goes_straight_through(tmp_path: Path) -> None:
    """Breaks if a lazy puller, who reads the tail first, has to wait for the whole; or if the flight is disturbed."""
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("beyond", SIZE)
        digest = registry.add_blob("library/x", layer)
        path = f"/v2/library/x/blobs/{digest}"
        gate = Gate()
        registry.script("GET */blobs/*", hang_after(SIZE // 2, gate))
        whole = await first_half(mirror, path, gate)
        for asked, wanted in (
            ("bytes=-1000", layer[-1000:]),
            (f"bytes={3 * MIB}-{3 * MIB + 99}", layer[3 * MIB : 3 * MIB + 100]),
        ):
            part = await mirror.get(path, Range=asked)
            assert (part.status, part.body) == (206, wanted)
        assert registry.sent("*/blobs/*") == SIZE // 2 + 1100
        gate.release()
        assert await whole.read(SIZE // 2 + 64 * KIB) == layer[SIZE // 2 - 64 * KIB :]
        await whole.close()
        await mirror.idle()
        assert cached(await mirror.get(path)) == "hit"


async def test_the_tail_of_a_range_is_withheld_too(tmp_path: Path) -> None:
    """Breaks if a range that follows a flight gets the last bytes unverified: `bytes=0-` would be a whole blob."""
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("withheld", SIZE)
        digest = registry.add_blob("library/x", layer)
        path = f"/v2/library/x/blobs/{digest}"
        gate = Gate()
        registry.script("GET */blobs/*", both(wrong_bytes(), hang_after(SIZE // 2, gate)))
        registry.script("GET */blobs/*", wrong_bytes())
        whole = await first_half(mirror, path, gate)
        async with (
            client(mirror, path, Range="bytes=0-") as everything,
            client(mirror, path, Range=f"bytes={MIB}-") as rest,
        ):
            gate.release()
            bodies = await asyncio.gather(whole.rest(), everything.rest(), rest.rest())
        await whole.close()
        assert all(not body.endswith(layer[-64 * KIB : -64 * KIB + 100]) for body in bodies)
        assert [len(body) < size for body, size in zip(bodies, (SIZE, SIZE, SIZE - MIB), strict=True)] == [True] * 3
        assert not stored(tmp_path / "data")


async def test_concurrent_ranges_cut_short_are_normal(tmp_path: Path) -> None:
    """Breaks if an early disconnect of one range ends the download (containerd's `concurrent_layer_fetch_buffer`)."""
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("concurrent", SIZE)
        digest = registry.add_blob("library/x", layer)
        path = f"/v2/library/x/blobs/{digest}"
        gate = Gate()
        registry.script("GET */blobs/*", hang_after(SIZE // 2, gate))

        async def part(start: int) -> bytes:
            async with client(mirror, path, Range=f"bytes={start}-") as reader:
                assert reader.status == 206
                return await reader.read(MIB)  # then it hangs up

        parts = asyncio.gather(*(part(start) for start in range(0, SIZE, MIB)))
        await until(lambda: registry.count("GET */blobs/*"))
        gate.release()
        assert b"".join(await parts) == layer
        await mirror.idle()
        assert len(stored(tmp_path / "data")) == 1


async def test_a_range_beyond_survives_a_break(tmp_path: Path) -> None:
    """Breaks if a pass-through is not resumed: podman has no other endpoint for a blob."""
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("survives", SIZE)
        digest = registry.add_blob("library/x", layer)
        path = f"/v2/library/x/blobs/{digest}"
        gate = Gate()
        registry.script("GET */blobs/*", hang_after(SIZE // 2, gate))
        registry.script("GET */blobs/*", hang_after(1000, _open()))
        whole = await first_half(mirror, path, gate)
        part = await mirror.get(path, Range=f"bytes={3 * MIB}-")
        assert (part.status, part.body) == (206, layer[3 * MIB :])
        gate.release()
        assert len(await whole.read(SIZE // 2)) == SIZE // 2
        await whole.close()


def _open() -> Gate:
    gate = Gate()
    gate.release()
    return gate


RANGES = {
    "first": ("bytes=0-0", 0, 1),
    "middle": ("bytes=1000-1999", 1000, 2000),
    "to the end": ("bytes=1000-", 1000, SIZE),
    "suffix": ("bytes=-10", SIZE - 10, SIZE),
    "beyond the end": (f"bytes=1000-{SIZE * 2}", 1000, SIZE),
}


@pytest.mark.parametrize("name", RANGES)
async def test_ranges_of_a_held_blob(name: str, tmp_path: Path) -> None:
    """Breaks if a range of a file at rest is off by one, or answers 200."""
    asked, start, end = RANGES[name]
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("held", SIZE)
        digest = registry.add_blob("library/x", layer)
        path = f"/v2/library/x/blobs/{digest}"
        await mirror.get(path)
        await mirror.idle()
        part = await mirror.get(path, Range=asked)
        assert (part.status, part.body == layer[start:end], cached(part)) == (206, True, "hit")
        assert part.headers["Content-Range"] == f"bytes {start}-{end - 1}/{SIZE}"
        other = await mirror.get(path, Range=asked, If_Range='"something else"')
        assert (other.status, other.body == layer) == (200, True)
        unmet = await mirror.get(path, Range=f"bytes={SIZE}-")
        assert (unmet.status, unmet.headers["Content-Range"]) == (416, f"bytes */{SIZE}")


async def test_304_only_when_asked(tmp_path: Path) -> None:
    """Breaks if a 304 comes unsolicited (containerd takes it for a failure), or for another digest."""
    async with hub(tmp_path) as (registry, mirror):
        image = registry.add_image("library/x", "1", layers=[1000])
        layer = image.layers[0][0]
        paths = {
            "/v2/library/x/manifests/1": image.digest,
            f"/v2/library/x/manifests/{image.digest}": image.digest,
            f"/v2/library/x/blobs/{layer}": layer,
        }
        for _ in range(2):  # cold, then warm
            for path, digest in paths.items():
                for method in ("GET", "HEAD"):
                    assert (await mirror.get(path, method)).status == 200
                    assert (await mirror.get(path, method, If_None_Match='"sha256:0"')).status == 200
                    for tag in (f'"{digest}"', f'W/"{digest}"', f'"x", "{digest}"', "*"):
                        same = await mirror.get(path, method, If_None_Match=tag)
                        assert (same.status, same.body) == (304, b"")
            await mirror.idle()


async def test_thousands_of_ranges_are_cheap_to_refuse(tmp_path: Path) -> None:
    """Breaks if ranges by the thousand are answered one by one, or make a 5xx: 400 makes clients ask for fewer."""
    async with hub(tmp_path) as (registry, mirror):
        digest = registry.add_blob("library/x", random_bytes("thousands", SIZE))
        path = f"/v2/library/x/blobs/{digest}"
        await mirror.get(path)
        many = "bytes=" + ",".join(f"{number}-{number}" for number in range(0, 5000, 2))
        assert (await mirror.get(path, Range=many)).status == 400

"""`max_size` and `min_free` (design.md §6, "Room"): what is asked for now finds room, what must stay stays, and the cap
holds at every moment, also while bytes arrive."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mirror.cache import room, uses
from mirror.clock import Clock
from tests.faults.support import HUB, KIB, MIB, begin, later, staged, stored, tmpfs, until
from tests.operations.streams import asking
from tests.support.fake_registry import FakeRegistry
from tests.support.fake_registry.content import FakeImage
from tests.support.mirror import Running, mirror_in_process

MB = 1000 * 1000
CAP = 200 * MB
NAME = "library/x"


def layer(number: int, size: int) -> bytes:
    """Cheap bytes that no other layer has."""
    return number.to_bytes(8, "big") + bytes(size - 8)


def taken(data: Path) -> int:
    """Bytes of all blobs and of staging."""
    total = 0
    for folder in ("blobs/sha256", "ingest"):
        for entry in os.scandir(data / folder):
            try:
                total += entry.stat().st_size
            except FileNotFoundError:  # published or deleted meanwhile
                continue
    return total


@asynccontextmanager
async def watched(data: Path, cap: int) -> AsyncIterator[list[int]]:
    """Looks at the disk all the time; fails where there is ever more than `cap`."""
    seen: list[int] = []

    async def look() -> None:
        while True:
            seen.append(taken(data))
            await asyncio.sleep(0.005)

    looking = begin(look())
    try:
        yield seen
    finally:
        looking.cancel()
    assert max(seen) <= cap


async def pull(mirror: Running, image: FakeImage, tag: str, name: str = NAME) -> list[str]:
    """A whole image, compared byte for byte. How each answer came to be."""
    reply = await mirror.get(f"/v2/{name}/manifests/{tag}")
    assert (reply.status, reply.body) == (200, image.manifest.raw)
    found = [reply.headers["Mirror-Cache"]]
    for digest, raw in (image.config, *image.layers):
        reply = await mirror.get(f"/v2/{name}/blobs/{digest}")
        assert (reply.status, reply.body) == (200, raw)
        found.append(reply.headers["Mirror-Cache"])
    return found


async def test_a_gigabyte_through_200_megabytes(tmp_path: Path) -> None:
    """Breaks if a write does not ask for room, if staging is not counted, if what is evicted is not the oldest, if a
    layer goes that another image needs, or if an image that is evicted is still served from memory."""
    base = layer(1 << 40, 2 * MB)
    async with FakeRegistry() as registry:
        images = [registry.add_image(NAME, str(n), layers=[base, layer(n, 10 * MB)], seed=str(n)) for n in range(100)]
        async with mirror_in_process(tmp_path / "data", {HUB: registry.url}, max_size="200MB") as mirror:
            async with watched(tmp_path / "data", CAP) as seen:
                for start in range(0, 100, 4):
                    await asyncio.gather(*(pull(mirror, images[n], str(n)) for n in range(start, start + 4)))
                await mirror.idle()
            assert max(seen) > CAP * 0.9  # it is used, too
            assert staged(tmp_path / "data") == []
            registry.forget()
            for number in range(99, 87, -1):
                assert set(await pull(mirror, images[number], str(number))) == {"hit"}
            assert registry.count() == 0
            assert "miss" in await pull(mirror, images[0], "0")
            assert registry.count("GET */manifests/*") == 1
            assert registry.count("GET */blobs/*") == 2  # not the base, which all share


async def test_what_is_pinned_stays_whatever_comes(tmp_path: Path) -> None:
    """Breaks if eviction does not look at pins, or takes a layer that a pinned image needs."""
    base = layer(1 << 40, 2 * MB)
    async with FakeRegistry() as registry:
        images = [registry.add_image(NAME, str(n), layers=[base, layer(n, 3 * MB)], seed=str(n)) for n in range(12)]
        async with (
            mirror_in_process(tmp_path / "data", {HUB: registry.url}, max_size="20MB") as mirror,
            asking(mirror) as api,
        ):
            await pull(mirror, images[0], "0")
            await mirror.idle()
            await api.ask("POST", "/pins", {"references": ["x:0"]})
            async with watched(tmp_path / "data", 20 * MB):
                for number in range(1, 12):
                    await pull(mirror, images[number], str(number))
                    await mirror.idle()
            registry.forget()
            assert set(await pull(mirror, images[0], "0")) == {"hit"}
            assert registry.count() == 0
            await api.ask("DELETE", "/pins?ref=x:0")


async def test_a_layer_larger_than_the_cap_is_served_and_drives_nothing_out(tmp_path: Path) -> None:
    """Breaks if the cache is emptied for what can never be held; or if the cap fails a pull."""
    async with FakeRegistry() as registry:
        small = registry.add_image(NAME, "small", layers=[layer(1, 2 * MB)], seed="small")
        large = registry.add_image(NAME, "large", layers=[layer(2, 30 * MB)], seed="large")
        async with mirror_in_process(tmp_path / "data", {HUB: registry.url}, max_size="20MB") as mirror:
            await pull(mirror, small, "small")
            async with watched(tmp_path / "data", 20 * MB):
                await asyncio.gather(*(pull(mirror, large, "large") for _ in range(3)))
                await mirror.idle()
            registry.forget()
            assert set(await pull(mirror, small, "small")) == {"hit"}
            assert registry.count() == 0


async def test_too_much_at_the_start_is_shrunk_in_the_background(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if a smaller max_size concerns only what comes later, or if what was last used is not written down, now
    and then and at a stop."""
    monkeypatch.setattr(uses, "ROUND", 0.05)
    async with FakeRegistry() as registry:
        images = [registry.add_image(NAME, str(n), layers=[layer(n, 3 * MB)], seed=str(n)) for n in range(10)]
        async with mirror_in_process(tmp_path / "data", {HUB: registry.url}) as mirror, asking(mirror) as api:
            for number in range(10):
                await pull(mirror, images[number], str(number))
            await mirror.idle()
            while (await api.ask("GET", "/images"))["images"][0]["last_pulled"] is None:
                await asyncio.sleep(0.01)
            monkeypatch.setattr(uses, "ROUND", 1000.0)
            later(mirror, 40)
            await pull(mirror, images[0], "0")  # used once more, from memory
        registry.forget()
        clock = Clock(wall_shift=50)
        async with mirror_in_process(tmp_path / "data", {HUB: registry.url}, clock=clock, max_size="10MB") as mirror:
            await until(lambda: taken(tmp_path / "data") <= 10 * MB)
            assert set(await pull(mirror, images[0], "0")) <= {"hit", "revalidated"}
            assert registry.count("GET *") == 0
            assert len(stored(tmp_path / "data")) == 9  # three images


async def test_a_disk_is_kept_as_free_as_it_should_be(tmp_path: Path) -> None:
    """240 MiB through a disk of 96, a quarter of which stays free. Breaks if `min_free` is looked at only once, if a
    pull fails because of it, or if the disk gets fuller than that."""
    with tmpfs(tmp_path / "disk", 96 * MIB) as disk:
        async with FakeRegistry() as registry:
            images = [registry.add_image(NAME, str(n), layers=[layer(n, 8 * MIB)], seed=str(n)) for n in range(30)]
            async with mirror_in_process(disk / "data", {HUB: registry.url}, min_free="25%") as mirror:
                least = 1 << 40
                for number in range(30):
                    await pull(mirror, images[number], str(number))
                    found = os.statvfs(disk)
                    least = min(least, found.f_bavail * found.f_frsize)
                await mirror.idle()
                assert least >= 24 * MIB - 2 * MIB  # the catalog's own files ask nobody
                registry.forget()
                assert set(await pull(mirror, images[29], "29")) == {"hit"}
                assert set(await pull(mirror, images[27], "27")) == {"hit"}
                assert registry.count() == 0
                assert staged(disk / "data") == []


async def test_a_disk_that_others_fill_is_given_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if nobody looks while nobody pulls, or if eviction does not work right after a start."""
    monkeypatch.setattr(room, "LOOK_EVERY", 0.05)
    with tmpfs(tmp_path / "disk", 96 * MIB) as disk:
        async with FakeRegistry() as registry:
            images = [registry.add_image(NAME, str(n), layers=[layer(n, 8 * MIB)], seed=str(n)) for n in range(5)]
            async with mirror_in_process(disk / "data", {HUB: registry.url}, min_free="25%") as mirror:
                for number in range(5):
                    await pull(mirror, images[number], str(number))
                await mirror.idle()
                assert len(stored(disk / "data")) == 15
            ballast = disk / "ballast"
            await asyncio.to_thread(ballast.write_bytes, bytes(40 * MIB))
            async with mirror_in_process(disk / "data", {HUB: registry.url}, min_free="25%") as mirror:
                await until(lambda: len(stored(disk / "data")) < 15)
                await until(lambda: os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize >= 24 * MIB)
                registry.forget()
                assert set(await pull(mirror, images[4], "4")) == {"hit"}


async def test_pulls_go_on_while_everything_is_collected(tmp_path: Path) -> None:
    """Breaks if a blob is unlinked between its look-up and its opening, if a publish and a deletion of one digest meet,
    or if memory serves an image whose layers are gone."""
    base = layer(1 << 40, MB)
    async with FakeRegistry() as registry:
        images = [
            registry.add_image(NAME, str(n), layers=[base, layer(n, 300 * KIB), layer(n + 100, 20 * KIB)], seed=str(n))
            for n in range(6)
        ]
        async with (
            mirror_in_process(tmp_path / "data", {HUB: registry.url}) as mirror,
            asking(mirror) as api,
        ):
            pulls = 0

            async def client(number: int) -> None:
                nonlocal pulls
                for turn in range(12):
                    which = (number + turn) % 6
                    await pull(mirror, images[which], str(which))
                    pulls += 1

            pulling = [begin(client(number)) for number in range(6)]
            freed = 0
            while not all(task.done() for task in pulling):
                events = await api.all("/prune", all=True)
                freed += sum(event["bytes"] for event in events if event["event"] == "freed")
                await api.all("/remove", references=["x:1"], force=True)
            await asyncio.gather(*pulling)
            await mirror.idle()
            assert pulls == 72
            assert freed > 0
            for number in range(6):
                await pull(mirror, images[number], str(number))
            await mirror.idle()
            registry.forget()
            for number in range(6):
                assert set(await pull(mirror, images[number], str(number))) == {"hit"}
            assert registry.count() == 0
            events = await api.all("/prune", all=True)
            assert taken(tmp_path / "data") == 0

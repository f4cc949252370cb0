"""A disk that cannot take it (faults.md, "disk full", "disk smaller than what is asked for"): every pull succeeds, what
is held is served, and nothing has to be restarted."""

import asyncio
import errno
import os
from functools import partial
from pathlib import Path

import pytest

from mirror.clock import Clock
from tests.faults.support import HUB, KIB, MIB, begin, hub, later, partial_body, staged, stored, tmpfs, until
from tests.support.fake_registry import Answer, FakeRegistry, Gate, Request
from tests.support.fake_registry.behaviours import close_after, hang_after, wrong_bytes
from tests.support.fake_registry.content import random_bytes
from tests.support.mirror import mirror_in_process

DISK = 48 * MIB
LAYER = 20 * MIB


async def test_more_is_pulled_than_the_disk_holds(tmp_path: Path) -> None:
    """200 MiB through 48. Breaks if a full disk fails a pull, or keeps a layer whole that it cannot."""
    with tmpfs(tmp_path / "disk", DISK) as disk:
        async with FakeRegistry() as registry:
            images = [
                registry.add_image("library/x", str(n), layers=[random_bytes(f"full{n}", LAYER)]) for n in range(10)
            ]
            async with mirror_in_process(disk / "data", {HUB: registry.url}) as mirror:
                for number, image in enumerate(images):
                    digest, layer = image.layers[0][0], random_bytes(f"full{number}", LAYER)
                    manifest = await mirror.get(f"/v2/library/x/manifests/{number}")
                    assert (manifest.status, manifest.body) == (200, image.manifest.raw)
                    assert (await mirror.get(f"/v2/library/x/blobs/{digest}")).body == layer
                await mirror.idle()
                assert staged(disk / "data") == []
                assert stored(disk / "data")  # the first ones were kept
                assert os.statvfs(disk).f_bavail > 0


async def test_a_layer_larger_than_the_disk_and_many_readers(tmp_path: Path) -> None:
    """Breaks if readers of a flight that ran out of room are cut, get wrong bytes, or a tail nobody verified."""
    with tmpfs(tmp_path / "disk", DISK) as disk:
        async with FakeRegistry() as registry:
            layer = random_bytes("large", 60 * MIB)
            digest = registry.add_blob("library/x", layer)
            async with mirror_in_process(disk / "data", {HUB: registry.url}) as mirror:
                path = f"/v2/library/x/blobs/{digest}"
                replies = await asyncio.gather(*(mirror.get(path) for _ in range(4)))
                assert all(reply.body == layer for reply in replies)
                ranged = await mirror.get(path, Range=f"bytes={50 * MIB}-")
                assert (ranged.status, ranged.body) == (206, layer[50 * MIB :])
                await mirror.idle()
                assert staged(disk / "data") == []
                registry.script("GET */blobs/*", close_after(58 * MIB))  # resumed by the reader itself
                assert (await mirror.get(path)).body == layer


async def test_wrong_bytes_are_not_sent_to_the_end_uncached_either(tmp_path: Path) -> None:
    """Breaks if what streams through is not verified."""
    with tmpfs(tmp_path / "disk", DISK) as disk:
        async with FakeRegistry() as registry:
            layer = random_bytes("wrong", 60 * MIB)
            digest = registry.add_blob("library/x", layer)
            async with mirror_in_process(disk / "data", {HUB: registry.url}) as mirror:

                def wrong_in_the_end(request: Request, answer: Answer) -> Answer:
                    """The last thousand bytes come by themselves: nothing but the rule holds the rest back."""
                    answer = wrong_bytes()(request, answer)
                    return close_after(max(answer.size - 1000, 1000))(request, answer)

                registry.script("GET */blobs/*", wrong_in_the_end, times=None)
                body = await partial_body(mirror, f"/v2/library/x/blobs/{digest}")
                assert len(body) <= len(layer) - 64 * KIB  # the tail waits for the digest, here too
                await mirror.idle()
                assert stored(disk / "data") == {}


async def test_it_recovers_when_there_is_room_again(tmp_path: Path) -> None:
    """Breaks if a full disk is remembered: cached reads go on meanwhile, later pulls are kept again."""
    with tmpfs(tmp_path / "disk", DISK) as disk:
        async with FakeRegistry() as registry:
            first = registry.add_image("library/x", "1", layers=[random_bytes("first", 2 * MIB)])
            second = registry.add_image("library/x", "2", layers=[random_bytes("second", 2 * MIB)])
            async with mirror_in_process(disk / "data", {HUB: registry.url}) as mirror:
                held = f"/v2/library/x/blobs/{first.layers[0][0]}"
                await mirror.get(held)
                await mirror.idle()
                ballast = disk / "ballast"
                with pytest.raises(OSError, match="No space"):
                    await asyncio.to_thread(ballast.write_bytes, bytes(DISK))
                registry.forget()
                assert (await mirror.get(held)).body == random_bytes("first", 2 * MIB)
                assert registry.count() == 0
                path = f"/v2/library/x/blobs/{second.layers[0][0]}"
                assert (await mirror.get("/v2/library/x/manifests/2")).body == second.manifest.raw
                assert (await mirror.get(path)).body == random_bytes("second", 2 * MIB)
                ballast.unlink()
                assert (await mirror.get("/v2/library/x/manifests/2")).status == 200
                assert (await mirror.get(path)).body == random_bytes("second", 2 * MIB)
                await mirror.idle()
                registry.forget()
                assert (await mirror.get(path)).headers["Mirror-Cache"] == "hit"
                assert registry.count("GET */blobs/*") == 0


async def test_a_failed_fsync_drops_the_blob_and_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if a blob is published whose fsync failed, or if its reader is cut although the bytes are right."""
    synced: list[int] = []

    def refuse(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        raise OSError(errno.EIO, "injected")

    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("fsync", MIB)
        digest = registry.add_blob("library/x", layer)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", refuse)
            assert (await mirror.get(f"/v2/library/x/blobs/{digest}")).body == layer
            await mirror.idle()
        assert synced
        assert len(synced) == len(set(synced))
        assert stored(tmp_path / "data") == {}
        assert (await mirror.get(f"/v2/library/x/blobs/{digest}")).body == layer
        await mirror.idle()
        assert list(stored(tmp_path / "data").values()) == [MIB]


async def test_a_held_blob_that_is_cut_or_missing_is_fetched_anew(tmp_path: Path) -> None:
    """Breaks if a blob's size is not looked at when it is opened."""
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("cut", 300 * KIB)
        digest = registry.add_blob("library/x", layer)
        path = f"/v2/library/x/blobs/{digest}"
        file = tmp_path / "data" / "blobs" / "sha256" / digest.partition(":")[2]
        for damage in (partial(os.truncate, file, 1000), file.unlink):
            assert (await mirror.get(path)).body == layer
            await mirror.idle()
            damage()
            assert (await mirror.get(path)).body == layer
            await mirror.idle()
        assert registry.count("GET */blobs/*") == 3


async def test_the_clock_moves_and_freshness_does_not(tmp_path: Path) -> None:
    """Breaks if freshness in memory runs on wall time; or if a wall time from the future is believed after a start."""
    async with FakeRegistry() as registry:
        registry.add_image("library/x", "1")
        async with mirror_in_process(tmp_path / "data", {HUB: registry.url}) as mirror:
            await mirror.get("/v2/library/x/manifests/1")
            registry.forget()
            for jump in (-86400.0, 2 * 86400.0):
                mirror.clock.wall_shift += jump
                assert (await mirror.get("/v2/library/x/manifests/1")).headers["Mirror-Cache"] == "hit"
            assert registry.count() == 0
            later(mirror, 3600)
            assert (await mirror.get("/v2/library/x/manifests/1")).headers["Mirror-Cache"] == "revalidated"
        for jump, cache in ((86400.0 + 3600 + 30, "hit"), (86400.0 + 3600 - 30, "revalidated")):
            # written half a minute ago, which may be believed; written half a minute from now, which may not
            registry.forget()
            clock = Clock(wall_shift=jump)
            async with mirror_in_process(tmp_path / "data", {HUB: registry.url}, clock=clock) as mirror:
                assert (await mirror.get("/v2/library/x/manifests/1")).headers["Mirror-Cache"] == cache
                assert registry.count("HEAD */manifests/1") == (cache == "revalidated")


async def test_staging_is_not_left_behind_where_a_reader_goes_on_alone(tmp_path: Path) -> None:
    """Breaks if the staged part of a flight without room is dropped under its reader, or kept for ever."""
    with tmpfs(tmp_path / "disk", DISK) as disk:
        async with FakeRegistry() as registry:
            layer = random_bytes("alone", 60 * MIB)
            digest = registry.add_blob("library/x", layer)
            gate = Gate()
            registry.script("GET */blobs/*", hang_after(10 * MIB, gate))
            async with mirror_in_process(disk / "data", {HUB: registry.url}) as mirror:
                reading = begin(mirror.get(f"/v2/library/x/blobs/{digest}"))
                await until(gate.reached.is_set)
                gate.release()
                assert (await reading).body == layer
                await mirror.idle()
                assert staged(disk / "data") == []

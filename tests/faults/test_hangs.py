"""faults.md, "upstream hangs": the idle limit, then resume; never one overall limit on a layer."""

import asyncio
from pathlib import Path

import pytest

from mirror.cache import tags
from tests.faults.support import KIB, MIB, cached, client, hub, warned
from tests.support.fake_registry import Gate
from tests.support.fake_registry.behaviours import hang, hang_after, pace
from tests.support.fake_registry.content import random_bytes

SIZE = 2 * MIB
IDLE = {"idle_timeout": "0.3s"}


async def test_a_silent_download_is_resumed_where_it_stopped(tmp_path: Path) -> None:
    """Breaks if nothing limits silence (no `sock_read`), or if what came before it is fetched again."""
    async with hub(tmp_path, section=IDLE) as (registry, mirror):
        layer = random_bytes("silent", SIZE)
        digest = registry.add_blob("library/x", layer)
        registry.script("GET */blobs/*", hang_after(MIB))
        replies = await asyncio.gather(*(mirror.get(f"/v2/library/x/blobs/{digest}") for _ in range(4)))
        assert all(reply.body == layer for reply in replies)
        assert [request.headers.get("Range") for request in registry.seen("GET */blobs/*")] == [None, f"bytes={MIB}-"]
        assert registry.sent("*/blobs/*") <= 1.2 * SIZE


async def test_a_registry_that_says_nothing_is_asked_again(tmp_path: Path) -> None:
    """Breaks if the idle limit does not hold before the headers of a resumption."""
    async with hub(tmp_path, section=IDLE) as (registry, mirror):
        layer = random_bytes("nothing", SIZE)
        digest = registry.add_blob("library/x", layer)
        registry.script("GET */blobs/*", hang_after(MIB))
        registry.script("GET */blobs/*", hang())
        assert (await mirror.get(f"/v2/library/x/blobs/{digest}")).body == layer


async def test_slow_is_not_silent(tmp_path: Path) -> None:
    """Breaks if one overall limit is put on a layer (`ClientTimeout(total=…)`): this one takes many idle limits."""
    async with hub(tmp_path, section=IDLE) as (registry, mirror):
        layer = random_bytes("slow", SIZE)
        digest = registry.add_blob("library/x", layer)
        registry.script("GET */blobs/*", pace(MIB))  # 64 KiB each 62 ms, 2 s in all
        assert (await mirror.get(f"/v2/library/x/blobs/{digest}")).body == layer
        assert registry.count("GET */blobs/*") == 1


async def test_what_is_there_is_sent_while_upstream_hangs(tmp_path: Path) -> None:
    """Breaks if a cold blob is answered only once it is whole: headers and first bytes go out at once (containerd
    ≥ 2.3 gives up after 30 s without headers)."""
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("at once", SIZE)
        digest = registry.add_blob("library/x", layer)
        gate = Gate()
        registry.script("GET */blobs/*", hang_after(MIB, gate))
        async with client(mirror, f"/v2/library/x/blobs/{digest}") as reader:
            assert reader.headers["content-length"] == str(SIZE)
            assert await reader.read(MIB - 64 * KIB) == layer[: MIB - 64 * KIB]
            gate.release()
            assert await reader.read(MIB + 64 * KIB) == layer[MIB - 64 * KIB :]


async def test_the_tail_is_withheld_until_the_digest_is_verified(tmp_path: Path) -> None:
    """Breaks if `WITHHELD` is 0 or bytes are released as they are written: upstream hangs one byte before the end, so
    the digest cannot be known, and the last 64 KiB may not be out."""
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("tail", SIZE)
        digest = registry.add_blob("library/x", layer)
        gate = Gate()
        registry.script("GET */blobs/*", hang_after(SIZE - 1, gate))
        async with client(mirror, f"/v2/library/x/blobs/{digest}") as reader:
            assert await reader.read(SIZE - 64 * KIB) == layer[: -64 * KIB]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.reader.read(1), 0.2)  # what must not come cannot be waited for longer
            gate.release()
            assert await reader.read(64 * KIB) == layer[-64 * KIB :]


async def test_a_held_tag_does_not_wait_for_a_slow_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if a revalidation is waited for without limit where the manifest is held (`HURRY`)."""
    monkeypatch.setattr(tags, "HURRY", 0.1)
    async with hub(tmp_path) as (registry, mirror):
        old = registry.add_image("library/x", "1")
        assert cached(await mirror.get("/v2/library/x/manifests/1")) == "miss"
        new = registry.add_image("library/x", "1", seed="new")
        mirror.clock.shift += 3600
        mirror.clock.wall_shift += 3600
        gate = Gate()
        registry.script("HEAD */manifests/*", hang(gate))
        stale = await mirror.get("/v2/library/x/manifests/1")
        assert (stale.body, cached(stale)) == (old.manifest.raw, "stale")
        assert warned(stale).startswith("299 ")
        gate.release()
        await mirror.idle()  # the revalidation went on, for everybody who comes later
        assert (await mirror.get("/v2/library/x/manifests/1")).body == new.manifest.raw

"""faults.md, "upstream closes mid-blob, wrong Content-Length, reset": readers notice nothing."""

import asyncio
from pathlib import Path

import pytest

from tests.faults.support import KIB, MIB, cached, client, hub
from tests.support.fake_registry import Behaviour
from tests.support.fake_registry.behaviours import (
    both,
    chunked,
    close,
    close_after,
    declared_length,
    garbage,
    header,
    ignore_range,
    no_length,
    reset,
    reset_after,
    status,
)
from tests.support.fake_registry.content import random_bytes

SIZE = 3 * MIB
WRONG_RANGE = f"bytes 0-{SIZE - 1}/{SIZE}"
ALLOWED = 1.2  # refetched bytes and all, against the size

BREAKS: dict[str, list[Behaviour]] = {
    "closed": [close_after(MIB)],
    "closed thrice": [close_after(MIB), close_after(100 * KIB), close_after(MIB)],
    "closed at the first byte": [close_after(1)],
    "closed before the last byte": [close_after(SIZE - 1)],
    "reset": [reset_after(MIB)],
    "reset instead of an answer": [close_after(MIB), reset()],
    "closed instead of an answer": [close_after(MIB), close()],
    "no HTTP": [close_after(MIB), garbage()],
    "503 in between": [close_after(MIB), status(503)],
    "500 and 502 in between": [close_after(MIB), status(500), status(502)],
    "404 in between": [close_after(MIB), status(404)],
    "no length": [no_length()],
    "no length, cut": [both(chunked(), close_after(MIB))],
    "another range than asked for": [close_after(MIB), both(header("Content-Range", WRONG_RANGE), close_after(KIB))],
    "no Content-Range": [close_after(MIB), both(header("Content-Range", None), close_after(KIB))],
}


@pytest.mark.parametrize("name", BREAKS)
async def test_a_break_is_resumed_and_no_reader_notices(name: str, tmp_path: Path) -> None:
    """Breaks if `Flight._download` gives up at the first error, begins again at 0, or believes a wrong 206."""
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes(name, SIZE)
        # a manifest tells the size where the blob's own answer does not
        image = registry.add_image("library/x", "1", layers=[layer])
        digest = image.layers[0][0]
        await mirror.get("/v2/library/x/manifests/1")
        for behaviour in BREAKS[name]:
            registry.script("GET */blobs/*", behaviour)
        replies = await asyncio.gather(*(mirror.get(f"/v2/library/x/blobs/{digest}") for _ in range(3)))
        assert [reply.body == layer for reply in replies] == [True] * 3
        assert all(reply.headers["Content-Length"] == str(SIZE) for reply in replies)
        await mirror.idle()
        assert registry.sent("*/blobs/*") <= ALLOWED * SIZE
        assert cached(await mirror.get(f"/v2/library/x/blobs/{digest}")) == "hit"


async def test_every_resumption_asks_for_what_is_missing(tmp_path: Path) -> None:
    """Breaks if an upstream break drops the batch not yet handed over (design.md §7, pitfall 4): it would be fetched
    again."""
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("missing", SIZE)
        digest = registry.add_blob("library/x", layer)
        for _ in range(8):
            registry.script("GET */blobs/*", close_after(300_000))
        reply = await mirror.get(f"/v2/library/x/blobs/{digest}")
        assert reply.body == layer
        starts = [request.headers.get("Range", "bytes=0-") for request in registry.seen("GET */blobs/*")]
        assert starts == [f"bytes={position * 300_000}-" for position in range(9)]
        assert registry.sent("*/blobs/*") == SIZE


@pytest.mark.parametrize("size", [SIZE, 100 * KIB], ids=["large", "small"])
@pytest.mark.parametrize("more", [-1000, 1000], ids=["too short", "too long"])
async def test_a_length_that_lies_never_makes_a_whole_blob(size: int, more: int, tmp_path: Path) -> None:
    """Breaks if a body is padded, cut at the announced end and believed, or waited for where nothing more can come:
    the digest decides. What was promised to a client cannot be kept, so its connection is aborted; the next one gets
    the blob whole."""
    said = size + more
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("lying", size)
        digest = registry.add_blob("library/x", layer)
        registry.script("GET */blobs/*", declared_length(said))
        async with client(mirror, f"/v2/library/x/blobs/{digest}") as liar:
            body = b"" if liar.status == 404 else await liar.rest()  # a small one may be known to be wrong at once
        assert len(body) < said
        assert layer.startswith(body)
        await mirror.idle()
        assert (await mirror.get(f"/v2/library/x/blobs/{digest}")).body == layer


async def test_a_range_that_is_ignored_is_skipped(tmp_path: Path) -> None:
    """Breaks if bytes of a 200 to a Range request are taken to begin at the offset asked for."""
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("ignored", SIZE)
        digest = registry.add_blob("library/x", layer)
        registry.script("GET */blobs/*", close_after(MIB))
        registry.script("GET */blobs/*", ignore_range())
        assert (await mirror.get(f"/v2/library/x/blobs/{digest}")).body == layer


async def test_a_manifest_that_breaks_off_is_no_manifest(tmp_path: Path) -> None:
    """Breaks if a short manifest body is stored: by digest it could not even be told, by tag it would be served."""
    async with hub(tmp_path) as (registry, mirror):
        image = registry.add_image("library/x", "1")
        registry.script("HEAD */manifests/*", status(405), times=None)  # so that the GET by tag counts
        registry.script("GET */manifests/*", close_after(100))
        assert (await mirror.get("/v2/library/x/manifests/1")).status == 404
        reply = await mirror.get("/v2/library/x/manifests/1")
        assert reply.body == image.manifest.raw

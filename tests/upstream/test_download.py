"""A blob's body, as it comes and as it breaks. What breaks a test is said in its docstring."""

import asyncio
import contextlib

import pytest

from mirror.errors import UpstreamInvalid, UpstreamUnreachable
from mirror.oci.digest import Digest
from mirror.upstream.client import RegistrySource
from tests.support.fake_registry import Behaviour, FakeRegistry
from tests.support.fake_registry import behaviours as b
from tests.support.fake_registry.content import FakeImage
from tests.upstream.support import BLOB, REPOSITORY, layer, read, read_until_broken, source


async def test_a_blob_whole(registry: FakeRegistry, image: FakeImage, upstream: RegistrySource) -> None:
    digest, data = layer(image)
    async with upstream.open(REPOSITORY, Digest.parse(digest)) as download:
        assert (download.size, download.offset) == (BLOB, 0)
        assert b"".join([chunk async for chunk in download.chunks]) == data
    (request,) = registry.seen("GET */blobs/*")
    assert "Range" not in request.headers
    assert request.headers["Accept-Encoding"] == "identity"


async def test_an_empty_blob(image: FakeImage, upstream: RegistrySource) -> None:
    assert await read(upstream, image.layers[1][0]) == b""
    assert await read(upstream, image.layers[1][0], 0, 10) == b""  # 416: there is no byte


@pytest.mark.parametrize(
    ("offset", "end", "header"), [(10, None, "bytes=10-"), (0, 7, "bytes=0-6"), (5, 9, "bytes=5-8")]
)
async def test_a_part_of_a_blob(
    registry: FakeRegistry, image: FakeImage, upstream: RegistrySource, offset: int, end: int | None, header: str
) -> None:
    digest, data = layer(image)
    async with upstream.open(REPOSITORY, Digest.parse(digest), offset, end) as download:
        assert (download.size, download.offset) == (BLOB, offset)
        assert b"".join([chunk async for chunk in download.chunks]) == data[offset:end]
    assert registry.seen("GET */blobs/*")[0].headers["Range"] == header


async def test_a_registry_that_ignores_range_gives_the_whole(
    registry: FakeRegistry, image: FakeImage, upstream: RegistrySource
) -> None:
    """Fails if the offset asked for is believed instead of the status."""
    registry.ranges = False
    digest, data = layer(image)
    async with upstream.open(REPOSITORY, Digest.parse(digest), 100, 200) as download:
        assert (download.size, download.offset) == (BLOB, 0)
        assert b"".join([chunk async for chunk in download.chunks]) == data


@pytest.mark.parametrize(
    "content_range",
    ["bytes 99-2999999/3000000", "bytes 0-2999999/3000000", "bytes 100-50/3000000", "pages 1-2/3", None],
)
async def test_a_206_with_another_range_is_refused(
    registry: FakeRegistry, image: FakeImage, upstream: RegistrySource, content_range: str | None
) -> None:
    """Fails if the 206's offsets are not compared with those asked for: bytes would be stored in the wrong place."""
    registry.script("GET */blobs/*", b.header("Content-Range", content_range))
    arrived, error = await read_until_broken(upstream, layer(image)[0], 100)
    assert isinstance(error, UpstreamInvalid)
    assert arrived == b""


async def test_a_206_that_goes_beyond_the_end_asked_for_is_refused(
    registry: FakeRegistry, image: FakeImage, upstream: RegistrySource
) -> None:
    registry.script("GET */blobs/*", b.header("Content-Range", "bytes 100-299/3000000"))
    assert isinstance((await read_until_broken(upstream, layer(image)[0], 100, 200))[1], UpstreamInvalid)


async def test_a_206_of_less_than_was_asked_for_ends_early(
    registry: FakeRegistry, image: FakeImage, upstream: RegistrySource
) -> None:
    """Fails if the end of the 206 is taken for the end asked for: a clean short body would pass for the whole."""
    digest, data = layer(image)
    registry.script(
        "GET */blobs/*",
        b.both(b.wrong_bytes(lambda body: body[:50]), b.header("Content-Range", "bytes 100-149/3000000")),
    )
    arrived, error = await read_until_broken(upstream, digest, 100)
    assert arrived == data[100:150]
    assert isinstance(error, UpstreamUnreachable)


async def test_a_range_beyond_the_blob(image: FakeImage, upstream: RegistrySource) -> None:
    assert isinstance((await read_until_broken(upstream, layer(image)[0], BLOB))[1], UpstreamInvalid)


async def test_a_416_without_a_reason_means_the_whole(
    registry: FakeRegistry, image: FakeImage, upstream: RegistrySource
) -> None:
    registry.script("GET */blobs/*", b.status(416))
    digest, data = layer(image)
    async with upstream.open(REPOSITORY, Digest.parse(digest), 5) as download:
        assert download.offset == 0
        assert b"".join([chunk async for chunk in download.chunks]) == data
    assert registry.count("GET */blobs/*") == 2


@pytest.mark.parametrize("fault", [b.close_after(1_000_000), b.reset_after(1_000_000), b.hang_after(1_000_000)])
async def test_a_break_in_the_middle_loses_nothing(
    registry: FakeRegistry, image: FakeImage, upstream: RegistrySource, fault: Behaviour
) -> None:
    """A close, a reset, a silence. Fails if what lies in the buffer is dropped with the error (it would be fetched
    again), if a short body passes for a whole one, or if there is no idle limit."""
    digest, data = layer(image)
    registry.script("GET */blobs/*", fault)
    arrived, error = await read_until_broken(upstream, digest)
    assert isinstance(error, UpstreamUnreachable)
    assert arrived == data[: len(arrived)]
    assert len(arrived) >= 900_000  # a reset may take what is on the wire
    assert await read(upstream, digest, len(arrived)) == data[len(arrived) :]
    assert registry.sent("*/blobs/*") <= 1.2 * BLOB


async def test_a_slow_reader_gets_what_arrived_before_the_break(
    registry: FakeRegistry, image: FakeImage, upstream: RegistrySource
) -> None:
    """Fails if aiohttp's buffer is lost: the break is there before the first read."""
    digest, data = layer(image)
    registry.script("GET */blobs/*", b.close_after(300_000))
    async with upstream.open(REPOSITORY, Digest.parse(digest)) as download:
        await asyncio.sleep(0.2)
        chunks = download.chunks
        arrived = await anext(chunks)
        with contextlib.suppress(UpstreamUnreachable):
            while True:  # ends by that error only
                arrived += await anext(chunks)
    assert arrived == data[:300_000]


async def test_a_slow_reader_is_no_silence(image: FakeImage, upstream: RegistrySource) -> None:
    """Fails if the idle limit runs while it is us who do not read."""
    digest, data = layer(image)
    arrived = b""
    async with upstream.open(REPOSITORY, Digest.parse(digest)) as download:
        async for chunk in download.chunks:
            arrived += chunk
            if len(arrived) < 2_000_000:
                await asyncio.sleep(0.7)
    assert arrived == data


@pytest.mark.parametrize("declared", [BLOB - 1000, BLOB + 1000])
async def test_a_wrong_length(
    registry: FakeRegistry, image: FakeImage, upstream: RegistrySource, declared: int
) -> None:
    """Too long: an early end. Too short: those bytes and no more; the hash decides then."""
    digest, data = layer(image)
    registry.script("GET */blobs/*", b.declared_length(declared))
    async with upstream.open(REPOSITORY, Digest.parse(digest)) as download:
        assert download.size == declared
        arrived = b""
        try:
            async for chunk in download.chunks:
                arrived += chunk
        except UpstreamUnreachable:
            assert declared > BLOB
            assert arrived == data
        else:
            assert arrived == data[:declared]


@pytest.mark.parametrize("fault", [b.chunked(), b.no_length()])
async def test_a_body_without_a_length(
    registry: FakeRegistry, image: FakeImage, upstream: RegistrySource, fault: Behaviour
) -> None:
    digest, data = layer(image)
    registry.script("GET */blobs/*", fault)
    async with upstream.open(REPOSITORY, Digest.parse(digest)) as download:
        assert download.size is None
        assert b"".join([chunk async for chunk in download.chunks]) == data


async def test_a_chunked_body_that_ends_early(
    registry: FakeRegistry, image: FakeImage, upstream: RegistrySource
) -> None:
    registry.script("GET */blobs/*", b.both(b.chunked(), b.close_after(100_000)))
    arrived, error = await read_until_broken(upstream, layer(image)[0])
    assert isinstance(error, UpstreamUnreachable)
    assert len(arrived) == 100_000


async def test_more_bytes_than_announced(registry: FakeRegistry, image: FakeImage, upstream: RegistrySource) -> None:
    registry.script("GET */blobs/*", b.both(b.chunked(), b.header("Content-Range", "bytes 5-10/11")))
    registry.script("GET */blobs/*", b.both(b.chunked(), b.header("Content-Range", "bytes 5-2999999/3000000")))
    assert isinstance((await read_until_broken(upstream, layer(image)[0], 5))[1], UpstreamInvalid)


async def test_compression_is_left_alone(registry: FakeRegistry, image: FakeImage, upstream: RegistrySource) -> None:
    """Fails if the client decompresses what a registry labels so: the bytes would not be those of the digest."""
    digest, data = layer(image)
    registry.script("GET */blobs/*", b.header("Content-Encoding", "gzip"))
    assert await read(upstream, digest) == data


async def test_no_headers_in_time(registry: FakeRegistry, image: FakeImage) -> None:
    """Fails if nothing bounds the time until the headers: clients give up after 30 s."""
    registry.script("GET */blobs/*", b.hang(), times=None)
    async with source(registry.url, headers_seconds=0.2) as upstream:
        with pytest.raises(UpstreamUnreachable, match="did not answer within"):
            await read(upstream, layer(image)[0])


async def test_a_blob_may_take_longer_than_its_headers(registry: FakeRegistry, image: FakeImage) -> None:
    """Fails if the limit until the headers, or any other overall limit, cuts the body."""
    registry.script("GET */blobs/*", b.pace(BLOB / 0.8))
    async with source(registry.url, headers_seconds=0.3) as upstream:
        assert await read(upstream, layer(image)[0]) == layer(image)[1]


async def test_leaving_early_closes_the_connection(
    registry: FakeRegistry, image: FakeImage, upstream: RegistrySource
) -> None:
    async with upstream.open(REPOSITORY, Digest.parse(layer(image)[0])) as download:
        await anext(download.chunks)
    assert await read(upstream, image.config[0]) == image.config[1]

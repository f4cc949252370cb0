"""What goes straight through from upstream: in order, bounded, resumed, verified where it can be."""

from collections.abc import AsyncIterator

import pytest

from mirror.cache.readers import Through, skipping, through
from mirror.errors import UpstreamDigestMismatch, UpstreamInvalid, UpstreamUnreachable
from mirror.store.protocols import Hash
from tests.cache.scripted import Body, unreachable
from tests.cache.support import World, read, released_before
from tests.store.samples import ALPINE
from tests.support.fake_registry.content import random_bytes

DATA = random_bytes("through", 300_000)
WITHHELD = 64 * 1024


def reader_of(world: World, start: int, end: int, hash_: Hash | None = None, data: bytes = DATA) -> Through:
    digest = world.hub.add(ALPINE, data)
    return Through(world.hub.anonymous, ALPINE, digest, len(data), start, end, hash_)


def opens(world: World) -> list[str]:
    return [line.split()[-1] for line in world.hub.anonymous.asked]


@pytest.mark.parametrize(("start", "end"), [(0, 300_000), (100_000, 100_001), (299_999, 300_000), (5, 299_000)])
async def test_a_range_from_the_middle(world: World, start: int, end: int) -> None:
    digest = world.hub.add(ALPINE, DATA)
    async with through(world.hub.anonymous, ALPINE, digest, len(DATA), start, end) as reader:
        assert (reader.digest, reader.size, reader.fileno()) == (digest, len(DATA), None)
        assert await read(reader, start, end) == DATA[start:end]
    assert opens(world) == [f"{start}-{end}"]


async def test_more_than_was_asked_for_is_cut_off(world: World) -> None:
    world.hub.anonymous.bodies.append(Body([50], ignores_range=True))
    digest = world.hub.add(ALPINE, DATA)
    async with through(world.hub.anonymous, ALPINE, digest, len(DATA), 100, 200) as reader:
        assert await read(reader, 100, 200) == DATA[100:200]


async def test_and_is_not_hashed(world: World) -> None:
    world.hub.anonymous.bodies.append(Body([250_000], data=DATA + b"and more", size=300_000, ignores_range=True))
    reader = reader_of(world, 0, 300_000, world.hub.add(ALPINE, DATA).hasher())
    assert await read(reader, 0, 300_000) == DATA
    await reader.close()


async def test_it_is_read_in_order_only(world: World) -> None:
    reader = reader_of(world, 100, 200)
    await reader.ready(100, 200)
    await reader.read(100, 10)
    with pytest.raises(RuntimeError):
        await reader.read(100, 10)
    await reader.close()


async def test_at_most_one_chunk_is_held(world: World) -> None:
    world.hub.anonymous.bodies.append(Body([1000] * 300))
    reader = reader_of(world, 0, 300_000)
    offset = 0
    while offset < 300_000:
        assert await reader.ready(offset, 300_000) == offset + 1000
        assert len(reader._held) == 1000
        assert len(await reader.read(offset, 600)) == 600
        assert len(await reader.read(offset + 600, 600)) == 400
        offset += 1000
    await reader.close()


async def test_with_a_hash_the_end_waits_for_the_digest(world: World) -> None:
    world.hub.anonymous.bodies.append(Body([250_000, 49_999]))
    reader = reader_of(world, 0, 300_000, world.hub.add(ALPINE, DATA).hasher())
    assert await reader.ready(0, 300_000) == 300_000 - WITHHELD
    assert await read(reader, 0, 300_000) == DATA
    await reader.close()


async def test_a_reader_that_begins_later_than_the_hash_has_everything_hashed(world: World) -> None:
    reader = reader_of(world, 0, 300_000, world.hub.add(ALPINE, DATA).hasher())
    assert await read(reader, 120_000, 300_000) == DATA[120_000:]
    await reader.close()


async def test_a_hash_that_begins_in_the_middle_knows_what_came_before(world: World) -> None:
    hash_ = world.hub.add(ALPINE, DATA).hasher()
    hash_.update(DATA[:100_000])
    reader = reader_of(world, 100_000, 300_000, hash_)
    assert await read(reader, 100_000, 300_000) == DATA[100_000:]
    await reader.close()


@pytest.mark.parametrize("size", [1000, 300_000])
async def test_wrong_bytes_are_never_sent_to_the_end(world: World, size: int) -> None:
    data = DATA[:size]
    world.hub.anonymous.bodies.append(Body([size // 2, size // 4], data=b"?" + data[1:]))
    reader = reader_of(world, 0, size, world.hub.add(ALPINE, data).hasher(), data)
    assert await released_before(UpstreamDigestMismatch, reader, 0, size) <= max(0, size - WITHHELD)
    assert len(opens(world)) == 1  # asking again would not make them right
    await reader.close()


async def test_a_break_is_resumed_and_hashed_once(world: World) -> None:
    world.hub.anonymous.bodies += [
        Body([100_000, unreachable()]),
        Body([50_000], data=DATA[:250_000], size=300_000, ignores_range=True),  # … and ends early
        Body(),
    ]
    reader = reader_of(world, 0, 300_000, world.hub.add(ALPINE, DATA).hasher())
    assert await read(reader, 0, 300_000) == DATA
    assert opens(world) == ["0-300000", "100000-300000", "250000-300000"]
    await reader.close()


async def test_five_breaks_without_a_byte_between_are_the_end(world: World) -> None:
    world.hub.anonymous.bodies += [Body([100, unreachable()])] + [Body([unreachable()])] * 9
    reader = reader_of(world, 0, 1000)
    assert await read(reader, 0, 100) == DATA[:100]
    with pytest.raises(UpstreamUnreachable):
        await reader.ready(100, 1000)
    assert opens(world) == ["0-1000"] + ["100-1000"] * 4
    await reader.close()


async def pieces(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


@pytest.mark.parametrize(("skip", "expected"), [
    (0, [b"abc", b"def"]), (1, [b"bc", b"def"]), (3, [b"def"]), (5, [b"f"]), (6, []), (9, []),
])  # fmt: skip
async def test_skipping(skip: int, expected: list[bytes]) -> None:
    assert [chunk async for chunk in skipping(pieces(b"abc", b"def"), skip)] == expected


async def test_an_answer_that_begins_beyond_is_refused() -> None:
    with pytest.raises(UpstreamInvalid):
        _ = [chunk async for chunk in skipping(pieces(b"abc"), -1)]

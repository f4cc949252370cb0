"""What a flight leaves in staging, who goes on from it, and what happens where the disk cannot take it."""

import pytest

from mirror.cache.flight import WITHHELD
from mirror.errors import NoRoom, StoreFailed, UpstreamDigestMismatch, UpstreamGone, UpstreamUnreachable
from mirror.oci.digest import Digest
from mirror.store.protocols import Partial
from tests.cache.flying import BIG, TINY, launch, nothing_staged, opens, whole
from tests.cache.scripted import Body, Gate
from tests.cache.support import World, read, released_before, settled
from tests.store.samples import ALPINE

# --- staging that is kept ---------------------------------------------------------------------------------


async def test_what_was_stopped_is_resumed_by_a_later_flight_of_the_same_source(world: World) -> None:
    digest = world.hub.add(ALPINE, BIG)
    world.hub.anonymous.bodies.append(Body([400_000, Gate()]))
    flight = await launch(world, digest)
    await settled(lambda: flight.available == 400_000)
    flight.stop("test")
    await world.idle()
    assert isinstance(flight.error, UpstreamUnreachable)
    [partial] = await world.catalog.partials()
    assert await world.store.staged() == [partial.id]
    again = await launch(world, digest)
    assert again.available >= 400_000
    assert await whole(again) == BIG
    assert opens(world) == ["0-", "400000-"]
    await world.idle()
    await nothing_staged(world)


async def suspended(world: World, digest: Digest, data: bytes, *, anonymous: bool = True) -> None:
    """Leave `data` in staging, as an earlier process would."""
    ingest = await world.store.begin(lambda _: None)
    await ingest.write(data)
    await ingest.suspend()
    await world.catalog.begin_partial(Partial(ingest.id, digest, "docker.io", anonymous, 1.0))
    await world.flights.recall()


async def test_what_another_source_began_is_left_alone(world: World) -> None:
    digest = world.hub.add(ALPINE, BIG)
    await suspended(world, digest, BIG[:400_000], anonymous=False)
    assert await whole(await launch(world, digest)) == BIG
    assert opens(world) == ["0-"]


async def test_staging_that_is_gone_is_forgotten(world: World) -> None:
    digest = world.hub.add(ALPINE, BIG)
    await world.catalog.begin_partial(Partial("nothing", digest, "docker.io", True, 1.0))
    await world.flights.recall()
    assert await whole(await launch(world, digest)) == BIG
    await world.idle()
    assert await world.catalog.partials() == []


async def test_rotten_staging_fails_once(world: World) -> None:
    digest = world.hub.add(ALPINE, BIG)
    await suspended(world, digest, b"?" + BIG[1:400_000])
    with pytest.raises(UpstreamDigestMismatch):
        await whole(await launch(world, digest))
    await world.idle()
    assert await whole(await launch(world, digest)) == BIG


async def test_staging_that_is_complete_already_needs_no_body(world: World) -> None:
    """A process killed between the last byte and the rename leaves everything: no range begins after the end."""
    digest = world.hub.add(ALPINE, BIG)
    await suspended(world, digest, BIG)
    assert await whole(await launch(world, digest)) == BIG
    await world.idle()
    await nothing_staged(world)
    assert await world.catalog.holding(ALPINE, digest, is_manifest=False) is not None


async def test_complete_staging_is_nobodys_without_the_right(world: World) -> None:
    digest = Digest.of(BIG)  # this repository does not have it
    await suspended(world, digest, BIG)
    with pytest.raises(UpstreamGone):
        await launch(world, digest)
    assert await world.catalog.holding(ALPINE, digest, is_manifest=False) is None


@pytest.mark.parametrize("staged", [BIG + b"more", b"?" + BIG[1:]])
async def test_staging_that_upstream_cannot_go_on_from_does_not_stand_in_the_way(world: World, staged: bytes) -> None:
    digest = world.hub.add(ALPINE, BIG)
    await suspended(world, digest, staged)
    assert await whole(await launch(world, digest)) == BIG
    assert opens(world)[-1] == "0-"
    await world.idle()
    await nothing_staged(world)


@pytest.mark.parametrize("method", ["begin_partial", "end_partial"])
async def test_records_of_staging_are_no_condition_of_a_download(
    world: World, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise StoreFailed("no")

    monkeypatch.setattr(world.catalog, method, refuse)
    digest = world.hub.add(ALPINE, BIG)
    assert await whole(await launch(world, digest)) == BIG
    await world.idle()
    assert await world.catalog.holding(ALPINE, digest, is_manifest=False) is not None


async def test_staging_that_cannot_be_opened_is_begun_anew(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise StoreFailed("EIO")

    digest = world.hub.add(ALPINE, BIG)
    await suspended(world, digest, BIG[:400_000])
    monkeypatch.setattr(world.store, "resume", refuse)
    assert await whole(await launch(world, digest)) == BIG
    assert opens(world) == ["0-"]


# --- the disk ---------------------------------------------------------------------------------------------


async def test_what_the_disk_cannot_take_streams_through(world: World) -> None:
    world.store.limit = 300_000
    digest = world.hub.add(ALPINE, BIG)
    gate = Gate()
    world.hub.anonymous.bodies.append(Body([200_000, gate, 200_000]))
    flight = await launch(world, digest)
    async with flight.follow(ALPINE) as first, flight.follow(ALPINE) as second:
        await gate.reached.wait()
        gate.release()
        await settled(lambda: flight.unstored)
        assert flight.available == 200_000  # what did fit is read from staging, the rest by each from upstream
        assert await read(first, 0, len(BIG)) == BIG
        assert await read(second, 0, len(BIG)) == BIG
    assert opens(world) == ["0-", "200000-700000", "200000-700000"]
    assert world.store.blobs == {}
    await nothing_staged(world)
    assert await whole(flight) == BIG  # a reader who comes late goes through from the start
    assert len(world.flights) == 0


async def test_wrong_bytes_are_not_sent_to_the_end_by_an_unstored_flight_either(world: World) -> None:
    world.store.limit = 300_000
    digest = world.hub.add(ALPINE, BIG)
    gate = Gate()
    world.hub.anonymous.bodies += [Body([200_000, gate, 200_000]), Body([300_000], data=BIG[:-1] + b"?")]
    flight = await launch(world, digest)
    async with flight.follow(ALPINE) as reader:
        await gate.reached.wait()
        gate.release()
        assert await read(reader, 0, 200_000) == BIG[:200_000]
        released = await released_before(UpstreamDigestMismatch, reader, 200_000, len(BIG))
        assert released <= len(BIG) - WITHHELD


async def test_unstored_without_a_size_is_a_failure(world: World) -> None:
    world.store.limit = 300_000
    world.hub.anonymous.bodies.append(Body(size=None))
    with pytest.raises(NoRoom):
        await launch(world, world.hub.add(ALPINE, BIG))
    assert world.store.active() == set()


@pytest.mark.parametrize("data", [TINY, BIG])
async def test_delivered_but_not_kept(world: World, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> str:
        raise StoreFailed("fsync failed")

    monkeypatch.setattr(world.store, "put", refuse)
    digest = world.hub.add(ALPINE, data)
    gate = Gate()
    world.hub.anonymous.bodies.append(Body([len(data) - 1, gate]))
    flight = await launch(world, digest)
    async with flight.follow(ALPINE) as reader:
        await gate.reached.wait()
        begun = b"" if data is TINY else await read(reader, 0, 1000)
        gate.release()
        await world.idle()
        assert begun + await read(reader, len(begun), len(data)) == data
    assert await world.catalog.holding(ALPINE, digest, is_manifest=False) is None
    assert len(world.flights) == 0
    await nothing_staged(world)

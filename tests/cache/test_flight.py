"""One download: its states, what readers may take of it, and what becomes of it when something breaks."""

import asyncio
import logging
from contextlib import AsyncExitStack

import pytest

from mirror.cache import flight as flight_module
from mirror.cache.flight import SMALL, WITHHELD
from mirror.cache.states import State
from mirror.errors import (
    MirrorError,
    UpstreamDigestMismatch,
    UpstreamGone,
    UpstreamInvalid,
    UpstreamUnreachable,
)
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.store.protocols import Ingest, Proof
from tests.cache.flying import BIG, TINY, launch, nothing_staged, opens, whole
from tests.cache.scripted import Body, Gate, gone, unreachable
from tests.cache.support import CLIENT, World, read, settled
from tests.store.samples import ALPINE, NGINX, image
from tests.support.fake_registry.content import random_bytes

# --- the good way -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("size", [0, 1, SMALL, SMALL + 1, 700_000])
async def test_it_lands_and_is_linked(world: World, size: int, algorithm: str) -> None:
    data = random_bytes("x", size)
    digest = world.hub.add(ALPINE, data, algorithm)
    flight = await launch(world, digest)
    assert flight.size == size
    assert await whole(flight) == data
    await world.idle()
    assert flight.state is State.LANDED
    holding = await world.catalog.holding(ALPINE, digest, is_manifest=False)
    assert holding is not None
    assert holding.link is not None
    assert (holding.size, holding.link.anonymous_at) == (size, world.clock.wall())
    assert await world.store.read(digest, holding.location, size) == data
    await nothing_staged(world)
    assert len(world.flights) == 0


async def test_small_is_kept_in_memory_and_large_in_staging(world: World) -> None:
    small, large = random_bytes("s", SMALL), random_bytes("l", SMALL + 1)
    for data, in_memory in ((small, True), (large, False)):
        flight = await launch(world, world.hub.add(ALPINE, data))
        async with flight.follow(ALPINE) as reader:
            assert await read(reader, 0, len(data)) == data
            assert (reader.fileno() is None) is in_memory
        assert (flight.memory == data) is in_memory


async def test_the_tail_waits_for_the_digest(world: World) -> None:
    gate = Gate()
    digest = world.hub.add(ALPINE, BIG)
    world.hub.anonymous.bodies.append(Body([600_000, 99_999, gate]))
    flight = await launch(world, digest)
    await settled(lambda: flight.available == len(BIG) - 1)
    assert flight.releasable(len(BIG)) == len(BIG) - WITHHELD
    async with flight.follow(ALPINE) as reader:
        assert await reader.ready(0, len(BIG)) == len(BIG) - WITHHELD
        waiting = world.tasks.spawn("reader", reader.ready(len(BIG) - WITHHELD, len(BIG)))
        await gate.reached.wait()
        assert not waiting.done()
        gate.release()
        assert await waiting == len(BIG)


async def test_a_small_blob_is_withheld_whole(world: World) -> None:
    gate = Gate()
    digest = world.hub.add(ALPINE, TINY)
    world.hub.anonymous.bodies.append(Body([len(TINY) - 1, gate]))
    flight = await launch(world, digest)
    await gate.reached.wait()
    assert (flight.available, flight.releasable(len(TINY))) == (0, 0)
    gate.release()
    assert await whole(flight) == TINY


async def test_an_unknown_size_is_known_at_the_end(world: World) -> None:
    digest = world.hub.add(ALPINE, BIG)
    world.hub.anonymous.bodies.append(Body(size=None))
    flight = await launch(world, digest)
    assert flight.size == len(BIG)
    assert flight.state in (State.VERIFIED, State.LANDED)
    assert await whole(flight) == BIG


async def test_an_unknown_size_is_learnt_from_a_manifest(world: World) -> None:
    manifest = image("layer one")
    await world.catalog.hold_manifest(ALPINE, manifest, "x", Proof.ANONYMOUS, 1.0)
    gate = Gate()
    digest = world.hub.add(ALPINE, b"layer one")
    world.hub.anonymous.bodies.append(Body([gate], size=None))
    flight = await launch(world, digest)
    assert (flight.size, flight.state) == (9, State.FLYING)
    gate.release()
    assert await whole(flight) == b"layer one"


async def test_a_late_joiner_gets_everything(world: World) -> None:
    gate = Gate()
    digest = world.hub.add(ALPINE, BIG)
    world.hub.anonymous.bodies.append(Body([500_000, gate]))
    flight = await launch(world, digest)
    await gate.reached.wait()
    assert await launch(world, digest) is flight
    async with flight.follow(ALPINE) as first, flight.follow(ALPINE) as second:
        assert flight.readers == 2
        assert await read(first, 0, 400_000) == BIG[:400_000]
        gate.release()
        assert await read(second, 0, len(BIG)) == BIG
        assert await read(first, 400_000, len(BIG)) == BIG[400_000:]
    assert len(opens(world)) == 1


async def test_readers_that_leave_cancel_nothing(world: World) -> None:
    gate = Gate()
    digest = world.hub.add(ALPINE, BIG)
    world.hub.anonymous.bodies.append(Body([100_000, gate]))
    flight = await launch(world, digest)
    async with flight.follow(ALPINE):
        await gate.reached.wait()
    assert flight.readers == 0
    gate.release()
    await world.idle()
    assert flight.state is State.LANDED


async def test_a_reader_that_comes_after_the_landing_reads_on(world: World) -> None:
    """Between joining and following, headers are sent: the flight may land meanwhile."""
    flight = await launch(world, world.hub.add(ALPINE, TINY))
    await world.idle()
    assert flight.state is State.LANDED
    assert await whole(flight) == TINY


async def test_follow_needs_a_size(world: World) -> None:
    gate = Gate()
    world.hub.anonymous.script("open", gate)
    joining = world.tasks.spawn("join", launch(world, world.hub.add(ALPINE, TINY)))
    await gate.reached.wait()
    [flight] = world.flights._flights.values()
    with pytest.raises(RuntimeError):
        async with flight.follow(ALPINE):
            pass
    gate.release()
    assert await joining is flight


# --- breaks and resumes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [200_000, 700_000])
async def test_a_broken_download_goes_on_where_it_stopped(world: World, size: int) -> None:
    data = random_bytes("x", size)
    digest = world.hub.add(ALPINE, data)
    world.hub.anonymous.bodies += [Body([70_000, unreachable()]), Body([30_000, unreachable()]), Body()]
    assert await whole(await launch(world, digest)) == data
    assert opens(world) == ["0-", "70000-", "100000-"]


async def test_a_body_that_ends_early_is_a_break_too(world: World) -> None:
    digest = world.hub.add(ALPINE, BIG)
    world.hub.anonymous.bodies.append(Body(data=BIG[:400_000], size=len(BIG)))
    assert await whole(await launch(world, digest)) == BIG
    assert opens(world) == ["0-", "400000-"]


@pytest.mark.parametrize("size", [200_000, 700_000])
async def test_a_range_that_was_ignored_is_skipped(world: World, size: int) -> None:
    data = random_bytes("x", size)
    digest = world.hub.add(ALPINE, data)
    world.hub.anonymous.bodies += [
        Body([70_000, unreachable()]),
        Body([50_000, 30_000], ignores_range=True),  # the first chunk is known whole, the second in part
    ]
    assert await whole(await launch(world, digest)) == data
    assert opens(world) == ["0-", "70000-"]


async def test_an_answer_from_beyond_is_not_taken(world: World) -> None:
    digest = world.hub.add(ALPINE, BIG)
    world.hub.anonymous.bodies += [Body([70_000, unreachable()]), Body(begins_at=70_001), Body()]
    assert await whole(await launch(world, digest)) == BIG
    assert opens(world) == ["0-", "70000-", "70000-"]


async def test_a_size_that_changes_cannot_come_right(world: World) -> None:
    digest = world.hub.add(ALPINE, BIG)
    world.hub.anonymous.bodies += [Body([70_000, unreachable()]), Body(size=len(BIG) + 1), Body()]
    assert await whole(await launch(world, digest)) == BIG
    assert len(opens(world)) == 3


async def test_fewer_bytes_than_were_announced_are_kept_where_the_digest_is_right(world: World) -> None:
    """Its readers were promised more, so their connections are cut; whoever asks next gets what there is."""
    digest = world.hub.add(ALPINE, BIG)
    gate = Gate()
    world.hub.anonymous.bodies.append(Body([gate], size=len(BIG) + 1000))
    flight = await launch(world, digest)
    async with flight.follow(ALPINE) as reader:
        gate.release()
        with pytest.raises(UpstreamInvalid):
            await read(reader, 0, len(BIG) + 1000)
    await world.idle()
    holding = await world.catalog.holding(ALPINE, digest, is_manifest=False)
    assert holding is not None
    assert holding.size == len(BIG)


async def test_nonsense_is_listened_to_five_times(world: World) -> None:
    world.hub.anonymous.bodies.append(Body([300_000], size=len(BIG), data=BIG[:300_000]))
    world.hub.anonymous.bodies += [Body(size=1)] * 9
    flight = await launch(world, world.hub.add(ALPINE, BIG))
    with pytest.raises(UpstreamInvalid):
        await whole(flight)
    assert len(opens(world)) == flight_module.INVALID


async def test_patience_ends_without_progress_and_begins_anew_with_it(world: World) -> None:
    digest = world.hub.add(ALPINE, BIG)
    bodies = world.hub.anonymous.bodies
    half = flight_module.PATIENCE * 0.6
    gates = [Gate() for _ in range(4)]
    # progress, progress, nothing, nothing: only the last finds that patience has ended
    bodies += [Body([100_000, gates[0], unreachable()]), Body([100_000, gates[1], unreachable()])]
    bodies += [Body([gates[2], unreachable()]), Body([gates[3], unreachable()])]
    flight = await launch(world, digest)
    async with flight.follow(ALPINE) as reader:
        assert await read(reader, 0, 100_000) == BIG[:100_000]
        for gate in gates:
            await gate.reached.wait()
            assert flight.error is None
            world.clock.advance(half)
            gate.release()
        with pytest.raises(UpstreamUnreachable):
            await read(reader, 100_000, len(BIG))
    assert opens(world) == ["0-", "100000-", "200000-", "200000-"]


# --- failure is a state -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [100, 700_000])
async def test_wrong_bytes_never_make_a_whole_blob(world: World, size: int) -> None:
    data = random_bytes("x", size)
    digest = world.hub.add(ALPINE, data)
    wrong = data[:-1] + bytes([data[-1] ^ 1])
    gate = Gate()
    world.hub.anonymous.bodies.append(Body([gate], data=wrong))
    flight = await launch(world, digest)
    async with flight.follow(ALPINE) as reader:
        gate.release()
        with pytest.raises(UpstreamDigestMismatch):
            await read(reader, 0, size)
    await world.idle()
    assert flight.state is State.FAILED
    assert world.store.blobs == {}
    await nothing_staged(world)
    assert await whole(await launch(world, digest)) == data  # the honest retry succeeds


async def test_too_many_bytes_are_not_waited_for(world: World) -> None:
    digest = world.hub.add(ALPINE, BIG)
    gate = Gate()
    world.hub.anonymous.bodies.append(Body([gate, len(BIG) + 1, Gate()], data=BIG + b"and more", size=len(BIG)))
    flight = await launch(world, digest)
    gate.release()
    with pytest.raises(UpstreamDigestMismatch):
        await whole(flight)


async def test_one_who_waits_later_sees_the_failure_too(world: World) -> None:
    digest = world.hub.add(ALPINE, BIG)
    gate = Gate()
    world.hub.anonymous.bodies.append(Body([300_000, gate], data=BIG[:-1] + b"?"))
    flight = await launch(world, digest)
    async with flight.follow(ALPINE) as early, flight.follow(ALPINE) as late:
        waiting = world.tasks.spawn("early", early.ready(len(BIG) - WITHHELD, len(BIG)))
        await gate.reached.wait()
        gate.release()
        with pytest.raises(UpstreamDigestMismatch):
            await waiting
        assert flight.state is State.FAILED
        with pytest.raises(UpstreamDigestMismatch):
            await late.ready(0, len(BIG))
        with pytest.raises(UpstreamDigestMismatch):
            await flight.changed()


@pytest.mark.parametrize("error", [gone(), unreachable()])
async def test_a_refusal_before_the_size_is_the_callers_to_handle(world: World, error: MirrorError) -> None:
    digest = world.hub.add(ALPINE, BIG)
    world.hub.anonymous.script("open", error)
    with pytest.raises(type(error)) as caught:
        await launch(world, digest)
    assert caught.value is error
    assert (len(opens(world)), len(world.flights)) == (1, 0)
    assert await whole(await launch(world, digest)) == BIG


async def test_who_waits_for_the_size_attends_to_it(world: World) -> None:
    gate = Gate()
    world.hub.anonymous.script("open", gate)
    digest = world.hub.add(ALPINE, BIG)
    waiting = [world.tasks.spawn("reader", launch(world, digest)) for _ in range(2)]
    await gate.reached.wait()
    flight = world.flights.flying(digest, world.hub.anonymous)
    assert flight is not None
    assert flight.readers == 2
    waiting[0].cancel()
    await settled(waiting[0].done)
    assert flight.readers == 1
    gate.release()
    assert await whole(await waiting[1]) == BIG
    assert flight.readers == 0


async def test_what_one_repository_lacks_leaves_the_staging_of_another(world: World) -> None:
    digest = world.hub.add(ALPINE, BIG)
    world.hub.anonymous.bodies.append(Body([400_000, Gate()]))
    flight = await launch(world, digest)
    await settled(lambda: flight.available == 400_000)
    flight.stop("for the test")
    await world.idle()
    (staged,) = await world.store.staged()
    with pytest.raises(UpstreamGone):
        await world.flights.join(digest, world.hub.anonymous, NGINX, CLIENT)
    await world.idle()
    assert await world.store.staged() == [staged]
    assert await whole(await launch(world, digest)) == BIG
    assert opens(world)[-1] == "400000-"


async def test_a_mistake_of_ours_is_logged_and_tells_everybody(world: World, caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    world.hub.anonymous.bodies.append(Body([300_000, gate, ZeroDivisionError("oops")]))
    flight = await launch(world, world.hub.add(ALPINE, BIG))
    gate.release()
    with caplog.at_level(logging.ERROR), pytest.raises(UpstreamInvalid):
        await whole(flight)
    await world.idle()
    assert "oops" in caplog.text
    assert (flight.state, await world.store.staged()) == (State.FAILED, [])


# --- who is linked ----------------------------------------------------------------------------------------


async def test_everybody_proven_while_it_flies_is_linked(world: World) -> None:
    gate = Gate()
    digest = world.hub.add(ALPINE, BIG)
    world.hub.add(NGINX, BIG)
    world.hub.anonymous.bodies.append(Body([100_000, gate]))
    flight = await launch(world, digest)
    await gate.reached.wait()
    assert await world.flights.join(digest, world.hub.anonymous, NGINX, CLIENT) is flight
    assert flight.proven == [ALPINE, NGINX]
    gate.release()
    await world.idle()
    for repository in (ALPINE, NGINX):
        holding = await world.catalog.holding(repository, digest, is_manifest=False)
        assert holding is not None
        assert holding.link is not None


@pytest.mark.parametrize("data", [TINY, BIG])
async def test_who_is_proven_during_the_commit_is_linked_too(
    world: World, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    publishing, holding_gate = Gate(), Gate()
    hold, publish, put = world.catalog.hold, world.store.publish, world.store.put

    async def slow_publish(ingest: Ingest, expected: Digest) -> str:
        await publishing.wait()
        return await publish(ingest, expected)

    async def slow_put(data: bytes, expected: Digest) -> str:
        await publishing.wait()
        return await put(data, expected)

    async def slow_hold(*args: object) -> None:
        await holding_gate.wait()
        await hold(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(world.store, "publish", slow_publish)
    monkeypatch.setattr(world.store, "put", slow_put)
    monkeypatch.setattr(world.catalog, "hold", slow_hold)
    digest = world.hub.add(ALPINE, data)
    third = Repository("docker.io", "library/third")
    for repository in (NGINX, third):
        world.hub.add(repository, data)
    flight = await launch(world, digest)
    await publishing.reached.wait()
    assert flight.state is State.VERIFIED
    assert await world.flights.join(digest, world.hub.anonymous, NGINX, CLIENT) is flight
    publishing.release()
    await holding_gate.reached.wait()
    assert await world.flights.join(digest, world.hub.anonymous, third, CLIENT) is flight
    holding_gate.release()
    await world.idle()
    for repository in (ALPINE, NGINX, third):
        holding = await world.catalog.holding(repository, digest, is_manifest=False)
        assert holding is not None
        assert holding.link is not None


async def test_a_repository_that_upstream_does_not_vouch_for_is_not_fed(world: World) -> None:
    gate = Gate()
    digest = world.hub.add(ALPINE, BIG)
    world.hub.anonymous.bodies.append(Body([100_000, gate]))
    flight = await launch(world, digest)
    with pytest.raises(UpstreamGone):
        await world.flights.join(digest, world.hub.anonymous, NGINX, CLIENT)
    gate.release()
    await world.idle()
    assert flight.proven == [ALPINE]
    holding = await world.catalog.holding(NGINX, digest, is_manifest=False)
    assert holding is not None
    assert holding.link is None


async def test_many_readers_and_one_descriptor_each(world: World) -> None:
    gate = Gate()
    digest = world.hub.add(ALPINE, BIG)
    world.hub.anonymous.bodies.append(Body([300_000, gate]))
    flight = await launch(world, digest)
    async with AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(flight.follow(ALPINE)) for _ in range(5)]
        reading = [world.tasks.spawn("reader", read(each, 0, len(BIG))) for each in readers]
        await gate.reached.wait()
        descriptors = [each.fileno() for each in readers]
        assert len(set(descriptors)) == 5
        gate.release()
        assert set(await asyncio.gather(*reading)) == {BIG}
    assert flight.readers == 0

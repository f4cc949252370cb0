"""Who may join which flight, and what becomes of flights that nobody waits for."""

import asyncio
from contextlib import suppress

import pytest

from mirror.cache import flights as flights_module
from mirror.cache.flight import Flight
from mirror.cache.states import State
from mirror.errors import StoreFailed, UpstreamDigestMismatch, UpstreamGone, UpstreamUnreachable
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.store.protocols import Proof
from tests.cache.scripted import Body, Gate
from tests.cache.support import CLIENT, World, read, settled
from tests.store.samples import ALPINE, NGINX
from tests.support.fake_registry.content import random_bytes

BIG = random_bytes("big", 700_000)


async def flying(world: World, data: bytes = BIG, *steps: int | Gate, client: str = CLIENT) -> tuple[Flight, Gate]:
    """A flight that has fetched `steps` and waits at the gate."""
    gate = Gate()
    digest = world.hub.add(ALPINE, data)
    world.hub.anonymous.bodies.append(Body([*steps, gate]))
    flight = await world.flights.join(digest, world.hub.anonymous, ALPINE, client)
    assert flight is not None
    await gate.reached.wait()
    return flight, gate


async def test_one_flight_per_digest_and_source(world: World) -> None:
    flight, gate = await flying(world)
    source = world.hub.anonymous
    assert world.flights.flying(flight.digest, source) is flight
    assert await world.flights.join(flight.digest, source, ALPINE, "another client") is flight
    assert world.flights.flying(flight.digest, world.hub.credentialed) is None
    assert world.flights.flying(flight.digest, world.other.anonymous) is None
    other = await world.flights.join(flight.digest, world.hub.credentialed, ALPINE, CLIENT)
    assert other is not None
    assert other is not flight
    assert world.flights.shared == 1
    gate.release()
    await world.idle()
    assert [len(world.flights), world.flights.flying(flight.digest, source)] == [0, None]


async def test_those_who_come_while_it_opens_wait_for_the_same_answer(world: World) -> None:
    gate = Gate()
    world.hub.anonymous.script("open", gate)
    digest = world.hub.add(ALPINE, BIG)
    joining = [
        world.tasks.spawn("join", world.flights.join(digest, world.hub.anonymous, ALPINE, CLIENT)) for _ in range(5)
    ]
    await gate.reached.wait()
    gate.release()
    assert len(set(await asyncio.gather(*joining))) == 1
    assert (world.hub.anonymous.count("open"), world.flights.shared) == (1, 4)


async def test_a_refusal_is_everybodys(world: World) -> None:
    gate = Gate()
    world.hub.anonymous.script("open", gate)
    digest = Digest.of(BIG)
    joining = [
        world.tasks.spawn("join", world.flights.join(digest, world.hub.anonymous, ALPINE, CLIENT)) for _ in range(3)
    ]
    await gate.reached.wait()
    gate.release()
    assert [type(each) for each in await asyncio.gather(*joining, return_exceptions=True)] == [UpstreamGone] * 3
    assert world.hub.anonymous.count("open") == 1


async def test_another_repository_is_proven_once(world: World) -> None:
    flight, gate = await flying(world)
    world.hub.add(NGINX, BIG)
    for _ in range(3):
        assert await world.flights.join(flight.digest, world.hub.anonymous, NGINX, CLIENT) is flight
    assert world.hub.anonymous.count("size") == 1
    assert flight.proven == [ALPINE, NGINX]
    gate.release()
    await world.idle()


async def test_proven_twice_at_once_is_listed_once(world: World) -> None:
    flight, gate = await flying(world)
    world.hub.add(NGINX, BIG)
    asking = [Gate(), Gate()]
    world.hub.anonymous.script("size", *asking)
    joining = [
        world.tasks.spawn("join", world.flights.join(flight.digest, world.hub.anonymous, NGINX, CLIENT))
        for _ in range(2)
    ]
    for each in asking:
        await each.reached.wait()
    for each in asking:
        each.release()
    assert await asyncio.gather(*joining) == [flight, flight]
    assert flight.proven == [ALPINE, NGINX]
    gate.release()
    await world.idle()


async def proving(world: World, flight: Flight) -> tuple[Gate, asyncio.Task[Flight | None]]:
    """Somebody whose right for another repository is being asked for."""
    world.hub.add(NGINX, BIG)
    gate = Gate()
    world.hub.anonymous.script("size", gate)
    joining = world.tasks.spawn("join", world.flights.join(flight.digest, world.hub.anonymous, NGINX, CLIENT))
    await gate.reached.wait()
    return gate, joining


async def test_it_landed_while_the_right_was_asked_for(world: World) -> None:
    flight, gate = await flying(world)
    size, joining = await proving(world, flight)
    gate.release()
    await settled(lambda: flight.state is State.LANDED)
    size.release()
    assert await joining is None
    holding = await world.catalog.holding(NGINX, flight.digest, is_manifest=False)
    assert holding is not None
    assert holding.link is not None


async def test_it_failed_while_the_right_was_asked_for(world: World) -> None:
    """The registry has just said that it has it: that may not become an unknown blob."""
    flight, _ = await flying(world)
    size, joining = await proving(world, flight)
    flight.stop("test")
    await settled(lambda: flight.state is State.FAILED)
    size.release()
    again = await joining
    assert again is not None
    async with again.follow(NGINX) as reader:
        assert await read(reader, 0, len(BIG)) == BIG
    await world.idle()
    assert again.proven == [NGINX]


async def test_the_disk_was_full_while_the_right_was_asked_for(world: World) -> None:
    world.store.limit = 300_000
    flight, gate = await flying(world, BIG, 200_000)
    size, joining = await proving(world, flight)
    gate.release()
    await settled(lambda: flight.unstored)
    size.release()
    again = await joining
    assert again is not None
    async with again.follow(NGINX) as reader:
        assert await read(reader, 0, len(BIG)) == BIG


async def test_it_was_not_kept_while_the_right_was_asked_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> str:
        raise StoreFailed("fsync failed")

    monkeypatch.setattr(world.store, "publish", refuse)
    flight, gate = await flying(world)
    size, joining = await proving(world, flight)
    gate.release()
    await settled(lambda: flight.state is State.LANDED)
    size.release()
    again = await joining
    assert again is not None
    assert again is not flight
    await world.idle()


async def test_a_failed_flight_links_nobody_to_bytes_that_others_supplied(world: World) -> None:
    """A hostile registry says yes to every HEAD, and cannot deliver: that opens nobody's private blob."""
    digest = Digest.of(BIG)
    location = await world.store.put(BIG, digest)
    await world.catalog.hold(digest, len(BIG), location, [(ALPINE, Proof.CREDENTIALS)], 1.0)
    evil, second = Repository("ghcr.io", "evil/one"), Repository("ghcr.io", "evil/two")
    for repository in (evil, second):
        world.other.blobs[repository, digest] = BIG[:-1] + b"?"
    gate, size = Gate(), Gate()
    world.other.anonymous.bodies.append(Body([gate]))
    world.other.anonymous.script("size", size)
    flight = await world.flights.join(digest, world.other.anonymous, evil, CLIENT)
    assert flight is not None
    joining = world.tasks.spawn("join", world.flights.join(digest, world.other.anonymous, second, CLIENT))
    await size.reached.wait()
    gate.release()
    await settled(lambda: flight.state is State.FAILED)
    size.release()
    with suppress(UpstreamDigestMismatch):
        await joining
    await world.idle()
    for repository in (evil, second):
        holding = await world.catalog.holding(repository, digest, is_manifest=False)
        assert holding is not None
        assert (holding.link, holding.public) == (None, False)


async def test_a_refusal_of_another_repository_is_not_his(world: World) -> None:
    """Whoever asks under a wrong name first stops nobody who asks under the right one."""
    digest = world.hub.add(NGINX, BIG)  # ALPINE does not have it
    gate = Gate()
    world.hub.anonymous.script("open", gate)
    wrong = world.tasks.spawn("wrong", world.flights.join(digest, world.hub.anonymous, ALPINE, CLIENT))
    await gate.reached.wait()
    right = world.tasks.spawn("right", world.flights.join(digest, world.hub.anonymous, NGINX, CLIENT))
    await settled(lambda: world.hub.anonymous.count("size") == 1)
    gate.release()
    with pytest.raises(UpstreamGone):
        await wrong
    flight = await right
    assert flight is not None
    assert flight.proven == [NGINX]


async def test_a_stopped_flight_is_no_answer_about_the_content(world: World) -> None:
    gate = Gate()
    world.hub.anonymous.script("open", gate)
    digest = world.hub.add(ALPINE, BIG)
    joining = world.tasks.spawn("join", world.flights.join(digest, world.hub.anonymous, ALPINE, CLIENT))
    await gate.reached.wait()
    [flight] = world.flights._flights.values()
    flight.stop("test")
    with pytest.raises(UpstreamUnreachable):
        await joining


# --- nobody waits -----------------------------------------------------------------------------------------


async def leave(flight: Flight) -> None:
    async with flight.follow(ALPINE):
        pass


async def test_a_client_may_leave_some_downloads_behind_but_not_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flights_module, "UNATTENDED", 2)
    mine = [(await flying(world, random_bytes(str(n), 300_000), client="me"))[0] for n in range(3)]
    other, _ = await flying(world, random_bytes("other", 300_000), client="other")
    async with mine[2].follow(ALPINE):
        for each in (mine[0], mine[1], other):
            await leave(each)
        await asyncio.sleep(0)
        assert [each.state for each in mine] == [State.FLYING] * 3
    await settled(lambda: mine[2].state is State.FAILED)  # the third is one too many
    assert [each.state for each in (*mine[:2], other)] == [State.FLYING] * 3


async def test_nor_may_he_leave_more_bytes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flights_module, "UNATTENDED_BYTES", 500_000)
    small, _ = await flying(world, random_bytes("a", 300_000))
    await leave(small)
    big, _ = await flying(world, BIG, 600_000)
    await settled(lambda: big.available == 600_000)
    await leave(big)  # 300,000 and 100,000 are missing
    third, _ = await flying(world, random_bytes("c", 300_000))
    await leave(third)
    await settled(lambda: third.state is State.FAILED)
    assert (small.state, big.state) == (State.FLYING, State.FLYING)


async def test_one_with_readers_left_is_not_unattended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flights_module, "UNATTENDED", 0)
    flight, gate = await flying(world)
    async with flight.follow(ALPINE) as reader:
        await leave(flight)
        await asyncio.sleep(0)
        assert flight.state is State.FLYING
        gate.release()
        assert await read(reader, 0, len(BIG)) == BIG


async def test_flights_without_readers_and_without_progress_are_stopped(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asleep: list[Gate] = []

    class Asyncio:
        """`asyncio`, with a clock of the test's."""

        @staticmethod
        async def sleep(_: float) -> None:
            asleep.append(Gate())
            await asleep[-1].wait()

    async def look() -> None:
        looks = len(asleep)
        asleep[-1].release()
        await settled(lambda: len(asleep) > looks)

    monkeypatch.setattr(flights_module, "asyncio", Asyncio)
    idle, _ = await flying(world, random_bytes("idle", 700_000))
    read_by_one, _ = await flying(world, random_bytes("read", 700_000))
    more, gate = Gate(), Gate()
    digest = world.hub.add(ALPINE, random_bytes("fast", 1_400_000))
    world.hub.anonymous.bodies.append(Body([100_000, more, 600_000, gate]))
    fast = await world.flights.join(digest, world.hub.anonymous, ALPINE, CLIENT)
    assert fast is not None
    world.tasks.background("watch", world.flights.watch(), endless=True)

    await settled(lambda: bool(asleep))
    async with read_by_one.follow(ALPINE):
        await look()
        assert idle.state is State.FLYING  # seen once: it has had no time yet
        more.release()
        await gate.reached.wait()
        await look()
        await settled(lambda: idle.state is State.FAILED)
        assert (fast.state, read_by_one.state) == (State.FLYING, State.FLYING)
    await look()
    await settled(lambda: fast.state is State.FAILED)
    assert read_by_one.state is State.FLYING


async def test_repositories_are_told_apart_by_registry(world: World) -> None:
    """The same digest from another registry is another flight, with its own proof."""
    flight, gate = await flying(world)
    elsewhere = Repository("ghcr.io", "library/alpine")
    world.other.add(elsewhere, BIG)
    other = await world.flights.join(flight.digest, world.other.anonymous, elsewhere, CLIENT)
    assert other is not None
    assert other is not flight
    assert flight.proven == [ALPINE]
    gate.release()
    await world.idle()

"""One blob on its way: what is acknowledged is not sent again, and nobody sends what somebody else is sending."""

import asyncio

import pytest

from mirror.cache.delivery import AT_ONCE, PIECE, Delivered
from mirror.errors import (
    ManifestBlobUnknown,
    Unavailable,
)
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.store.protocols import Proof
from tests.cache.delivering import DATA, OTHER, THERE, deliver
from tests.cache.receiving import Office, keep
from tests.cache.scripted import Gate
from tests.cache.support import World
from tests.store.samples import OWN, TOOL, digest_of


@pytest.fixture
async def digest(world: World) -> Digest:
    return await keep(world, OWN, DATA)


async def test_it_is_sent_in_pieces(office: Office, digest: Digest) -> None:
    """Breaks where a blob is read into memory whole."""
    told: list[tuple[int, int]] = []
    assert await deliver(office, digest, lambda *news: told.append(news)) == (Delivered(sent=len(DATA)), False)
    assert office.ghcr.blobs[THERE, digest] == DATA
    assert office.ghcr.largest_piece == PIECE
    assert office.counted == {"ghcr.io": len(DATA)}
    assert told[-1] == (len(DATA), len(DATA))
    assert sorted(told) == told
    assert len(office.deliveries) == 0
    assert await office.world.catalog.mountable("ghcr.io", digest, 10) == [THERE]
    assert await office.world.catalog.session(THERE, digest, office.world.clock.wall()) is None


@pytest.mark.parametrize("data", [b"", b"x", b"x" * PIECE, b"x" * (PIECE + 1)], ids=len)
async def test_every_size(office: Office, data: bytes) -> None:
    digest = await keep(office.world, OWN, data)
    assert (await deliver(office, digest))[0].sent == len(data)
    assert office.ghcr.blobs[THERE, digest] == data


async def test_what_is_not_held_is_not_sent(office: Office) -> None:
    with pytest.raises(ManifestBlobUnknown, match=str(digest_of("unknown"))):
        await deliver(office, digest_of("unknown"))
    assert office.ghcr.asked == []


async def test_a_file_that_is_missing_is_held_no_more(office: Office, digest: Digest) -> None:
    office.world.store.blobs.clear()
    with pytest.raises(ManifestBlobUnknown):
        await deliver(office, digest)
    assert await office.world.catalog.states([digest]) == {digest: "quarantined"}


# --- mounting -------------------------------------------------------------------------------------------------------


async def test_it_is_mounted_from_where_the_registry_has_it(office: Office, digest: Digest) -> None:
    office.ghcr.blobs[OTHER, digest] = DATA
    await office.world.catalog.at_upstream(OTHER, digest, 1)
    await office.world.catalog.at_upstream(THERE, digest, 2)  # it had it
    assert await deliver(office, digest) == (Delivered(OTHER), False)
    assert office.ghcr.asked == ["begin me/app from me/other"]
    assert office.ghcr.blobs[THERE, digest] == DATA
    assert office.counted == {}


async def test_what_cannot_be_mounted_is_uploaded_where_the_mount_has_begun_it(office: Office, digest: Digest) -> None:
    """Breaks where each mount in vain leaves an upload and one more is begun."""
    for number in range(5):
        await office.world.catalog.at_upstream(Repository("ghcr.io", f"old/{number}"), digest, number)
    await office.world.catalog.at_upstream(TOOL, digest, 9)
    await deliver(office, digest)
    assert [line for line in office.ghcr.asked if line.startswith("begin")] == [
        "begin me/app from team/tool",
        "begin me/app from old/4",
        "begin me/app from old/3",
    ]
    assert office.ghcr.blobs[THERE, digest] == DATA


# --- together -------------------------------------------------------------------------------------------------------


async def test_two_at_once_are_one(office: Office, digest: Digest) -> None:
    """Breaks where two transfers of one layer both send it."""
    gate = Gate()
    office.ghcr.breaks.append(gate)
    told: list[int] = []
    first = office.world.tasks.spawn("first", deliver(office, digest))
    await gate.reached.wait()
    second = office.world.tasks.spawn("second", deliver(office, digest, lambda done, _: told.append(done)))
    await asyncio.sleep(0)
    gate.release()
    assert await first == (Delivered(sent=len(DATA)), False)
    assert await second == (Delivered(sent=len(DATA)), True)
    assert told[0] == PIECE
    assert told[-1] == len(DATA)
    assert office.ghcr.received[digest] == len(DATA)


async def test_other_repositories_and_blobs_are_others(office: Office, digest: Digest) -> None:
    another = await keep(office.world, OWN, b"another")
    await asyncio.gather(deliver(office, digest), deliver(office, digest, there=OTHER), deliver(office, another))
    assert set(office.ghcr.blobs) == {(THERE, digest), (OTHER, digest), (THERE, another)}


async def test_who_leaves_takes_nothing_from_the_other(office: Office, digest: Digest) -> None:
    gate = Gate()
    office.ghcr.breaks.append(gate)
    first = office.world.tasks.spawn("first", deliver(office, digest))
    await gate.reached.wait()
    second = office.world.tasks.spawn("second", deliver(office, digest))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    gate.release()
    assert (await second)[1]
    assert office.ghcr.received[digest] == len(DATA)


async def test_who_comes_while_it_ends_waits_and_goes_on(office: Office, digest: Digest) -> None:
    """Breaks where he joins what was just cancelled, or begins beside it."""
    gate = Gate()
    office.ghcr.breaks.append(gate)
    first = office.world.tasks.spawn("first", deliver(office, digest))
    await gate.reached.wait()
    first.cancel()
    await asyncio.sleep(0)
    assert len(office.deliveries) == 1
    assert await deliver(office, digest) == (Delivered(sent=len(DATA) - PIECE), False)
    assert office.ghcr.most_at_once == 1


async def test_the_end_of_the_mirror_is_said(office: Office, digest: Digest) -> None:
    gate = Gate()
    office.ghcr.breaks.append(gate)
    waiting = asyncio.gather(deliver(office, digest), return_exceptions=True)
    await gate.reached.wait()
    await office.world.tasks.drain(0)
    assert [type(each) for each in await waiting] == [Unavailable]


async def test_uploads_are_bounded(office: Office) -> None:
    digests = [await keep(office.world, OWN, f"layer {number}".encode() * 300_000) for number in range(2 * AT_ONCE)]
    await asyncio.gather(*(deliver(office, digest) for digest in digests))
    assert office.ghcr.most_at_once == AT_ONCE


async def test_what_is_being_sent_is_not_deleted(office: Office, digest: Digest) -> None:
    gate = Gate()
    office.ghcr.breaks.append(gate)
    sending = office.world.tasks.spawn("sending", deliver(office, digest))
    await gate.reached.wait()
    assert office.world.leases.take([digest]) == []
    gate.release()
    await sending
    assert office.world.leases.take([digest]) == [digest]


async def test_a_link_is_not_made(office: Office) -> None:
    digest = await keep(office.world, OWN, b"private", Proof.PUSHED)
    await deliver(office, digest)
    holding = await office.world.catalog.holding(THERE, digest, is_manifest=False)
    assert holding is not None
    assert holding.link is None

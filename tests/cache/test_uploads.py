"""Sessions over ingests: whose they are, how they end, what survives."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from mirror.cache import uploads
from mirror.cache.rights import LOOPBACK, SOCKET, Principal, Role
from mirror.errors import (
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    MirrorError,
    NoRoom,
    SizeInvalid,
    StoreFailed,
    TooManyRequests,
    UploadOutOfOrder,
)
from mirror.oci.digest import Digest
from mirror.store.protocols import UPLOAD_GRACE
from mirror.tasks import Tasks
from tests.cache.pushing import Desk, body
from tests.cache.scripted import Gate
from tests.cache.support import settled
from tests.store.samples import OWN, TOOL
from tests.store.suites_collection import linked

HELLO = b"hello, registry"
DIGEST = Digest.of(HELLO)
ME, YOU = Principal(Role.USER, "me"), Principal(Role.USER, "you")


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    made = Desk()
    yield made
    await made.tasks.drain(0)


async def nothing_left(desk: Desk) -> None:
    """Neither bytes nor a row nor a session."""
    assert await desk.store.staged() == []
    assert desk.store.active() == frozenset()
    assert await desk.catalog.uploads() == []
    assert (desk.uploads._sessions, desk.uploads._known) == ({}, {})
    assert desk.room.used == sum(map(len, desk.store.blobs.values()))


async def test_from_begin_to_end(desk: Desk) -> None:
    session = await desk.uploads.begin(LOOPBACK, OWN, "sha256")
    assert await desk.uploads.offset(session) == 0
    assert await desk.uploads.write(session, body(HELLO[:4], b"", HELLO[4:6]), None) == 6
    assert await desk.uploads.find(LOOPBACK, OWN, session.id) is session
    assert await desk.uploads.finish(session, DIGEST, body(HELLO[6:]), 6) == len(HELLO)
    assert await desk.pull(OWN, DIGEST) == HELLO
    assert "team/app" in desk.own
    assert (desk.uploads.received.blobs, desk.uploads.received.bytes) == (1, len(HELLO))
    with pytest.raises(BlobUploadUnknown):
        await desk.uploads.find(LOOPBACK, OWN, session.id)
    await nothing_left(desk)


async def test_a_small_blob_at_once(desk: Desk) -> None:
    for algorithm in ("sha256", "sha512"):
        digest = Digest.of(HELLO, algorithm)
        await desk.uploads.put(OWN, digest, HELLO)
        assert await desk.pull(OWN, digest) == HELLO
    assert "team/app" in desk.own
    with pytest.raises(DigestInvalid):
        await desk.uploads.put(OWN, DIGEST, b"other")
    await nothing_left(desk)


@pytest.mark.parametrize("start", [0, 3, 7])
async def test_out_of_order(desk: Desk, start: int) -> None:
    session = await desk.uploads.begin(LOOPBACK, OWN, "sha256")
    await desk.uploads.write(session, body(HELLO[:6]), 0)
    with pytest.raises(UploadOutOfOrder) as error:
        await desk.uploads.write(session, body(HELLO), start)
    assert error.value.offset == 6
    with pytest.raises(UploadOutOfOrder):
        await desk.uploads.finish(session, DIGEST, body(HELLO), start)
    await desk.uploads.finish(session, DIGEST, body(HELLO[6:]), 6)
    assert await desk.pull(OWN, DIGEST) == HELLO


async def test_another_algorithm_at_the_end(desk: Desk) -> None:
    session = await desk.uploads.begin(LOOPBACK, OWN, "sha256")
    digest = Digest.of(HELLO, "sha512")
    await desk.uploads.finish(session, digest, body(HELLO), None)
    assert await desk.pull(OWN, digest) == HELLO


async def test_wrong_bytes_end_it(desk: Desk) -> None:
    session = await desk.uploads.begin(LOOPBACK, OWN, "sha256")
    with pytest.raises(DigestInvalid):
        await desk.uploads.finish(session, DIGEST, body(b"other"), None)
    assert desk.store.blobs == {}
    assert "team/app" not in desk.own
    assert desk.uploads.received.blobs == 0
    await nothing_left(desk)


async def test_it_is_its_principals_and_its_repositorys_alone(desk: Desk) -> None:
    session = await desk.uploads.begin(ME, OWN, "sha256")
    for _ in range(2):
        for principal, home in (
            (YOU, OWN),
            (LOOPBACK, OWN),
            (SOCKET, OWN),
            (ME, TOOL),
            (Principal(Role.LOOPBACK, "you"), OWN),
        ):
            with pytest.raises(BlobUploadUnknown):
                await desk.uploads.find(principal, home, session.id)
        assert (await desk.uploads.find(ME, OWN, session.id)).id == session.id
        assert (await desk.uploads.find(Principal(Role.LOOPBACK, "me"), OWN, session.id)).id == session.id
        assert session.ingest is not None
        await session.ingest.suspend()
        desk.begin()


async def test_a_user_cannot_be_called_like_a_role(desk: Desk) -> None:
    session = await desk.uploads.begin(LOOPBACK, OWN, "sha256")
    with pytest.raises(BlobUploadUnknown):
        await desk.uploads.find(Principal(Role.USER, "loopback"), OWN, session.id)


async def test_it_goes_on_after_a_restart(desk: Desk) -> None:
    session = await desk.uploads.begin(LOOPBACK, OWN, "sha512")
    await desk.uploads.write(session, body(HELLO[:6]), None)
    assert session.ingest is not None
    await session.ingest.suspend()
    desk.begin()
    await desk.uploads.recall()
    again = await desk.uploads.find(LOOPBACK, OWN, session.id)
    assert again is not session
    assert await desk.uploads.offset(again) == 6
    digest = Digest.of(HELLO, "sha512")
    await desk.uploads.finish(again, digest, body(HELLO[6:]), 6)
    assert await desk.pull(OWN, digest) == HELLO
    await nothing_left(desk)


async def test_one_whose_bytes_are_lost_is_over(desk: Desk) -> None:
    session = await desk.uploads.begin(LOOPBACK, OWN, "sha256")
    assert session.ingest is not None
    await session.ingest.abort()
    desk.begin()
    await desk.uploads.recall()
    again = await desk.uploads.find(LOOPBACK, OWN, session.id)
    with pytest.raises(BlobUploadUnknown):
        await desk.uploads.offset(again)
    await nothing_left(desk)


async def test_cancelled(desk: Desk) -> None:
    session = await desk.uploads.begin(LOOPBACK, OWN, "sha256")
    await desk.uploads.write(session, body(HELLO), None)
    await desk.uploads.cancel(session)
    await nothing_left(desk)
    for again in (
        desk.uploads.write(session, body(b"x"), None),
        desk.uploads.finish(session, DIGEST, body(), None),
        desk.uploads.cancel(session),
    ):
        with pytest.raises(BlobUploadUnknown):
            await again
    await desk.uploads.abandon(session)  # harmless


@pytest.mark.parametrize("leaving", [ConnectionResetError(), asyncio.CancelledError(), SizeInvalid("early")], ids=repr)
async def test_what_came_before_a_client_left_is_kept(desk: Desk, leaving: BaseException) -> None:
    session = await desk.uploads.begin(LOOPBACK, OWN, "sha256")
    with pytest.raises(type(leaving)):
        await desk.uploads.write(session, body(HELLO[:4], HELLO[4:6], leaving), None)
    assert await desk.uploads.offset(session) == 6
    await desk.uploads.finish(session, DIGEST, body(HELLO[6:]), 6)
    assert await desk.pull(OWN, DIGEST) == HELLO


async def test_a_client_that_leaves_at_the_end_changes_nothing(desk: Desk) -> None:
    """Breaks if publishing, or what is told of it, is part of the request: the name would be unknown until a start."""
    for number, put in enumerate((False, True)):
        data = b"blob %d" % number
        digest = Digest.of(data)
        gate = Gate()
        async with desk.leases.hold(digest):
            pass
        desk.leases.take([digest])  # somebody deletes it: whoever publishes waits
        session = await desk.uploads.begin(LOOPBACK, OWN, "sha256")
        work = desk.uploads.put(OWN, digest, data) if put else desk.uploads.finish(session, digest, body(data), None)
        request = asyncio.get_running_loop().create_task(work)
        await settled(lambda: len(desk.tasks) > 0)
        request.cancel()
        await asyncio.wait([request])
        assert request.cancelled()
        desk.own._paths.clear()
        desk.leases.give_back([digest])
        await desk.idle()
        assert await desk.pull(OWN, digest) == data
        assert "team/app" in desk.own
        gate.release()


async def test_one_request_at_a_time(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "_BUSY", 0.01)
    session = await desk.uploads.begin(LOOPBACK, OWN, "sha256")
    gate = Gate()

    async def slowly() -> AsyncIterator[bytes]:
        yield HELLO[:6]
        await gate.wait()
        yield HELLO[6:]

    first = desk.tasks.spawn("first", desk.uploads.write(session, slowly(), 0))
    await gate.reached.wait()
    with pytest.raises(BlobUploadInvalid):
        await desk.uploads.write(session, body(b"x"), None)
    assert await desk.uploads.offset(session) == 0  # what was handed over; the rest is on its way
    gate.release()
    assert await first == len(HELLO)
    await desk.uploads.finish(session, DIGEST, body(), None)


async def test_another_one_waits_for_its_turn(desk: Desk) -> None:
    session = await desk.uploads.begin(LOOPBACK, OWN, "sha256")
    gate = Gate()

    async def slowly() -> AsyncIterator[bytes]:
        await gate.wait()
        yield HELLO[:6]

    first = desk.tasks.spawn("first", desk.uploads.write(session, slowly(), 0))
    await gate.reached.wait()
    second = desk.tasks.spawn("second", desk.uploads.finish(session, DIGEST, body(HELLO[6:]), 6))
    gate.release()
    assert (await first, await second) == (6, len(HELLO))


async def test_two_put_the_same_blob_at_once(desk: Desk) -> None:
    sessions = [await desk.uploads.begin(LOOPBACK, home, "sha256") for home in (OWN, TOOL, OWN)]
    await asyncio.gather(*(desk.uploads.finish(each, DIGEST, body(HELLO), None) for each in sessions))
    for home in (OWN, TOOL):
        assert await linked(desk.catalog, home, DIGEST, is_manifest=False) is not None
    assert len(desk.store.blobs) == 1


# --- where the disk does not take it -------------------------------------------------------------------------


async def test_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if a refused write leaves a session that goes on with a hole in it."""
    desk = Desk(limit=20_000)
    monkeypatch.setattr(uploads, "_BATCH", 8000)
    session = await desk.uploads.begin(LOOPBACK, OWN, "sha256")
    with pytest.raises(NoRoom):
        await desk.uploads.write(session, body(*[bytes(8000)] * 4), None)
    await nothing_left(desk)
    with pytest.raises(BlobUploadUnknown):
        await desk.uploads.find(LOOPBACK, OWN, session.id)
    with pytest.raises(NoRoom):
        await desk.uploads.put(OWN, Digest.of(bytes(30_000)), bytes(30_000))
    await nothing_left(desk)
    await desk.uploads.put(OWN, DIGEST, HELLO)
    await desk.tasks.drain(0)


async def test_what_cannot_be_written_down_is_not_accepted(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> None:
        raise StoreFailed("injected")

    monkeypatch.setattr(desk.catalog, "finish_upload", refuse)
    session = await desk.uploads.begin(LOOPBACK, OWN, "sha256")
    with pytest.raises(StoreFailed):
        await desk.uploads.finish(session, DIGEST, body(HELLO), None)
    assert "team/app" not in desk.own
    with pytest.raises(BlobUploadUnknown):
        await desk.uploads.write(session, body(b"x"), None)
    monkeypatch.setattr(desk.catalog, "begin_upload", refuse)
    with pytest.raises(StoreFailed):
        await desk.uploads.begin(LOOPBACK, OWN, "sha256")
    assert desk.store.active() == frozenset()
    assert desk.uploads._known == {}


async def test_nothing_is_accepted_while_the_mirror_ends(desk: Desk) -> None:
    session = await desk.uploads.begin(LOOPBACK, OWN, "sha256")
    await desk.tasks.drain(0)
    with pytest.raises(MirrorError):
        await desk.uploads.finish(session, DIGEST, body(HELLO), None)
    assert await linked(desk.catalog, OWN, DIGEST, is_manifest=False) is None
    desk.tasks = Tasks()


# --- many of them, and old ones ------------------------------------------------------------------------------


async def test_each_principal_has_so_many(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MOST_EACH", 2)
    first, second = [await desk.uploads.begin(ME, OWN, "sha256") for _ in range(2)]
    with pytest.raises(TooManyRequests) as error:
        await desk.uploads.begin(ME, OWN, "sha256")
    assert error.value.retry_after > 0
    await desk.uploads.begin(YOU, OWN, "sha256")
    for session in (first, second):
        assert session.ingest is not None
        await session.ingest.suspend()
    desk.begin()
    await desk.uploads.recall()  # a restart is no way round it
    with pytest.raises(TooManyRequests):
        await desk.uploads.begin(ME, OWN, "sha256")
    await desk.uploads.cancel(await desk.uploads.find(ME, OWN, first.id))
    await desk.uploads.begin(ME, OWN, "sha256")


async def test_only_so_many_files_stay_open(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MOST_OPEN", 2)
    sessions = []
    for number in range(5):
        sessions.append(await desk.uploads.begin(ME, OWN, "sha256"))
        await desk.uploads.write(sessions[-1], body(HELLO[:number]), None)
        desk.clock.advance(1)
    assert len(desk.store.active()) <= 2
    for session in sessions:  # also as they are opened again
        await desk.uploads.write(session, body(), None)
        desk.clock.advance(1)
    assert len(desk.store.active()) <= 3
    for number, session in enumerate(sessions):
        assert await desk.uploads.offset(session) == number
        data = HELLO[:number] + b"%d" % number
        await desk.uploads.finish(session, Digest.of(data), body(data[number:]), number)
    await nothing_left(desk)


async def test_what_nobody_writes_to_is_closed_and_then_forgotten(desk: Desk) -> None:
    session = await desk.uploads.begin(ME, OWN, "sha256")
    await desk.uploads.write(session, body(HELLO[:6]), None)
    await desk.uploads.purge()
    assert desk.store.active() == {session.id}
    desk.clock.advance(uploads._IDLE)
    await desk.uploads.purge()
    assert desk.store.active() == frozenset()
    desk.clock.advance(uploads._IDLE)
    await desk.uploads.purge()
    assert desk.uploads._sessions == {}
    again = await desk.uploads.find(ME, OWN, session.id)
    await desk.uploads.finish(again, DIGEST, body(HELLO[6:]), 6)
    await nothing_left(desk)


async def test_a_stale_one_is_dropped(desk: Desk) -> None:
    stale, used = [await desk.uploads.begin(ME, OWN, "sha256") for _ in range(2)]
    for session in (stale, used):
        await desk.uploads.write(session, body(HELLO[:6]), None)
    for wait in (uploads._IDLE, UPLOAD_GRACE / 2, UPLOAD_GRACE / 2):
        desk.clock.advance(wait)
        await desk.uploads.write(used, body(), None)
        await desk.uploads.purge()
    assert [each.id for each in await desk.catalog.uploads()] == [used.id]
    with pytest.raises(BlobUploadUnknown):
        await desk.uploads.find(ME, OWN, stale.id)
    assert desk.uploads._known == {"user me": 1}
    await desk.uploads.finish(used, DIGEST, body(HELLO[6:]), 6)
    await nothing_left(desk)


async def test_it_is_purged_now_and_then(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "LOOK_EVERY", 0.001)
    purged: list[int] = []

    async def purge() -> None:
        purged.append(1)
        if len(purged) == 1:
            raise StoreFailed("injected")

    monkeypatch.setattr(desk.uploads, "purge", purge)
    watching = desk.tasks.spawn("watch", desk.uploads.watch())
    async with asyncio.timeout(5):
        while len(purged) < 3:
            await asyncio.sleep(0.001)
    watching.cancel()

"""What breaks on the way is resumed: what is acknowledged is not sent again, and nothing is tried for ever."""

import pytest

from mirror.cache.delivery import ANEW, INVALID, PATIENCE, PIECE, Patience
from mirror.errors import (
    ManifestBlobUnknown,
    MirrorError,
    NoRoom,
    Offline,
    UpstreamCredentialsRefused,
    UpstreamInvalid,
    UpstreamLimited,
    UpstreamNoAnswer,
    UpstreamRefused,
    UpstreamUnreachable,
)
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.store.forwarding import SESSION_SECONDS
from mirror.upstream.protocols import Session
from tests.cache.delivering import DATA, OTHER, THERE, deliver
from tests.cache.receiving import Office, keep, refused, silent
from tests.cache.scripted import Gate
from tests.cache.support import World, settled
from tests.store.samples import OWN


@pytest.fixture
async def digest(world: World) -> Digest:
    return await keep(world, OWN, DATA)


# --- resuming -------------------------------------------------------------------------------------------------------


async def test_what_was_acknowledged_is_not_sent_again(office: Office, digest: Digest) -> None:
    """Breaks where an upload that broke begins anew."""
    office.ghcr.breaks.extend([1_000_000, 500_000, 1])
    delivered, _ = await deliver(office, digest)
    assert office.ghcr.blobs[THERE, digest] == DATA
    assert office.ghcr.received[digest] == len(DATA)
    assert office.ghcr.count("begin") == 1
    assert delivered.sent >= len(DATA)  # with what had gone out and was not acknowledged


async def test_a_registry_that_keeps_no_parts_gets_it_whole(office: Office, digest: Digest) -> None:
    office.ghcr.keeps = False
    office.ghcr.breaks.append(1_000_000)
    await deliver(office, digest)
    assert office.ghcr.blobs[THERE, digest] == DATA
    assert office.ghcr.received[digest] == 1_000_000 + len(DATA)


async def test_it_goes_on_after_a_restart(office: Office, digest: Digest) -> None:
    """Breaks where the upload is written down only once its bytes are sent."""
    gate = Gate()
    office.ghcr.breaks.append(gate)
    sending = office.world.tasks.spawn("sending", deliver(office, digest))
    await gate.reached.wait()
    sending.cancel()
    await settled(lambda: len(office.deliveries) == 0)
    office.restart()
    delivered, _ = await deliver(office, digest)
    assert delivered.sent == len(DATA) - PIECE
    assert office.ghcr.received[digest] == len(DATA)
    assert (office.ghcr.count("begin"), office.ghcr.count("resume")) == (1, 1)


async def test_all_but_the_end_was_done_before_a_restart(office: Office, digest: Digest) -> None:
    gate = Gate()
    office.ghcr.script("finish", gate)
    sending = office.world.tasks.spawn("sending", deliver(office, digest))
    await gate.reached.wait()
    sending.cancel()
    await settled(lambda: len(office.deliveries) == 0)
    office.restart()
    assert (await deliver(office, digest))[0].sent == 0
    assert office.ghcr.received[digest] == len(DATA)


async def test_an_old_upload_is_not_asked_for(office: Office, digest: Digest) -> None:
    world = office.world
    await world.catalog.note_session(THERE, digest, "https://ghcr.io/uploads/old", world.clock.wall())
    world.clock.advance(SESSION_SECONDS)
    await deliver(office, digest)
    assert office.ghcr.count("resume") == 0


@pytest.mark.parametrize("upload", [None, b"x" * (len(DATA) + 1)], ids=["forgotten", "too long"])
async def test_an_upload_that_is_no_good_is_begun_anew(office: Office, digest: Digest, upload: bytes | None) -> None:
    world = office.world
    location = "https://ghcr.io/uploads/before"
    await world.catalog.note_session(THERE, digest, location, world.clock.wall())
    if upload is not None:
        office.ghcr.open(location, digest, upload)
    await deliver(office, digest)
    assert office.ghcr.blobs[THERE, digest] == DATA


async def test_an_upload_with_other_bytes_in_it_is_begun_anew(office: Office, digest: Digest) -> None:
    """Breaks where a refusal is final though somebody else's bytes were resumed."""
    world = office.world
    location = "https://ghcr.io/uploads/before"
    await world.catalog.note_session(THERE, digest, location, world.clock.wall())
    office.ghcr.open(location, digest, b"other bytes")
    await deliver(office, digest)
    assert office.ghcr.blobs[THERE, digest] == DATA


async def test_an_answer_that_was_lost_is_found_out_by_a_head(office: Office, digest: Digest) -> None:
    """Breaks where a blob is sent again because nobody heard that it was kept."""
    office.ghcr.script("finished", silent())
    await deliver(office, digest)
    assert office.ghcr.received[digest] == len(DATA)
    assert office.ghcr.count("size") == 1


async def test_a_registry_that_forgets_its_uploads_is_given_up(
    office: Office, digest: Digest, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def send(*_: object) -> Session:
        office.ghcr.uploads.clear()
        raise silent()

    monkeypatch.setattr(office.ghcr, "send", send)
    with pytest.raises(UpstreamNoAnswer):
        await deliver(office, digest)
    assert office.ghcr.count("begin") == ANEW + 1


async def test_a_registry_that_takes_less_gets_the_rest(
    office: Office, digest: Digest, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = office.ghcr.send

    async def send(*arguments: object) -> Session:
        session = await real(*arguments)  # type: ignore[arg-type] # as they came
        if session.offset == len(DATA) and office.ghcr.count("send") == 1:
            del office.ghcr.uploads[session.location][-100:]
            return Session(session.location, len(DATA) - 100)
        return session

    monkeypatch.setattr(office.ghcr, "send", send)
    await deliver(office, digest)
    assert office.ghcr.blobs[THERE, digest] == DATA
    assert office.ghcr.received[digest] == len(DATA) + 100


# --- giving up ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["begin", "resume"])
async def test_who_does_not_answer_at_first_is_not_asked_again(office: Office, digest: Digest, method: str) -> None:
    world = office.world
    await world.catalog.note_session(THERE, digest, "https://ghcr.io/uploads/1", world.clock.wall())
    office.ghcr.script(method, silent())
    with pytest.raises(UpstreamUnreachable):
        await deliver(office, digest)
    assert office.ghcr.count(method) == 1


async def test_an_outage_is_borne_for_a_while(office: Office, digest: Digest, monkeypatch: pytest.MonkeyPatch) -> None:
    real = office.ghcr.resume

    async def resume(repository: Repository, location: str) -> Session | None:
        office.world.clock.advance(PATIENCE / 4)
        return await real(repository, location)

    monkeypatch.setattr(office.ghcr, "resume", resume)
    office.ghcr.breaks.append(1000)
    office.ghcr.script("resume", *(silent() for _ in range(3)))
    await deliver(office, digest)  # three quarters of the patience
    office.ghcr.mounts = False
    office.ghcr.breaks.append(1000)
    office.ghcr.script("resume", *(silent() for _ in range(9)))
    with pytest.raises(UpstreamUnreachable):
        await deliver(office, digest, there=OTHER)
    assert office.ghcr.count("resume") == 4 + 4


@pytest.mark.parametrize(
    ("error", "raised"), [(refused(), UpstreamRefused), (UpstreamCredentialsRefused("no", registry="ghcr.io"), None)]
)
@pytest.mark.parametrize("method", ["begin", "send", "finish"])
async def test_a_refusal_is_final(
    office: Office, digest: Digest, method: str, error: MirrorError, raised: type[MirrorError] | None
) -> None:
    office.ghcr.script(method, error)
    with pytest.raises(raised or type(error)):
        await deliver(office, digest)
    assert office.ghcr.count("begin") == 1


async def test_our_own_bytes_may_be_what_is_wrong(office: Office, digest: Digest) -> None:
    """Breaks where bytes that have gone bad are offered again and again."""
    (location,) = office.world.store.blobs
    office.world.store.blobs[location] = DATA[:-1] + b"!"
    with pytest.raises(ManifestBlobUnknown):
        await deliver(office, digest)
    assert await office.world.catalog.states([digest]) == {digest: "quarantined"}


async def test_a_refusal_of_good_bytes_says_nothing_about_them(office: Office, digest: Digest) -> None:
    office.ghcr.script("finish", refused())
    with pytest.raises(UpstreamRefused):
        await deliver(office, digest)
    assert await office.world.catalog.states([digest]) == {digest: "held"}
    assert await office.world.catalog.session(THERE, digest, office.world.clock.wall()) is None


async def test_offline_ends_it_at_the_next_break(office: Office, digest: Digest) -> None:
    gate = Gate()
    office.ghcr.breaks.append(gate)
    office.ghcr.script("finish", silent())
    sending = office.world.tasks.spawn("sending", deliver(office, digest))
    await gate.reached.wait()
    office.world.policy.offline = True
    gate.release()
    with pytest.raises(Offline):
        await sending


async def test_a_full_disk_keeps_nothing_from_being_sent(
    office: Office, digest: Digest, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> None:
        raise NoRoom("the disk is full")

    for method in ("note_session", "end_session", "at_upstream"):
        monkeypatch.setattr(office.world.catalog, method, full)
    await deliver(office, digest)
    assert office.ghcr.blobs[THERE, digest] == DATA


async def test_patience(world: World) -> None:
    patience = Patience(world.clock)
    invalid = UpstreamInvalid("nonsense", registry="ghcr.io")
    for _ in range(INVALID - 1):
        await patience.wait(invalid)
    with pytest.raises(UpstreamInvalid):
        await patience.wait(invalid)
    patience.progress()
    await patience.wait(invalid)
    with pytest.raises(UpstreamLimited):
        await patience.wait(UpstreamLimited("slow down", registry="ghcr.io", retry_after=PATIENCE))
    await patience.wait(UpstreamLimited("slow down", registry="ghcr.io", retry_after=0.0))

"""What waits for its registry, for whoever may know of it."""

from mirror.cache.rights import LOOPBACK, SOCKET, STRANGER
from mirror.cache.sight import Sight
from mirror.operations.queue import Changed, Queue
from mirror.store.protocols import Visibility
from tests.cache.queueing import APP, OTHER, later, push, queued, quiet
from tests.cache.receiving import Office, refused, silent
from tests.cache.scripted import Gate
from tests.cache.support import World
from tests.store.samples import CONFIG


def queue_of(office: Office) -> Queue:
    world = office.world
    return Queue(outbox=office.outbox, sight=Sight(rights=world.rights, proofs=world.proofs))


async def test_what_waits_since_when_and_why() -> None:
    office = Office(World())
    queue, clock = queue_of(office), office.world.clock
    assert await queue.listed(SOCKET) == []
    began = clock.wall()
    office.ghcr.script("put", refused())
    root = await push(office, "1", "a", "bc")
    (waiting,) = await queue.listed(SOCKET)
    assert (waiting.name, waiting.registry, waiting.repository, waiting.reference) == (
        "ghcr.io/me/app:1",
        "ghcr.io",
        "ghcr.io/me/app",
        "1",
    )
    assert (waiting.digest, waiting.queued_at, waiting.attempts) == (str(root.descriptor.digest), began, 0)
    assert (waiting.tried_at, waiting.next_at, waiting.refused, waiting.failure, waiting.sending) == (
        None,
        None,
        False,
        None,
        None,
    )
    task = office.world.tasks.spawn("watch", office.outbox.watch())
    await quiet(office)
    (waiting,) = await queue.listed(SOCKET)
    assert (waiting.attempts, waiting.refused, waiting.failure) == (1, True, "ghcr.io does not want it")
    assert waiting.next_at is not None
    assert waiting.next_at > clock.wall()
    task.cancel()


async def test_how_far_the_one_under_way_is() -> None:
    office = Office(World())
    gate = Gate()
    office.ghcr.script("put", gate)
    await push(office, "1", "a", "bc")
    task = office.world.tasks.spawn("watch", office.outbox.watch())
    await gate.reached.wait()
    (waiting,) = await queue_of(office).listed(SOCKET)
    assert waiting.sending is not None
    assert (waiting.sending.layers_done, waiting.sending.layers) == (2, 2)
    assert waiting.sending.bytes_done == waiting.sending.bytes == 3 + len(CONFIG)
    gate.release()
    await quiet(office)
    assert await queue_of(office).listed(SOCKET) == []
    task.cancel()


async def test_only_what_he_may_know_of() -> None:
    """Fails if the list tells a stranger what somebody pushes to a private repository."""
    office = Office(World(credentials=["ghcr.io"]))
    queue = queue_of(office)
    await push(office, "1", "a")
    await push(office, "1", "a", home=OTHER)
    await office.world.catalog.set_visibility(OTHER, Visibility.PUBLIC, 1.0)
    assert [entry.name for entry in await queue.listed(STRANGER)] == ["ghcr.io/me/other:1"]
    for who in (LOOPBACK, SOCKET):
        assert [entry.name for entry in await queue.listed(who)] == ["ghcr.io/me/app:1", "ghcr.io/me/other:1"]
        assert len(await queue.listed(who, 1)) == 1


async def test_retry() -> None:
    """Also what was refused; some of them, or all."""
    office = Office(World())
    queue = queue_of(office)
    task = office.world.tasks.spawn("watch", office.outbox.watch())
    office.ghcr.script("put", refused(), refused())
    await push(office, "1", "a")
    await quiet(office)
    await push(office, "2", "a")
    await quiet(office)
    first, second = await queue.listed(SOCKET)
    assert await queue.retry([first.id, 99]) == Changed(1, (99,))
    await quiet(office)
    assert [entry.id for entry in await queue.listed(SOCKET)] == [second.id]
    assert await queue.retry(None) == Changed(1, ())
    await quiet(office)
    assert office.ghcr.order == ["1", "2"]
    assert await queue.retry(None) == Changed(0, ())
    task.cancel()


async def test_drop() -> None:
    office = Office(World())
    queue = queue_of(office)
    for tag in ("1", "2", "3"):
        await push(office, tag, "a")
    first, second, third = await queue.listed(SOCKET)
    assert await queue.drop([second.id, second.id]) == Changed(1, ())
    assert [entry.id for entry in await queue.listed(SOCKET)] == [first.id, third.id]
    assert await queue.drop(None) == Changed(2, ())
    assert list(await queued(office)) == []


async def test_who_gets_no_answer_waits_longer() -> None:
    office = Office(World())
    task = office.world.tasks.spawn("watch", office.outbox.watch())
    office.ghcr.script("put", silent(), silent())
    await push(office, "1", "a")
    await quiet(office)
    (before,) = await queue_of(office).listed(SOCKET)
    await later(office, 6)
    (after,) = await queue_of(office).listed(SOCKET)
    assert (before.attempts, after.attempts, after.refused) == (1, 2, False)
    assert before.next_at is not None
    assert after.next_at is not None
    assert after.next_at > before.next_at
    assert APP.path in after.repository
    task.cancel()

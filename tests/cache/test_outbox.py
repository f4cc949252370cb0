"""Pushes that wait: all arrive, in their order, whatever comes between."""

import asyncio
import logging

import pytest

from mirror.cache.outbox import FIRST_WAIT, MOST_WAIT, REST, Sending, _backoff
from mirror.errors import Offline, UpstreamCredentialsRefused, UpstreamLimited
from mirror.oci.names import Repository
from mirror.store.forwarding import LONGEST_WAIT
from mirror.store.protocols import Proof
from tests.cache.queueing import APP, OTHER, later, push, queued, quiet, until_empty
from tests.cache.receiving import Office, keep_image, silent
from tests.cache.scripted import Gate
from tests.cache.support import settled
from tests.store.samples import OWN, digest_of, image, index

LARGE = "x" * 3_000_000


async def test_what_waits_is_sent_in_its_order(watching: Office, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        for tag in "cab":
            await push(watching, tag, "common", tag)
        await until_empty(watching)
    assert watching.ghcr.order == ["c", "a", "b"]
    assert "ghcr.io/me/app:c: sent 2 of 2 layers, 9B of 9B" in caplog.text
    assert "ghcr.io/me/app:b: sent 1 of 2 layers, 1B of 9B" in caplog.text


async def test_an_own_repository_goes_under_its_path(watching: Office) -> None:
    root = await push(watching, "1", "a", home=OWN)
    await until_empty(watching)
    assert watching.ghcr.tags == {(Repository("ghcr.io", OWN.path), "1"): root.descriptor.digest}


async def test_without_a_tag_it_goes_by_its_digest(watching: Office) -> None:
    root = image("a")
    digest = await keep_image(watching.world, APP, root, "a")
    await watching.world.catalog.enqueue(APP, str(digest), digest, "ghcr.io", 1)
    watching.outbox.wake()
    await until_empty(watching)
    assert watching.ghcr.order == [digest.short]


async def test_registries_go_side_by_side_and_each_one_by_one(watching: Office) -> None:
    gate = Gate()
    watching.ghcr.script("put", gate)
    await push(watching, "1", "a")
    await push(watching, "2", "b", home=OTHER)
    await gate.reached.wait()
    await push(watching, "3", "c", home=Repository("docker.io", "me/app"), target="docker.io")
    await settled(lambda: watching.hub.order == ["3"])
    assert (watching.ghcr.order, watching.ghcr.count("put")) == ([], 1)
    gate.release()
    await until_empty(watching)
    assert watching.ghcr.order == ["1", "2"]


async def test_a_later_push_replaces_an_earlier_one(watching: Office) -> None:
    """Breaks where what was replaced is sent to its end, or its arrival takes the later one out of the queue."""
    gate = Gate()
    watching.ghcr.breaks.append(gate)
    first = await push(watching, "1", LARGE)
    await gate.reached.wait()
    second = image("other", note="1")
    digest = await keep_image(watching.world, APP, second, "other")
    assert await watching.world.catalog.enqueue(APP, "1", digest, "ghcr.io", 2)
    watching.outbox.wake()
    await until_empty(watching)
    assert watching.ghcr.order == ["1"]
    assert watching.ghcr.tags == {(APP, "1"): digest}
    assert (APP, first.descriptor.digest) not in watching.ghcr.manifests


async def test_what_is_dropped_is_not_sent_to_its_end(watching: Office) -> None:
    gate = Gate()
    watching.ghcr.breaks.append(gate)
    await push(watching, "1", LARGE)
    await push(watching, "2", "b")
    await gate.reached.wait()
    (first, _) = await queued(watching)
    assert await watching.outbox.drop(first.id) == 1
    await until_empty(watching)
    assert watching.ghcr.order == ["2"]


# --- outages --------------------------------------------------------------------------------------------------------


async def test_an_outage_is_waited_for_longer_each_time(watching: Office) -> None:
    watching.ghcr.down = silent()
    await push(watching, "1", "a")
    await quiet(watching)
    waits = []
    for attempts in range(1, 10):
        (entry,) = await queued(watching)
        assert (entry.attempts, entry.refused) == (attempts, False)
        assert entry.failure == "ghcr.io does not answer"
        assert entry.next_at is not None
        waits.append(entry.next_at - watching.world.clock.wall())
        await later(watching, waits[-1])
    assert waits == [5, 10, 20, 40, 80, 160, 320, 600, 600]
    watching.ghcr.down = None
    await later(watching, MOST_WAIT)
    await until_empty(watching)


async def test_within_a_repository_nothing_overtakes(watching: Office) -> None:
    """Breaks where each entry waits by itself: after an outage they would come in any order."""
    watching.ghcr.down = silent()
    for tag in "abc":
        await push(watching, tag, "common")
    await quiet(watching)
    await later(watching, FIRST_WAIT)
    assert [entry.attempts for entry in await queued(watching)] == [2, 0, 0]
    watching.ghcr.down = None
    await later(watching, 2 * FIRST_WAIT)
    await until_empty(watching)
    assert watching.ghcr.order == ["a", "b", "c"]


async def test_a_registry_that_does_not_answer_has_its_rest(watching: Office) -> None:
    """Breaks where all that waits for it is tried one after the other, in vain."""
    watching.ghcr.down = silent()
    for number in range(5):
        await push(watching, "1", "a", home=Repository("ghcr.io", f"me/{number}"))
    await quiet(watching)
    assert watching.ghcr.count("size") <= 3  # one image's first layers
    await later(watching, REST)
    assert [entry.attempts for entry in await queued(watching)][1:] in ([0] * 4, [1, 0, 0, 0])


async def test_one_that_never_gets_through_does_not_stop_the_others(watching: Office) -> None:
    """Breaks where the first one's wait is the whole registry's."""
    watching.ghcr.script("put", *(silent() for _ in range(2)))
    await push(watching, "bad", "a")
    await quiet(watching)
    await push(watching, "good", "b", home=OTHER)
    await later(watching, REST)  # both may be tried: the earlier one first
    await later(watching, REST)
    assert watching.ghcr.order == ["good"]


async def test_retry_after_is_believed(watching: Office) -> None:
    watching.ghcr.script("size", UpstreamLimited("slow down", registry="ghcr.io", retry_after=300))
    await push(watching, "1", "a")
    await push(watching, "2", "a", home=OTHER)
    await quiet(watching)
    asked = len(watching.ghcr.asked)
    await later(watching, 299)
    assert len(watching.ghcr.asked) == asked
    await later(watching, 1)
    await until_empty(watching)


async def test_another_login_is_tried_at_once(watching: Office) -> None:
    """Breaks where what a registry refused for want of a login waits for its hour."""
    watching.ghcr.script("size", UpstreamCredentialsRefused("no login", registry="ghcr.io"))
    await push(watching, "1", "a")
    await quiet(watching)
    assert [entry.attempts for entry in await queued(watching)] == [1]
    await watching.outbox.logged_in("docker.io")
    await quiet(watching)
    assert [entry.attempts for entry in await queued(watching)] == [1]
    await watching.outbox.logged_in("ghcr.io")
    await until_empty(watching)


async def test_offline_it_says_so(watching: Office) -> None:
    watching.world.policy.offline = True
    await push(watching, "1", "a")
    await quiet(watching)
    (waiting,) = await watching.outbox.state()
    assert (waiting.entry.failure, waiting.entry.attempts) == ("this mirror is offline", 0)
    with pytest.raises(Offline, match="mirror offline off"):
        await watching.outbox.retry(None)
    watching.world.policy.offline = False
    watching.outbox.wake()
    await until_empty(watching)


def test_how_long_it_waits() -> None:
    down = silent()
    assert [_backoff(attempts, down) for attempts in (0, 1, 6, 7, 10_000)] == [5, 10, 320, 600, 600]
    limits = [UpstreamLimited("", registry="x", retry_after=seconds) for seconds in (1.0, 50.0, 1e9)]
    assert [_backoff(0, limited) for limited in limits] == [5, 50, LONGEST_WAIT]


async def test_all_arrives_after_outages_and_kills(office: Office) -> None:
    """Breaks where anything of the queue, or of an upload, is only in memory; or where a new process begins anew."""
    world = office.world
    office.ghcr.down = silent()
    children = [image(f"layer {number}", LARGE) for number in range(3)]
    for child in children:
        await keep_image(world, APP, child, *(f"layer {number}" for number in range(3)), LARGE)
    top = index(children)
    location = await world.store.put(top.raw, top.descriptor.digest)
    await world.catalog.hold_manifest(APP, top, location, Proof.PUSHED, 1)
    for number in range(20):
        await push(office, f"v{number}", f"layer {number}", "common")
        if number == 10:
            assert await world.catalog.enqueue(APP, "all", top.descriptor.digest, "ghcr.io", 1)
        watch = world.tasks.spawn("outbox", office.outbox.watch())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        watch.cancel()  # killed
        for task in list(world.tasks._tasks):
            task.cancel()
        await world.idle()
        office.restart()
    assert len(await queued(office)) == 21
    office.ghcr.down = None
    for _ in range(8):  # killed again and again while it sends
        watch = world.tasks.spawn("outbox", office.outbox.watch())
        world.clock.advance(MOST_WAIT)
        for _ in range(100):
            await asyncio.sleep(0)
        for task in list(world.tasks._tasks):
            task.cancel()
        await world.idle()
        office.restart()
    world.tasks.background("outbox", office.outbox.watch(), endless=True)
    world.clock.advance(MOST_WAIT)
    office.outbox.wake()
    await until_empty(office)
    shorts = [child.descriptor.digest.short for child in children]
    expected = [f"v{number}" for number in range(20)]
    assert list(dict.fromkeys(office.ghcr.order)) == [*expected[:11], *shorts, "all", *expected[11:]]
    sizes = {digest: len(data) for (_, digest), data in office.ghcr.blobs.items()}
    assert office.ghcr.received == sizes


# --- what it tells --------------------------------------------------------------------------------------------------


async def test_the_state(watching: Office) -> None:
    gate = Gate()
    watching.ghcr.blobs[APP, digest_of("a")] = b"a"
    await push(watching, "1", "a", LARGE)
    await quiet(watching)
    watching.ghcr.breaks.append(gate)
    watching.ghcr.blobs.clear()
    await push(watching, "2", "bb", LARGE + "y")
    await gate.reached.wait()
    (waiting,) = await watching.outbox.state()
    assert waiting.entry.reference == "2"
    since = watching.world.clock.wall()
    assert waiting.sending is not None
    assert waiting.sending.since == waiting.entry.queued_at == since
    assert (waiting.sending.layers, waiting.sending.bytes) == (2, 2 + 2 + len(LARGE) + 1)
    assert waiting.sending.layers_done <= 1
    gate.release()
    await until_empty(watching)
    assert await watching.outbox.state() == []


async def test_what_is_not_under_way_has_no_progress(office: Office) -> None:
    await push(office, "1", "a")
    assert [waiting.sending for waiting in await office.outbox.state()] == [None]
    assert Sending(1.0).layers == 0

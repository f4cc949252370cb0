"""What the queue cannot send: refusals, a mirror that is offline, a disk that fails."""

import pytest

from mirror.cache.outbox import FIRST_WAIT, LOOK_EVERY
from mirror.errors import NoRoom, Offline, StoreFailed
from mirror.oci.names import Repository
from mirror.store.forwarding import LONGEST_WAIT
from tests.cache.queueing import APP, later, push, queued, quiet, until_empty
from tests.cache.receiving import Office, keep_image, refused, silent
from tests.cache.scripted import Gate
from tests.store.samples import digest_of, image

LARGE = "x" * 3_000_000


# --- refusals -------------------------------------------------------------------------------------------------------


async def test_a_refusal_waits_for_retry_and_holds_nothing_back(watching: Office) -> None:
    watching.ghcr.script("put", refused())
    await push(watching, "1", "a")
    await push(watching, "2", "a")
    await quiet(watching)
    (entry,) = await queued(watching)
    assert (entry.reference, entry.refused, entry.failure) == ("1", True, "ghcr.io does not want it")
    assert watching.ghcr.order == ["2"]
    await later(watching, LONGEST_WAIT - 1)
    assert watching.ghcr.order == ["2"]
    assert await watching.outbox.retry(entry.id) == 1
    await until_empty(watching)
    assert watching.ghcr.order == ["2", "1"]


async def test_it_is_tried_again_once_an_hour(watching: Office) -> None:
    watching.ghcr.script("put", refused())
    await push(watching, "1", "a")
    await quiet(watching)
    await later(watching, LONGEST_WAIT)
    await until_empty(watching)


async def test_what_is_not_held_any_more_says_so(watching: Office) -> None:
    root = image("a", "gone", note="1")
    digest = await keep_image(watching.world, APP, root, "a")
    await watching.world.catalog.enqueue(APP, "1", digest, "ghcr.io", 1)
    watching.outbox.wake()
    await quiet(watching)
    (entry,) = await queued(watching)
    assert entry.refused
    assert str(digest_of("gone")) in (entry.failure or "")
    await watching.world.catalog.quarantine(digest)
    await watching.outbox.retry(None)
    await quiet(watching)
    (entry,) = await queued(watching)
    assert str(digest) in (entry.failure or "")


async def test_a_registry_that_is_not_configured_any_more(watching: Office) -> None:
    await push(watching, "1", "a", target="quay.io")
    await quiet(watching)
    (entry,) = await queued(watching)
    assert (entry.refused, entry.failure) == (True, "quay.io is not configured")


async def test_a_name_that_is_none_there(watching: Office) -> None:
    """Breaks where it is made before it can be a failure: the worker would try it in a circle."""
    home = Repository("local", "a" * 250)
    await push(watching, "1", "a", home=home)
    await quiet(watching)
    (entry,) = await queued(watching)
    assert entry.refused
    assert "invalid repository name" in (entry.failure or "")


async def test_a_mistake_of_ours_is_kept_as_a_failure(watching: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise ValueError("a mistake")

    monkeypatch.setattr(watching.transfers, "send", broken)
    await push(watching, "1", "a")
    await quiet(watching)
    (entry,) = await queued(watching)
    assert (entry.refused, entry.failure) == (True, "internal: ValueError('a mistake')")


# --- offline, and the disk ------------------------------------------------------------------------------------------


async def test_offline_nothing_is_sent_and_nothing_fails(watching: Office) -> None:
    watching.world.policy.offline = True
    await push(watching, "1", "a")
    await later(watching, 1e4)
    (entry,) = await queued(watching)
    assert (entry.attempts, entry.failure, watching.ghcr.asked) == (0, None, [])
    watching.world.policy.offline = False
    watching.outbox.wake()
    await until_empty(watching)


async def test_offline_in_the_middle_is_no_failure(watching: Office) -> None:
    gate = Gate()
    watching.ghcr.script("finish", gate, silent(), silent())
    await push(watching, "1", "a")
    await push(watching, "2", "b")
    await gate.reached.wait()
    watching.world.policy.offline = True
    gate.release()
    await quiet(watching)
    assert [entry.attempts for entry in await queued(watching)] in ([0, 0], [0])
    watching.world.policy.offline = False
    watching.outbox.wake()
    await until_empty(watching)


async def test_whoever_else_says_offline_is_left_alone_for_a_while(
    watching: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks where it is tried in a circle."""
    tries = 0

    async def offline(*_: object, **__: object) -> None:
        nonlocal tries
        tries += 1
        raise Offline("no")

    monkeypatch.setattr(watching.transfers, "send", offline)
    await push(watching, "1", "a")
    await quiet(watching)
    assert tries == 1
    assert [entry.attempts for entry in await queued(watching)] == [0]


@pytest.mark.parametrize("method", ["queued_due", "queued_entry", "sent", "send_failed"])
async def test_a_disk_that_fails_stops_nothing_for_good(
    watching: Office, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Breaks where the worker ends with it, or tries in a circle."""
    calls = 0

    async def fail(*_: object, **__: object) -> None:
        nonlocal calls
        calls += 1
        raise NoRoom("the disk is full") if calls % 2 else StoreFailed("the disk is broken")

    with monkeypatch.context() as patch:
        patch.setattr(watching.world.catalog, method, fail)
        watching.ghcr.script("put", *([silent()] if method == "send_failed" else []))
        await push(watching, "1", "a")
        await quiet(watching)
        assert 1 <= calls <= 2
    await later(watching, LOOK_EVERY)
    await until_empty(watching)
    assert set(watching.ghcr.order) == {"1"}


async def test_the_store_may_fail_for_a_while(watching: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> bytes:
        raise StoreFailed("the disk is broken")

    with monkeypatch.context() as patch:
        patch.setattr(watching.world.store, "read", fail)
        await push(watching, "1", "a")
        await quiet(watching)
        (entry,) = await queued(watching)
        assert (entry.refused, entry.failure) == (False, "the disk is broken")
    await later(watching, FIRST_WAIT)
    await until_empty(watching)

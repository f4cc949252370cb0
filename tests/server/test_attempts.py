"""Wrong passwords are counted by address, one question after the other, within a minute."""

import asyncio

import pytest

from mirror.errors import TooManyRequests
from mirror.server import attempts as module
from mirror.server.attempts import FAILURES, WITHIN, Attempts
from tests.cache.support import StillClock

HERE, THERE = "192.0.2.7", "192.0.2.8"


async def wrong(attempts: Attempts, client: str, times: int = 1) -> None:
    for _ in range(times):
        async with attempts.turn(client):
            attempts.count(client)


async def refused(attempts: Attempts, client: str) -> float | None:
    """For how many seconds nothing is taken from this address; None where something is."""
    try:
        async with attempts.turn(client):
            return None
    except TooManyRequests as error:
        return error.retry_after


async def test_a_few_mistakes_are_free_then_it_is_a_matter_of_time() -> None:
    clock = StillClock()
    attempts = Attempts(clock)
    await wrong(attempts, HERE, FAILURES - 1)
    clock.advance(20)
    await wrong(attempts, HERE)
    assert await refused(attempts, HERE) == pytest.approx(WITHIN - 20)
    assert await refused(attempts, THERE) is None
    clock.advance(WITHIN - 20)
    assert await refused(attempts, HERE) is None
    await wrong(attempts, HERE, FAILURES - 1)
    assert await refused(attempts, HERE) is not None  # the one of 20 seconds later still counts
    clock.advance(WITHIN)
    assert await refused(attempts, HERE) is None
    assert attempts._failures == {}


async def test_a_thousand_guesses_at_once_are_a_thousand_in_a_row() -> None:
    """Breaks if guesses that are sent together are all checked before the first one has failed."""
    attempts = Attempts(StillClock())
    running = 0
    most = 0

    async def guess() -> bool:
        nonlocal running, most
        try:
            async with attempts.turn(HERE):
                running += 1
                most = max(most, running)
                await asyncio.sleep(0)
                running -= 1
                attempts.count(HERE)
        except TooManyRequests:
            return False
        return True

    assert sum(await asyncio.gather(*(guess() for _ in range(1000)))) == FAILURES
    assert most == 1
    assert attempts._turns == {}


async def test_addresses_do_not_wait_for_each_other() -> None:
    attempts = Attempts(StillClock())
    async with attempts.turn(HERE), attempts.turn(THERE):
        assert len(attempts._turns) == 2
    assert attempts._turns == {}


async def test_whoever_gives_up_leaves_nothing_behind() -> None:
    attempts = Attempts(StillClock())
    async with attempts.turn(HERE):
        waiting = asyncio.get_running_loop().create_task(refused(attempts, HERE))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert attempts._turns == {}
    assert await refused(attempts, HERE) is None


@pytest.mark.parametrize(("first", "second", "same"), [
    ("2001:db8::1", "2001:db8::ffff:1", True),
    ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
    ("fe80::1%eth0", "fe80::2%eth1", True),
    ("::ffff:192.0.2.7", "192.0.2.7", True),
    ("192.0.2.7", "192.0.2.8", False),
    ("socket", "socket", True),
])  # fmt: skip
async def test_one_who_has_a_whole_network_is_one(first: str, second: str, same: bool) -> None:
    attempts = Attempts(StillClock())
    await wrong(attempts, first, FAILURES)
    assert (await refused(attempts, second) is not None) is same


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REMEMBERED", 3)
    clock = StillClock()
    attempts = Attempts(clock)
    for number in range(10):
        await wrong(attempts, f"192.0.2.{number}")
        assert len(attempts._failures) <= 3
    assert list(attempts._failures) == ["192.0.2.7", "192.0.2.8", "192.0.2.9"]
    clock.advance(WITHIN)
    await wrong(attempts, "198.51.100.1")
    assert list(attempts._failures) == ["198.51.100.1"]

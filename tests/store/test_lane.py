import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from mirror.store.lane import Lane


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


async def test_work_is_done_in_order_and_never_two_at_once(pool: ThreadPoolExecutor) -> None:
    lane, done, at_work = Lane(pool), [], threading.Lock()

    def work(number: int) -> int:
        assert at_work.acquire(blocking=False)
        time.sleep(0.0005)
        done.append(number)
        at_work.release()
        return number

    futures = [lane.run(partial(work, number)) for number in range(50)]
    assert await asyncio.gather(*futures) == done == list(range(50))


async def test_lanes_share_threads_fairly(pool: ThreadPoolExecutor) -> None:
    busy = [Lane(pool) for _ in range(2)]
    for lane in busy:
        for _ in range(200):
            lane.post(lambda: time.sleep(0.005))
    started = time.monotonic()
    await Lane(pool).run(lambda: None)  # breaks without turns: the two would go on for a second
    assert time.monotonic() - started < 0.5
    await asyncio.gather(*(lane.run(lambda: None) for lane in busy))


async def test_a_failure_is_its_own_callers(pool: ThreadPoolExecutor) -> None:
    lane = Lane(pool)

    def fail() -> None:
        raise ValueError("no")

    failing, after = lane.run(fail), lane.run(lambda: "fine")
    with pytest.raises(ValueError, match="no"):
        await failing
    assert await after == "fine"


async def test_a_failure_that_nobody_waits_for_is_logged(
    pool: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    lane = Lane(pool)
    with caplog.at_level(logging.ERROR):
        lane.post(lambda: [][0])
        await lane.run(lambda: None)
    assert "IndexError" in caplog.text


async def test_a_caller_that_is_cancelled_leaves_its_work_to_be_done(pool: ThreadPoolExecutor) -> None:
    lane, done = Lane(pool), []
    lane.post(lambda: time.sleep(0.02))
    waiting = lane.run(lambda: done.append("work"))
    waiting.cancel()
    await lane.run(lambda: None)
    assert done == ["work"]


async def test_an_idle_lane_begins_again(pool: ThreadPoolExecutor) -> None:
    lane = Lane(pool)
    for number in range(20):
        assert await lane.run(partial(int, number)) == number
        await asyncio.sleep(0.001)


def test_work_that_outlives_its_loop_is_done(pool: ThreadPoolExecutor) -> None:
    done: list[str] = []

    async def begin() -> None:
        lane = Lane(pool)
        lane.post(lambda: time.sleep(0.05))
        _ = lane.run(lambda: done.append("work"))

    asyncio.run(begin())
    pool.shutdown()
    assert done == ["work"]

import asyncio
import gc
import logging
import time

import pytest

from mirror.errors import BlobUnknown, MirrorError, NameUnknown, Unavailable
from mirror.tasks import Tasks, each
from tests.cache.support import settled


async def forever(ended: list[str] | None = None) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        if ended is not None:
            ended.append("ended")


async def fail() -> None:
    await asyncio.sleep(0)
    raise ValueError("no")


async def test_a_task_gives_its_result() -> None:
    tasks = Tasks()
    assert await tasks.spawn("answer", asyncio.sleep(0, 42)) == 42
    assert len(tasks) == 0


async def test_a_failure_is_logged_and_there_for_who_waits_and_nobody_else_stops(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tasks = Tasks()
    other = tasks.spawn("other", forever())
    with pytest.raises(ValueError, match="no"):
        await tasks.spawn("mine", fail())
    assert "background task mine failed: no" in caplog.text
    assert not other.done()
    assert len(tasks) == 1
    await tasks.drain(0)


async def test_a_failure_that_nobody_waits_for_is_logged_and_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks()
    tasks.background("alone", fail())
    while len(tasks):
        await asyncio.sleep(0)
    gc.collect()
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert caplog.records[0].exc_info


async def test_a_task_that_nobody_refers_to_is_kept() -> None:
    tasks, done = Tasks(), []

    async def work() -> None:
        await asyncio.sleep(0.01)
        done.append("work")

    tasks.background("work", work())
    gc.collect()
    await tasks.drain(5)
    assert done == ["work"]


async def test_what_is_finished_outlives_whoever_waits_for_it() -> None:
    """Breaks if the waiter's cancellation reaches the work."""
    tasks, gate, done = Tasks(), asyncio.Event(), []

    async def work() -> int:
        await gate.wait()
        done.append(1)
        return 7

    waiting = Tasks().spawn("client", tasks.finish("work", work()))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    gate.set()
    assert await tasks.finish("more", work()) == 7
    assert done == [1, 1]


async def test_the_end_of_the_mirror_ends_what_is_finished_as_an_answer() -> None:
    tasks = Tasks()
    waiting = Tasks().spawn("client", tasks.finish("work", forever()))
    await asyncio.sleep(0)
    await tasks.drain(0)
    with pytest.raises(Unavailable):
        await waiting
    with pytest.raises(MirrorError):
        await tasks.finish("fails", fail_as_an_answer())


async def fail_as_an_answer() -> None:
    raise MirrorError("no")


async def test_draining_waits_and_then_cancels(caplog: pytest.LogCaptureFixture) -> None:
    tasks, ended = Tasks(), list[str]()
    short = tasks.spawn("short", asyncio.sleep(0.01, "done"))
    long = tasks.spawn("long", forever(ended))
    started = time.monotonic()
    await tasks.drain(0.05)
    assert 0.04 < time.monotonic() - started < 5
    assert short.result() == "done"
    assert long.cancelled()
    assert ended == ["ended"]
    assert caplog.records == []  # being cancelled is no failure


async def test_an_endless_task_is_not_waited_for() -> None:
    tasks, ended = Tasks(), list[str]()
    tasks.background("watch", forever(ended), endless=True)
    await asyncio.sleep(0)
    started = time.monotonic()
    await tasks.drain(30)
    assert time.monotonic() - started < 5
    assert ended == ["ended"]


async def test_an_answer_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    async def answer() -> None:
        raise BlobUnknown("there is none")

    tasks = Tasks()
    with pytest.raises(BlobUnknown):
        await tasks.spawn("flight", answer())
    assert caplog.records == []


async def test_after_draining_nothing_begins() -> None:
    tasks = Tasks()
    await tasks.drain(0)
    late = tasks.spawn("late", forever())
    with pytest.raises(asyncio.CancelledError):
        await late
    assert len(tasks) == 0


async def test_tasks_have_their_names() -> None:
    tasks = Tasks()
    assert tasks.spawn("flight sha256:abc", asyncio.sleep(0)).get_name() == "flight sha256:abc"
    await tasks.drain(1)


# --- many things, a few at a time -------------------------------------------------------------------------------------


async def test_a_few_at_a_time_in_their_order() -> None:
    now: list[int] = []
    most = []

    async def one(number: int) -> int:
        now.append(number)
        most.append(len(now))
        await asyncio.sleep(0)
        now.remove(number)
        return number * 2

    assert await each(range(20), one, 3) == [number * 2 for number in range(20)]
    assert max(most) == 3
    assert await each([], one, 3) == []


async def test_the_first_failure_ends_the_others() -> None:
    cancelled = []

    async def one(number: int) -> None:
        if number == 0:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(number)
                raise
        cause = NameUnknown("why")
        raise BlobUnknown("no") from cause

    with pytest.raises(BlobUnknown) as raised:
        await each(range(3), one, 2)
    assert cancelled == [0]
    assert isinstance(raised.value.__cause__, NameUnknown)


async def test_a_mistake_of_ours_comes_before_an_answer() -> None:
    async def one(error: Exception) -> None:
        raise error

    for errors in ([MirrorError("an answer"), ZeroDivisionError()], [ZeroDivisionError(), MirrorError("an answer")]):
        with pytest.raises(ZeroDivisionError):
            await each(errors, one, 2)


@pytest.mark.parametrize("at_once", [0, 1, 2, 9])
async def test_work_that_ends_cancelled_leaves_no_short_list(at_once: int) -> None:
    """Breaks where a task group's silence about it is taken for an end."""
    gone = Tasks().spawn("gone", asyncio.Event().wait())
    gone.cancel()

    async def one(number: int) -> int:
        if number == 1:
            await gone
        return number

    with pytest.raises(asyncio.CancelledError):
        await each(range(4), one, at_once)
    assert await each([0, 2], one, at_once) == [0, 2]


async def test_cancelled_from_outside() -> None:
    begun = []

    async def one(number: int) -> None:
        begun.append(number)
        await asyncio.Event().wait()

    task = Tasks().spawn("each", each(range(2), one, 2))
    await settled(lambda: len(begun) == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

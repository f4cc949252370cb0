"""Work that tells as it goes on."""

import asyncio
from contextlib import aclosing

import pytest

from mirror.errors import BlobUnknown, MirrorError, NameUnknown, Unavailable
from mirror.operations import stream
from mirror.operations.stream import Feed, each, streamed
from mirror.tasks import Tasks
from tests.cache.support import settled


async def test_everything_is_heard_in_order() -> None:
    async def work(feed: Feed[int]) -> None:
        for number in range(5000):
            await feed.tell(number)

    assert [event async for event in streamed(Tasks(), "work", work)] == list(range(5000))


async def test_a_slow_listener_holds_the_work_up_and_hints_are_dropped() -> None:
    """Broken by a queue without an end: memory for as long as a client does not read."""
    told: list[int] = []

    async def work(feed: Feed[int]) -> None:
        for number in range(stream._WAITING * 3):
            told.append(number)
            await feed.tell(number)
            feed.hint(-1)

    events = streamed(Tasks(), "work", work)
    async with aclosing(events):
        assert await anext(events) == 0
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(told) <= stream._WAITING
        heard = [event async for event in events if event >= 0]
    assert heard == list(range(1, stream._WAITING * 3))


async def test_what_is_posted_is_heard_however_slow_the_listener() -> None:
    async def work(feed: Feed[int]) -> None:
        for number in range(stream._WAITING * 2):
            feed.post(number)

    assert [event async for event in streamed(Tasks(), "work", work)] == list(range(stream._WAITING * 2))


async def test_what_the_work_raises_comes_last() -> None:
    async def work(feed: Feed[int]) -> None:
        await feed.tell(1)
        raise BlobUnknown("no")

    events = streamed(Tasks(), "work", work)
    assert await anext(events) == 1
    with pytest.raises(BlobUnknown):
        await anext(events)


async def test_who_stops_listening_ends_the_work() -> None:
    ended = []

    async def work(feed: Feed[int]) -> None:
        try:
            await feed.tell(1)
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    tasks = Tasks()
    events = streamed(tasks, "work", work)
    async with aclosing(events):
        assert await anext(events) == 1
    assert ended == [True]
    assert not len(tasks)


async def test_an_ending_mirror_says_so() -> None:
    """Broken by handing the work's cancellation to the listener, who was not cancelled."""

    async def work(feed: Feed[int]) -> None:
        await feed.tell(1)
        await asyncio.Event().wait()

    tasks = Tasks()
    events = streamed(tasks, "work", work)
    assert await anext(events) == 1
    await tasks.drain(0)
    with pytest.raises(Unavailable):
        await anext(events)
    with pytest.raises(Unavailable):
        await anext(streamed(tasks, "work", work))  # begun after the end


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
    async def one(number: int) -> None:
        raise MirrorError("an answer") if number == 0 else ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await each(range(2), one, 2)


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

"""Work that tells as it goes on."""

import asyncio
from contextlib import aclosing

import pytest

from mirror.errors import BlobUnknown, Unavailable
from mirror.operations import stream
from mirror.operations.stream import Feed, streamed
from mirror.tasks import Tasks


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

"""News wake everybody who waits, once."""

import asyncio

from mirror.cache.news import News
from mirror.tasks import Tasks


async def test_everybody_is_woken_each_time() -> None:
    news, tasks = News(), Tasks()
    for _ in range(2):
        waiting = [tasks.spawn("wait", news.wait()) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        news.tell()
        await asyncio.gather(*waiting)


async def test_who_has_left_is_no_hindrance() -> None:
    news, tasks = News(), Tasks()
    left, stayed = tasks.spawn("left", news.wait()), tasks.spawn("stayed", news.wait())
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.wait([left])
    news.tell()
    await stayed


async def test_what_was_told_before_is_not_told_again() -> None:
    news, tasks = News(), Tasks()
    news.tell()
    late = tasks.spawn("late", news.wait())
    await asyncio.sleep(0)
    assert not late.done()
    news.tell()
    await late

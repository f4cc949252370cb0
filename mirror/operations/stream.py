"""What operations that take long share: work that tells as it goes on."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, Generic, TypeVar

from mirror.errors import Unavailable
from mirror.tasks import Tasks

E = TypeVar("E")

_WAITING = 1000  # events that a slow listener may leave unheard; then the work waits for him


class Feed(Generic[E]):
    """The events between the work and its listener."""

    def __init__(self) -> None:
        self._events: deque[E] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._ended = False

    async def tell(self, event: E) -> None:
        """What must be heard; waits while the listener is far behind."""
        while len(self._events) >= _WAITING:
            self._room.clear()
            await self._room.wait()
        self._put(event)

    def post(self, event: E) -> None:
        """What must be heard, from where nobody can wait: there have to be few of them."""
        self._put(event)

    def hint(self, event: E) -> None:
        """How far something is: what is not heard in time is not missed."""
        if len(self._events) < _WAITING:
            self._put(event)

    def _put(self, event: E) -> None:
        self._events.append(event)
        self._news.set()

    def end(self) -> None:
        """Nothing more is told."""
        self._ended = True
        self._news.set()

    async def listen(self) -> AsyncGenerator[E, None]:
        """Everything told, until the end."""
        while True:
            while self._events:
                event = self._events.popleft()
                self._room.set()
                yield event
            if self._ended:
                return
            self._news.clear()
            await self._news.wait()


async def streamed(
    tasks: Tasks, name: str, work: Callable[[Feed[E]], Coroutine[Any, Any, None]]
) -> AsyncGenerator[E, None]:
    """What `work` tells while it runs as a task of the application. It ends with its listener: who stops listening
    cancels it. Raises what it raises, at the end; `Unavailable` where the mirror ends meanwhile."""
    feed: Feed[E] = Feed()

    async def run() -> None:
        try:
            await work(feed)
        finally:
            feed.end()

    task = tasks.spawn(name, run())
    task.add_done_callback(lambda _: feed.end())  # also where it was cancelled before it began
    try:
        async for event in feed.listen():
            yield event
        await asyncio.wait([task])
        if task.cancelled():
            raise Unavailable("this mirror is ending; what was done until then is kept")
        task.result()
    finally:
        task.cancel()
        await asyncio.wait([task])

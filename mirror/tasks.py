"""Background tasks with an owner, and many things done a few at a time.

An application-wide `asyncio.TaskGroup` would end everybody on one task's exception; a bare task is only weakly
referenced and its failure is lost. `Tasks` holds each one, logs what it did not expect, and drains with a deadline.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import Any, TypeVar

from mirror.errors import MirrorError, Unavailable

log = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")

_AGAIN = 1.0


class Tasks:
    """The tasks of one application."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._endless: set[asyncio.Task[Any]] = set()
        self._closed = False

    def spawn(self, name: str, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start `coroutine`. Its failure is logged, and is there for whoever awaits the task; nobody else stops."""
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        if self._closed:
            task.cancel()
        return task

    def background(self, name: str, coroutine: Coroutine[Any, Any, object], *, endless: bool = False) -> None:
        """`spawn`, for what nobody waits for. What is `endless` is not waited for by `drain` either."""
        task = self.spawn(name, coroutine)
        if endless:
            self._endless.add(task)

    async def finish(self, name: str, coroutine: Coroutine[Any, Any, T]) -> T:
        """`spawn` it and wait: whoever waits may leave, what was begun is done to its end all the same.

        Raises what it raises; `Unavailable` where the mirror ends meanwhile.
        """
        task = self.spawn(name, coroutine)
        await asyncio.wait([task])
        if task.cancelled():
            raise Unavailable("this mirror is ending")
        return task.result()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._endless.discard(task)
        if task.cancelled():
            return
        error = task.exception()  # retrieved here, so that nobody's silence turns it into a warning
        if error is not None and not isinstance(error, MirrorError):  # that is an answer, and its waiters got it
            log.error("background task %s failed: %s", task.get_name(), error, exc_info=error)

    def __len__(self) -> int:
        return len(self._tasks)

    async def drain(self, seconds: float) -> None:
        """Give what runs `seconds` to end by itself, then cancel it and wait. Later spawns are cancelled at once."""
        self._closed = True
        if finite := self._tasks - self._endless:
            await asyncio.wait(finite, timeout=seconds)
        while self._tasks:
            remaining = set(self._tasks)
            for task in remaining:
                task.cancel()
            await asyncio.wait(remaining, timeout=_AGAIN)  # one that swallowed its cancellation is told once more


async def each(items: Iterable[T], work: Callable[[T], Awaitable[R]], at_once: int) -> list[R]:
    """What `work` makes of each item, begun and returned in their order, `at_once` of them at a time.

    Raises the first failure, a mistake of ours before an answer of somebody else's; what still runs is cancelled then.
    Work that ends cancelled, by whomever, is `CancelledError`.
    """
    waiting = enumerate(items)
    made: dict[int, R] = {}

    async def some() -> None:
        for number, item in waiting:
            made[number] = await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(some()) for _ in range(max(1, at_once))]
    except BaseExceptionGroup as errors:
        leaves = list(_leaves(errors))
        first = next((error for error in leaves if not isinstance(error, MirrorError)), leaves[0])
        raise first from first.__cause__
    if any(worker.cancelled() for worker in workers):
        raise asyncio.CancelledError
    return [made[number] for number in range(len(made))]


def _leaves(errors: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error

"""Work in order on a shared pool of threads: an actor that holds a thread only while it has something to do."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

log = logging.getLogger(__name__)
T = TypeVar("T")

_TURN = 8  # pieces of work, after which another lane gets the thread


class Lane:
    """Runs functions one after another, in the order they were handed over, and never two at once.

    All methods are for the event loop that made it. Nothing handed over is ever skipped or cancelled: a caller that
    stops waiting leaves its work to be done.
    """

    def __init__(self, pool: Executor) -> None:
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._work: deque[tuple[Callable[[], Any], asyncio.Future[Any] | None]] = deque()
        self._moving = False  # written on the loop only: a thread has the queue, or will have it

    def post(self, work: Callable[[], None]) -> None:
        """Do `work`, which must not raise."""
        self._put(work, None)

    def run(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        """Do `work`; what it returns or raises is the future's."""
        done: asyncio.Future[T] = self._loop.create_future()
        self._put(work, done)
        return done

    def _put(self, work: Callable[[], Any], done: "asyncio.Future[Any] | None") -> None:
        self._work.append((work, done))
        if not self._moving:
            self._moving = True
            self._pool.submit(self._turn)

    def _turn(self) -> None:
        """On a thread: do what waits, within bounds, then let the loop see whether more has come."""
        for _ in range(_TURN):
            if not self._work:
                break
            work, done = self._work.popleft()
            result, failure = None, None
            try:
                result = work()
            except BaseException as error:
                failure = error
                if done is None:
                    log.exception("unwatched work failed")
            if done is not None:
                self._tell(_settle, done, result, failure)
        self._tell(self._rest)

    def _rest(self) -> None:
        if self._work:
            self._pool.submit(self._turn)
        else:
            self._moving = False

    def _tell(self, callback: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:  # the loop is closed: nobody waits any more
            log.debug("work ended after its event loop")


def _settle(done: "asyncio.Future[Any]", result: object, failure: BaseException | None) -> None:
    if done.done():  # its caller was cancelled; the work was not
        return
    if failure is None:
        done.set_result(result)
    else:
        done.set_exception(failure)

"""The breaker of one source: once its `GET /v2/` fails too, nothing waits for it any more.

    closed ──an operation failed, and so did the ping──▶ open
    open   ──at most one ping per interval, sent when somebody asks──▶ closed, when it is answered

One slow or broken answer never opens it: the ping decides. While it is open every call fails at once; the caller
that comes when a probe is due waits for it half a second at most, so that an upstream that is back is used at once.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from mirror.clock import Clock
from mirror.errors import UpstreamNoAnswer, UpstreamUnreachable
from mirror.tasks import Tasks

log = logging.getLogger(__name__)
INTERVAL = 30.0
PATIENCE = 0.5
_SPACING = 1.0  # between pings while closed: answers may fail by the hundred while the ping is fine
Ping = Callable[[], Awaitable[None]]
"""Asks `GET /v2/` of every URL; raises `UpstreamUnreachable` where none answers."""


class Breaker:
    """State on the monotonic clock; `since` is wall time, for people."""

    def __init__(self, registry: str, ping: Ping, *, clock: Clock, tasks: Tasks, interval: float = INTERVAL) -> None:
        self._registry = registry
        self._ping = ping
        self._clock = clock
        self._tasks = tasks
        self._interval = interval
        self._quietly = False
        self._probe: asyncio.Task[None] | None = None
        self._next_probe = 0.0
        self._quiet_until = 0.0
        self.is_open = False
        self.since: float | None = None  # of the first failure of this outage
        self.reason: str | None = None

    @property
    def retry_in(self) -> float | None:
        """Seconds until the next probe may be sent; None while closed."""
        return max(0.0, self._next_probe - self._clock.monotonic()) if self.is_open else None

    async def check(self) -> None:
        """Raises `UpstreamUnreachable` while open; sends the probe that is due."""
        if not self.is_open:
            return
        if self._probe is None and self._clock.monotonic() >= self._next_probe:
            self._begin_probe()
            await self._wait()
        if self.is_open:
            raise UpstreamUnreachable(
                f"{self._registry} is not reachable: {self.reason or 'no answer'}", registry=self._registry
            )

    def failed(self, error: UpstreamNoAnswer) -> None:
        """An operation got no answer: ask the ping whether this is an outage."""
        if self.since is None:
            self.since = self._clock.wall()
        self.reason = error.message
        if not self.is_open and self._probe is None and self._clock.monotonic() >= self._quiet_until:
            self._begin_probe()

    def succeeded(self) -> None:
        """The registry answered something."""
        if self.is_open:
            log.warning("%s is reachable again", self._registry)
        self.is_open, self.since, self.reason = False, None, None

    async def probe(self) -> None:
        """Ping now, unless one is under way or, while open, not yet due; and wait for the outcome.

        The caller tells of it: nothing is logged.
        """
        self._quietly = True
        if self._probe is None and (not self.is_open or self._clock.monotonic() >= self._next_probe):
            self._begin_probe()
        if self._probe is not None:
            await asyncio.wait({self._probe})

    def _begin_probe(self) -> None:
        now = self._clock.monotonic()
        self._next_probe, self._quiet_until = now + self._interval, now + min(_SPACING, self._interval)
        self._probe = self._tasks.spawn(f"probe {self._registry}", self._run_probe())

    async def _wait(self) -> None:
        if self._probe is not None:
            await asyncio.wait({self._probe}, timeout=PATIENCE)

    async def _run_probe(self) -> None:
        try:
            await self._ping()
        except UpstreamUnreachable as error:
            self._opened(error)
        except UpstreamNoAnswer as error:  # an answer all the same: it is there
            self.succeeded()
            log.debug("%s answers its ping: %s", self._registry, error)
        else:
            self.succeeded()
        finally:
            self._probe = None
            self._quietly = False

    def _opened(self, error: UpstreamUnreachable) -> None:
        if self.since is None:
            self.since = self._clock.wall()
        self.reason = error.message
        if not self.is_open:
            level = logging.DEBUG if self._quietly else logging.WARNING
            log.log(level, "%s; it is asked again once it answers its ping", error.message)
        self.is_open = True

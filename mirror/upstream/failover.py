"""How every operation of a source runs: one URL after the other, behind the breaker, bounded in time until there
are headers; and what its failures say about the source as a whole.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

from mirror.clock import Clock
from mirror.errors import (
    UpstreamCredentialsRefused,
    UpstreamGone,
    UpstreamInvalid,
    UpstreamLimited,
    UpstreamNoAnswer,
    UpstreamUnreachable,
)
from mirror.tasks import Tasks
from mirror.upstream.bodies import drain
from mirror.upstream.breaker import INTERVAL, Breaker
from mirror.upstream.endpoints import Endpoint, Endpoints
from mirror.upstream.exchange import Exchange
from mirror.upstream.limits import Quota
from mirror.upstream.protocols import SourceState
from mirror.upstream.translate import origin_of

HEADERS_SECONDS = 15.0
"""Until the headers of an answer are there, at one URL: authentication and redirects included."""
OPERATION_SECONDS = 25.0
"""The same over all URLs. containerd gives up after 30 s without headers."""
PING_SECONDS = 4.0

R = TypeVar("R")


class Failover:
    """The URLs of one source, and how it is doing."""

    def __init__(
        self,
        registry: str,
        *,
        endpoints: Endpoints,
        exchange: Exchange,
        clock: Clock,
        tasks: Tasks,
        probe_interval: float = INTERVAL,
        headers_seconds: float = HEADERS_SECONDS,
        breaks: bool = True,
        answered: Callable[[], None] = lambda: None,
    ) -> None:
        self._registry = registry
        self._answered = answered  # called whenever the registry has answered
        self._breaks = breaks  # False: every call is made, whatever became of others
        self._endpoints = endpoints
        self._exchange = exchange
        self._clock = clock
        self._headers_seconds = headers_seconds
        self._trouble: UpstreamNoAnswer | None = None
        self._trouble_since: float | None = None
        self._checked = False
        self.breaker = Breaker(registry, self.ping, clock=clock, tasks=tasks, interval=probe_interval)

    async def run(self, operation: Callable[[Endpoint], Awaitable[R]], *, seconds: float | None = None) -> R:
        """Try `operation` at one URL after the other until there is an answer.

        The next takes over from one that is unreachable or says 429; any other error is the answer. `seconds` is how
        long one URL may take, where that is not the usual; infinite where `operation` sees to it.
        """
        self._endpoints.check()
        if self._breaks:
            await self.breaker.check()
        longest = self._headers_seconds if seconds is None else seconds
        deadline = self._clock.monotonic() + max(OPERATION_SECONDS, seconds or 0)
        failure: UpstreamNoAnswer | None = None
        for endpoint in self._endpoints:
            left = deadline - self._clock.monotonic()
            if failure is not None and left < 1:
                break
            try:
                result = await self._attempt(endpoint, operation, min(longest, left))
            except UpstreamLimited as error:
                self._endpoints.limited(endpoint, error.retry_after)
                failure = error
            except UpstreamUnreachable as error:
                self._endpoints.failed(endpoint)
                failure = error
            except UpstreamGone:
                self._succeeded(endpoint)
                raise
            except UpstreamNoAnswer as error:
                self._troubled(error)
                raise
            else:
                self._succeeded(endpoint)
                return result
        if failure is None:  # the last URL that was not limited became so between two lines
            failure = UpstreamUnreachable(f"{self._registry}: no URL may be asked now", registry=self._registry)
        self._troubled(failure)
        raise failure

    async def ping(self) -> None:
        """`GET /v2/` at every URL until one answers (distribution-spec, "Determining Support").

        Raises `UpstreamUnreachable` where none does. Every other outcome is an answer of a kind.
        """
        failure: UpstreamUnreachable | None = None
        now = self._clock.monotonic()
        for endpoint in self._endpoints.all:
            if endpoint.limited_until > now:
                continue
            try:
                await self._attempt(endpoint, self._ping, min(PING_SECONDS, self._headers_seconds))
            except UpstreamUnreachable as error:
                self._endpoints.failed(endpoint)
                failure = error
                continue
            except UpstreamGone:
                pass  # an anonymous token was refused: somebody is there to refuse it
            except UpstreamNoAnswer as error:
                if isinstance(error, UpstreamLimited):
                    self._endpoints.limited(endpoint, error.retry_after)
                self._troubled(error)
                return
            self._settled(endpoint)
            return
        if failure is not None:
            raise failure

    def broke(self, endpoint: Endpoint) -> None:
        """A body from there broke off: another URL comes first for a while."""
        self._endpoints.failed(endpoint)

    def silent(self, endpoint: Endpoint, seconds: float) -> UpstreamUnreachable:
        """The error for a time that ran out."""
        return UpstreamUnreachable(
            f"{self._registry}: {origin_of(endpoint.base)} did not answer within {seconds:.3g} s",
            registry=self._registry,
        )

    def heard(self) -> None:
        """The registry has answered somebody else: it is there."""
        self.breaker.succeeded()

    def trust_again(self) -> None:
        """Our credentials are others now: that they were refused is no trouble any more."""
        if isinstance(self._trouble, UpstreamCredentialsRefused):
            self._trouble = self._trouble_since = None

    def reaches(self, host: str) -> bool:
        """Whether one of the URLs is at that host."""
        return any(endpoint.origin.host == host for endpoint in self._endpoints.all)

    def state(self, registry: str, *, anonymous: bool, quota: Quota, fetched_bytes: int) -> SourceState:
        """What is known without asking."""
        limited_for = self._endpoints.limited_for
        trouble = self._trouble
        if isinstance(trouble, UpstreamLimited) and limited_for <= 0:
            trouble = None  # the rest is over; what comes then is not known yet
        since, reason = (self._trouble_since, trouble.message) if trouble is not None else (None, None)
        waits = [limited_for] if limited_for > 0 else []
        if self.breaker.is_open:
            since, reason = self.breaker.since, self.breaker.reason
            waits.append(self.breaker.retry_in or 0.0)
        return SourceState(
            registry=registry,
            anonymous=anonymous,
            up=not self.breaker.is_open and limited_for <= 0 and trouble is None,
            since=since,
            reason=reason,
            retry_at=self._clock.wall() + max(waits) if waits else None,
            pulls_left=quota.left,
            pulls_limit=quota.limit,
            fetched_bytes=fetched_bytes,
            checked=self._checked,
            limited=limited_for > 0,
            refused=isinstance(trouble, UpstreamCredentialsRefused),
        )

    async def _attempt(self, endpoint: Endpoint, operation: Callable[[Endpoint], Awaitable[R]], seconds: float) -> R:
        try:
            async with asyncio.timeout(seconds if math.isfinite(seconds) else None):
                return await operation(endpoint)
        except TimeoutError:
            raise self.silent(endpoint, seconds) from None

    async def _ping(self, endpoint: Endpoint) -> None:
        """Any status below 500 will do, but for 429, and for what is said of our credentials."""
        answer = await self._exchange.ask(endpoint, "GET", endpoint.ping, {})
        ours = answer.sent is not None and answer.sent.credential is not None
        if answer.status == 429 or answer.status >= 500 or (ours and answer.status == 401):
            await self._exchange.judge(answer)
        await drain(answer.response)

    def _succeeded(self, endpoint: Endpoint) -> None:
        self._settled(endpoint)
        self.breaker.succeeded()
        self._answered()

    def _settled(self, endpoint: Endpoint) -> None:
        self._endpoints.answered(endpoint)
        self._checked = True
        if self._endpoints.limited_for <= 0:
            self._trouble = self._trouble_since = None

    def _troubled(self, error: UpstreamNoAnswer) -> None:
        """No answer. What is about us or the whole registry stands in `state` until something succeeds; whether a
        registry that does not answer is down, the breaker finds out."""
        if isinstance(error, UpstreamUnreachable):
            if self._breaks:
                self.breaker.failed(error)
            return
        self._checked = True
        if isinstance(error, UpstreamInvalid):
            return  # about one thing of many
        if self._trouble_since is None:
            self._trouble_since = self._clock.wall()
        self._trouble = error

"""Pushes that wait for their registry, sent in their order as soon as that can be, across restarts.

Registries go side by side, the pushes of one registry one after the other. What finds no answer waits longer each time,
and holds back what came later for the same repository; a refusal holds back nothing, and waits for `retry`. While
the mirror is offline nothing is sent, and nothing counts as a failure.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from mirror.cache.delivery import not_held
from mirror.cache.parcel import Parcel
from mirror.cache.policy import Policy
from mirror.cache.transfer import Progress, Sent, Step, Transfers
from mirror.clock import Clock
from mirror.errors import MirrorError, Offline, StoreFailed, Unavailable, UpstreamLimited, UpstreamNoAnswer
from mirror.oci.digest import Digest
from mirror.store import forwarding
from mirror.store.forwarding import LONGEST_WAIT, Queued
from mirror.store.inventory import View
from mirror.tasks import Tasks, each

log = logging.getLogger(__name__)

FIRST_WAIT, MOST_WAIT = 5.0, 600.0  # seconds between two tries of a push that finds no answer
REST = 5.0  # … for which its registry is left alone
LOOK_EVERY = 5.0  # seconds between two looks at what is due, while something waits
_IDLE = 60.0  # … and while nothing does: `wake` is what begins
_LISTED = 1000
_TOGETHER = 100  # written down together
_OFFLINE = "this mirror is offline"


class Catalog(forwarding.Outbox, Protocol):
    """The part of the catalog that the outbox uses."""


@dataclass(frozen=True, slots=True)
class Sending:
    """How far a push is that is just being sent."""

    since: float
    layers_done: int = 0
    layers: int = 0
    bytes_done: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Waiting:
    """A push in the queue; `sending` where it is under way."""

    entry: Queued
    sending: Sending | None


@dataclass(slots=True)
class _UnderWay:
    """One that is being sent."""

    since: float
    task: "asyncio.Task[Sent] | None" = None
    parcel: Parcel | None = None
    done: dict[Digest, Progress] = field(default_factory=dict)

    def tell(self, news: Progress) -> None:
        self.done[news.digest] = news

    def sending(self) -> Sending:
        there = [news for news in self.done.values() if news.step not in (Step.PUSHING, Step.SKIPPED)]
        return Sending(
            since=self.since,
            layers_done=sum(not news.is_config for news in there),
            layers=self.parcel.layers if self.parcel is not None else 0,
            bytes_done=sum(news.done for news in self.done.values()),
            bytes=self.parcel.bytes if self.parcel is not None else 0,
        )


class Outbox:
    """Sends what waits."""

    def __init__(self, *, catalog: Catalog, transfers: Transfers, policy: Policy, tasks: Tasks, clock: Clock) -> None:
        self._catalog = catalog
        self._transfers = transfers
        self._policy = policy
        self._tasks = tasks
        self._clock = clock
        self._woken = asyncio.Event()
        self._lanes: dict[str, asyncio.Task[None]] = {}  # by registry
        self._resting: dict[str, float] = {}  # registries that are left alone, until when (monotonic)
        self._under_way: dict[int, _UnderWay] = {}

    # --- for those who ask ----------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something was queued, dropped, or is to be tried at once; or the mirror is online again."""
        self._woken.set()

    async def state(self, limit: int = _LISTED) -> Sequence[Waiting]:
        """What waits, in its order: since when (`queued_at`), why (`failure`), until when (`next_at`)."""
        found = await self._catalog.queued(limit)
        if self._policy.offline:
            found = [replace(entry, failure=entry.failure or _OFFLINE) for entry in found]
        return [
            Waiting(entry, under_way.sending() if (under_way := self._under_way.get(entry.id)) is not None else None)
            for entry in found
        ]

    async def retry(self, entry: int | None) -> int:
        """Try one, or all, at once, also what was refused. How many there are. Raises `Offline`."""
        if self._policy.offline:
            raise Offline("this mirror is offline: what waits is sent once it is online again (mirror offline off)")
        count = await self._catalog.retry_queued(entry)
        self._resting.clear()
        self.wake()
        return count

    async def logged_in(self, registry: str) -> None:
        """This registry has another login: what waits for it is tried at once, also what was refused."""
        mine = [entry.id for entry in await self._catalog.queued(_LISTED) if entry.target == registry]
        await each(mine, self._catalog.retry_queued, _TOGETHER)
        self._resting.pop(registry, None)
        self.wake()

    async def drop(self, entry: int | None) -> int:
        """Send one, or all, no more, nor go on with what is under way. How many there were."""
        count = await self._catalog.drop_queued(entry)
        self.wake()
        return count

    # --- the worker -----------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Send what is due, until it is cancelled."""
        while True:
            self._woken.clear()
            try:
                wait = await self._look()
            except StoreFailed as error:
                log.warning("what waits to be sent cannot be read: %s", error.message)
                wait = LOOK_EVERY
            try:
                async with asyncio.timeout(wait):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def _look(self) -> float:
        """Begin what is due. For how many seconds there is nothing else to do."""
        await self._stop_dropped()
        if self._policy.offline:
            return LOOK_EVERY
        due: dict[str, list[Queued]] = {}
        for entry in await self._catalog.queued_due(self._clock.wall()):
            due.setdefault(entry.target, []).append(entry)
        now = self._clock.monotonic()
        for registry, entries in due.items():
            if registry not in self._lanes and self._resting.get(registry, now) <= now:
                self._lanes[registry] = self._tasks.spawn(f"queue for {registry}", self._send_all(registry, entries))
        return LOOK_EVERY if due or await self._catalog.queued(1) else _IDLE

    async def _stop_dropped(self) -> None:
        """What was dropped, or replaced, is not sent to its end."""
        for number, under_way in list(self._under_way.items()):
            if under_way.task is not None and await self._catalog.queued_entry(number) is None:
                under_way.task.cancel()

    async def _send_all(self, registry: str, entries: Sequence[Queued]) -> None:
        """One registry's, until one of them finds no answer."""
        try:
            for entry in entries:
                if self._policy.offline or not await self._send(entry):
                    return
        except StoreFailed as error:
            self._rest(registry, REST)
            log.warning("what waits for %s cannot be read or written down: %s", registry, error.message)
        finally:
            del self._lanes[registry]
            self.wake()

    async def _send(self, listed: Queued) -> bool:
        """One of them, as it is now. Whether the next one may follow at once. Raises `StoreFailed` of the catalog."""
        entry = await self._catalog.queued_entry(listed.id)
        if entry is None:  # dropped, or replaced by a later one
            return True
        under_way = self._under_way[entry.id] = _UnderWay(self._clock.wall())
        under_way.task = task = self._tasks.spawn(f"send {_named(entry)}", self._transfer(entry, under_way))
        try:
            await asyncio.wait([task])
        finally:
            task.cancel()
            del self._under_way[entry.id]
        if task.cancelled():
            return True
        error = task.exception()
        if error is not None:
            return await self._failed(entry, error)
        await self._catalog.sent(entry.id, entry.manifest, self._clock.wall())
        log.info("%s: %s", _named(entry), task.result())
        return True

    async def _transfer(self, entry: Queued, under_way: _UnderWay) -> Sent:
        """It was accepted here with all that it names; that it is the mirror's to send was decided then."""
        root = await self._transfers.packing.manifest(entry.manifest)
        if root is None:
            raise not_held(entry.manifest)
        parcel = await self._transfers.pack(root, View(entry.repository, trusted=True))
        under_way.parcel = parcel
        return await self._transfers.send(parcel, entry.destination, tell=under_way.tell)

    # --- what goes wrong ------------------------------------------------------------------------------------

    async def _failed(self, entry: Queued, error: BaseException) -> bool:
        """Write down why, and when to try again. Whether the registry may be asked for the next one."""
        if isinstance(error, Offline | Unavailable):  # no failure
            if not self._policy.offline:
                self._rest(entry.target, REST)
            return False
        if not isinstance(error, MirrorError):  # logged by whoever ran it
            error = MirrorError(f"internal: {error!r}")
        refused = not isinstance(error, UpstreamNoAnswer | StoreFailed)
        wait = LONGEST_WAIT if refused else _backoff(entry.attempts, error)
        if not refused:
            self._rest(entry.target, error.retry_after if isinstance(error, UpstreamLimited) else REST)
        now = self._clock.wall()
        await self._catalog.send_failed(entry.id, now, now + wait, error.message, refused=refused)
        log.warning(
            "%s was not sent, try %d: %s; next in %.0f s", _named(entry), entry.attempts + 1, error.message, wait
        )
        return refused

    def _rest(self, registry: str, seconds: float) -> None:
        self._resting[registry] = self._clock.monotonic() + min(seconds, LONGEST_WAIT)


def _named(entry: Queued) -> str:
    """For the log: also where it could be no name there."""
    separator = "@" if ":" in entry.reference else ":"
    return f"{entry.target}/{entry.repository.path}{separator}{entry.reference}"


def _backoff(attempts: int, error: MirrorError) -> float:
    wait = min(FIRST_WAIT * 2.0 ** min(attempts, 10), MOST_WAIT)
    if isinstance(error, UpstreamLimited):
        wait = max(wait, error.retry_after)
    return min(wait, LONGEST_WAIT)

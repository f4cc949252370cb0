"""`status`: how the mirror is doing, as the API gives it and the command line prints it."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mirror.cache.outbox import Waiting
from mirror.cache.policy import Policy
from mirror.cache.traffic import Traffic
from mirror.cache.transfer import Counters
from mirror.clock import Clock
from mirror.config.sizes import Reserve
from mirror.oci.names import Repository
from mirror.store.protocols import Tag, Totals
from mirror.upstream.protocols import SourceState, Upstreams

_ONLY_HERE = 50  # images listed that upstream no longer has


class Catalog(Protocol):
    """What of the catalog is reported."""

    async def totals(self) -> Totals: ...
    async def only_here(self, limit: int) -> Sequence[tuple[Repository, Tag]]: ...


class Outbox(Protocol):
    """What of the outbox is reported."""

    async def state(self) -> Sequence[Waiting]: ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where this mirror is: what it listens on, where its data lies, which URLs its registries have."""

    version: str
    instance: str
    listen: tuple[str, ...]
    data: Path
    urls: Mapping[str, tuple[str, ...]]
    disabled: tuple[str, ...]
    min_free: Reserve


class Status:
    """The report."""

    def __init__(
        self,
        *,
        place: Place,
        catalog: Catalog,
        upstreams: Upstreams,
        traffic: Traffic,
        outbox: Outbox,
        sent: Mapping[str, Counters],
        policy: Policy,
        clock: Clock,
    ) -> None:
        self._place = place
        self._catalog = catalog
        self._upstreams = upstreams
        self._traffic = traffic
        self._outbox = outbox
        self._sent = sent
        self._policy = policy
        self._clock = clock
        self._began = clock.monotonic()

    async def report(self, knows: Callable[[Repository], Awaitable[bool]] | None = None) -> dict[str, object]:
        """Everything, as JSON types. Sizes in bytes, times in wall seconds. With `knows`, only repositories that the
        asker may know of are named."""
        totals = await self._catalog.totals()
        disk = await asyncio.to_thread(shutil.disk_usage, self._place.data)
        states = self._upstreams.states()
        fetched = sum(state.fetched_bytes for state in states)
        served = sum(self._traffic.served.values())
        return {
            "version": self._place.version,
            "instance": self._place.instance,
            "uptime_seconds": self._clock.monotonic() - self._began,
            "offline": self._policy.offline,
            "listen": list(self._place.listen),
            "data": {
                "path": str(self._place.data),
                "free_bytes": disk.free,
                "reserve_bytes": self._place.min_free.of(disk.total),
                "blobs": totals.blobs,
                "bytes": totals.bytes,
                "repositories": totals.repositories,
                "tags": totals.tags,
                "only_here": totals.only_here,
            },
            "traffic": {
                "requests": self._traffic.requests,
                "hits": self._traffic.hits,
                "misses": self._traffic.misses,
                "hit_ratio": self._traffic.hit_ratio,
                "served_bytes": served,
                "fetched_bytes": fetched,
                "saved_bytes": max(0, served - fetched),
            },
            "queue": await self._queue(),
            "sent": self._sent_to(),
            "registries": self._registries(states),
            "only_here": [
                {"name": f"{repository}:{tag.name}", "gone_at": tag.gone_at}
                for repository, tag in await self._catalog.only_here(_ONLY_HERE)
                if knows is None or await knows(repository)
            ],
        }

    async def _queue(self) -> dict[str, object]:
        """What waits to be sent, of the first thousand; `since`: when the oldest of it was queued."""
        waiting = await self._outbox.state()
        return {
            "waiting": len(waiting),
            "refused": sum(each.entry.refused for each in waiting),
            "since": min((each.entry.queued_at for each in waiting), default=None),
        }

    def _sent_to(self) -> list[dict[str, object]]:
        """What each registry was sent since the start; `blobs` without what was mounted, or there before."""
        return [
            {
                "registry": registry,
                "images": counters.images,
                "blobs": counters.pushed,
                "mounted": counters.mounted,
                "existing": counters.existing,
                "bytes": counters.bytes,
            }
            for registry, counters in self._sent.items()
            if counters != Counters()
        ]

    def _registries(self, states: list[SourceState]) -> list[dict[str, object]]:
        by_registry: dict[str, list[SourceState]] = {}
        for state in states:
            by_registry.setdefault(state.registry, []).append(state)
        rows = [self._registry(name, by_registry.get(name, [])) for name in self._place.urls]
        return rows + [self._row(name, "disabled", None, "nothing: it is disabled") for name in self._place.disabled]

    def _registry(self, name: str, states: list[SourceState]) -> dict[str, object]:
        if self._policy.offline:
            return self._row(name, "offline", None, "what is held; nothing is asked upstream")
        down = next((state for state in states if not state.up), None)
        if down is None:
            asked = any(state.fetched_bytes or state.checked for state in states)
            state = next((each for each in states if each.pulls_left is not None), states[0] if states else None)
            return self._row(name, "ok" if asked else "unknown", state, "everything, fresh")
        word = "limited" if down.limited else "credentials refused" if down.refused else "down"
        return self._row(name, word, down, "what is held, stale tags included; the rest is answered 404")

    def _row(self, name: str, word: str, state: SourceState | None, serving: str) -> dict[str, object]:
        down = word in ("down", "limited", "credentials refused")
        return {
            "name": name,
            "url": " ".join(self._place.urls.get(name, ())),
            "state": word,
            "since": state.since if state is not None and down else None,
            "reason": state.reason if state is not None and down else None,
            "serving": serving,
            "retry_at": state.retry_at if state is not None and down else None,
            "pulls_left": state.pulls_left if state is not None else None,
            "pulls_limit": state.pulls_limit if state is not None else None,
            "credentials": self._upstreams.has_credentials(name) if name in self._place.urls else False,
        }

"""`queue`: the pushes that wait for their registry (`cache.outbox`), for whoever may know of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from mirror.cache.outbox import Outbox, Waiting
from mirror.cache.rights import Principal
from mirror.cache.sight import Sight

MOST = 1000
"""Pushes that are looked at."""


@dataclass(frozen=True, slots=True)
class Sending:
    """How far a push is that is just being sent; of layers without configs, of bytes with them."""

    since: float
    layers_done: int
    layers: int
    bytes_done: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A push that waits. `name` is what it will be at its registry. `failure` is why its last try failed; `refused`:
    that was the registry's answer, and it waits for `retry`. `next_at`: it is not tried before then."""

    id: int
    name: str
    registry: str
    repository: str
    reference: str
    digest: str
    queued_at: float
    attempts: int
    tried_at: float | None
    next_at: float | None
    refused: bool
    failure: str | None
    sending: Sending | None


@dataclass(frozen=True, slots=True)
class Changed:
    """How many pushes are meant, and which ids mean none."""

    count: int
    unknown: tuple[int, ...]


class Queue:
    """The verb. Who may change the queue is decided before (`rights.ACTIONS`)."""

    def __init__(self, *, outbox: Outbox, sight: Sight) -> None:
        self._outbox = outbox
        self._sight = sight

    async def listed(self, principal: Principal, limit: int = MOST) -> list[Entry]:
        """What waits, in its order, as far as he may know of it."""
        found: list[Entry] = []
        for waiting in await self._outbox.state(MOST):
            if len(found) >= limit:
                break
            entry = waiting.entry
            homes = dict.fromkeys([entry.repository, entry.destination.repository])
            if all([await self._sight.knows(principal, home) for home in homes]):
                found.append(_entry(waiting))
        return found

    async def retry(self, ids: Sequence[int] | None) -> Changed:
        """Try these, or all, at once, also what was refused."""
        if ids is None:
            return Changed(await self._outbox.retry(None), ())
        return _changed({each: await self._outbox.retry(each) for each in dict.fromkeys(ids)})

    async def drop(self, ids: Sequence[int] | None) -> Changed:
        """Send these, or all, no more. The images stay."""
        if ids is None:
            return Changed(await self._outbox.drop(None), ())
        return _changed({each: await self._outbox.drop(each) for each in dict.fromkeys(ids)})


def _changed(counts: dict[int, int]) -> Changed:
    return Changed(sum(counts.values()), tuple(each for each, count in counts.items() if not count))


def _entry(waiting: Waiting) -> Entry:
    entry, sending = waiting.entry, waiting.sending
    target = entry.destination
    return Entry(
        id=entry.id,
        name=str(target),
        registry=target.repository.registry,
        repository=str(target.repository),
        reference=entry.reference,
        digest=str(entry.manifest),
        queued_at=entry.queued_at,
        attempts=entry.attempts,
        tried_at=entry.tried_at,
        next_at=entry.next_at,
        refused=entry.refused,
        failure=entry.failure,
        sending=Sending(sending.since, sending.layers_done, sending.layers, sending.bytes_done, sending.bytes)
        if sending is not None
        else None,
    )

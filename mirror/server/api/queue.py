"""`/api/v1/queue`: the pushes that wait for their registry."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from mirror.errors import RequestInvalid
from mirror.operations.queue import MOST, Changed, Entry, Queue
from mirror.server.api.endpoint import Asked, Endpoint

Id = Annotated[int, Field(ge=0, lt=2**63)]
Ids = Annotated[tuple[Id, ...], Field(max_length=MOST)]


@dataclass(frozen=True, slots=True)
class QueueQuery:
    limit: Annotated[int, Field(ge=1)] = MOST


@dataclass(frozen=True, slots=True)
class RetryBody:
    """Which pushes to try at once: these, or all."""

    ids: Ids = ()
    all: bool = False


@dataclass(frozen=True, slots=True)
class DropQuery:
    """Which pushes to send no more: these, or all."""

    id: Ids = ()
    all: bool = False


@dataclass(frozen=True, slots=True)
class QueueList:
    """In their order; times in wall seconds, sizes in bytes."""

    pushes: tuple[Entry, ...]


def endpoints(queue: Queue) -> list[Endpoint]:
    """The routes of this resource."""

    async def listed(asked: Asked) -> QueueList:
        query: QueueQuery = asked.query
        return QueueList(tuple(await queue.listed(asked.principal, query.limit)))

    async def retry(asked: Asked) -> Changed:
        body: RetryBody = asked.body
        return await queue.retry(_meant(body.ids, everything=body.all))

    async def drop(asked: Asked) -> Changed:
        query: DropQuery = asked.query
        return await queue.drop(_meant(query.id, everything=query.all))

    return [
        Endpoint("GET", "/queue", "Pushes that wait for their registry", listed, QueueList, query=QueueQuery),
        Endpoint("POST", "/queue", "Try pushes at once", retry, Changed, body=RetryBody),
        Endpoint("DELETE", "/queue", "Send pushes no more", drop, Changed, query=DropQuery),
    ]


def _meant(ids: Sequence[int], *, everything: bool) -> Sequence[int] | None:
    """The ids, or None for all. Raises `RequestInvalid` for neither and for both."""
    if everything == bool(ids):
        raise RequestInvalid("say which pushes are meant: their ids, or all")
    return None if everything else ids

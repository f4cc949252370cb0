"""`/api/v1/misses`: what was asked for and is not here."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from mirror.operations.misses import MOST, MissList
from mirror.server.api.endpoint import Asked, Done, Endpoint
from mirror.store.inventory import Miss


@dataclass(frozen=True, slots=True)
class MissesQuery:
    limit: Annotated[int, Field(ge=1)] = MOST


@dataclass(frozen=True, slots=True)
class Misses:
    """Those asked for most lately first; times in wall seconds."""

    misses: tuple[Miss, ...]


def endpoints(misses: MissList) -> list[Endpoint]:
    """The routes of this resource."""

    async def listed(asked: Asked) -> Misses:
        query: MissesQuery = asked.query
        return Misses(tuple(await misses.list(asked.principal, query.limit)))

    async def clear(asked: Asked) -> Done:
        del asked
        await misses.clear()
        return Done()

    return [
        Endpoint("GET", "/misses", "What was asked for and is not here", listed, Misses, query=MissesQuery),
        Endpoint("DELETE", "/misses", "Begin that list anew", clear, Done),
    ]

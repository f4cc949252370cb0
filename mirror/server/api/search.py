"""`GET /api/v1/search`: repositories by a term."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from mirror.operations.search import DEFAULT, MOST, Results, Search
from mirror.server.api.endpoint import Asked, Endpoint

_LONGEST = 256


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """`registry`: which to ask, where the term does not begin with one; else the default registry. `local`: only what
    is held. `filter`: stars=N, is-official=BOOL, is-automated=BOOL."""

    term: Annotated[str, Field(max_length=_LONGEST)]
    registry: Annotated[str | None, Field(max_length=_LONGEST)] = None
    limit: Annotated[int, Field(ge=1, le=MOST)] = DEFAULT
    local: bool = False
    filter: tuple[str, ...] = ()


def endpoints(search: Search) -> list[Endpoint]:
    """The routes of this resource."""

    async def answer(asked: Asked) -> Results:
        query: SearchQuery = asked.query
        return await search.search(
            asked.principal,
            query.term,
            registry=query.registry,
            limit=query.limit,
            local=query.local,
            filters=query.filter,
        )

    return [Endpoint("GET", "/search", "Repositories by a term", answer, Results, query=SearchQuery)]

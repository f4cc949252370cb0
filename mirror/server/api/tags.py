"""`GET /api/v1/tags`: a repository's tags, at its registry and here; or how they moved."""

from dataclasses import dataclass

from mirror.operations.tags import TagList, TagPage
from mirror.server.api.endpoint import Asked, Endpoint
from mirror.server.api.images import PAGE, Limit


@dataclass(frozen=True, slots=True)
class TagsQuery:
    """`match`: a shell's pattern over tags. `history`: their moves instead. `cursor`: the `next` of the page before."""

    repository: str
    match: str | None = None
    limit: Limit = PAGE
    cursor: str | None = None
    history: bool = False


def endpoints(tags: TagList) -> list[Endpoint]:
    """The routes of this resource."""

    async def page(asked: Asked) -> TagPage:
        query: TagsQuery = asked.query
        ask = tags.history if query.history else tags.tags
        return await ask(asked.principal, query.repository, match=query.match, limit=query.limit, cursor=query.cursor)

    return [Endpoint("GET", "/tags", "A repository's tags, here and at its registry", page, TagPage, query=TagsQuery)]

"""`GET /api/v1/images`: what is held."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from mirror.operations.images import ImageList, Page, Wanted
from mirror.server.api.endpoint import Asked, Endpoint

Limit = Annotated[int, Field(ge=1, le=10_000)]
PAGE = 1000
"""Entries of a list, where the asker does not say how many he wants."""


@dataclass(frozen=True, slots=True)
class ImagesQuery:
    """`filter`: docker's, `key=value`. `cursor`: the `next` of the page before."""

    repository: str | None = None
    reference: str | None = None
    filter: tuple[str, ...] = ()
    dangling: bool | None = None
    limit: Limit = PAGE
    cursor: str | None = None


def endpoints(images: ImageList) -> list[Endpoint]:
    """The routes of this resource."""

    async def page(asked: Asked) -> Page:
        query: ImagesQuery = asked.query
        wanted = Wanted(query.repository, query.reference, query.filter, query.dangling)
        return await images.page(asked.principal, wanted, limit=query.limit, cursor=query.cursor)

    return [Endpoint("GET", "/images", "Images that are held", page, Page, query=ImagesQuery)]

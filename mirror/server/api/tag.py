"""`POST /api/v1/tag`: another name for an image that is held."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from mirror.operations.tag import Tag, Tagged
from mirror.server.api.endpoint import Asked, Endpoint

_Text = Annotated[str, Field(min_length=1, max_length=1000)]


@dataclass(frozen=True, slots=True)
class TagBody:
    """`source`: a reference, a digest, an ID or the beginning of one. `target`: `name[:tag]`; without a registry it is
    the mirror's own."""

    source: _Text
    target: _Text


def endpoints(tag: Tag) -> list[Endpoint]:
    """The routes of this resource."""

    async def answer(asked: Asked) -> Tagged:
        body: TagBody = asked.body
        return await tag.tag(asked.principal, body.source, body.target)

    return [Endpoint("POST", "/tag", "Give an image another name", answer, Tagged, body=TagBody)]

"""`POST /api/v1/remove`: images out of the mirror, told as they go."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from mirror.operations.remove import Event, Remove, Unwanted
from mirror.server.api.endpoint import Asked, Endpoint

_MOST = 10_000


@dataclass(frozen=True, slots=True)
class RemoveBody:
    """References, digests, IDs or beginnings of IDs. `platforms`: only these images of an index."""

    references: Annotated[tuple[str, ...], Field(min_length=1, max_length=_MOST)]
    force: bool = False
    platforms: Annotated[tuple[str, ...], Field(max_length=100)] = ()
    dry_run: bool = False


def endpoints(remove: Remove) -> list[Endpoint]:
    """The routes of this resource."""

    def answer(asked: Asked) -> AsyncIterator[Event]:
        body: RemoveBody = asked.body
        return remove.remove(
            asked.principal,
            Unwanted(references=body.references, force=body.force, platforms=body.platforms, dry_run=body.dry_run),
        )

    return [Endpoint("POST", "/remove", "Remove images from the mirror", answer, Event, body=RemoveBody, stream=True)]

"""`POST /api/v1/push`: images that are held to a registry, told as they go."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from mirror.operations.push import Event, Push, Wanted
from mirror.server.api.endpoint import Asked, Endpoint

_MOST = 10_000
_LONGEST = 1000


@dataclass(frozen=True, slots=True)
class PushBody:
    """What to push. `to`: HOST/PREFIX, else each image goes to its own registry under its own name; `platform`: as
    docker writes it, of an index only this one's image.

    With `all_tags` the references are repositories. `jobs`: images at a time.
    """

    references: Annotated[tuple[str, ...], Field(min_length=1, max_length=_MOST)]
    to: Annotated[str, Field(min_length=1, max_length=_LONGEST)] | None = None
    platform: Annotated[str, Field(max_length=_LONGEST)] | None = None
    all_tags: bool = False
    dry_run: bool = False
    jobs: Annotated[int, Field(ge=1, le=64)] = 3


def endpoints(push: Push) -> list[Endpoint]:
    """The routes of this resource."""

    def answer(asked: Asked) -> AsyncIterator[Event]:
        body: PushBody = asked.body
        return push.push(
            asked.principal,
            Wanted(
                references=body.references,
                to=body.to,
                platform=body.platform,
                all_tags=body.all_tags,
                dry_run=body.dry_run,
                jobs=body.jobs,
            ),
        )

    return [Endpoint("POST", "/push", "Send images to a registry", answer, Event, body=PushBody, stream=True)]

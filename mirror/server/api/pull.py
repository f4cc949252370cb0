"""`POST /api/v1/pull`: images into the mirror, told as they come."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from mirror.operations.pull import Event, Pull, Wanted
from mirror.server.api.endpoint import Asked, Endpoint

_MOST = 10_000


@dataclass(frozen=True, slots=True)
class PullBody:
    """What to pull. `platforms`: as docker writes them, `["all"]`, or none for the mirror's own platform.

    With `all_tags` the references are repositories. `if_missing`: no registry is asked about what is here, whole.
    `jobs`: images at a time.
    """

    references: Annotated[tuple[str, ...], Field(min_length=1, max_length=_MOST)]
    platforms: Annotated[tuple[str, ...], Field(max_length=100)] = ()
    all_tags: bool = False
    if_missing: bool = False
    pin: bool = False
    dry_run: bool = False
    jobs: Annotated[int, Field(ge=1, le=64)] = 3


def endpoints(pull: Pull) -> list[Endpoint]:
    """The routes of this resource."""

    def answer(asked: Asked) -> AsyncIterator[Event]:
        body: PullBody = asked.body
        return pull.pull(
            asked.principal,
            Wanted(
                references=body.references,
                platforms=body.platforms,
                all_tags=body.all_tags,
                if_missing=body.if_missing,
                pin=body.pin,
                dry_run=body.dry_run,
                jobs=body.jobs,
            ),
        )

    return [Endpoint("POST", "/pull", "Pull images into the mirror", answer, Event, body=PullBody, stream=True)]

"""`POST /api/v1/prune`: what nothing needs goes, told as it goes."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from mirror.operations.prune import Event, Prune, Unneeded
from mirror.server.api.endpoint import Asked, Endpoint


@dataclass(frozen=True, slots=True)
class PruneBody:
    """`until`: last used before then, wall seconds. `reference`: shell patterns of names, one of which matches. `keep`:
    all but so many newest tags of each repository. `max_size`: until no more bytes than that are left. `all`: also
    tagged images."""

    until: Annotated[float, Field(allow_inf_nan=False)] | None = None
    reference: Annotated[tuple[str, ...], Field(max_length=1000)] = ()
    keep: Annotated[int, Field(ge=0)] | None = None
    max_size: Annotated[int, Field(ge=0)] | None = None
    all: bool = False
    dry_run: bool = False


def endpoints(prune: Prune) -> list[Endpoint]:
    """The routes of this resource."""

    def answer(asked: Asked) -> AsyncIterator[Event]:
        body: PruneBody = asked.body
        return prune.prune(
            asked.principal,
            Unneeded(
                until=body.until,
                references=body.reference,
                keep=body.keep,
                max_size=body.max_size,
                all=body.all,
                dry_run=body.dry_run,
            ),
        )

    return [Endpoint("POST", "/prune", "Remove what nothing needs", answer, Event, body=PruneBody, stream=True)]

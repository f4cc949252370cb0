"""`POST /api/v1/verify`: whether what is stored is what its digests name."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from mirror.operations.verify import Event, Verify
from mirror.server.api.endpoint import Asked, Endpoint


@dataclass(frozen=True, slots=True)
class VerifyBody:
    """`references`: only what these images are made of. `repair`: fetch anew what is damaged."""

    repair: bool = False
    references: Annotated[tuple[str, ...], Field(max_length=10_000)] = ()


def endpoints(verify: Verify) -> list[Endpoint]:
    """The routes of this resource."""

    def answer(asked: Asked) -> AsyncIterator[Event]:
        body: VerifyBody = asked.body
        return verify.verify(asked.principal, body.references, repair=body.repair)

    return [Endpoint("POST", "/verify", "Read and check what is stored", answer, Event, body=VerifyBody, stream=True)]

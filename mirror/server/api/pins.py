"""`/api/v1/pins`: what stays whatever happens."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from mirror.operations.pins import Pin, Pins
from mirror.server.api.endpoint import Asked, Done, Endpoint

Owner = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]


@dataclass(frozen=True, slots=True)
class PinsBody:
    """`owner`: in whose name; else the asker's own."""

    references: Annotated[tuple[str, ...], Field(min_length=1, max_length=10_000)]
    owner: Owner | None = None


@dataclass(frozen=True, slots=True)
class UnpinQuery:
    """`owner`: only this one's pin; else everybody's."""

    ref: str
    owner: Owner | None = None


@dataclass(frozen=True, slots=True)
class PinList:
    pins: tuple[Pin, ...]


def endpoints(pins: Pins) -> list[Endpoint]:
    """The routes of this resource."""

    async def listed(asked: Asked) -> PinList:
        return PinList(tuple(await pins.listed(asked.principal)))

    async def add(asked: Asked) -> PinList:
        body: PinsBody = asked.body
        return PinList(tuple(await pins.add(asked.principal, body.references, body.owner)))

    async def remove(asked: Asked) -> Done:
        query: UnpinQuery = asked.query
        await pins.remove(asked.principal, query.ref, query.owner)
        return Done()

    return [
        Endpoint("GET", "/pins", "What is pinned", listed, PinList),
        Endpoint("POST", "/pins", "Pin images", add, PinList, body=PinsBody),
        Endpoint("DELETE", "/pins", "Let go of an image", remove, Done, query=UnpinQuery),
    ]

"""What one route of `/api/v1/` is: who may, what goes in, what comes out. `router` answers by it, `openapi` tells it.

Queries, bodies and results are frozen standard dataclasses; pydantic reads and writes them by their annotations.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from mirror.cache.rights import Principal


@dataclass(frozen=True, slots=True)
class NoQuery:
    """A route without parameters."""


@dataclass(frozen=True, slots=True)
class NoBody:
    """A request without a body."""


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing more to say."""

    ok: bool = True


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, read and checked: `query` and `body` are of the types that its endpoint names.

    `client` is an address, for limits and log lines.
    """

    principal: Principal
    client: str
    query: Any
    body: Any


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one path below `/api/v1`. Whether he may is decided by `rights.ACTIONS` before `answer` is called.

    `result` is the type that `answer` returns. An endpoint with `stream` instead iterates over events of that type (a
    union of dataclasses, each with an `event` that names it); they are sent as JSON lines (application/x-ndjson), one
    at a time. Errors raised are rendered in the one shape of errors; in mid-stream as a last event `error`.
    """

    method: str
    path: str
    summary: str
    answer: Callable[[Asked], Awaitable[Any]] | Callable[[Asked], AsyncIterator[Any]]
    result: Any
    query: type = NoQuery
    body: type = NoBody
    stream: bool = False

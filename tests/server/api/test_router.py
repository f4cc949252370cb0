"""Reading requests, refusing web pages, sending events."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from mirror.cache.rights import Rights
from mirror.errors import NameUnknown
from mirror.server.api.endpoint import Asked, Done, Endpoint
from mirror.server.api.router import Router
from tests.server.calls import Call, Wire

JSON = {"Content-Type": "application/json"}
IMAGES = "/api/v1/images"

CALLS = [
    Call("GET /api/v1/nothing", 404, JSON, "UNSUPPORTED"),
    Call("GET /api/v1/images?limit=x", 400, JSON, "UNSUPPORTED"),
    Call("GET /api/v1/images?limit=1&limit=2", 400, JSON, "UNSUPPORTED"),
    Call("GET /api/v1/images?limt=1", 400, JSON, "UNSUPPORTED"),
    Call("GET /api/v1/images?filter=a%3Db&filter=c%3Dd", 400, JSON),  # both are read: neither is a filter
    Call("DELETE /api/v1/images", 405, {"Allow": "GET, HEAD"}, "UNSUPPORTED"),
    Call("POST /api/v1/pins", 403, JSON, "DENIED"),
    Call(f"GET {IMAGES}", 403, JSON, "DENIED", sent={"Origin": "http://127.0.0.1"}),
    Call(f"GET {IMAGES}", 403, JSON, "DENIED", sent={"Sec-Fetch-Site": "same-origin"}),
    Call(f"GET {IMAGES}", 403, JSON, "DENIED", sent={"Host": "rebound.example"}),
    Call("GET /api/v1/openapi.json", 403, JSON, "DENIED", sent={"Host": "rebound.example"}),
    Call(f"GET {IMAGES}", 200, JSON, sent={"Host": "localhost:5000"}),
    Call(f"GET {IMAGES}", 200, JSON, sent={"Host": "[::1]:5000"}),
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("call", CALLS, ids=str)
async def test_calls(shared_wire: Wire, call: Call) -> None:
    await shared_wire.check(call)


@dataclass(frozen=True, slots=True)
class Event:
    number: int
    event: str = "event"


def rights() -> Rights:
    return Rights(shared=lambda _: False)


async def done(asked: Asked) -> Done:
    del asked
    return Done()


@pytest.mark.parametrize("endpoints", [
    [Endpoint("GET", "/nowhere", "", done, Done)],
    [Endpoint("GET", "/images", "", done, Done), Endpoint("GET", "/images", "", done, Done)],
])  # fmt: skip
def test_a_route_that_nobody_was_allowed_is_no_route(endpoints: list[Endpoint]) -> None:
    with pytest.raises(ValueError, match=r"ACTIONS|twice"):
        Router(endpoints, rights=rights(), names=lambda _: False)


async def replaced(wire: Wire, error: Exception | None, *, events: int) -> list[dict[str, object]]:
    """What a stream of so many events that then ends, or fails so, looks like on the wire."""

    async def tell(asked: Asked) -> AsyncIterator[Event]:
        del asked
        for number in range(events):
            yield Event(number)
        if error is not None:
            raise error

    app = wire.mirror.app
    endpoint = Endpoint("GET", "/images", "", tell, Event, stream=True)
    router = Router([endpoint], rights=rights(), names=lambda _: False)
    for runner in app.listeners._runners:
        server: Any = runner.server
        services = server._handler._services
        object.__setattr__(services, "api", router)
    answer = await wire.mirror.get(IMAGES)
    return [json.loads(line) for line in answer.body.splitlines()]


async def test_events_are_lines(wire: Wire) -> None:
    assert await replaced(wire, None, events=2) == [
        {"number": 0, "event": "event"},
        {"number": 1, "event": "event"},
    ]


async def test_a_failure_before_the_first_event_is_an_error_like_any_other(wire: Wire) -> None:
    (document,) = await replaced(wire, NameUnknown("no such thing"), events=0)
    assert document["errors"] == [{"code": "NAME_UNKNOWN", "message": "no such thing", "detail": {"exit_code": 4}}]


@pytest.mark.parametrize("error", [NameUnknown("no such thing"), ZeroDivisionError("oops")])
async def test_a_failure_in_the_middle_is_told_and_ends_it(wire: Wire, error: Exception) -> None:
    told = await replaced(wire, error, events=1)
    assert [each["event"] for each in told] == ["event", "error", "end"]
    assert told[1]["exit_code"] == (4 if isinstance(error, NameUnknown) else 1)

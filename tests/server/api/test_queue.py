"""`/api/v1/queue`, end to end."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.faults.support import stranger
from tests.operations.pushing import Way, way
from tests.server.calls import Call, Wire
from tests.support.fake_registry.behaviours import status

QUEUE = "/api/v1/queue"
CALLS = [
    Call(f"GET {QUEUE}", 200, {}, json={"pushes": []}),
    Call(f"GET {QUEUE}?limit=0", 400, {}, "UNSUPPORTED"),
    Call(f"GET {QUEUE}?x=1", 400, {}, "UNSUPPORTED"),
    Call(f"POST {QUEUE}", 403, {}, "DENIED"),
    Call(f"DELETE {QUEUE}?all=true", 403, {}, "DENIED"),
    Call(f"PUT {QUEUE}", 405, {"Allow": "DELETE, GET, HEAD, POST"}, "UNSUPPORTED"),
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("call", CALLS, ids=str)
async def test_calls(shared_wire: Wire, call: Call) -> None:
    await shared_wire.check(call)


async def put_in(at: Way, tag: str) -> str:
    """An image that a client pushes into the queue; its digest."""
    image = at.hub.add_image("library/alpine", tag, seed=tag)
    for digest, data in [*image.layers, image.config]:
        assert await at.upload("ghcr.io/me/app", digest, data) == 201
    assert await at.put("ghcr.io/me/app", tag, image.manifest.raw, image.manifest.media_type) == 201
    return image.digest


async def listed(at: Way, count: int, condition: str = "") -> list[dict[str, Any]]:
    """What waits, once there are so many (that have `condition`)."""
    async with asyncio.timeout(20):
        while True:
            found: list[dict[str, Any]] = (await at.api.ask("GET", "/queue"))["pushes"]
            if sum(not condition or bool(each[condition]) for each in found) == count:
                return found
            await asyncio.sleep(0.01)


async def test_a_queue_that_waits_is_tried_again_and_dropped(tmp_path: Path) -> None:
    async with way(tmp_path, ghcr={"push": "queue"}) as at:
        at.ghcr.script("PUT */manifests/*", status(403), times=None)
        first = await put_in(at, "1")
        second = await put_in(at, "2")
        one, two = await listed(at, 2, "refused")
        assert (one["name"], one["digest"], two["digest"]) == ("ghcr.io/me/app:1", first, second)
        assert "ghcr.io" in one["failure"]
        assert len(json.loads((await at.mirror.get(f"{QUEUE}?limit=1")).body)["pushes"]) == 1
        assert (await stranger(at.mirror, QUEUE)).status == 403
        assert (await at.mirror.get(f"{QUEUE}?all=true", "DELETE")).status == 403  # this machine may read
        for query in ("", "?id=1&all=true"):
            assert (await at.api.ask("DELETE", f"/queue{query}"))["status"] == 400
        assert (await at.api.ask("POST", "/queue", {"ids": [-1]}))["status"] == 400
        answer = await at.api.ask("DELETE", f"/queue?id={two['id']}&id=999")
        assert answer == {"count": 1, "unknown": [999]}
        await listed(at, 1)
        at.ghcr.unscript()
        assert await at.api.ask("POST", "/queue", {"ids": [one["id"]]}) == {"count": 1, "unknown": []}
        await listed(at, 0)
        assert at.ghcr.repository("me/app").tags == {"1": first}
        assert await at.api.ask("POST", "/queue", {"all": True}) == {"count": 0, "unknown": []}

"""`/api/v1/tags`: a repository's tags and their history."""

import pytest

from tests.server.api.test_images import fetched, get
from tests.server.calls import Call, Wire
from tests.support.fake_registry.behaviours import status

TAGS = "/api/v1/tags"

CALLS = [
    Call(f"GET {TAGS}", 400, {}, "UNSUPPORTED"),
    Call(f"GET {TAGS}?repository=nobody", 404, {}, "NAME_UNKNOWN"),
    Call(f"GET {TAGS}?repository=quay.io/a/b", 404, {}, "NAME_UNKNOWN"),  # not configured
    Call(f"GET {TAGS}?repository=UPPER", 400, {}, "NAME_INVALID"),
    Call(f"GET {TAGS}?repository=alpine&match=%5B", 400, {}, "UNSUPPORTED"),
    Call(f"GET {TAGS}?repository=alpine&limit=0", 400, {}, "UNSUPPORTED"),
    Call(f"GET {TAGS}?repository=alpine&cursor=%25", 400, {}, "UNSUPPORTED"),
    Call(f"GET {TAGS}?repository=nobody&history=true", 404, {}, "NAME_UNKNOWN"),
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("call", CALLS, ids=str)
async def test_calls(shared_wire: Wire, call: Call) -> None:
    await shared_wire.check(call)


async def test_upstreams_and_held_ones(wire: Wire) -> None:
    await fetched(wire)
    wire.content.hub.repository("library/alpine").tags["edge"] = wire.content.image.digest
    found = await get(wire, "/tags?repository=alpine")
    assert [(tag["name"], tag["cached"], tag["digest"]) for tag in found["tags"]] == [
        ("3", True, wire.content.image.digest),
        ("edge", False, None),
        ("index", True, wire.content.index.digest),
    ]
    assert found["tags"][0]["platforms"] == ["linux/amd64"]
    page = await get(wire, "/tags?repository=alpine&limit=1&match=e*")
    assert ([tag["name"] for tag in page["tags"]], page["next"]) == (["edge"], None)


async def test_history(wire: Wire) -> None:
    await fetched(wire)
    found = await get(wire, "/tags?repository=alpine&history=true")
    assert {move["name"]: move["digest"] for move in found["history"]} == {
        "3": wire.content.image.digest, "index": wire.content.index.digest,
    }  # fmt: skip
    assert (found["tags"], found["next"]) == ([], None)


async def test_a_registry_that_does_not_answer(wire: Wire) -> None:
    await fetched(wire)
    wire.content.hub.script("*", status(503), times=None)
    found = await get(wire, "/tags?repository=alpine")
    assert [tag["name"] for tag in found["tags"]] == ["3", "index"]
    assert "only what is held here is listed" in found["warning"]
    assert (await wire.ask(f"GET {TAGS}?repository=nobody")).status == 503

"""`/api/v1/image`: by name, by ID, by platform."""

import json

import pytest

from tests.server.api.test_images import fetched, get
from tests.server.calls import NOWHERE, Call, Wire

IMAGE = "/api/v1/image"

CALLS = [
    Call(f"GET {IMAGE}", 400, {}, "UNSUPPORTED"),
    Call(f"GET {IMAGE}?ref=nobody", 404, {}, "MANIFEST_UNKNOWN"),
    Call(f"GET {IMAGE}?ref=", 404, {}, "MANIFEST_UNKNOWN"),
    Call(f"GET {IMAGE}?ref={NOWHERE}", 404, {}, "MANIFEST_UNKNOWN"),
    Call(f"GET {IMAGE}?ref=a&ref=b", 400, {}, "UNSUPPORTED"),
    Call(f"GET {IMAGE}?ref=a&platform=a%20b", 400, {}, "UNSUPPORTED"),
    Call(f"GET {IMAGE}?ref=a", 403, {}, "DENIED", sent={"X-Real-IP": "192.0.2.1"}),
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("call", CALLS, ids=str)
async def test_calls(shared_wire: Wire, call: Call) -> None:
    await shared_wire.check(call)


async def test_everything_about_it(wire: Wire) -> None:
    await fetched(wire)
    image = wire.content.image
    found = await get(wire, f"/image?ref={image.config[0][7:19]}")
    assert set((await get(wire, "/images"))["images"][0]) < set(found)
    assert (found["digest"], found["id"]) == (image.digest, image.config[0])
    assert found["manifest"] == json.loads(image.manifest.raw)
    assert found["config"] == json.loads(image.config[1])
    assert [layer["held"] for layer in found["layers"]] == [True, False]
    assert found["tags"] == ["docker.io/library/alpine:3", "docker.io/library/alpine:index"]
    assert (found["children"], found["pins"]) == ([], [])


async def test_an_index(wire: Wire) -> None:
    await fetched(wire)
    found = await get(wire, "/image?ref=alpine:index")
    assert found["digest"] == wire.content.index.digest
    assert [each["digest"] for each in found["children"]] == [wire.content.image.digest]
    child = await get(wire, "/image?ref=alpine:index&platform=linux/amd64")
    assert (child["digest"], child["children"]) == (wire.content.image.digest, [])


async def test_the_refusal_has_dockers_sentence_and_the_exit_code(wire: Wire) -> None:
    answer = await wire.ask(f"GET {IMAGE}?ref=nobody")
    assert (answer.error["message"], answer.error["detail"]["exit_code"]) == ("No such image: nobody:latest", 4)

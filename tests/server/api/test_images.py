"""`/api/v1/images`: the table on the wire, and a whole list as the command line reads it."""

import json
from typing import Any

import pytest

from tests.server.calls import Call, Wire

IMAGES = "/api/v1/images"
PULLED = (
    "GET /v2/library/alpine/manifests/3?ns=docker.io",
    "GET /v2/library/alpine/manifests/index?ns=docker.io",
    "GET /v2/team/tool/manifests/1?ns=ghcr.io",
)

CALLS = [
    Call(f"GET {IMAGES}", 200, {"Content-Type": "application/json", "Cache-Control": "no-store"}),
    Call(f"HEAD {IMAGES}", 200, {}, b""),
    Call(f"GET {IMAGES}?limit=1&filter=label%3Da&filter=dangling%3Dtrue&dangling=false&repository=x", 200),
    Call(f"GET {IMAGES}?limit=0", 400, {}, "UNSUPPORTED"),
    Call(f"GET {IMAGES}?limit=10001", 400, {}, "UNSUPPORTED"),
    Call(f"GET {IMAGES}?cursor=nonsense", 400, {}, "UNSUPPORTED"),
    Call(f"GET {IMAGES}?colour=red", 400, {}, "UNSUPPORTED"),
    Call(f"GET {IMAGES}?filter=colour%3Dred", 400, {}, "UNSUPPORTED"),
    Call(f"GET {IMAGES}?dangling=perhaps", 400, {}, "UNSUPPORTED"),
    Call(f"GET {IMAGES}?filter=before%3Dnobody", 404, {}, "MANIFEST_UNKNOWN"),
    Call(f"GET {IMAGES}", 403, {}, "DENIED", sent={"Origin": "null"}),
    Call(f"POST {IMAGES}", 405, {"Allow": "GET, HEAD"}, "UNSUPPORTED"),
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("call", CALLS, ids=str)
async def test_calls(shared_wire: Wire, call: Call) -> None:
    await shared_wire.check(call)


async def fetched(wire: Wire) -> None:
    """Three tags, and one image's config and first layer."""
    image = wire.content.image
    for request in (*PULLED, *(f"GET /v2/library/alpine/blobs/{each}?ns=docker.io" for each in (
        image.config[0], image.layers[0][0],
    ))):  # fmt: skip
        assert (await wire.ask(request)).status == 200
    await wire.mirror.idle()


async def get(wire: Wire, path: str) -> dict[str, Any]:
    answer = await wire.ask(f"GET /api/v1{path}")
    assert answer.status == 200, answer.body
    loaded: dict[str, Any] = json.loads(answer.body)
    return loaded


async def test_what_was_pulled_is_listed(wire: Wire) -> None:
    await fetched(wire)
    image = wire.content.image
    page = await get(wire, "/images")
    assert set(page) == {"images", "next", "totals"}
    first = page["images"][0]
    assert {key: first[key] for key in ("name", "repository", "tag", "digest", "id", "complete", "pinned", "gone")} == {
        "name": "alpine", "repository": "docker.io/library/alpine", "tag": "3", "digest": image.digest,
        "id": image.config[0], "complete": False, "pinned": False, "gone": False,
    }  # fmt: skip
    held = len(image.manifest.raw) + len(image.config[1]) + len(image.layers[0][1])
    assert (first["size"], first["unique"], first["created"], first["origin"]) == (held, 0, None, "upstream")
    assert first["platforms"] == [
        {
            "platform": "linux/amd64", "digest": image.digest, "id": image.config[0], "size": held, "held": True,
            "attestation": False,
        }
    ]  # fmt: skip
    assert [f"{each['name']}:{each['tag']}" for each in page["images"]] == [
        "alpine:3", "alpine:index", "ghcr.io/team/tool:1",
    ]  # fmt: skip
    assert page["next"] is None
    assert page["totals"]["images"] == 3


async def test_page_by_page(wire: Wire) -> None:
    await fetched(wire)
    names, cursor = [], ""
    while True:
        page = await get(wire, f"/images?limit=1{cursor}")
        names += [each["tag"] for each in page["images"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert names == ["3", "index", "1"]

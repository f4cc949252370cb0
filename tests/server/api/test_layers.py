"""`/api/v1/layers`."""

from tests.server.api.test_images import fetched, get
from tests.server.calls import Wire


async def test_layers_and_who_shares_them(wire: Wire) -> None:
    await fetched(wire)
    found = await get(wire, "/layers?ref=alpine:3")
    assert set(found) == {"layers"}
    assert [layer["digest"] for layer in found["layers"]] == [digest for digest, _ in wire.content.image.layers]
    assert found["layers"][0]["shared_with"] == ["docker.io/library/alpine:index"]
    assert set(found["layers"][0]) == {"digest", "size", "media_type", "held", "shared_with"}


async def test_no_such_image(wire: Wire) -> None:
    assert (await wire.ask("GET /api/v1/layers?ref=nobody")).status == 404
    assert (await wire.ask("GET /api/v1/layers")).status == 400

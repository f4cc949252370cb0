"""Names and removal over the wire: what the tests of `tag` and `remove` share."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.operations.streams import Asking, asking
from tests.support.fake_registry import FakeRegistry
from tests.support.fake_registry.content import FakeImage
from tests.support.mirror import Reply, Running, mirror_in_process


class Shop:
    """A mirror with library/alpine:3.20 pulled into it by a client, and the API on its socket."""

    def __init__(self, hub: FakeRegistry, mirror: Running, api: Asking, image: FakeImage) -> None:
        self.hub = hub
        self.mirror = mirror
        self.api = api
        self.image = image

    async def get(self, path: str, **headers: str) -> Reply:
        return await self.mirror.get(path, **headers)

    async def tag(self, source: str, target: str) -> dict[str, Any]:
        """The answer; a refusal as `{"status", "errors"}`."""
        (answer,) = await self.api.all("/tag", source=source, target=target)
        return answer

    async def remove(self, *references: str, **more: Any) -> list[dict[str, Any]]:
        return await self.api.all("/remove", references=list(references), **more)

    async def pull(self, path: str, image: FakeImage, tag: str) -> None:
        """As a client does: the manifest by its tag, then every blob."""
        reply = await self.get(f"/v2/{path}/manifests/{tag}")
        assert (reply.status, reply.body) == (200, image.manifest.raw)
        for digest, data in (image.config, *image.layers):
            reply = await self.get(f"/v2/{path}/blobs/{digest}")
            assert (reply.status, reply.body) == (200, data)
        await self.mirror.idle()


@asynccontextmanager
async def shop(tmp_path: Path, **more: Any) -> AsyncIterator[Shop]:
    """A fresh one on a fresh registry; `more` are settings."""
    async with FakeRegistry() as hub, shop_at(tmp_path, hub, **more) as made:
        yield made


@asynccontextmanager
async def shop_at(tmp_path: Path, hub: FakeRegistry, **more: Any) -> AsyncIterator[Shop]:
    """One before this registry; as often as wanted, on the same data."""
    image = hub.add_image("library/alpine", "3.20")
    async with mirror_in_process(tmp_path / "data", {"docker.io": hub.url}, **more) as mirror, asking(mirror) as api:
        made = Shop(hub, mirror, api, image)
        await made.pull("library/alpine", image, "3.20")
        yield made

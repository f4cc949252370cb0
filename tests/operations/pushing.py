"""What the tests of `push` and `queue` share: a mirror before a registry to pull from and one to push to."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt

from tests.operations.streams import Asking, Row, asking, one
from tests.server.test_authentication import basic
from tests.support.fake_registry import FakeRegistry, Request
from tests.support.mirror import Running, mirror_in_process

GHCR = "ghcr.io"
BLOBS = "*/blobs/sha256*"
UPLOADS = "*/blobs/uploads/*"


@dataclass(slots=True)
class Way:
    """From `hub` (docker.io) over `mirror` to `ghcr` (ghcr.io)."""

    hub: FakeRegistry
    ghcr: FakeRegistry
    mirror: Running
    api: Asking

    async def push(self, *references: str, **more: Any) -> list[Row]:
        return await self.api.all("/push", references=list(references), **more)

    async def pull(self, *references: str, **more: Any) -> None:
        for event in await self.api.pull(*references, **more):
            assert event["event"] != "error", event

    async def tag(self, source: str, target: str) -> None:
        answer = await self.api.ask("POST", "/tag", {"source": source, "target": target})
        assert "errors" not in answer, answer

    async def pushed(self, *references: str, **more: Any) -> Row:
        """The one `pushed` event."""
        return one(await self.push(*references, **more), "pushed")

    async def failed(self, *references: str, **more: Any) -> Row:
        """The one `error` event; nothing was uploaded."""
        before = self.ghcr.received()
        events = await self.push(*references, **more)
        assert self.ghcr.received() == before
        return one(events, "error")

    async def put(self, path: str, tag: str, manifest: Mapping[str, Any] | bytes, kind: str) -> int:
        """A manifest pushed to the mirror by a client; the status."""
        raw = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
        url = f"{self.mirror.url}/v2/{path}/manifests/{tag}"
        async with self.mirror.session.put(url, data=raw, headers={"Content-Type": kind}) as answer:
            return answer.status

    async def upload(self, path: str, digest: str, data: bytes) -> int:
        """A blob pushed to the mirror by a client, in one request; the status."""
        url = f"{self.mirror.url}/v2/{path}/blobs/uploads/?digest={digest}"
        async with self.mirror.session.post(url, data=data) as answer:
            return answer.status


@asynccontextmanager
async def way(
    tmp_path: Path,
    *,
    hub: Mapping[str, object] | None = None,
    ghcr: Mapping[str, object] | None = None,
    registries: tuple[FakeRegistry, FakeRegistry] | None = None,
    **more: Any,
) -> AsyncIterator[Way]:
    """`hub` and `ghcr` add to these registries' settings, `more` to all of them."""
    first, second = registries or (FakeRegistry(), FakeRegistry())
    async with first, second:
        sections = {"docker.io": {"url": first.url, **(hub or {})}, GHCR: {"url": second.url, **(ghcr or {})}}
        async with mirror_in_process(tmp_path / "data", sections, **more) as mirror, asking(mirror) as api:
            yield Way(first, second, mirror, api)


def is_large(request: Request) -> bool:
    """A large layer's upload, rather than a config's."""
    return request.method == "PATCH" and int(request.headers.get("Content-Length", "0")) > 1 << 20


def with_ci(folder: Path) -> dict[str, Any]:
    """Settings for a user who may pull and push ghcr.io/me/*, and may push nowhere else."""
    (folder / "htpasswd").write_text(f"ci:{bcrypt.hashpw(b'p-ci', bcrypt.gensalt(4)).decode()}\n")
    rules = [{"users": ["ci"], "repositories": ["ghcr.io/me/**"], "allow": ["pull", "push"]}]
    return {"htpasswd": str(folder / "htpasswd"), "rules": rules}


async def push_as_ci(at: Way, reference: str, to: str) -> list[Row]:
    """The events of a push by that user, from another machine."""
    async with at.mirror.session.post(
        f"{at.mirror.url}/api/v1/push",
        json={"references": [reference], "to": to},
        headers={"Via": "1.1 proxy", "Authorization": basic("ci:p-ci")},
    ) as answer:
        assert answer.status == 200, await answer.text()
        return [json.loads(line) for line in (await answer.read()).splitlines()]

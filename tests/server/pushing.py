"""A client that pushes, byte by byte, to a mirror that can be stopped and started again in between."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import bcrypt

from mirror.oci.manifest import OCI_CONFIG, OCI_LAYER_GZIP
from tests.server.calls import OCI_INDEX, OCI_MANIFEST, Answer, Content, Raw, Wire, exchange, head
from tests.server.test_authentication import basic
from tests.support.fake_registry import FakeRegistry
from tests.support.mirror import mirror_in_process

NAME = "team/app"
STRANGER = {"Via": "1.1 proxy"}
"""A sign of a proxy: who sends it is not this machine, as far as the mirror can tell."""
CODES = frozenset({
    "BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID", "MANIFEST_UNKNOWN", "NAME_INVALID", "NAME_UNKNOWN", "SIZE_INVALID", "UNAUTHORIZED", "DENIED",
    "UNSUPPORTED", "TOOMANYREQUESTS",
})  # fmt: skip
"""distribution-spec, "Error Codes"."""
RULES = [
    {"users": ["writer", "other"], "repositories": ["team/app", "team/other"], "allow": ["pull", "push"]},
    {"users": ["keeper"], "repositories": ["team/*"], "allow": ["pull", "push", "delete"]},
    {"users": ["reader"], "repositories": ["docker.io/team/*", "team/**"], "allow": ["pull", "push"]},
]
"""What users may do who stand in `htpasswd`."""
CONFIG = b'{"architecture":"amd64","os":"linux"}'


def htpasswd(folder: Path) -> str:
    """A file with these users; `plain` has no rule. The password of `x` is `p-x`."""
    file = folder / "htpasswd"
    names = ("writer", "other", "keeper", "reader", "plain")
    lines = [f"{name}:{bcrypt.hashpw(f'p-{name}'.encode(), bcrypt.gensalt(4)).decode()}" for name in names]
    file.write_text("\n".join(lines) + "\n")
    return str(file)


def user(name: str) -> dict[str, Any]:
    """The headers of one of these users, who comes from elsewhere."""
    return {**STRANGER, "Authorization": basic(f"{name}:p-{name}")}


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    """The digest of these bytes."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def descriptor(data: bytes, media_type: str = OCI_LAYER_GZIP, algorithm: str = "sha256") -> dict[str, Any]:
    """What a manifest says of these bytes."""
    return {"mediaType": media_type, "digest": digest_of(data, algorithm), "size": len(data)}


def image(*layers: bytes | dict[str, Any], config: bytes = CONFIG, **more: Any) -> bytes:
    """An image manifest; `more` are members of its own."""
    body = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(config, OCI_CONFIG),
        "layers": [descriptor(layer) if isinstance(layer, bytes) else layer for layer in layers],
        **more,
    }
    return json.dumps(body).encode()


def index(*children: bytes | dict[str, Any], **more: Any) -> bytes:
    """An index of manifests."""
    listed = [descriptor(child, OCI_MANIFEST) if isinstance(child, bytes) else child for child in children]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed, **more}).encode()


def chunked(*parts: bytes) -> bytes:
    """A body in chunks (RFC 9112, 7.1)."""
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))


class Scene:
    """A mirror of docker.io (the default) and ghcr.io, and its clients."""

    def __init__(self, data: Path, hub: FakeRegistry, other: FakeRegistry, settings: Mapping[str, Any]) -> None:
        self.data = data
        self.hub = hub
        self.other = other
        self.settings = dict(settings)
        self.sections: dict[str, dict[str, object]] = {"docker.io": {"url": hub.url}, "ghcr.io": {"url": other.url}}
        self.content = Content(hub, other)
        self._stack = AsyncExitStack()
        self._wire: Wire | None = None

    @property
    def wire(self) -> Wire:
        assert self._wire is not None
        return self._wire

    async def start(self) -> None:
        mirror = await self._stack.enter_async_context(mirror_in_process(self.data, self.sections, **self.settings))
        self._wire = Wire(mirror, self.content)

    async def stop(self) -> None:
        stack, self._stack, self._wire = self._stack, AsyncExitStack(), None
        await stack.aclose()

    async def restart(self) -> None:
        """A new process, as far as anything but the disk is concerned."""
        await self.stop()
        await self.start()

    # --- requests --------------------------------------------------------------------------------------------

    async def ask(self, request: str, body: bytes | None = None, **sent: str) -> Answer:
        """One request over TCP; underscores in header names stand for dashes. Every refusal has a specified code."""
        answer = await self.wire.send(request, {name.replace("_", "-"): value for name, value in sent.items()}, body)
        if 400 <= answer.status < 500 and answer.body:
            assert answer.code in CODES
        if answer.status == 429:
            assert answer.headers["Retry-After"]
        return answer

    async def on_socket(self, request: str, body: bytes | None = None, **sent: str) -> Answer:
        """The same over the mirror's own socket."""
        method, _, target = self.content.filled(request).partition(" ")
        path = str(self.wire.mirror.app.listeners.socket)
        reader, writer = await asyncio.open_unix_connection(path)
        headers = {"Host": "localhost", "Content-Length": str(len(body or b"")), **sent}
        writer.write(head(method, target, {k.replace("_", "-"): v for k, v in headers.items()}) + (body or b""))
        try:
            return await Raw(reader, writer).answer(method)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def log_in(self, request: str, body: bytes | None = None, **sent: str) -> Answer:
        """The same at the address to log in at."""
        method, _, target = self.content.filled(request).partition(" ")
        host, port = self.wire.mirror.app.login_addresses[0]
        headers = {"Host": f"{host}:{port}", **{name.replace("_", "-"): value for name, value in sent.items()}}
        return await exchange(host, port, method, target, headers, body)

    # --- a push ----------------------------------------------------------------------------------------------

    async def begin(self, name: str = NAME, query: str = "", **sent: str) -> str:
        """Where an upload goes on."""
        answer = await self.ask(f"POST /v2/{name}/blobs/uploads/{query}", b"", **sent)
        assert answer.status == 202, answer
        return answer.headers["Location"]

    async def patch(self, location: str, data: bytes, start: int | None = None, **sent: str) -> Answer:
        """Send a chunk, from `start` on where that is to be said."""
        if start is not None:
            sent = {"Content_Range": f"{start}-{start + len(data) - 1}", **sent}
        return await self.ask(f"PATCH {location}", data, **sent)

    async def put(self, location: str, digest: str, data: bytes = b"", **sent: str) -> Answer:
        """Close an upload."""
        joint = "&" if "?" in location else "?"
        return await self.ask(f"PUT {location}{joint}digest={digest}", data, **sent)

    async def blob(self, data: bytes, name: str = NAME, algorithm: str = "sha256", **sent: str) -> str:
        """Push a blob, and return its digest."""
        query = "" if algorithm == "sha256" else f"?digest-algorithm={algorithm}"
        digest = digest_of(data, algorithm)
        answer = await self.put(await self.begin(name, query, **sent), digest, data, **sent)
        assert answer.status == 201, answer
        return digest

    async def manifest(
        self, raw: bytes, reference: str | None = None, name: str = NAME, media_type: str | None = None, **sent: str
    ) -> Answer:
        """PUT a manifest, under its digest where no reference is given."""
        kind = media_type or json.loads(raw)["mediaType"]
        return await self.ask(
            f"PUT /v2/{name}/manifests/{reference or digest_of(raw)}", raw, **{"Content_Type": kind, **sent}
        )

    async def image(self, tag: str, *layers: bytes, name: str = NAME, **sent: str) -> bytes:
        """Push a whole image, and return its manifest."""
        for data in (CONFIG, *layers):
            await self.blob(data, name, **sent)
        raw = image(*layers)
        answer = await self.manifest(raw, tag, name, **sent)
        assert answer.status == 201, answer
        return raw

    # --- what is there ---------------------------------------------------------------------------------------

    async def got(self, path: str, **sent: Any) -> bytes | int:
        """The body of what a GET finds, else the status."""
        answer = await self.ask(f"GET /v2/{path}", **sent)
        return answer.body if answer.status == 200 else answer.status

    async def offset(self, location: str) -> str:
        """The `Range` of an upload under way."""
        answer = await self.ask(f"GET {location}")
        assert (answer.status, answer.body) == (204, b"")
        return answer.headers["Range"]

    async def tags(self, name: str = NAME, query: str = "") -> Sequence[str]:
        """The tags that a repository lists."""
        answer = await self.ask(f"GET /v2/{name}/tags/list{query}")
        assert answer.status == 200, answer
        listed: list[str] = json.loads(answer.body)["tags"]
        return listed

    async def referrers(self, digest: str, query: str = "", name: str = NAME) -> list[dict[str, Any]]:
        """What a subject's referrers list says."""
        answer = await self.ask(f"GET /v2/{name}/referrers/{digest}{query}")
        assert (answer.status, answer.headers["Content-Type"]) == (200, OCI_INDEX)
        listed: list[dict[str, Any]] = json.loads(answer.body)["manifests"]
        return listed


@asynccontextmanager
async def scene(
    data: Path, sections: Mapping[str, Mapping[str, object]] | None = None, **settings: Any
) -> AsyncIterator[Scene]:
    """A mirror that runs. `sections` adds to the settings of its registries."""
    async with FakeRegistry() as hub, FakeRegistry() as other:
        made = Scene(data, hub, other, settings)
        for registry, more in (sections or {}).items():
            made.sections[registry] |= more
        await made.start()
        try:
            yield made
        finally:
            await made.stop()

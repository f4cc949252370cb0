"""`GET` and `HEAD` of a manifest, by tag and by digest (OCI distribution-spec, end-3).

The bytes and the type are those that were stored, whatever the client accepts. A HEAD is answered only where a GET
would be: a tag that resolves to what cannot be delivered is a retry loop.
"""

from aiohttp import web

from mirror.cache.content import Cache
from mirror.cache.manifests import Answer, Manifests
from mirror.cache.rights import Principal
from mirror.cache.tags import Tags
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.server.call import Call, warning
from mirror.server.http import Prepared

PREPARED_LIMIT = 64 * 1024  # a larger manifest is written with the client's pace in mind


class ManifestHandler:
    """Manifests over HTTP."""

    def __init__(self, manifests: Manifests, tags: Tags) -> None:
        self._manifests = manifests
        self._tags = tags

    def remembered(self, principal: Principal, repository: Repository, reference: str | Digest) -> Answer | None:
        """What can be answered without waiting for anything."""
        if isinstance(reference, str):
            return self._tags.remembered(principal, repository, reference)
        return self._manifests.remembered(principal, repository, reference)

    async def find(self, principal: Principal, repository: Repository, reference: str | Digest) -> Answer:
        """The manifest, wherever it is. Raises `ManifestUnknown`, or why there is no answer."""
        if isinstance(reference, str):
            return await self._tags.by_tag(principal, repository, reference)
        return await self._manifests.by_digest(principal, repository, reference)

    def answer(self, call: Call, repository: Repository, found: Answer) -> web.StreamResponse:
        """The response: prepared once per manifest where nothing about it is out of the ordinary."""
        raw = found.kept.manifest.raw
        ordinary = found.cache is Cache.HIT and found.warning is None and len(raw) <= PREPARED_LIMIT
        if ordinary and "If-None-Match" not in call.request.headers and Prepared.suits(call.request):
            key = f"{call.request.method}{call.ns}"
            data = found.kept.rendered.get(key)
            if not isinstance(data, tuple):
                data = found.kept.rendered[key] = _render(call, repository, found)
            return Prepared(data[0], data[1])
        return _respond(call, repository, found)


def _headers(call: Call, repository: Repository, found: Answer) -> dict[str, str]:
    descriptor = found.kept.manifest.descriptor
    return {
        **call.headers(repository),
        "Content-Type": descriptor.media_type,
        "Content-Length": str(descriptor.size),
        "Docker-Content-Digest": str(descriptor.digest),
        "ETag": f'"{descriptor.digest}"',
        "Mirror-Cache": str(found.cache),
    }


def _respond(call: Call, repository: Repository, found: Answer) -> web.Response:
    headers = _headers(call, repository, found)
    if found.warning is not None:
        headers["Warning"] = warning(found.warning)
    if call.matches(str(found.kept.manifest.descriptor.digest)):
        del headers["Content-Length"], headers["Content-Type"]
        return web.Response(status=304, headers=headers)
    return web.Response(headers=headers, body=None if call.head else found.kept.manifest.raw)


def _render(call: Call, repository: Repository, found: Answer) -> tuple[bytes, bytes]:
    """The head of the response up to its date, and the body."""
    lines = ["HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in _headers(call, repository, found).items())]
    body = b"" if call.head else found.kept.manifest.raw
    return "\r\n".join(lines).encode() + b"\r\nDate: ", body

"""`GET` and `HEAD` of a manifest, by tag and by digest (OCI distribution-spec, end-3).

The bytes and the type are those that were stored, whatever the client accepts. A HEAD is answered only where a GET
would be: a tag that resolves to what cannot be delivered is a retry loop.
"""

from aiohttp import web
from multidict import CIMultiDict

from mirror.cache.content import Cache
from mirror.cache.manifests import Answer, Manifests
from mirror.cache.rights import Principal
from mirror.cache.tags import Tags
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.server.call import Call, registry_headers, warning
from mirror.server.http import Prepared

_HIT = Cache.HIT  # before Python 3.12, an enum's member takes long to reach through its class
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
        """The response."""
        headers = _headers(repository, found, ns=call.ns)
        if found.warning is not None:
            headers["Warning"] = warning(found.warning)
        if call.matches(str(found.kept.manifest.descriptor.digest)):
            del headers["Content-Length"], headers["Content-Type"]
            return web.Response(status=304, headers=headers)
        return web.Response(headers=headers, body=None if call.head else found.kept.manifest.raw)

    def prepared(self, found: Answer, method: str, repository: Repository, *, ns: bool) -> Prepared | None:
        """The same answer as bytes, made once per manifest; None where something about it is out of the ordinary."""
        if found.cache is not _HIT or found.warning is not None:
            return None
        key = f"{method}{ns}"
        ready = found.kept.rendered.get(key)
        if isinstance(ready, Prepared):
            return ready
        raw = found.kept.manifest.raw
        if len(raw) > PREPARED_LIMIT:
            return None
        headers = _headers(repository, found, ns=ns)
        lines = ["HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in headers.items()), "Date: "]
        prepared = Prepared("\r\n".join(lines).encode(), b"" if method == "HEAD" else raw)
        found.kept.rendered[key] = prepared
        return prepared


def _headers(repository: Repository, found: Answer, *, ns: bool) -> CIMultiDict[str]:
    descriptor = found.kept.manifest.descriptor
    headers = registry_headers(repository if ns else None)
    headers["Content-Type"] = descriptor.media_type
    headers["Content-Length"] = str(descriptor.size)
    headers["Docker-Content-Digest"] = str(descriptor.digest)
    headers["ETag"] = f'"{descriptor.digest}"'
    headers["Mirror-Cache"] = str(found.cache)
    return headers

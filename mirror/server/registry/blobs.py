"""`GET` and `HEAD` of a blob (OCI distribution-spec, end-2; ranges: RFC 9110, section 14)."""

from aiohttp import web
from multidict import CIMultiDict

from mirror.cache.content import Cache, Content
from mirror.cache.traffic import Traffic
from mirror.errors import RequestInvalid
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.oci.ranges import content_range, parse_ranges
from mirror.server.call import Call
from mirror.server.pull_log import PullLog
from mirror.server.send import Sent, send


class BlobHandler:
    """Blobs over HTTP."""

    def __init__(self, content: Content, pulls: PullLog, traffic: Traffic) -> None:
        self._content = content
        self._pulls = pulls
        self._traffic = traffic

    async def head(self, call: Call, repository: Repository, digest: Digest) -> tuple[web.Response, Cache]:
        """Downloads nothing."""
        size, cache = await self._content.stat(call.principal, repository, digest)
        headers = _headers(call, repository, digest, cache)
        if call.matches(str(digest)):
            return web.Response(status=304, headers=headers), cache
        if size is not None:
            headers["Content-Length"] = str(size)
        return web.Response(headers=headers), cache

    async def get(self, call: Call, repository: Repository, digest: Digest) -> tuple[web.StreamResponse, Cache, int]:
        """The bytes, or a range of them. Sent when this returns."""
        async with self._content.open(call.principal, repository, digest, call.client) as blob:
            headers = _headers(call, repository, digest, blob.cache)
            if call.matches(str(digest)):
                return web.Response(status=304, headers=headers), blob.cache, 0
            response, start, end = _response(call, headers, blob.size)
            pull = self._pulls.begin(call.client, repository, blob.cache)
            sent = Sent()
            try:
                async with blob.reader(repository, start, end) as reader:
                    at_rest = blob.cache is Cache.HIT
                    await send(response, call.request, reader, start, end, at_rest=at_rest, sent=sent)
            finally:
                cut = sent.count < end - start
                self._pulls.end(pull, blob.cache, sent.count, joined=blob.joined, cut=cut)
                self._traffic.served[repository.registry] += sent.count
            return response, blob.cache, sent.count


def _response(call: Call, headers: CIMultiDict[str], size: int) -> tuple[web.StreamResponse, int, int]:
    """The whole blob, or the one range that was asked for. Several: 400, which makes lazy pullers ask for fewer."""
    ranges = parse_ranges(_applicable_range(call, headers["ETag"]), size)
    if len(ranges) > 1:
        raise RequestInvalid("this mirror answers one range per request", detail={"ranges": len(ranges)})
    if not ranges:
        headers["Content-Length"] = str(size)
        return web.StreamResponse(status=200, headers=headers), 0, size
    wanted = ranges[0]
    headers["Content-Range"] = content_range(wanted, size)
    headers["Content-Length"] = str(wanted.length)
    return web.StreamResponse(status=206, headers=headers), wanted.start, wanted.end


def _applicable_range(call: Call, etag: str) -> str | None:
    """RFC 9110, 13.1.5: with an `If-Range` that is not this very content, the range is ignored."""
    if_range = call.request.headers.get("If-Range")
    return call.request.headers.get("Range") if if_range in (None, etag) else None


def _headers(call: Call, repository: Repository, digest: Digest, cache: Cache) -> CIMultiDict[str]:
    headers = call.headers(repository)
    headers["Content-Type"] = "application/octet-stream"
    headers["Docker-Content-Digest"] = str(digest)
    headers["ETag"] = f'"{digest}"'
    headers["Accept-Ranges"] = "bytes"
    headers["Mirror-Cache"] = str(cache)
    return headers

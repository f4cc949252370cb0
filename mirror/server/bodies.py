"""Bodies that clients send: read as they come, within limits of size and of silence."""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from mirror.errors import BlobUploadInvalid, ManifestTooLarge, SizeInvalid

SILENCE = 120.0  # seconds for which a client may send nothing of a body that it has announced
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_TOLD = web.RequestKey("told to go on", bool)


def length(request: web.BaseRequest) -> int | None:
    """The body's length in bytes as the request announces it; None where it is sent in chunks."""
    return request.content_length if request.body_exists or request.content_length else 0


def go_on(request: web.BaseRequest) -> None:
    """Tell a client that waits for it that its body is welcome (RFC 9110, 10.1.1)."""
    if _waits(request) and request.transport is not None:
        request[_TOLD] = True
        request.transport.write(_CONTINUE)


def in_doubt(request: web.BaseRequest) -> bool:
    """Whether the client waits to be told to send its body, and was not. It may send it all the same: what comes next
    on this connection is a body or a request, and nobody can say which."""
    return request.body_exists and _waits(request) and _TOLD not in request


def _waits(request: web.BaseRequest) -> bool:
    return request.headers.get("Expect", "").lower() == "100-continue"


async def chunks(request: web.BaseRequest) -> AsyncIterator[bytes]:
    """The body, as it comes. Raises `BlobUploadInvalid` where the client falls silent, `SizeInvalid` where it ends
    early."""
    go_on(request)
    content = request.content
    while not content.at_eof():
        try:
            async with asyncio.timeout(SILENCE):
                chunk = await content.readany()
        except TimeoutError:
            raise BlobUploadInvalid(f"nothing came for {SILENCE:.0f} s, and the body was not at its end") from None
        except web.RequestPayloadError:
            raise SizeInvalid("the body ended early") from None
        if chunk:
            yield chunk


async def whole(request: web.BaseRequest, limit: int) -> bytes:
    """The whole body. Raises `ManifestTooLarge` beyond `limit` bytes, and as `chunks`."""
    too_large = ManifestTooLarge(f"the body is larger than {limit} bytes")
    if (length(request) or 0) > limit:
        raise too_large
    body = bytearray()
    async for chunk in chunks(request):
        body += chunk
        if len(body) > limit:
            raise too_large
    return bytes(body)

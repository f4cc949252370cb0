"""Small bodies: read whole with a cap, or read away so that the connection can be used again."""

import contextlib

from mirror.errors import UpstreamInvalid
from mirror.upstream.translate import FAILURES, translate
from mirror.upstream.transport import Response

_DRAINED = 1 << 16


async def read_capped(response: Response, limit: int, *, registry: str, what: str) -> bytes:
    """The whole body, of `limit` bytes at most. Raises `UpstreamInvalid` beyond, `UpstreamUnreachable` if it breaks.

    The response is closed in any case.
    """
    try:
        if (response.content_length or 0) <= limit:
            body = bytearray()
            while chunk := await response.content.readany():
                body += chunk
                if len(body) > limit:
                    break
            else:
                return bytes(body)
    except FAILURES as error:
        raise translate(error, registry=registry, url=response.url) from None
    finally:
        finish(response)
    raise UpstreamInvalid(f"{registry}: its {what} is larger than {limit} bytes", registry=registry)


async def drain(response: Response) -> None:
    """Be done with an answer whose body does not matter. Never raises."""
    try:
        with contextlib.suppress(*FAILURES):
            if response.method != "HEAD" and (response.content_length or 0) <= _DRAINED:
                left = _DRAINED
                while left > 0 and (chunk := await response.content.readany()):
                    left -= len(chunk)
    finally:
        finish(response)


def finish(response: Response) -> None:
    """Give the connection back if the body was read to its end, else close it."""
    if response.content.at_eof():
        response.release()
    else:
        response.close()

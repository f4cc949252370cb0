"""One loop that sends hot, cold and remote blobs alike.

Bytes at rest go by `sendfile` and never pass through Python. Follows aiofastnet's `Transport.sendfile`; asyncio's own
`loop.sendfile` moves the offset of the file it is given, so only a transport that has its own is used.

The order that everything here depends on: on every exception the transport is aborted before the reader closes. A
descriptor closed under a queued sendfile is reused by the next file, and its bytes go to the wrong client.
"""

import asyncio
import logging
import os
import socket
from dataclasses import dataclass
from typing import BinaryIO, cast

from aiofastnet import Transport
from aiohttp import web

from mirror.errors import MirrorError
from mirror.store.protocols import BlobReader

log = logging.getLogger(__name__)

#: Bytes of one sendfile call, after which others have their turn: a millisecond, where the receiver takes all at once.
SLICE = 8 * 1024 * 1024
CHUNK = 256 * 1024  # bytes of one write, where there is no descriptor


class _Descriptor:
    """What `sendfile` wants of a file: its descriptor, and nothing that would close it."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd


@dataclass(slots=True)
class Sent:
    """How many bytes of a body went out, also where the answer was cut."""

    count: int = 0


async def send(
    response: web.StreamResponse,
    request: web.BaseRequest,
    reader: BlobReader,
    start: int,
    end: int,
    *,
    at_rest: bool,
    sent: Sent,
) -> None:
    """Send the bytes from `start` to `end` of `reader` as the body of `response`, whose headers say so already.

    Headers go out at once; with a blob `at_rest` they share their first segment with the body (TCP_CORK). Fewer
    bytes `sent` than asked for mean that the connection was aborted, since upstream failed or the client left.
    """
    transport = request.transport
    if transport is None:
        return
    offset = start
    try:
        if at_rest:
            _cork(transport, on=True)
        await response.prepare(request)
        while offset < end:
            ready = await reader.ready(offset, end)
            while offset < ready:
                count = await _send_some(response, transport, reader, offset, ready)
                offset += count
                sent.count += count
        if at_rest:
            _cork(transport, on=False)
        await response.write_eof()
    except (MirrorError, ConnectionError, OSError) as error:
        log.info("answer cut at %d of %d bytes of %s: %s", offset - start, end - start, reader.digest, error)
        transport.abort()
        response.force_close()
    except BaseException:
        transport.abort()
        raise


async def _send_some(
    response: web.StreamResponse, transport: asyncio.Transport, reader: BlobReader, offset: int, ready: int
) -> int:
    """One slice of what `ready` released."""
    descriptor = None if _encrypted(transport) else reader.fileno()
    if descriptor is None or not isinstance(transport, Transport):
        data = await reader.read(offset, min(CHUNK, ready - offset))
        await response.write(data)
        return len(data)
    count = min(SLICE, ready - offset)
    if transport.is_closing():
        raise ConnectionResetError("the client left")
    if os.fstat(descriptor).st_size < offset + count:
        raise OSError("the file is shorter than it was")  # sendfile would return short without a word
    waiter = transport.sendfile(cast("BinaryIO", _Descriptor(descriptor)), offset, count)
    await (waiter or asyncio.sleep(0))  # one that completes at once does not yield by itself
    return count


def _encrypted(transport: asyncio.Transport) -> bool:
    return transport.get_extra_info("ssl_object") is not None


def _cork(transport: asyncio.Transport, *, on: bool) -> None:
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, int(on))

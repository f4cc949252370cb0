"""Bodies, over real sockets: a handler that reads them and tells what it read."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from mirror.errors import BlobUploadInvalid, ManifestTooLarge, MirrorError, SizeInvalid
from mirror.server import bodies
from tests.server.calls import Raw, connected, head
from tests.server.pushing import chunked
from tests.server.serving import serving

Reader = Callable[[web.BaseRequest], Awaitable[bytes]]


async def all_of_it(request: web.BaseRequest) -> bytes:
    return b"".join([chunk async for chunk in bodies.chunks(request)])


async def ten_bytes(request: web.BaseRequest) -> bytes:
    return await bodies.whole(request, 10)


async def its_length(request: web.BaseRequest) -> bytes:
    return str(bodies.length(request)).encode()


@asynccontextmanager
async def reading(read: Reader) -> AsyncIterator[tuple[Raw, list[type[MirrorError]]]]:
    """A connection to a server that answers with what `read` gives, and what it raised."""
    raised: list[type[MirrorError]] = []

    async def handle(request: web.BaseRequest) -> web.Response:
        try:
            body = await read(request)
        except MirrorError as error:
            raised.append(type(error))
            body = error.message.encode()
        response = web.Response(body=body)
        if bodies.in_doubt(request):
            response.force_close()
        return response

    async with serving(handle) as listeners, connected(*listeners.addresses[0]) as raw:
        yield raw, raised


@pytest.mark.parametrize(("headers", "body", "expected"), [
    ({"Content-Length": "5"}, b"hello", b"hello"),
    ({"Content-Length": "0"}, b"", b""),
    ({}, b"", b""),
    ({"Transfer-Encoding": "chunked"}, chunked(b"he", b"llo"), b"hello"),
    ({"Transfer-Encoding": "chunked"}, chunked(), b""),
], ids=str)  # fmt: skip
async def test_a_body_as_it_comes(headers: dict[str, str], body: bytes, expected: bytes) -> None:
    for read in (all_of_it, ten_bytes):
        async with reading(read) as (raw, raised):
            for _ in range(2):  # on one connection
                raw.write_bytes(head("PUT", "/", {"Host": "x", **headers}) + body)
                answer = await raw.answer("PUT")
                assert (answer.body, answer.closed, raised) == (expected, False, [])


@pytest.mark.parametrize(("headers", "expected"), [
    ({"Content-Length": "5"}, b"5"), ({"Content-Length": "0"}, b"0"), ({}, b"0"),
    ({"Transfer-Encoding": "chunked"}, b"None"),
], ids=str)  # fmt: skip
async def test_its_length(headers: dict[str, str], expected: bytes) -> None:
    async with reading(its_length) as (raw, _):
        raw.write_bytes(head("PUT", "/", {"Host": "x", **headers}))
        assert (await raw.answer("PUT")).body == expected


async def test_in_pieces() -> None:
    async with reading(all_of_it) as (raw, _):
        raw.write_bytes(head("PUT", "/", {"Host": "x", "Content-Length": "6"}))
        for piece in (b"he", b"ll", b"o!"):
            await asyncio.sleep(0.01)
            raw.write_bytes(piece)
        assert (await raw.answer("PUT")).body == b"hello!"


async def test_more_than_may_be() -> None:
    """Refused by its length where that is said, and as soon as it is too much where it is not."""
    for headers, body in (
        ({"Content-Length": "11"}, b"hello world"),
        ({"Transfer-Encoding": "chunked"}, chunked(b"hello", b" world")),
    ):
        async with reading(ten_bytes) as (raw, raised):
            raw.write_bytes(head("PUT", "/", {"Host": "x", **headers}) + body)
            assert b"10 bytes" in (await raw.answer("PUT")).body
            assert raised == [ManifestTooLarge]
            raw.write_bytes(head("PUT", "/", {"Host": "x", "Content-Length": "2"}) + b"ok")
            assert (await raw.answer("PUT")).body == b"ok"


async def test_who_falls_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "SILENCE", 0.05)
    async with reading(all_of_it) as (raw, raised):
        raw.write_bytes(head("PUT", "/", {"Host": "x", "Content-Length": "6"}) + b"hello")
        await raw.answer("PUT")
        assert raised == [BlobUploadInvalid]


async def test_who_is_slow_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if the limit is one for the whole body: a large layer over a slow line takes hours."""
    monkeypatch.setattr(bodies, "SILENCE", 0.2)
    async with reading(all_of_it) as (raw, raised):
        raw.write_bytes(head("PUT", "/", {"Host": "x", "Content-Length": "8"}))
        for _ in range(8):
            await asyncio.sleep(0.05)
            raw.write_bytes(b"x")
        assert (await raw.answer("PUT")).body == b"x" * 8
        assert raised == []


async def test_a_body_that_ends_early() -> None:
    raised: list[BaseException] = []

    async def read(request: web.BaseRequest) -> bytes:
        try:
            return await all_of_it(request)
        except BaseException as error:
            raised.append(error)
            raise

    async with reading(read) as (raw, _):
        raw.write_bytes(head("PUT", "/", {"Host": "x", "Content-Length": "6"}) + b"hello")
        raw.write_eof()
        await raw.rest()
    assert [type(error) for error in raised] in ([SizeInvalid], [asyncio.CancelledError], [ConnectionResetError])


async def test_a_client_that_waits_is_told_once_its_body_is_wanted() -> None:
    async with reading(all_of_it) as (raw, _):
        for _ in range(2):
            raw.write_bytes(head("PUT", "/", {"Host": "x", "Content-Length": "5", "Expect": "100-Continue"}))
            assert await raw.until_head() == b"HTTP/1.1 100 Continue\r\n\r\n"
            raw.write_bytes(b"hello")
            answer = await raw.answer("PUT")
            assert (answer.body, answer.closed) == (b"hello", False)


async def test_a_client_whose_body_is_not_wanted_is_in_doubt() -> None:
    """What it sends next may be the body or a request: the connection ends."""
    for headers, doubt in (
        ({"Content-Length": "11", "Expect": "100-continue"}, True),
        ({"Content-Length": "0", "Expect": "100-continue"}, False),
        ({"Content-Length": "0"}, False),
    ):
        async with reading(its_length) as (raw, _):
            raw.write_bytes(head("PUT", "/", {"Host": "x", **headers}))
            assert (await raw.answer("PUT")).closed is doubt


def test_nobody_is_told_whose_connection_is_gone() -> None:
    request = make_mocked_request("PUT", "/", headers={"Expect": "100-continue"})
    request._protocol.transport = None
    bodies.go_on(request)

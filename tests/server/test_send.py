"""One loop sends hot, cold and remote blobs: the right bytes, and never one of another file."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web

from mirror.errors import StoreFailed, UpstreamUnreachable
from mirror.oci.digest import Digest
from mirror.server import send as module
from mirror.server.send import Sent, send
from tests.cache.scripted import Gate
from tests.server.calls import Raw, connected
from tests.server.serving import serving
from tests.support.fake_registry.content import random_bytes

DATA = random_bytes("send", 3_000_000)


class Reader:
    """A blob in a file (`fileno`) or in memory. `fails` at an offset; `steps`: how much each `ready` releases."""

    digest = Digest.of(DATA)
    size = len(DATA)

    def __init__(
        self, path: Path | None = None, *, step: int = 1 << 30, fails: dict[int, BaseException | Gate] | None = None
    ):
        self.descriptor = os.open(path, os.O_RDONLY) if path is not None else None
        self.step = step
        self.fails = fails or {}
        self.reads = 0
        self.asked = asyncio.Event()

    async def ready(self, offset: int, end: int) -> int:
        self.asked.set()
        for at in sorted(self.fails):
            if offset >= at:
                failure = self.fails.pop(at)
                if isinstance(failure, BaseException):
                    raise failure
                await failure.wait()
        limit = min([at for at in self.fails if at > offset], default=end)
        return min(end, offset + self.step, limit)

    def fileno(self) -> int | None:
        return self.descriptor

    async def read(self, offset: int, count: int) -> bytes:
        self.reads += 1
        return DATA[offset : offset + count]

    def close(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "blob"
    path.write_bytes(DATA)
    return path


class Sending:
    """A server whose every answer is `send` of one reader."""

    def __init__(self, reader: Reader, start: int = 0, end: int = len(DATA), *, at_rest: bool = False) -> None:
        self.reader = reader
        self.range = (start, end)
        self.at_rest = at_rest
        self.tally = Sent()
        self.aborted_at_close: bool | None = None
        self.error: BaseException | None = None
        self.done = asyncio.Event()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path != "/":
            return web.Response()
        start, end = self.range
        transport = request.transport
        assert transport is not None
        response = web.StreamResponse(headers={"Content-Length": str(end - start)})
        try:
            await send(response, request, self.reader, start, end, at_rest=self.at_rest, sent=self.tally)
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.aborted_at_close = transport.is_closing()  # the reader closes right after
            self.reader.close()
            self.done.set()
        return response

    @asynccontextmanager
    async def asked(self) -> AsyncIterator[Raw]:
        """A client that has asked."""
        async with serving(self.handle) as listeners, connected(*listeners.addresses[0]) as raw:
            raw.write("GET /", Host="x")
            yield raw


@pytest.mark.parametrize("at_rest", [False, True])
@pytest.mark.parametrize("in_file", [False, True])
@pytest.mark.parametrize(("start", "end"), [
    (0, len(DATA)), (0, 0), (0, 1), (1_000_000, 1_000_001), (len(DATA) - 1, len(DATA)), (7, 2_999_000),
])  # fmt: skip
@pytest.mark.parametrize("step", [1 << 30, 300_000])
async def test_the_bytes(file: Path, start: int, end: int, in_file: bool, at_rest: bool, step: int) -> None:
    sending = Sending(Reader(file if in_file else None, step=step), start, end, at_rest=at_rest)
    async with sending.asked() as raw:
        answer = await raw.answer()
        assert (answer.status, answer.body) == (200, DATA[start:end])
        await sending.done.wait()
        raw.write("GET /after", Host="x")  # the connection is still in step
        assert (await raw.answer()).body == b""
    assert (sending.tally.count, sending.aborted_at_close) == (end - start, False)
    assert (sending.reader.reads > 0) is (not in_file and end > start)


async def test_a_file_goes_by_sendfile_in_slices_between_which_others_have_their_turn(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`await sendfile` need not yield: a file that is in the page cache would hold the loop from end to end."""
    monkeypatch.setattr(module, "SLICE", 1000)
    sending = Sending(Reader(file), 0, 50_000, at_rest=True)  # less than a socket's buffer takes
    turns = 0

    async def others() -> None:
        nonlocal turns
        while not sending.done.is_set():
            turns += sending.reader.asked.is_set()
            await asyncio.sleep(0)

    async with sending.asked() as raw, asyncio.TaskGroup() as group:
        group.create_task(others())
        assert (await raw.answer()).body == DATA[:50_000]
    assert sending.reader.reads == 0
    assert turns >= 50


@pytest.mark.parametrize("in_file", [False, True])
@pytest.mark.parametrize("at", [0, 1, 1_000_000, len(DATA) - 1])
@pytest.mark.parametrize(
    "error", [UpstreamUnreachable("gone", registry="docker.io"), StoreFailed("EIO"), OSError("EIO")], ids=repr
)
async def test_a_failure_cuts_the_connection_before_the_reader_closes(
    file: Path, error: Exception, at: int, in_file: bool
) -> None:
    sending = Sending(Reader(file if in_file else None, fails={at: error}))
    async with sending.asked() as raw:
        data = await raw.rest()
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200") or not data
    assert len(body) <= at
    assert DATA.startswith(body)
    assert (sending.tally.count, sending.error, sending.aborted_at_close) == (at, None, True)


async def test_a_mistake_of_ours_cuts_it_too_and_is_not_swallowed(file: Path) -> None:
    sending = Sending(Reader(file, fails={1_000_000: ZeroDivisionError("oops")}))
    async with sending.asked() as raw:
        assert DATA.startswith((await raw.rest()).partition(b"\r\n\r\n")[2])
    assert (type(sending.error), sending.aborted_at_close) == (ZeroDivisionError, True)


async def test_a_file_that_is_shorter_than_it_was_is_not_padded(file: Path) -> None:
    os.truncate(file, 1_500_000)
    sending = Sending(Reader(file, step=1_000_000))
    async with sending.asked() as raw:
        body = (await raw.rest()).partition(b"\r\n\r\n")[2]
    assert len(body) <= 1_500_000
    assert DATA.startswith(body)
    assert (sending.tally.count, sending.aborted_at_close) == (1_000_000, True)


@pytest.mark.parametrize("in_file", [False, True])
async def test_a_client_that_leaves_while_it_is_waited_for(file: Path, in_file: bool) -> None:
    gate = Gate()
    sending = Sending(Reader(file if in_file else None, fails={1000: gate}))
    async with sending.asked():
        await gate.reached.wait()
    await sending.done.wait()
    assert isinstance(sending.error, asyncio.CancelledError)
    assert sending.aborted_at_close


async def test_a_client_that_leaves_in_mid_sendfile(tmp_path: Path) -> None:
    """A descriptor closed under a queued sendfile is reused by the next file, whose bytes must go nowhere."""
    big = tmp_path / "big"
    with big.open("wb") as made:
        made.truncate(64 << 20)
    sending = Sending(Reader(big), 0, 64 << 20, at_rest=True)
    async with sending.asked():
        await sending.reader.asked.wait()
    await sending.done.wait()
    assert sending.aborted_at_close


async def test_the_head_goes_out_before_the_first_byte_is_there(file: Path) -> None:
    gate = Gate()
    sending = Sending(Reader(file, fails={0: gate}))
    async with sending.asked() as raw:
        head = await raw._reader.readuntil(b"\r\n\r\n")
        assert b"Content-Length: 3000000\r\n" in head
        gate.release()
        assert await raw._reader.readexactly(len(DATA)) == DATA


async def test_without_a_transport_nothing_is_sent() -> None:
    class Left:
        transport = None

    request, sent = cast("Any", Left()), Sent()
    await send(web.StreamResponse(), request, Reader(), 0, 10, at_rest=True, sent=sent)
    assert sent.count == 0


async def test_under_tls_bytes_are_read_and_encrypted(file: Path) -> None:
    written = bytearray()

    class Response:
        async def write(self, data: bytes) -> None:
            written.extend(data)

    class Encrypting:
        def get_extra_info(self, name: str) -> object:
            return object() if name == "ssl_object" else None

    reader = Reader(file)
    sent = await module._send_some(cast("Any", Response()), cast("Any", Encrypting()), reader, 5, len(DATA))
    assert (sent, bytes(written), reader.reads) == (module.CHUNK, DATA[5 : 5 + module.CHUNK], 1)
    reader.close()

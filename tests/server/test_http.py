"""Connections: what is answered at once and what is not, in which order, and for how long one may be silent."""

import asyncio
from email.utils import parsedate_to_datetime
from time import time

import pytest

from mirror.server import http
from mirror.server.http import Date, Prepared
from mirror.server.listeners import Server
from tests.server.calls import Raw, Wire, head
from tests.support.fake_registry import Gate, behaviours

TAG = "/v2/library/alpine/manifests/3"
HOT, COLD = f"GET {TAG}", "GET /v2/library/alpine/manifests/index"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> list[Prepared]:
    """The answers that went past aiohttp."""
    written: list[Prepared] = []
    now = Prepared.now

    def counting(prepared: Prepared) -> bytes:
        written.append(prepared)
        return now(prepared)

    monkeypatch.setattr(Prepared, "now", counting)
    return written


@pytest.fixture
async def hot(wire: Wire) -> Wire:
    """The tag is in memory."""
    await wire.mirror.get(TAG)
    return wire


def manifest(wire: Wire) -> bytes:
    return wire.content.image.manifest.raw


def test_the_date_is_now_and_ends_the_head() -> None:
    date = Date()
    for _ in range(2):
        text = date()
        assert text.endswith(b"\r\n\r\n")
        assert abs(parsedate_to_datetime(text.decode().strip()).timestamp() - time()) < 5


def test_the_date_is_formatted_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_700_000_000.9
    monkeypatch.setattr(http, "time", lambda: now)
    date = Date()
    first = date()
    assert first == b"Tue, 14 Nov 2023 22:13:20 GMT\r\n\r\n"
    assert date() is first
    now += 0.1
    assert date() == b"Tue, 14 Nov 2023 22:13:21 GMT\r\n\r\n"


async def test_one_connection_many_requests(hot: Wire, at_once: list[Prepared]) -> None:
    async with hot.connection() as raw:
        for _ in range(3):
            raw.write(HOT, Host="x")
            answer = await raw.answer()
            assert (answer.status, answer.body) == (200, manifest(hot))
            raw.write(f"HEAD {TAG}", Host="x")
            assert (await raw.answer("HEAD")).headers["Content-Length"] == str(len(manifest(hot)))
            raw.write("GET /v2/", Host="x")
            assert (await raw.answer()).body == b"{}"
    assert len(at_once) >= 4  # the first with this Host was learnt from


async def test_the_same_bytes_from_another_connection_are_another_clients(hot: Wire, at_once: list[Prepared]) -> None:
    for _ in range(3):
        async with hot.connection() as raw:
            for _ in range(2):
                raw.write(HOT, Host=hot.mirror.authority)
                assert (await raw.answer()).body == manifest(hot)
    assert len(at_once) == 6


@pytest.mark.parametrize("pieces", [1, 2, 3, 50])
async def test_requests_that_come_in_pieces(hot: Wire, pieces: int) -> None:
    data = head("GET", TAG, {"Host": hot.mirror.authority})
    async with hot.connection() as raw:
        for _ in range(2):
            step = -(-len(data) // pieces)
            for start in range(0, len(data), step):
                raw.write_bytes(data[start : start + step])
                await asyncio.sleep(0.001)  # a piece of its own on the wire
            assert (await raw.answer()).body == manifest(hot)


@pytest.mark.parametrize("requests", [
    (HOT, HOT), (HOT, COLD), (COLD, HOT), (HOT, "GET /v2/", HOT), (COLD, HOT, COLD, HOT),
])  # fmt: skip
async def test_requests_sent_together_are_answered_in_order(hot: Wire, requests: tuple[str, ...]) -> None:
    bodies = {HOT: manifest(hot), COLD: hot.content.index.raw, "GET /v2/": b"{}"}
    async with hot.connection() as raw:
        for _ in range(2):
            raw.write(*requests, Host=hot.mirror.authority)
            for request in requests:
                assert (await raw.answer()).body == bodies[request]


async def test_a_hot_request_waits_for_the_cold_one_before_it(hot: Wire, at_once: list[Prepared]) -> None:
    gate = Gate()
    hot.content.hub.script("GET */manifests/*", behaviours.hang(gate))
    async with hot.connection() as raw:
        raw.write(COLD, Host=hot.mirror.authority)
        await asyncio.to_thread(gate.reached.wait)
        raw.write(HOT, Host=hot.mirror.authority)
        raw.write(HOT, Host=hot.mirror.authority)
        async with hot.connection() as other:
            other.write(HOT, Host=hot.mirror.authority)  # another client does not wait
            assert (await other.answer()).body == manifest(hot)
        assert len(at_once) == 1
        gate.release()
        assert (await raw.answer()).body == hot.content.index.raw
        for _ in range(2):
            assert (await raw.answer()).body == manifest(hot)


@pytest.mark.parametrize("headers", [
    {"Connection": "close"}, {"Content-Length": "2"}, {"Transfer-Encoding": "chunked"},
    {"If-None-Match": '"x"'}, {"Mirror-Via": "another-mirror"},
])  # fmt: skip
async def test_what_is_out_of_the_ordinary_goes_the_ordinary_way(
    hot: Wire, at_once: list[Prepared], headers: dict[str, str]
) -> None:
    async with hot.connection() as raw:
        raw.write_bytes(head("GET", TAG, {"Host": hot.mirror.authority, **headers}))
        if "Content-Length" in headers:
            raw.write_bytes(b"{}")
        if "Transfer-Encoding" in headers:
            raw.write_bytes(b"2\r\n{}\r\n0\r\n\r\n")
        answer = await raw.answer()
        assert answer.body == manifest(hot)
        assert at_once == []
        if not answer.closed:
            raw.write("GET /v2/", Host="x")
            assert (await raw.answer()).body == b"{}"


async def test_a_body_is_never_taken_for_a_request(hot: Wire, at_once: list[Prepared]) -> None:
    """A body that reads like a request seen before (smuggling)."""
    known = head("GET", TAG, {"Host": hot.mirror.authority})
    async with hot.connection() as raw:
        raw.write_bytes(known)
        await raw.answer()
        assert len(at_once) == 1
        raw.write_bytes(
            head("POST", "/v2/library/alpine/blobs/uploads/", {"Host": "x", "Content-Length": str(len(known))})
        )
        await asyncio.sleep(0.01)
        raw.write_bytes(known)
        assert (await raw.answer("POST")).status == 403
        raw.write("GET /healthz", Host="x")  # and not what the body seems to ask for
        assert (await raw.answer()).body == b"ok\n"
    assert len(at_once) == 1


async def test_secrets_are_not_remembered(hot: Wire) -> None:
    server = hot.mirror.app.listeners._runners[0].server
    assert isinstance(server, Server)
    async with hot.connection() as raw:
        raw.write(HOT, Host=hot.mirror.authority, Authorization="Basic c2VjcmV0")
        assert (await raw.answer()).body == manifest(hot)
        raw.write(HOT, Host=hot.mirror.authority, X_Long="x" * 5000)
        assert (await raw.answer()).body == manifest(hot)
    assert not any(b"c2VjcmV0" in data or len(data) > 4096 for data in server._heads._messages)


@pytest.mark.parametrize("connection", ["close", "keep-alive"])
async def test_an_older_client(hot: Wire, at_once: list[Prepared], connection: str) -> None:
    """HTTP/1.0 keeps a connection only where it is told so."""
    async with hot.connection() as raw:
        request = head("GET", TAG, {"Host": hot.mirror.authority, "Connection": connection})
        raw.write_bytes(request.replace(b"HTTP/1.1", b"HTTP/1.0"))
        data = await _until(raw, manifest(hot))
    text = data.partition(b"\r\n\r\n")[0].decode().lower()
    assert ("connection: keep-alive" in text) is (connection == "keep-alive")
    assert at_once == []


async def _until(raw: Raw, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        more = await raw._reader.read(65536)
        assert more, data
        data += more
    return data


@pytest.mark.parametrize("data", [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,  # TLS, as podman tries first
    b"GET / HTTP/1.1\r\nHost: x\r\nBad Header\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    b"\r\n\r\n\x00\r\n\r\n",
    b"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
])  # fmt: skip
async def test_what_is_no_http_ends_the_connection_without_a_traceback(
    wire: Wire, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with wire.connection() as raw:
        raw.write_bytes(data)
        assert not (await raw.rest()).startswith(b"HTTP/1.1 2")
    assert not [record for record in caplog.records if record.exc_info]


async def test_who_says_nothing_is_let_go(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "FIRST_REQUEST_WITHIN", 0.0)
    async with wire.connection() as silent, wire.connection() as slow:
        slow.write_bytes(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n")  # headers that never end
        assert await silent.rest() == b""
        assert await slow.rest() == b""


@pytest.mark.parametrize("request_line", [HOT, "GET /v2/"])
async def test_who_has_asked_once_is_kept(hot: Wire, request_line: str) -> None:
    async with hot.connection() as raw:
        raw.write(request_line, Host=hot.mirror.authority)
        await raw.answer()
        server = hot.mirror.app.listeners._runners[0].server
        assert server is not None
        own = raw._writer.get_extra_info("sockname")
        [connection] = [each for each in server.connections if each.peername == own]
        assert isinstance(connection, http.Connection)
        connection._too_slow()  # its time for a first request is over
        raw.write(request_line, Host=hot.mirror.authority)
        assert (await raw.answer()).status == 200


async def test_who_is_idle_after_an_answer_at_once_is_let_go(
    hot: Wire, at_once: list[Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if aiohttp no longer watches a connection from its beginning, whoever answers on it."""
    monkeypatch.setattr(http, "KEEPALIVE", 0.05)
    async with hot.connection() as raw:
        raw.write(HOT, Host=hot.mirror.authority)
        assert (await raw.answer()).status == 200
        assert len(at_once) == 1
        assert await raw.rest() == b""

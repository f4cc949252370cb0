"""Blobs on the wire: whole, in part, conditionally, cold and hot."""

import pytest

from tests.server.calls import ABSENT, ALWAYS, ANY, NOWHERE, Call, Wire
from tests.support.fake_registry import Gate, behaviours

SMALL, LARGE = "/v2/library/alpine/blobs/{small}", "/v2/library/alpine/blobs/{large}"
WARM = (f"GET {SMALL}", f"GET {LARGE}")

BLOB = {
    **ALWAYS,
    "Content-Type": "application/octet-stream",
    "Accept-Ranges": "bytes",
    "X-Content-Type-Options": "nosniff",
    "Content-Encoding": ABSENT,
    "OCI-Namespace": ABSENT,
    "Warning": ABSENT,
    "X-Registry-Supports-Signatures": ABSENT,
}
OF_SMALL = {**BLOB, "Docker-Content-Digest": "{small}", "ETag": '"{small}"'}
OF_LARGE = {**BLOB, "Docker-Content-Digest": "{large}", "ETag": '"{large}"'}
ERROR = {**ALWAYS, "Content-Type": "application/json", "Docker-Content-Digest": ABSENT, "Retry-After": ABSENT}


def part(start: int, end: int, headers: dict[str, str | None] = OF_LARGE, size: int = 300_000) -> dict[str, str | None]:
    """The headers of a 206 with the bytes from `start` up to `end`."""
    return {**headers, "Content-Range": f"bytes {start}-{end - 1}/{size}", "Content-Length": str(end - start)}


# Each is run cold and hot: nothing but `Mirror-Cache` may differ.
CALLS = [
    Call(f"GET {SMALL}", 200, {**OF_SMALL, "Content-Length": "1000"}),
    Call(f"HEAD {SMALL}", 200, {**OF_SMALL, "Content-Length": "1000"}),
    Call(f"GET {LARGE}", 200, {**OF_LARGE, "Content-Length": "300000", "Content-Range": ABSENT}),
    Call(f"HEAD {LARGE}", 200, {**OF_LARGE, "Content-Length": "300000"}),
    Call(f"GET {LARGE}", 200, OF_LARGE, sent={"Accept-Encoding": "gzip, zstd"}),
    Call(f"GET {SMALL}?ns=docker.io", 200, {**OF_SMALL, "OCI-Namespace": "docker.io"}),
    Call("GET /v2/docker.io/library/alpine/blobs/{small}", 200, OF_SMALL),
    Call("GET /docker.io/v2/alpine/blobs/{small}", 200, OF_SMALL),
    # ranges
    Call(f"GET {LARGE}", 206, part(0, 300_000), sent={"Range": "bytes=0-"}),
    Call(f"GET {LARGE}", 206, part(0, 2), sent={"Range": "bytes=0-1"}),
    Call(f"GET {LARGE}", 206, part(100_000, 200_000), sent={"Range": "bytes=100000-199999"}),
    Call(f"GET {LARGE}", 206, part(299_999, 300_000), sent={"Range": "bytes=299999-"}),
    Call(f"GET {LARGE}", 206, part(290_000, 300_000), sent={"Range": "bytes=-10000"}),
    Call(f"GET {LARGE}", 206, part(290_000, 300_000), sent={"Range": "bytes=290000-999999999999999999999999"}),
    Call(f"GET {SMALL}", 206, part(10, 20, OF_SMALL, 1000), sent={"Range": "bytes=10-19"}),
    Call(f"GET {LARGE}", 416, {**ERROR, "Content-Range": "bytes */300000"}, "SIZE_INVALID",
         sent={"Range": "bytes=300000-"}),
    Call(f"GET {LARGE}", 400, ERROR, "UNSUPPORTED", sent={"Range": "bytes=0-1,5-6"}),
    Call(f"GET {LARGE}", 400, ERROR, "UNSUPPORTED", sent={"Range": "bytes=" + ",".join(["0-1"] * 1025)}),
    Call(f"GET {LARGE}", 200, {"Content-Length": "300000"}, sent={"Range": "lines=0-1"}),
    Call(f"GET {LARGE}", 416, {"Content-Range": "bytes */300000"}, "SIZE_INVALID", sent={"Range": "bytes=9-5"}),
    # If-Range: this very content, or no range
    Call(f"GET {LARGE}", 206, part(0, 2), sent={"Range": "bytes=0-1", "If-Range": '"{large}"'}),
    Call(f"GET {LARGE}", 200, {"Content-Length": "300000"}, sent={"Range": "bytes=0-1", "If-Range": '"{small}"'}),
    Call(f"GET {LARGE}", 200, {"Content-Length": "300000"}, sent={"Range": "bytes=0-1", "If-Range": 'W/"{large}"'}),
    Call(f"GET {LARGE}", 200, {"Content-Length": "300000"},
         sent={"Range": "bytes=0-1", "If-Range": "Tue, 24 Nov 2026 10:00:00 GMT"}),
    # If-None-Match
    Call(f"GET {SMALL}", 304, {"ETag": '"{small}"', "Docker-Content-Digest": "{small}"},
         sent={"If-None-Match": '"{small}"'}),
    Call(f"HEAD {SMALL}", 304, {"ETag": '"{small}"'}, sent={"If-None-Match": '"x", W/"{small}"'}),
    Call(f"GET {SMALL}", 304, {}, sent={"If-None-Match": "*"}),
    Call(f"GET {SMALL}", 200, {"Content-Length": "1000"}, sent={"If-None-Match": '"{large}"'}),
]  # fmt: skip


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "hot"])
@pytest.mark.parametrize("call", CALLS, ids=str)
async def test_calls(wire: Wire, call: Call, warm: bool) -> None:
    if warm:
        call = Call(call.request, call.status, call.headers, call.body, sent=call.sent, first=WARM)
    answer = await wire.check(call)
    data = wire.content.small[1] if "small" in call.request else wire.content.large[1]
    if call.request.startswith("GET") and call.status == 200:
        assert answer.body == data
    if call.status == 206:
        start, end = answer.headers["Content-Range"].removeprefix("bytes ").partition("/")[0].split("-")
        assert answer.body == data[int(start) : int(end) + 1]
    if call.status < 400:
        assert answer.headers["Mirror-Cache"] == ("hit" if warm else "miss")


UNKNOWN = [
    Call(f"GET /v2/library/alpine/blobs/{NOWHERE}", 404, ERROR, "BLOB_UNKNOWN"),
    Call(f"HEAD /v2/library/alpine/blobs/{NOWHERE}", 404, {**ERROR, "Content-Length": ANY}),
    Call("GET /v2/library/nobody/blobs/{small}", 404, ERROR, "BLOB_UNKNOWN"),
    Call("GET /v2/ghcr.io/team/tool/blobs/{small}", 404, ERROR, "BLOB_UNKNOWN"),
    Call(f"GET /v2/library/alpine/blobs/{NOWHERE}", 404, ERROR, "BLOB_UNKNOWN", sent={"Range": "bytes=0-1"}),
    Call(f"GET /v2/library/alpine/blobs/{NOWHERE}", 404, ERROR, "BLOB_UNKNOWN", sent={"If-None-Match": "*"}),
]


@pytest.mark.parametrize("call", UNKNOWN, ids=str)
async def test_unknown(wire: Wire, call: Call) -> None:
    await wire.check(call)


async def test_head_downloads_nothing_and_get_downloads_once(wire: Wire) -> None:
    for _ in range(3):
        await wire.ask(f"HEAD {LARGE}")
    assert wire.content.hub.count("GET */blobs/*") == 0
    for _ in range(3):
        await wire.ask(f"GET {LARGE}")
        await wire.mirror.idle()
    assert wire.content.hub.count("GET */blobs/*") == 1


async def test_a_length_that_nobody_knows_is_not_said(wire: Wire) -> None:
    """A HEAD that said 0 would be believed."""
    wire.content.hub.script("* */blobs/*", behaviours.no_length(), times=None)
    answer = await wire.ask(f"HEAD {LARGE}")
    assert answer.status == 200
    assert "Content-Length" not in answer.headers
    whole = await wire.ask(f"GET {LARGE}")
    assert (whole.headers["Content-Length"], whole.body) == ("300000", wire.content.large[1])


async def test_headers_go_out_before_the_first_byte_is_there(wire: Wire) -> None:
    gate = Gate()
    wire.content.hub.script("GET */blobs/*", behaviours.hang_after(0, gate))
    async with wire.mirror.session.get(wire.mirror.url + wire.content.filled(LARGE)) as response:
        assert (response.status, response.headers["Content-Length"]) == (200, "300000")
        gate.release()
        assert await response.read() == wire.content.large[1]


async def test_a_stranger_sees_what_is_public(wire: Wire) -> None:
    answer = await wire.ask(f"GET {SMALL}", Via="1.1 proxy")
    assert (answer.status, answer.body) == (200, wire.content.small[1])


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "hot"])
async def test_pulls_and_bytes_are_counted(wire: Wire, warm: bool) -> None:
    if warm:
        await wire.ask(f"GET {SMALL}")
        await wire.mirror.idle()
    await wire.ask(f"GET {SMALL}")
    await wire.ask(f"HEAD {SMALL}")
    await wire.ask(f"GET {SMALL}", Range="bytes=0-9")
    report = await wire.mirror.app.status.report()
    traffic = report["traffic"]
    assert isinstance(traffic, dict)
    assert traffic["served_bytes"] == 1000 * (1 + warm) + 10
    assert traffic["fetched_bytes"] == 1000

"""`/api/v1/status`: for this machine and the socket, whole and without secrets."""

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest

from mirror import __version__
from mirror.application import Application
from tests.server.calls import ABSENT, Call, Wire
from tests.support.fake_registry import FakeRegistry
from tests.support.mirror import mirror_in_process

STATUS = "/api/v1/status"
OK = {
    "Content-Type": "application/json",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "WWW-Authenticate": ABSENT,
}

CALLS = [
    Call(f"GET {STATUS}", 200, OK),
    Call(f"HEAD {STATUS}", 200, OK, b""),
    Call(f"GET {STATUS}?x=1", 400, {}, "UNSUPPORTED"),
    Call(f"GET {STATUS}", 403, {"Content-Type": "application/json"}, "DENIED", sent={"X-Real-IP": "127.0.0.1"}),
    Call(f"GET {STATUS}", 403, {}, "DENIED", sent={"Host": "evil.example"}),
    Call(f"GET {STATUS}", 403, {}, "DENIED", sent={"Origin": "null"}),
    Call(f"POST {STATUS}", 405, {"Allow": "GET, HEAD"}, "UNSUPPORTED"),
    Call("GET /api/v1/", 404, {}, "UNSUPPORTED"),
    Call("GET /api/v1/status/", 404, {}, "UNSUPPORTED"),
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("call", CALLS, ids=str)
async def test_calls(shared_wire: Wire, call: Call) -> None:
    await shared_wire.check(call)


async def test_it_tells_of_this_mirror(wire: Wire) -> None:
    report = json.loads((await wire.ask(f"GET {STATUS}")).body)
    assert report == await whole_report(wire.mirror.app, report["uptime_seconds"], report["data"]["free_bytes"])
    assert report["version"] == __version__
    assert [row["name"] for row in report["registries"]][:2] == ["docker.io", "ghcr.io"]


async def whole_report(app: Application, uptime: float, free: int) -> dict[str, object]:
    """The report as the operation gives it, but for what moves by itself."""
    report: dict[str, object] = json.loads(json.dumps(await app.status.report()))
    report["uptime_seconds"] = uptime
    data = report["data"]
    assert isinstance(data, dict)
    data["free_bytes"] = free
    return report


async def test_the_socket_may_where_loopback_may_not(tmp_path: Path) -> None:
    async with (
        FakeRegistry() as hub,
        mirror_in_process(tmp_path / "d", {"docker.io": hub.url}, access={"loopback": "none"}) as mirror,
    ):
        assert (await mirror.get(STATUS)).status == 403
        assert (await mirror.get("/v2/")).status == 200
        path = mirror.app.listeners.socket
        assert path is not None
        connector = aiohttp.UnixConnector(str(path))
        async with aiohttp.ClientSession(connector=connector) as session:
            for headers in ({}, {"Host": "evil.example", "Via": "1.1 x"}):  # who may open it is believed
                async with session.get(f"http://socket{STATUS}", headers=headers) as response:
                    assert response.status == 200
                    assert (await response.json())["listen"] == ["127.0.0.1:0"]
        await asyncio.sleep(0)


async def test_passwords_are_not_in_it(tmp_path: Path) -> None:
    section = {"url": "http://127.0.0.1:9", "username": "me", "password": "hunter2"}
    async with mirror_in_process(tmp_path / "d", {"docker.io": section}) as mirror:
        report = await mirror.get(STATUS)
    assert b"hunter2" not in report.body
    assert json.loads(report.body)["registries"][0]["credentials"] is True

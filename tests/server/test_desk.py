"""The front desk answers what waits for nothing, and repeats every check that depends on who asks and on when."""

import json
from pathlib import Path
from typing import Any

import pytest

from mirror.server import desk as module
from mirror.server.desk import FrontDesk
from mirror.server.http import Prepared
from tests.server import calls
from tests.server.calls import Call, Wire
from tests.support.fake_registry import FakeRegistry, behaviours
from tests.support.mirror import mirror_in_process

TAG, DIGEST = "/v2/library/alpine/manifests/3", "/v2/library/alpine/manifests/{image}"
STRANGER = {"Via": "1.1 proxy"}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> list[Prepared]:
    """What the desk has answered."""
    written: list[Prepared] = []
    now = Prepared.now

    def counting(prepared: Prepared) -> bytes:
        written.append(prepared)
        return now(prepared)

    monkeypatch.setattr(Prepared, "now", counting)
    return written


def desk(wire: Wire) -> FrontDesk:
    server: Any = wire.mirror.app.listeners._runners[0].server
    found = server._handler._desk
    assert isinstance(found, FrontDesk)
    return found


async def test_what_is_in_memory_is_answered_and_nothing_else(wire: Wire, at_once: list[Prepared]) -> None:
    for count, request in enumerate((f"GET {TAG}", f"GET {TAG}", f"HEAD {TAG}", f"GET {TAG}")):
        await wire.ask(request)
        assert len(at_once) == count
    await wire.ask("GET /v2/library/alpine/manifests/index")
    assert len(at_once) == 3


@pytest.mark.parametrize(("method", "status", "code"), [
    ("POST", 405, "UNSUPPORTED"), ("OPTIONS", 405, "UNSUPPORTED"), ("PATCH", 405, "UNSUPPORTED"),
    ("PUT", 403, "DENIED"), ("DELETE", 403, "DENIED"),
])  # fmt: skip
async def test_a_method_that_is_not_allowed(
    wire: Wire, at_once: list[Prepared], method: str, status: int, code: str
) -> None:
    await wire.ask(f"GET {TAG}")
    await wire.check(Call(f"{method} {TAG}", status, {}, code))
    assert at_once == []


async def test_a_tag_is_answered_for_its_time_only(wire: Wire, at_once: list[Prepared]) -> None:
    for path in (TAG, DIGEST):
        await wire.ask(f"GET {path}")
    wire.mirror.clock.shift += 60
    wire.mirror.clock.wall_shift += 60
    wire.content.hub.script("*", behaviours.status(503), times=None)
    stale = await wire.ask(f"GET {TAG}")
    assert (stale.headers["Mirror-Cache"], at_once) == ("stale", [])
    assert (await wire.ask(f"GET {DIGEST}")).headers["Mirror-Cache"] == "hit"
    assert len(at_once) == 1


async def test_a_loop_is_not_answered(wire: Wire, at_once: list[Prepared]) -> None:
    await wire.ask(f"GET {TAG}")
    own = wire.mirror.app.status._place.instance
    assert (await wire.ask(f"GET {TAG}", Mirror_Via=own)).status == 508
    assert at_once == []


async def test_what_it_remembers_is_bounded(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REMEMBERED", 3)
    for number in range(10):
        await wire.mirror.get(f"{TAG}?x={number}")
        assert 1 <= len(desk(wire)._known) <= 3
    desk(wire)._known.clear()
    await wire.mirror.get(f"{TAG}?{'x' * 2000}")
    assert not desk(wire)._known


async def test_counted_and_logged_like_any_answer(tmp_path: Path, at_once: list[Prepared]) -> None:
    path = tmp_path / "access.log"
    async with calls.wire(tmp_path / "d", access_log=path, log_format="json") as wire:
        for method in ("GET", "GET", "HEAD"):
            await wire.mirror.get(TAG, method)
        report = await wire.mirror.app.status.report()
        size = len(wire.content.image.manifest.raw)
    traffic = report["traffic"]
    assert isinstance(traffic, dict)
    assert (traffic["hits"], traffic["misses"], traffic["served_bytes"]) == (2, 1, 2 * size)
    assert len(at_once) == 2
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["method"], line["status"], line["bytes"], line["cache"]) for line in lines] == [
        ("GET", 200, size, "miss"),
        ("GET", 200, size, "hit"),
        ("HEAD", 200, 0, "hit"),
    ]


@pytest.mark.parametrize("path", ["/v2/team/secret/manifests/1", "/v2/team/secret/manifests/{digest}"])
async def test_private_content_in_memory_is_for_the_trusted(tmp_path: Path, at_once: list[Prepared], path: str) -> None:
    async with FakeRegistry() as hub:
        image = hub.add_image("team/secret", "1", layers=[10])
        hub.access.scheme, hub.access.users, hub.access.private = "bearer", {"me": "pw"}, ["team/*"]
        section = {"url": hub.url, "username": "me", "password": "pw"}
        target = path.replace("{digest}", image.digest)
        async with mirror_in_process(tmp_path / "d", {"docker.io": section}) as mirror:
            for count in range(3):
                assert (await mirror.get(target)).body == image.manifest.raw
                assert len(at_once) == count
                for sign in (STRANGER, {"Host": "evil.example"}):  # known by that Host, too
                    refused = await mirror.get(target, **sign)
                    assert (refused.status, refused.code) == (404, "MANIFEST_UNKNOWN")
                    assert len(at_once) == count
            assert (await mirror.get(target, Host="docker.io")).body == image.manifest.raw


async def test_a_name_that_means_something_else_now_is_left_to_dispatch(wire: Wire, at_once: list[Prepared]) -> None:
    for _ in range(2):
        await wire.ask(f"GET {TAG}")
    assert len(at_once) == 1
    desk(wire).forget()
    await wire.ask(f"GET {TAG}")
    assert len(at_once) == 1
    await wire.ask(f"GET {TAG}")
    assert len(at_once) == 2

"""`GET /api/v1/search`, against registries on real sockets."""

import json
from pathlib import Path
from typing import Any

import pytest

from mirror.errors import MirrorError
from tests.faults.support import stranger
from tests.server.calls import Call, Wire
from tests.support.fake_registry import FakeRegistry
from tests.support.mirror import Reply, Running, mirror_in_process

SEARCH = "/api/v1/search"
CALLS = [
    Call(f"GET {SEARCH}", 400, {}, "UNSUPPORTED"),
    Call(f"GET {SEARCH}?term=x&limit=101", 400, {}, "UNSUPPORTED"),
    Call(f"GET {SEARCH}?term=x&limit=0", 400, {}, "UNSUPPORTED"),
    Call(f"GET {SEARCH}?term=x&filter=colour%3D1", 400, {}, "UNSUPPORTED"),
    Call(f"GET {SEARCH}?term={'x' * 300}", 400, {}, "UNSUPPORTED"),
    Call(f"GET {SEARCH}?term=x&registry=nowhere.test", 404, {}, "NAME_UNKNOWN"),
    Call(f"GET {SEARCH}?term=x", 404, {}, "UNSUPPORTED"),
    Call(f"GET {SEARCH}?term=x&local=true", 200, {}, json={"results": [], "remark": None}),
    Call(f"POST {SEARCH}?term=x", 405, {"Allow": "GET, HEAD"}, "UNSUPPORTED"),
    Call(f"GET {SEARCH}?term=x&local=true", 403, {}, "DENIED", sent={"Origin": "http://evil.example"}),
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("call", CALLS, ids=str)
async def test_calls(shared_wire: Wire, call: Call) -> None:
    await shared_wire.check(call)


def results(reply: Reply) -> list[dict[str, Any]]:
    assert reply.status == 200
    found: list[dict[str, Any]] = json.loads(reply.body)["results"]
    return found


def exit_code(reply: Reply) -> int:
    return int(json.loads(reply.body)["errors"][0]["detail"]["exit_code"])


async def ask(mirror: Running, query: str) -> Reply:
    return await mirror.get(f"{SEARCH}?{query}")


async def test_a_registrys_search(tmp_path: Path) -> None:
    async with FakeRegistry() as hub, FakeRegistry() as quay, FakeRegistry() as bare:
        hub.searches, quay.catalog = True, True
        hub.add_image("library/nginx", "1")
        hub.add_image("team/nginx", "1", seed="team")
        hub.described["team/nginx"] = {"description": "Ours\x1b[2J", "star_count": 3, "is_automated": True}
        quay.add_image("org/app", "1")
        registries = {"docker.io": hub.url, "quay.test": quay.url, "bare.test": bare.url}
        async with mirror_in_process(tmp_path / "d", registries) as mirror:
            await mirror.get("/v2/library/nginx/manifests/1")
            assert results(await ask(mirror, "term=nginx")) == [
                {
                    "name": "team/nginx",
                    "description": "Ours\x1b[2J",
                    "stars": 3,
                    "official": False,
                    "automated": True,
                    "cached": False,
                },
                {
                    "name": "nginx",
                    "description": "",
                    "stars": 0,
                    "official": True,
                    "automated": False,
                    "cached": True,
                },
            ]
            one = await ask(mirror, "term=nginx&filter=is-official%3Dtrue&filter=stars%3D0&limit=5")
            assert [each["name"] for each in results(one)] == ["nginx"]
            for query in ("term=app&registry=quay.test", "term=quay.test%2Fapp"):
                assert [each["name"] for each in results(await ask(mirror, query))] == ["quay.test/org/app"]
            none = await ask(mirror, "term=bare.test/x")
            assert (none.status, none.code, exit_code(none)) == (404, "UNSUPPORTED", 4)
            assert b"bare.test offers no search" in none.body
            assert (await stranger(mirror, f"{SEARCH}?term=nginx")).status == 403


async def test_offline_and_unreachable(tmp_path: Path) -> None:
    async with FakeRegistry() as hub:
        hub.searches = True
        hub.add_image("library/nginx", "1")
        async with mirror_in_process(tmp_path / "d", {"docker.io": hub.url}) as mirror:
            await mirror.get("/v2/library/nginx/manifests/1")
            mirror.app.policy.offline = True
            hub.forget()
            reply = await ask(mirror, "term=nginx")
            assert [each["name"] for each in results(reply)] == ["nginx"]
            assert "offline" in json.loads(reply.body)["remark"]
            none = await ask(mirror, "term=other")
            assert (none.status, exit_code(none)) == (404, 9)
            assert hub.count() == 0
            mirror.app.policy.offline = False
            await hub.stop()
            dead = await ask(mirror, "term=nginx")
            assert (dead.status, exit_code(dead)) == (503, MirrorError.exit_code)

"""`/api/v1/offline`: the switch at run time, end to end."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.faults.support import cached, hub, later, until
from tests.server.calls import Call, Wire
from tests.support.fake_registry import Gate
from tests.support.fake_registry import behaviours as b
from tests.support.mirror import Reply, Running

OFFLINE = "/api/v1/offline"
CALLS = [
    Call(f"GET {OFFLINE}", 200, {"Cache-Control": "no-store"}, json={"offline": False}),
    Call(f"PUT {OFFLINE}", 403, {}, "DENIED"),
    Call(f"POST {OFFLINE}", 405, {"Allow": "GET, HEAD, PUT"}, "UNSUPPORTED"),
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("call", CALLS, ids=str)
async def test_calls(shared_wire: Wire, call: Call) -> None:
    await shared_wire.check(call)


async def put(mirror: Running, body: object) -> Reply:
    async with mirror.session.put(mirror.url + OFFLINE, json=body) as response:
        return Reply(response.status, response.headers.copy(), await response.read())


async def turn(mirror: Running, *, offline: bool) -> None:
    reply = await put(mirror, {"offline": offline})
    assert (reply.status, json.loads(reply.body)) == (200, {"offline": offline})


async def test_the_switch(tmp_path: Path) -> None:
    """Breaks if anything is sent while it is on, if what is held waits for anything, or if what is held stays stale
    after it is off."""
    async with hub(tmp_path, section={"tag_ttl": "0s"}, access={"loopback": "all"}) as (registry, mirror):
        image = registry.add_image("library/x", "1")
        layer = image.layers[0][0]
        await mirror.get("/v2/library/x/manifests/1")
        await mirror.get(f"/v2/library/x/blobs/{layer}")
        await mirror.idle()
        gate = Gate()
        registry.script("*", b.hang(gate), times=None)
        begun = asyncio.get_running_loop().create_task(mirror.get("/v2/library/x/manifests/1"))
        await until(lambda: registry.count("HEAD */manifests/1") > 1)
        await turn(mirror, offline=True)
        registry.forget()
        async with asyncio.timeout(2):
            held = await mirror.get("/v2/library/x/manifests/1")
            assert (held.status, held.body, cached(held)) == (200, image.manifest.raw, "stale")
            assert "offline" in held.headers["Warning"]
            assert (await mirror.get(f"/v2/library/x/blobs/{layer}")).status == 200
            for path in ("x/manifests/2", f"x/blobs/sha256:{'1' * 64}", "y/tags/list", "y/manifests/1"):
                missing = await mirror.get(f"/v2/library/{path}")
                assert missing.status == 404
            assert "offline" in json.loads((await mirror.get("/v2/library/x/manifests/2")).body)["errors"][0]["message"]
        status = json.loads((await mirror.get("/api/v1/status")).body)
        assert status["offline"] is True
        assert status["registries"][0]["state"] == "offline"
        assert json.loads((await mirror.get(OFFLINE)).body) == {"offline": True}
        later(mirror, 1000)
        await mirror.app.upstreams.probe()
        assert registry.count() == 0
        gate.release()
        registry.unscript()
        await begun
        await mirror.idle()
        moved = registry.add_image("library/x", "1", seed="moved")
        await turn(mirror, offline=False)
        anew = await mirror.get("/v2/library/x/manifests/1")
        assert (anew.body, cached(anew)) == (moved.manifest.raw, "miss")
        await until(lambda: registry.count("GET /v2/"))
        assert (await mirror.get("/v2/library/x/manifests/2")).status == 404


async def test_it_begins_where_the_settings_say(tmp_path: Path) -> None:
    async with hub(tmp_path, offline=True, access={"loopback": "all"}) as (registry, mirror):
        registry.add_image("library/x", "1")
        assert json.loads((await mirror.get(OFFLINE)).body) == {"offline": True}
        assert (await mirror.get("/v2/library/x/manifests/1")).status == 404
        await turn(mirror, offline=False)
        assert (await mirror.get("/v2/library/x/manifests/1")).status == 200


async def test_what_is_no_switch(tmp_path: Path) -> None:
    async with hub(tmp_path, access={"loopback": "all"}) as (_, mirror):
        wrong: tuple[object, ...] = ({}, {"offline": "perhaps"}, {"offline": True, "x": 1}, [], None)
        for body in wrong:
            assert (await put(mirror, body)).status == 400
        assert json.loads((await mirror.get(OFFLINE)).body) == {"offline": False}

"""`/api/v1/misses`, end to end."""

import json
from pathlib import Path

import pytest

from tests.faults.support import HUB, hub, stranger
from tests.server.calls import Call, Wire

MISSES = "/api/v1/misses"
CALLS = [
    Call(f"GET {MISSES}?limit=0", 400, {}, "UNSUPPORTED"),
    Call(f"GET {MISSES}?x=1", 400, {}, "UNSUPPORTED"),
    Call(f"DELETE {MISSES}", 403, {}, "DENIED"),
    Call(f"POST {MISSES}", 405, {"Allow": "DELETE, GET, HEAD"}, "UNSUPPORTED"),
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("call", CALLS, ids=str)
async def test_calls(shared_wire: Wire, call: Call) -> None:
    await shared_wire.check(call)


async def test_what_was_asked_for_and_not_here(tmp_path: Path) -> None:
    """Fails if a manifest by digest or a blob leaves no trace, or an answer of the registry leaves one."""
    async with hub(tmp_path, access={"loopback": "all"}) as (registry, mirror):
        registry.add_image("library/here", "1")
        await mirror.get("/v2/library/here/manifests/1")
        await mirror.get("/v2/library/here/manifests/none")
        mirror.app.policy.offline = True
        digest = f"sha256:{'1' * 64}"
        for path in ("library/x/manifests/3", f"team/y/manifests/{digest}", f"library/here/blobs/{digest}"):
            for _ in range(2):
                assert (await mirror.get(f"/v2/{path}")).status == 404
        assert (await mirror.get("/v2/library/here/manifests/1")).status == 200
        listed = json.loads((await mirror.get(MISSES)).body)["misses"]
        assert {(each["name"], each["count"]) for each in listed} == {
            (f"{HUB}/library/x:3", 2),
            (f"{HUB}/team/y@{digest}", 2),
            (f"{HUB}/library/here@{digest}", 2),
        }
        assert [each["last_at"] for each in listed] == sorted((each["last_at"] for each in listed), reverse=True)
        assert len(json.loads((await mirror.get(f"{MISSES}?limit=1")).body)["misses"]) == 1
        assert (await stranger(mirror, MISSES)).status == 403
        assert json.loads((await mirror.get(MISSES, "DELETE")).body) == {"ok": True}
        assert json.loads((await mirror.get(MISSES)).body) == {"misses": []}

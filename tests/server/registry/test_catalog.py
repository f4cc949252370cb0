"""`GET /v2/_catalog`: the repositories held, in order, page by page."""

import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.faults.support import stranger
from tests.server.calls import ALWAYS, Call, Wire
from tests.support.fake_registry import FakeRegistry
from tests.support.mirror import Running, mirror_in_process

CATALOG = "/v2/_catalog"
HEADERS = {**ALWAYS, "Content-Type": "application/json"}
CALLS = [
    Call(f"GET {CATALOG}", 200, HEADERS, json={"repositories": []}),
    Call(f"HEAD {CATALOG}", 200, HEADERS, b""),
    Call(f"GET {CATALOG}?n=0", 200, {**HEADERS, "Link": None}, json={"repositories": []}),
    Call(f"GET {CATALOG}?last=zzz", 200, {"Link": None}, json={"repositories": []}),
    Call(f"GET {CATALOG}?n=x", 400, ALWAYS, "UNSUPPORTED"),
    Call(f"POST {CATALOG}", 405, ALWAYS, "UNSUPPORTED"),
    Call(f"GET {CATALOG}/", 404, ALWAYS, "UNSUPPORTED"),
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("call", CALLS, ids=str)
async def test_calls(shared_wire: Wire, call: Call) -> None:
    await shared_wire.check(call)


async def listed(mirror: Running, query: str = "") -> tuple[list[str], str | None]:
    reply = await mirror.get(CATALOG + query)
    assert reply.status == 200
    return json.loads(reply.body)["repositories"], reply.headers.get("Link")


async def test_following_the_links_gives_everything_once_and_each_can_be_pulled(tmp_path: Path) -> None:
    names = ["library/a", "library/b", "team/a", "z/z"]
    async with FakeRegistry() as hub, FakeRegistry() as quay:
        for name in names:
            hub.add_image(name, "1", seed=name)
        quay.add_image("org/x", "1")
        async with mirror_in_process(tmp_path / "d", {"docker.io": hub.url, "quay.test": quay.url}) as mirror:
            for name in (*names, "quay.test/org/x"):
                assert (await mirror.get(f"/v2/{name}/manifests/1")).status == 200
            expected = ["library/a", "library/b", "quay.test/org/x", "team/a", "z/z"]
            assert await listed(mirror) == (expected, None)
            for count in (1, 2, 4, 5, 2000):
                found: list[str] = []
                query = f"?n={count}"
                while query:
                    page, link = await listed(mirror, query)
                    assert 0 < len(page) <= count
                    found += page
                    assert link is None or link.endswith('; rel="next"')
                    query = f"?{urlsplit(link[1:].partition('>')[0]).query}" if link else ""
                assert found == expected
            assert await listed(mirror, "?last=quay.test/org/wxyz&n=1") == (
                ["quay.test/org/x"],
                f'<{CATALOG}?n=1&last=quay.test%2Forg%2Fx>; rel="next"',
            )
            for name in expected:
                assert (await mirror.get(f"/v2/{name}/manifests/1")).status == 200


async def test_private_names_are_for_this_machine_only(tmp_path: Path) -> None:
    async with FakeRegistry() as hub:
        hub.access.scheme, hub.access.users, hub.access.private = "bearer", {"me": "x"}, ["me/*"]
        for name in ("me/secret", "team/open"):
            hub.add_image(name, "1", seed=name)
        section = {"url": hub.url, "username": "me", "password": "x"}
        async with mirror_in_process(tmp_path / "d", {"docker.io": section}) as mirror:
            for name in ("me/secret", "team/open"):
                assert (await mirror.get(f"/v2/{name}/manifests/1")).status == 200
            assert (await listed(mirror))[0] == ["me/secret", "team/open"]
            assert json.loads((await stranger(mirror, CATALOG)).body) == {"repositories": ["team/open"]}

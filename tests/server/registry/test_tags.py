"""Tag lists on the wire: pages, their `Link`, and what happens without upstream."""

import json
import re

import pytest
from yarl import URL

from tests.server.calls import ABSENT, ALWAYS, ANY, Call, Wire
from tests.support.fake_registry import behaviours

LIST = "/v2/team/many/tags/list"
OK = {**ALWAYS, "Content-Type": "application/json", "Link": ABSENT, "Warning": ABSENT, "OCI-Namespace": ABSENT}
ERROR = {**ALWAYS, "Content-Type": "application/json", "Link": ABSENT}


def link(path: str) -> dict[str, str | None]:
    return {**OK, "Link": f'<{path}>; rel="next"'}


def names(*tags: str) -> dict[str, object]:
    return {"name": "team/many", "tags": list(tags)}


ALL = names("v0", "v1", "v2", "v3", "v4")

CALLS = [
    Call(f"GET {LIST}", 200, OK, json=ALL),
    Call(f"HEAD {LIST}", 200, {**OK, "Content-Length": ANY}, b""),
    Call("GET /v2/docker.io/team/many/tags/list", 200, OK, json=ALL),
    Call(f"GET {LIST}?n=5", 200, OK, json=ALL),
    Call(f"GET {LIST}?n=2", 200, link(f"{LIST}?n=2&last=v1"), json=names("v0", "v1")),
    Call(f"GET {LIST}?n=2&last=v1", 200, link(f"{LIST}?n=2&last=v3"), json=names("v2", "v3")),
    Call(f"GET {LIST}?n=2&last=v3", 200, OK, json=names("v4")),
    Call(f"GET {LIST}?last=v3", 200, OK, json=names("v4")),
    Call(f"GET {LIST}?last=v2x", 200, OK, json=names("v3", "v4")),  # one that does not exist (any more)
    Call(f"GET {LIST}?last=zzz", 200, OK, json=names()),
    Call(f"GET {LIST}?n=0", 200, OK, json=names()),
    Call(f"GET {LIST}?n=", 200, OK, json=ALL),
    Call(f"GET {LIST}?n=999999999999999999", 200, OK, json=ALL),
    # ns stays
    Call(f"GET {LIST}?n=2&ns=docker.io", 200,
         {**link(f"{LIST}?n=2&last=v1&ns=docker.io"), "OCI-Namespace": "docker.io"}, json=names("v0", "v1")),
    Call(f"GET {LIST}?ns=registry-1.docker.io&last=v0&n=1", 200,
         {**link(f"{LIST}?n=1&last=v1&ns=docker.io"), "OCI-Namespace": "docker.io"}, json=names("v1")),
    Call("GET /v2/docker.io/team/many/tags/list?n=1", 200,
         link("/v2/docker.io/team/many/tags/list?n=1&last=v0"), json=names("v0")),
    Call("GET /docker.io/v2/team/many/tags/list?n=1", 200,
         link("/docker.io/v2/team/many/tags/list?n=1&last=v0"), json=names("v0")),
    # what cannot be understood, what is not there
    Call(f"GET {LIST}?n=many", 400, ERROR, "UNSUPPORTED"),
    Call(f"GET {LIST}?n=-1", 400, ERROR, "UNSUPPORTED"),
    Call(f"GET {LIST}?last=%00", 400, ERROR, "UNSUPPORTED"),
    Call("GET /v2/team/nobody/tags/list", 404, ERROR, "NAME_UNKNOWN"),
    Call("GET /v2/quay.io/team/many/tags/list", 404, ERROR, "NAME_UNKNOWN"),
]  # fmt: skip


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("call", CALLS, ids=str)
async def test_calls(shared_wire: Wire, call: Call) -> None:
    await shared_wire.check(call)


@pytest.mark.parametrize("query", ["", "&ns=docker.io"])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
async def test_following_the_links_gives_everything_once(wire: Wire, count: int, query: str) -> None:
    target: str | None = f"{LIST}?n={count}{query}"
    found: list[str] = []
    while target is not None:
        answer = await wire.ask(f"GET {target}")
        found += json.loads(answer.body)["tags"]
        following = re.fullmatch(r'<(.+)>; rel="next"', answer.headers.get("Link", ""))
        target = following[1] if following else None
        if target is not None and query:
            assert URL(target).query["ns"] == "docker.io"
    assert found == ["v0", "v1", "v2", "v3", "v4"]


async def test_without_an_answer_what_is_held_is_listed_with_a_warning(wire: Wire) -> None:
    await wire.ask("GET /v2/team/many/manifests/v2")
    wire.content.hub.script("*", behaviours.status(503), times=None)
    answer = await wire.check(Call(f"GET {LIST}", 200, {**OK, "Warning": ANY}, json=names("v2")))
    assert re.fullmatch(r'299 - "[ -~]+; only what is held here is listed"', answer.headers["Warning"])
    assert len(answer.headers["Warning"]) <= 200


async def test_a_page_is_bounded(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mirror.server.registry.tags.MOST", 3)
    for query in ("", "?n=4"):
        await wire.check(Call(f"GET {LIST}{query}", 200, link(f"{LIST}?n=3&last=v2"), json=names("v0", "v1", "v2")))

"""`/v1/_ping` and `/v1/search`, as dockerd and podman ask them."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mirror import __version__
from tests.faults.support import stranger
from tests.server.calls import ALWAYS, Call, Wire
from tests.support.fake_registry import FakeRegistry
from tests.support.mirror import Running, mirror_in_process

PING = {
    **ALWAYS,
    "Content-Type": "application/json",
    "X-Docker-Registry-Version": __version__,
    "X-Docker-Registry-Standalone": "true",
}
CALLS = [
    Call("GET /v1/_ping", 200, PING, b"true"),
    Call("GET /v1/_ping", 200, PING, b"true", sent={"Host": "mirror.example"}),
    Call("POST /v1/_ping", 405, ALWAYS, "UNSUPPORTED"),
    Call("GET /v1/search?q=x&n=a", 400, ALWAYS, "UNSUPPORTED"),
    Call("GET /v1/search?q=a%0Ab", 400, ALWAYS, "UNSUPPORTED"),
    Call("GET /v1/search?q=a..b/x", 400, ALWAYS, "NAME_INVALID"),
    Call("GET /v1/search?q=nowhere.test/x", 404, ALWAYS, "NAME_UNKNOWN"),
    Call("GET /v1/search?q=zzz", 404, ALWAYS, "UNSUPPORTED"),  # a registry without a search
    Call("PUT /v1/search?q=x", 405, ALWAYS, "UNSUPPORTED"),
    Call("GET /v1/users/", 404, ALWAYS, "UNSUPPORTED"),
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("call", CALLS, ids=str)
async def test_calls(shared_wire: Wire, call: Call) -> None:
    await shared_wire.check(call)


@asynccontextmanager
async def searchable(tmp_path: Path) -> AsyncIterator[tuple[FakeRegistry, FakeRegistry, Running]]:
    """A docker.io with a search, and a quay.test with a catalog; docker.io's library/nginx:1 is held."""
    async with FakeRegistry() as hub, FakeRegistry() as quay:
        hub.searches, quay.catalog = True, True
        for name in ("library/nginx", "team/nginx", *(f"many/app{n}" for n in range(30))):
            hub.add_image(name, "1", seed=name)
        hub.described["nginx"] = {"description": "The server.", "star_count": 7}
        quay.add_image("org/nginx", "1")
        async with mirror_in_process(tmp_path / "d", {"docker.io": hub.url, "quay.test": quay.url}) as mirror:
            assert (await mirror.get("/v2/library/nginx/manifests/1")).status == 200
            yield hub, quay, mirror


async def search(mirror: Running, query: str) -> dict[str, Any]:
    reply = await mirror.get(f"/v1/search?{query}")
    assert (reply.status, reply.headers["Content-Type"]) == (200, "application/json")
    found: dict[str, Any] = json.loads(reply.body)
    return found


def names(found: dict[str, Any]) -> list[str]:
    return [each["name"] for each in found["results"]]


async def test_dockers_shape(tmp_path: Path) -> None:
    async with searchable(tmp_path) as (_, _, mirror):
        found = await search(mirror, "q=nginx&n=25")
        assert found == {
            "query": "nginx",
            "num_results": 2,
            "num_pages": 1,
            "page": 1,
            "page_size": 25,
            "results": [
                {
                    "name": "nginx",
                    "description": "The server.",
                    "star_count": 7,
                    "is_official": True,
                    "is_automated": False,
                    "is_trusted": False,
                },
                {
                    "name": "team/nginx",
                    "description": "",
                    "star_count": 0,
                    "is_official": False,
                    "is_automated": False,
                    "is_trusted": False,
                },
            ],
        }


async def test_another_registry_by_its_name(tmp_path: Path) -> None:
    async with searchable(tmp_path) as (hub, quay, mirror):
        hub.forget()
        assert names(await search(mirror, "q=quay.test%2Fnginx&n=25")) == ["quay.test/org/nginx"]
        assert hub.count() == 0
        assert (await mirror.get("/v2/quay.test/org/nginx/manifests/1")).status == 200
        await quay.stop()
        assert names(await search(mirror, "q=quay.test/nginx")) == ["quay.test/org/nginx"]
        reply = await mirror.get("/v1/search?q=quay.test/none")
        assert reply.status == 404


async def test_pages(tmp_path: Path) -> None:
    async with searchable(tmp_path) as (_, _, mirror):
        assert len(names(await search(mirror, "q=app"))) == 25
        pages = [names(await search(mirror, f"q=app&n=12&page={page}")) for page in range(1, 5)]
        assert [len(page) for page in pages] == [12, 12, 6, 0]
        assert len({name for page in pages for name in page}) == 30
        assert len(names(await search(mirror, "q=app&n=100000"))) == 30
        assert names(await search(mirror, "q=app&n=5&page=999999999")) == []
        assert len(names(await search(mirror, "q=app&n=0&page=0"))) == 25


async def test_strangers_search_too(tmp_path: Path) -> None:
    async with searchable(tmp_path) as (_, _, mirror):
        reply = await stranger(mirror, "/v1/search?q=nginx&n=25")
        assert names(json.loads(reply.body)) == ["nginx", "team/nginx"]


async def test_without_a_registry_what_is_held(tmp_path: Path) -> None:
    async with searchable(tmp_path) as (hub, _, mirror):
        await hub.stop()
        assert names(await search(mirror, "q=nginx")) == ["nginx"]
        assert (await mirror.get("/v1/search?q=app")).status == 404

"""Who asks, for what, who answers; and whatever goes wrong becomes an answer too."""

import asyncio
import logging
from typing import Any

import pytest
from aiohttp import ClientPayloadError, web

from mirror.oci import routes
from mirror.server import dispatch as module
from mirror.server.dispatch import Dispatch
from mirror.upstream.loops import LOOP, VIA
from tests.cache.support import settled
from tests.faults.support import client
from tests.server.calls import ABSENT, Call, Wire
from tests.support.fake_registry import Gate, behaviours

TAG = "/v2/library/alpine/manifests/3"


def instance(wire: Wire) -> str:
    return str(wire.mirror.app.status._place.instance)


def handler(wire: Wire) -> Dispatch:
    """The one of TCP."""
    server: Any = wire.mirror.app.listeners._runners[0].server
    found = server._handler
    assert isinstance(found, Dispatch)
    return found


# --- loops ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/v2/", TAG, "/v2/library/alpine/blobs/{small}", "/healthz"])
async def test_what_this_mirror_itself_has_caused_ends_at_once(wire: Wire, target: str) -> None:
    await wire.ask(f"GET {TAG}")
    wire.content.hub.forget()
    own = instance(wire)
    for via in (own, f"another, {own}"):
        await wire.check(Call(f"GET {target}", 508, {LOOP: own}, sent={VIA: via}))
    assert wire.content.hub.requests == []


async def test_what_another_mirror_causes_carries_on_its_ids(wire: Wire) -> None:
    await wire.check(Call(f"GET {TAG}", 200, {LOOP: ABSENT}, sent={VIA: "another, third"}))
    await wire.check(Call("GET /v2/library/alpine/blobs/{small}", 200, sent={VIA: "fourth"}))
    await wire.check(Call("GET /v2/library/alpine/blobs/{large}", 200))
    vias = {(request.path.split("/")[-2], request.headers[VIA]) for request in wire.content.hub.requests}
    assert ("manifests", f"{instance(wire)}, another, third") in vias
    assert ("blobs", f"{instance(wire)}, fourth") in vias
    assert ("blobs", instance(wire)) in vias


# --- the target -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["http", "HTTPS"])
async def test_an_absolute_target_names_the_host(wire: Wire, scheme: str) -> None:
    """RFC 9112, 3.2.2: a server has to accept what is meant for a proxy, and `Host` counts for nothing then."""
    for _ in range(2):  # nor may the second be answered at once as something else
        async with client(wire.mirror, f"{scheme}://localhost{TAG}", Host="evil.example") as answer:
            assert (answer.status, answer.headers["docker-content-digest"]) == (200, wire.content.image.digest)
            assert len(await answer.rest()) > 0
            await answer.ask(f"{scheme}://localhost", Host="evil.example")
            assert answer.status == 404


@pytest.mark.parametrize("target", ["*", "localhost:80", "http:/v2/", "://v2/", "ftp://x/v2/"])
async def test_another_target_is_no_route(wire: Wire, target: str) -> None:
    async with client(wire.mirror, target) as answer:
        assert answer.status in {400, 404}


# --- what goes wrong --------------------------------------------------------------------------------------


async def test_a_mistake_of_ours_is_a_500_in_the_specified_shape(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object, **__: object) -> object:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(handler(wire)._services.listings, "tags", broken)
    with caplog.at_level(logging.ERROR):
        answer = await wire.check(
            Call("GET /v2/team/many/tags/list", 500, {"Content-Type": "application/json"}, "UNKNOWN")
        )
    assert "oops" not in answer.error["message"]
    assert "ZeroDivisionError: oops" in caplog.text


async def test_an_unknown_manifest_is_no_error_of_the_log(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    for target in ("manifests/4", "manifests/sha256:" + "1" * 64, "blobs/sha256:" + "1" * 64):
        assert (await wire.ask(f"GET /v2/library/alpine/{target}")).status == 404
    await wire.mirror.idle()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_client_that_leaves_is_nobodys_error(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    wire.content.hub.script("GET */blobs/*", behaviours.hang_after(1000, gate))
    async with wire.connection() as raw:
        raw.write(wire.content.filled("GET /v2/library/alpine/blobs/{large}"), Host=wire.mirror.authority)
        await asyncio.to_thread(gate.reached.wait)
    gate.release()
    await wire.mirror.idle()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    answer = await wire.ask("GET /v2/library/alpine/blobs/{large}")
    assert (answer.headers["Mirror-Cache"], answer.body) == ("hit", wire.content.large[1])


async def test_after_the_first_byte_the_connection_is_cut(wire: Wire) -> None:
    wire.content.hub.script("GET */blobs/*", behaviours.wrong_bytes(), times=None)
    with pytest.raises(ClientPayloadError):
        await wire.mirror.get(wire.content.filled("/v2/library/alpine/blobs/{large}"))
    await wire.mirror.idle()
    wire.content.hub.unscript()
    answer = await wire.mirror.get(wire.content.filled("/v2/library/alpine/blobs/{large}"))
    assert answer.body == wire.content.large[1]


# --- what is remembered -----------------------------------------------------------------------------------


async def test_paths_are_parsed_once_and_what_is_remembered_is_bounded(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REMEMBERED", 5)
    remembered = handler(wire)._routes
    parsed: list[str] = []
    parse = routes.parse

    def counting(path: str, query: str) -> routes.Route:
        parsed.append(path)
        return parse(path, query)

    monkeypatch.setattr(routes, "parse", counting)
    for _ in range(3):
        await wire.mirror.get("/v2/team/many/tags/list?n=1")
    assert parsed == ["/v2/team/many/tags/list"]
    for number in range(20):
        await wire.mirror.get(f"/v2/team/many/tags/list?n={number}")
        assert len(remembered) <= 5
    remembered.clear()
    await wire.mirror.get("/v2/team/many/tags/list?" + "x" * 2000)
    assert not remembered


async def test_the_same_path_from_another_host_is_another_repository(wire: Wire) -> None:
    """The registry's own name in `Host`: nothing that was learnt for one may answer for the other."""
    hub = wire.content.hub.add_image("team/tool", "1", layers=[7])
    expected = {"docker.io": hub.digest, "ghcr.io": wire.content.tool.digest, wire.mirror.authority: hub.digest}
    for _ in range(3):
        for host, digest in expected.items():
            answer = await wire.ask("GET /v2/team/tool/manifests/1", Host=host)
            assert answer.headers["Docker-Content-Digest"] == digest


async def test_hits_and_misses_are_counted(wire: Wire) -> None:
    traffic = handler(wire)._services.traffic
    for path in (TAG, TAG, "/v2/library/alpine/blobs/{small}", "/v2/", "/nonsense", "/v2/library/alpine/manifests/4"):
        await wire.mirror.get(wire.content.filled(path))
    await wire.mirror.idle()
    await wire.mirror.get(wire.content.filled("/v2/library/alpine/blobs/{small}"))
    assert (traffic.misses, traffic.hits) == (2, 2)


async def test_every_request_ends_with_a_response_even_where_nobody_reads_it(wire: Wire) -> None:
    for _ in range(20):
        async with wire.connection() as raw:
            raw.write(f"GET {TAG}", f"GET {TAG}", Host=wire.mirror.authority)
    server = wire.mirror.app.listeners._runners[0].server
    assert isinstance(server, web.Server)
    await settled(lambda: not [each for each in server.connections if each.transport is not None])

"""Manifests on the wire: as stored, whatever the client accepts; hot, stale, gone."""

import re

import pytest

from mirror.server.http import Prepared
from mirror.server.registry.manifests import PREPARED_LIMIT
from tests.server.calls import ABSENT, ALWAYS, ANY, NOWHERE, OCI_INDEX, OCI_MANIFEST, Answer, Call, Wire
from tests.support.fake_registry import Behaviour, behaviours

TAG, DIGEST = "/v2/library/alpine/manifests/3", "/v2/library/alpine/manifests/{image}"
STRANGER = {"X-Forwarded-For": "192.0.2.1"}
FOUND = {
    **ALWAYS,
    "Content-Type": OCI_MANIFEST,
    "Content-Length": ANY,
    "Docker-Content-Digest": "{image}",
    "ETag": '"{image}"',
    "X-Content-Type-Options": "nosniff",
    "Content-Encoding": ABSENT,
    "OCI-Namespace": ABSENT,
    "Warning": ABSENT,
    "WWW-Authenticate": ABSENT,
    "X-Registry-Supports-Signatures": ABSENT,
    "Date": ANY,
}
INDEX = {**FOUND, "Content-Type": OCI_INDEX, "Docker-Content-Digest": "{index}", "ETag": '"{index}"'}
ERROR = {**ALWAYS, "Content-Type": "application/json", "Docker-Content-Digest": ABSENT, "Retry-After": ABSENT}

# Each is run with nothing held and with everything fresh: nothing but `Mirror-Cache` may differ.
CALLS = [
    *(
        Call(f"{method} {path}", 200, FOUND, sent=sent)
        for method in ("GET", "HEAD")
        for path in (TAG, DIGEST)
        for sent in ({}, STRANGER)
    ),
    Call(f"GET {TAG}", 200, FOUND, sent={"Accept": OCI_INDEX}),  # the bytes that are there, not those that are wanted
    Call(f"GET {TAG}", 200, FOUND, sent={"Accept": "text/html", "Accept-Encoding": "gzip, zstd"}),
    Call("GET /v2/library/alpine/manifests/index", 200, INDEX),
    Call("GET /v2/library/alpine/manifests/{index}", 200, INDEX),
    # the forms of a name
    Call("GET /v2/alpine/manifests/3", 200, FOUND),
    Call("GET /v2/docker.io/library/alpine/manifests/3", 200, FOUND),
    Call("GET /v2/registry-1.docker.io/alpine/manifests/3", 200, FOUND),
    Call("GET /docker.io/v2/library/alpine/manifests/3", 200, FOUND),
    Call("GET /v2/library/alpine/manifests/3?ns=docker.io", 200, {**FOUND, "OCI-Namespace": "docker.io"}),
    Call("GET /v2/docker.io/library/alpine/manifests/3?ns=docker.io", 200, {**FOUND, "OCI-Namespace": "docker.io"}),
    Call("GET /v2/library/alpine/manifests/3?ns=registry-1.docker.io", 200, {**FOUND, "OCI-Namespace": "docker.io"}),
    Call("GET /v2/library/alpine/manifests/3", 200, FOUND, sent={"Host": "docker.io"}),
    Call("GET /v2/team/tool/manifests/1?ns=ghcr.io", 200, {"OCI-Namespace": "ghcr.io", "ETag": '"{tool}"'}),
    Call("GET /v2/ghcr.io/team/tool/manifests/1", 200, {"OCI-Namespace": ABSENT, "ETag": '"{tool}"'}),
    Call("GET /v2/team/tool/manifests/1", 200, {"ETag": '"{tool}"'}, sent={"Host": "ghcr.io"}),
    # conditions
    Call(f"GET {TAG}", 304, {"ETag": '"{image}"', "Docker-Content-Digest": "{image}"},
         sent={"If-None-Match": '"{image}"'}),
    Call(f"HEAD {DIGEST}", 304, {"ETag": '"{image}"'}, sent={"If-None-Match": 'W/"x", "{image}"'}),
    Call(f"GET {TAG}", 200, FOUND, sent={"If-None-Match": '"{index}"'}),
    Call(f"GET {TAG}", 200, FOUND, sent={"If-Modified-Since": "Tue, 24 Nov 2076 10:00:00 GMT"}),
    Call(f"GET {TAG}", 200, FOUND, sent={"Range": "bytes=0-1"}),
]  # fmt: skip


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "hot"])
@pytest.mark.parametrize("call", CALLS, ids=str)
async def test_calls(wire: Wire, call: Call, warm: bool) -> None:
    if warm:
        call = Call(call.request, call.status, call.headers, sent=call.sent, first=(call.request,))
        # asked for once under the same name, as the same host
        await wire.send(call.request, {"Host": call.sent.get("Host", wire.mirror.authority)})
    answer = await wire.check(call)
    assert answer.headers["Mirror-Cache"] == ("hit" if warm else "miss")
    if call.status == 200:
        raw = _raw(wire, answer.headers["Docker-Content-Digest"])
        assert answer.headers["Content-Length"] == str(len(raw))
        assert answer.body == (raw if call.request.startswith("GET") else b"")


def _raw(wire: Wire, digest: str) -> bytes:
    found = [
        repository.manifests[digest].raw
        for registry in (wire.content.hub, wire.content.other)
        for repository in registry.content.repositories.values()
        if digest in repository.manifests
    ]
    return found[0]


UNKNOWN = [
    Call("GET /v2/library/alpine/manifests/4", 404, ERROR, "MANIFEST_UNKNOWN"),
    Call("HEAD /v2/library/alpine/manifests/4", 404, ERROR),
    Call(f"GET /v2/library/alpine/manifests/{NOWHERE}", 404, ERROR, "MANIFEST_UNKNOWN"),
    Call("GET /v2/library/alpine/manifests/sha256-aaaa.sig", 404, ERROR, "MANIFEST_UNKNOWN"),
    Call("GET /v2/library/alpine/manifests/.INVALID", 404, ERROR, "MANIFEST_UNKNOWN"),
    Call("GET /v2/library/nobody/manifests/3", 404, ERROR, "MANIFEST_UNKNOWN"),
    Call("GET /v2/team/many/manifests/{image}", 404, ERROR, "MANIFEST_UNKNOWN"),
    Call("GET /v2/team/many/manifests/{image}", 404, ERROR, "MANIFEST_UNKNOWN", first=(f"GET {DIGEST}",)),
    Call("GET /v2/ghcr.io/library/alpine/manifests/3", 404, ERROR, "MANIFEST_UNKNOWN"),
    Call("GET /v2/library/alpine/manifests/4", 404, ERROR, "MANIFEST_UNKNOWN", sent={"If-None-Match": "*"}),
    # containerd asks for a digest as a blob first
    Call(f"GET {DIGEST}", 200, FOUND, first=("HEAD /v2/library/alpine/blobs/{image}",)),
]


@pytest.mark.parametrize("call", UNKNOWN, ids=str)
async def test_unknown(wire: Wire, call: Call) -> None:
    await wire.check(call)


def plain(answer: Answer) -> list[tuple[str, str]]:
    """The headers but for the two that say who answered when."""
    return sorted((name, value) for name, value in answer.headers.items() if name not in ("Date", "Server"))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", [TAG, DIGEST, f"{TAG}?ns=docker.io", "/v2/library/alpine/manifests/index"])
async def test_a_prepared_answer_is_aiohttps_own(
    wire: Wire, method: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written past aiohttp's header handling has the same headers and the same body."""
    await wire.ask(f"{method} {path}")
    written = []
    now = Prepared.now

    def counting(prepared: Prepared) -> bytes:
        written.append(prepared)
        return now(prepared)

    monkeypatch.setattr(Prepared, "now", counting)
    prepared = [await wire.ask(f"{method} {path}") for _ in range(2)]
    assert len(written) == 2
    ordinary = await wire.ask(f"{method} {path}", If_None_Match='"something else"')
    assert len(written) == 2
    assert ordinary.headers["Mirror-Cache"] == "hit"
    for answer in prepared:
        assert (answer.status, plain(answer), answer.body) == (200, plain(ordinary), ordinary.body)
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", answer.headers["Date"])


async def test_get_and_head_and_ns_are_prepared_apart(wire: Wire) -> None:
    await wire.ask(f"GET {TAG}")
    for _ in range(2):
        get, head = await wire.ask(f"GET {TAG}"), await wire.ask(f"HEAD {TAG}")
        named = await wire.ask(f"GET {TAG}?ns=docker.io")
        assert (get.body, head.body, named.body) == (_raw(wire, wire.content.image.digest), b"", get.body)
        assert [each.headers.get("OCI-Namespace") for each in (get, head, named)] == [None, None, "docker.io"]


async def test_a_connection_that_ends_is_told_so(wire: Wire) -> None:
    await wire.ask(f"GET {TAG}")
    answer = await wire.ask(f"GET {TAG}", Connection="close")
    assert answer.closed
    assert answer.body == _raw(wire, wire.content.image.digest)


async def test_a_tag_and_its_digest_cost_one_get(wire: Wire) -> None:
    for request in (f"HEAD {TAG}", f"GET {TAG}", f"HEAD {DIGEST}", f"GET {DIGEST}"):
        await wire.ask(request)
    assert wire.content.hub.count("GET */manifests/*") == 1


# --- time and upstream --------------------------------------------------------------------------------------


async def test_revalidated(wire: Wire) -> None:
    await wire.ask(f"GET {TAG}")
    wire.mirror.clock.shift += 60
    wire.mirror.clock.wall_shift += 60
    answer = await wire.ask(f"GET {TAG}")
    assert (answer.headers["Mirror-Cache"], wire.content.hub.count("GET */manifests/*")) == ("revalidated", 1)
    assert (await wire.ask(f"GET {TAG}")).headers["Mirror-Cache"] == "hit"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_stale_with_a_warning(wire: Wire, method: str) -> None:
    await wire.ask(f"GET {TAG}")
    wire.mirror.clock.shift += 60
    wire.mirror.clock.wall_shift += 60
    wire.content.hub.script("*", behaviours.status(503), times=None)
    for _ in range(2):
        answer = await wire.check(Call(f"{method} {TAG}", 200, {**FOUND, "Warning": ANY, "Mirror-Cache": "stale"}))
        text = answer.headers["Warning"]
        assert re.fullmatch(r'299 - "[ -~]+; served from the cache, last confirmed [0-9: -]+ UTC"', text)
        assert len(text) <= 200
    assert (await wire.ask(f"GET {TAG}", If_None_Match='"{image}"')).status == 304
    fresh = await wire.check(Call(f"{method} {DIGEST}", 200, FOUND))  # by digest nothing is stale
    assert fresh.headers["Mirror-Cache"] == "hit"


@pytest.mark.parametrize(
    "behaviour",
    [
        behaviours.status(503),
        behaviours.limited("30"),
        behaviours.reset(),
        behaviours.status(401),
        behaviours.status(404),
    ],
)
async def test_an_upstream_without_an_answer_is_a_404_that_says_why(wire: Wire, behaviour: Behaviour) -> None:
    """Every client goes on to its next endpoint then; never a 429, which containerd resends without a pause."""
    wire.content.hub.script("*", behaviour, times=None)
    await wire.check(Call(f"HEAD {TAG}", 404, ERROR))
    answer = await wire.check(Call(f"GET {TAG}", 404, ERROR))
    assert answer.code == "MANIFEST_UNKNOWN"
    assert "docker.io" in answer.error["message"]


async def test_a_manifest_too_large_to_prepare_is_written_the_ordinary_way(wire: Wire) -> None:
    annotations = {"x" * 200 + str(number): "y" * 200 for number in range(300)}
    extra = {"annotations": annotations}
    image = wire.content.hub.add_image("library/alpine", "large", layers=[10], extra=extra)
    assert len(image.manifest.raw) > PREPARED_LIMIT
    for cache in ("miss", "hit", "hit"):
        answer = await wire.ask("GET /v2/library/alpine/manifests/large")
        assert (answer.body, answer.headers["Mirror-Cache"]) == (image.manifest.raw, cache)

"""Referrers on the wire: an index, even an empty one; but never an empty one where nothing can be known."""

import json

import pytest

from mirror.server.registry import referrers
from tests.server.calls import ABSENT, ALWAYS, ANY, NOWHERE, OCI_INDEX, OCI_MANIFEST, Call, Wire
from tests.support.fake_registry import behaviours

LIST = "/v2/library/alpine/referrers/{image}"
OK = {**ALWAYS, "Content-Type": OCI_INDEX, "OCI-Filters-Applied": ABSENT, "OCI-Namespace": ABSENT}
ERROR = {**ALWAYS, "Content-Type": "application/json"}
EMPTY = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
SIGNATURE, SBOM = "application/vnd.example.signature", "application/vnd.example.sbom"

CALLS = [
    Call(f"HEAD {LIST}", 200, {**OK, "Content-Length": ANY}, b""),
    Call("GET /v2/library/alpine/referrers/{small}", 200, OK, json=EMPTY),
    Call(f"GET /v2/library/alpine/referrers/{NOWHERE}", 200, OK, json=EMPTY),  # oras asks whether there is such an API
    Call(f"GET {LIST}?artifactType=application/vnd.none", 200, {**OK, "OCI-Filters-Applied": "artifactType"},
         json=EMPTY),
    Call(f"GET {LIST}?ns=docker.io", 200, {**OK, "OCI-Namespace": "docker.io"}),
    Call("GET /v2/library/alpine/referrers/sha256:abc", 400, ERROR, "DIGEST_INVALID"),
    Call("GET /v2/library/alpine/referrers/3", 400, ERROR, "DIGEST_INVALID"),
    Call("GET /v2/quay.io/library/alpine/referrers/{image}", 404, ERROR, "NAME_UNKNOWN"),
]  # fmt: skip


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("call", CALLS, ids=str)
async def test_calls(shared_wire: Wire, call: Call) -> None:
    await shared_wire.check(call)


async def listed(wire: Wire, query: str = "") -> dict[str, str]:
    """Digest → artifact type."""
    answer = await wire.check(Call(f"GET {LIST}{query}", 200, {"Content-Type": OCI_INDEX}))
    index = json.loads(answer.body)
    assert {key: index[key] for key in ("schemaVersion", "mediaType")} == {"schemaVersion": 2, "mediaType": OCI_INDEX}
    for each in index["manifests"]:
        assert each["mediaType"] == OCI_MANIFEST
        assert each["size"] > 0
    return {each["digest"]: each["artifactType"] for each in index["manifests"]}


async def test_all_and_filtered(wire: Wire) -> None:
    signature, sbom = wire.content.signature.digest, wire.content.sbom.digest
    assert await listed(wire) == {signature: SIGNATURE, sbom: SBOM}
    assert await listed(wire, f"?artifactType={SBOM}") == {sbom: SBOM}
    answer = await wire.ask(f"GET {LIST}?artifactType={SBOM}")
    assert answer.headers["OCI-Filters-Applied"] == "artifactType"
    assert wire.content.hub.count("GET */referrers/*") == 1


async def test_what_is_held_is_listed_without_upstream(wire: Wire) -> None:
    await wire.ask("GET /v2/library/alpine/manifests/{sbom}")
    wire.content.hub.script("*", behaviours.status(503), times=None)
    assert await listed(wire) == {wire.content.sbom.digest: SBOM}


@pytest.mark.parametrize("held", [False, True])
async def test_nothing_known_and_nobody_to_ask_is_a_404(wire: Wire, held: bool) -> None:
    """An empty 200 would end containerd's search; the image itself being held changes nothing."""
    if held:
        await wire.ask("GET /v2/library/alpine/manifests/3")
    wire.content.hub.script("*", behaviours.status(503), times=None)
    await wire.check(Call(f"GET {LIST}", 404, ERROR, "MANIFEST_UNKNOWN"))


async def test_a_registry_with_neither_api_nor_fallback_tag(wire: Wire) -> None:
    wire.content.hub.referrers_api = False
    assert await listed(wire) == {}


async def test_the_fallback_tag(wire: Wire) -> None:
    hub = wire.content.hub
    hub.referrers_api = False
    tag = wire.content.image.digest.replace(":", "-")
    entry = {**wire.content.sbom.descriptor, "artifactType": SBOM}
    hub.add_manifest(
        "library/alpine",
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]},
        tag=tag,
        media_type=OCI_INDEX,
    )
    assert await listed(wire) == {wire.content.sbom.digest: SBOM}


async def test_more_than_fit_on_one_page(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if a client is given an index that it does not read, or does not hear of the rest."""
    signature, sbom = wire.content.signature.digest, wire.content.sbom.digest
    monkeypatch.setattr(referrers, "PAGE_BYTES", 10)
    for query in ("", "&ns=docker.io"):
        answer = await wire.ask(f"GET {LIST}?{query}")
        [first] = json.loads(answer.body)["manifests"]
        assert first["digest"] in (signature, sbom)
        link = answer.headers["Link"]
        assert link.endswith('>; rel="next"')
        target = link[1 : link.index(">")]
        assert ("ns=docker.io" in target) == bool(query)
        answer = await wire.ask(f"GET {target}")
        [second] = json.loads(answer.body)["manifests"]
        assert {first["digest"], second["digest"]} == {signature, sbom}
        assert "Link" not in answer.headers
    answer = await wire.ask(f"GET {LIST}?artifactType={SBOM}")
    assert "Link" not in answer.headers
    answer = await wire.ask(f"GET {LIST}?last={NOWHERE}")  # it went meanwhile: nobody is sent in circles
    assert json.loads(answer.body)["manifests"] == []

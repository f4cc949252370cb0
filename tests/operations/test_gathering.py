"""Images of which only a part is here: what is fetched first, what is left where it is, what cannot go at all."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.operations.pushing import UPLOADS, Way, push_as_ci, way, with_ci
from tests.operations.streams import of, one
from tests.support.fake_registry import FakeRegistry
from tests.support.fake_registry.behaviours import status
from tests.support.fake_registry.content import OCI_INDEX, FakeImage, FakeManifest

BLOBS = "GET */blobs/*"
TARGET = {"to": "ghcr.io/me"}


@pytest.fixture
async def at(tmp_path: Path) -> AsyncIterator[Way]:
    async with way(tmp_path) as made:
        yield made


def three_platforms(hub: FakeRegistry) -> tuple[FakeManifest, list[FakeImage]]:
    """An index for amd64, arm64 and s390x, at docker.io/library/multi:1."""
    children = [hub.add_image("library/multi", None, layers=[number * 1000], seed=str(number)) for number in (1, 2, 3)]
    return hub.add_index("library/multi", "1", children), children


async def test_what_is_missing_is_fetched_first(at: Way) -> None:
    """The index goes as it is, with all that is in it."""
    index, children = three_platforms(at.hub)
    await at.pull("multi:1", platforms=["linux/amd64"])
    at.hub.forget()
    events = await at.push("multi:1", **TARGET)
    assert one(events, "pushed")["digest"] == index.digest
    rest = sum(len(data) for child in children[1:] for _, data in [*child.layers, child.config])
    assert at.hub.sent("*/blobs/*") == rest
    (note,) = of(events, "note")
    assert note["message"].startswith("4 blobs that are not here, 5.")
    assert note["message"].endswith("are fetched from docker.io first")
    there = at.ghcr.repository("me/multi")
    assert there.tags == {"1": index.digest}
    assert set(there.manifests) == {index.digest, *(child.digest for child in children)}
    assert there.manifests[index.digest].raw == index.raw
    order = [request.path.rpartition("/")[2] for request in at.ghcr.seen("PUT */manifests/*")]
    assert (set(order[:3]), order[3:]) == ({child.digest for child in children}, ["1"])


async def test_fetching_is_told(at: Way) -> None:
    _, children = three_platforms(at.hub)
    await at.pull("multi:1", platforms=["linux/amd64"])
    states = [(event["digest"], event["state"]) for event in of(await at.push("multi:1", **TARGET), "layer")]
    assert (children[1].layers[0][0], "fetching") in states
    assert (children[0].layers[0][0], "fetching") not in states


async def test_what_the_target_has_is_not_fetched(at: Way) -> None:
    """Breaks by fetching what the registry has already: a child that is there whole costs one question or two."""
    index, children = three_platforms(at.hub)
    await at.pull("multi:1", platforms=["linux/amd64"])
    there = at.ghcr.repository("me/multi")
    there.manifests[children[1].digest] = children[1].manifest
    layer, data = children[2].layers[0]
    there.blobs[layer] = data
    at.hub.forget()
    pushed = one(await at.push("multi:1", **TARGET), "pushed")
    assert (pushed["digest"], pushed["existing"]) == (index.digest, 1)
    assert {request.path.rpartition("/")[2] for request in at.hub.seen(BLOBS)} == {children[2].config[0]}
    assert at.hub.count(f"* */manifests/{children[1].digest}") == 0
    assert there.tags == {"1": index.digest}


async def test_what_nobody_has_is_named_and_nothing_is_sent(at: Way) -> None:
    _, children = three_platforms(at.hub)
    await at.pull("multi:1", platforms=["linux/amd64"])
    for child in children[1:]:
        del at.hub.repository("library/multi").manifests[child.digest]
    at.mirror.clock.shift += 60  # what was asked a moment ago is not asked again
    error = await at.failed("multi:1", **TARGET)
    assert (error["code"], error["exit_code"]) == ("MANIFEST_BLOB_UNKNOWN", 4)
    short = [child.digest[7:19] for child in children]
    assert error["message"] == (
        "multi:1 is not here as a whole: neither this mirror nor docker.io nor ghcr.io has"
        f" linux/arm64 ({short[1]}), linux/s390x ({short[2]})"
    )


async def test_a_layer_that_nobody_has(at: Way) -> None:
    """And nothing else is fetched for it in vain."""
    _, children = three_platforms(at.hub)
    await at.pull("multi:1", platforms=["linux/amd64"])
    lost = children[2].layers[0][0]
    del at.hub.repository("library/multi").blobs[lost]
    at.hub.forget()
    error = await at.failed("multi:1", **TARGET)
    assert error["message"].endswith(f"has {lost[7:19]}")
    assert at.hub.count(BLOBS) == 0


async def test_a_registry_that_does_not_answer(at: Way) -> None:
    """Its own failure, and what is missing beside it."""
    three_platforms(at.hub)
    await at.pull("multi:1", platforms=["linux/amd64"])
    at.hub.script("*", status(503), times=None)
    events = await at.push("multi:1", **TARGET)
    error = one(events, "error")
    assert (error["code"], error["exit_code"]) == ("UNAVAILABLE", 1)
    assert one(events, "note")["message"].startswith("not here, and not at ghcr.io: linux/arm64 (")
    assert at.ghcr.received(UPLOADS) == 0


async def test_an_own_image_comes_from_nowhere_else(tmp_path: Path) -> None:
    async with way(tmp_path, own=["team/*"]) as at:
        image = at.hub.add_image("library/alpine", "3")
        await at.pull("alpine:3")
        await at.tag("alpine:3", "team/base:1")
        lost = image.layers[0][0]
        (tmp_path / "data" / "blobs" / "sha256" / lost.removeprefix("sha256:")).unlink()
        assert (await at.failed("team/base:1", **TARGET))["exit_code"] == 4  # found out while it is sent
        error = await at.failed("team/base:1", **TARGET)
        assert error["message"] == (
            f"team/base:1 is not here as a whole: neither this mirror nor ghcr.io has {lost[7:19]}"
        )
        at.ghcr.repository("me/team/base").blobs[lost] = image.layers[0][1]
        assert (await at.pushed("team/base:1", **TARGET))["existing"] >= 1


async def test_one_platform_goes_alone(at: Way) -> None:
    """Its manifest, byte for byte, and neither the index nor the others."""
    _, children = three_platforms(at.hub)
    await at.pull("multi:1", platforms=["linux/amd64"])
    for platform, child in (("linux/amd64", children[0]), ("arm64", children[1])):
        pushed = await at.pushed("multi:1", platform=platform, **TARGET)
        assert pushed["digest"] == child.digest
        there = at.ghcr.repository("me/multi")
        assert there.manifests[there.tags["1"]].raw == child.manifest.raw
    assert set(at.ghcr.repository("me/multi").manifests) == {children[0].digest, children[1].digest}


async def test_a_platform_that_is_not_there(at: Way) -> None:
    three_platforms(at.hub)
    at.hub.add_image("library/alpine", "3")
    await at.pull("multi:1", "alpine:3", platforms=["linux/amd64"])
    error = await at.failed("multi:1", platform="linux/riscv64", **TARGET)
    assert error["message"].startswith("no matching manifest for linux/riscv64 in the manifest list entries: there are")
    error = await at.failed("alpine:3", platform="linux/arm64", **TARGET)
    assert error["message"].endswith("specified platform: wanted linux/arm64, actual: linux/amd64")
    assert (await at.pushed("alpine:3", platform="linux/amd64", **TARGET))["target"] == "ghcr.io/me/alpine:3"
    (refused,) = await at.push("alpine:3", platform="a/b/c/d")
    assert refused["status"] == 400


async def test_indexes_in_indexes(at: Way) -> None:
    """Level by level: what is below a missing one is not known before."""
    child = at.hub.add_image("library/nested", None)
    inner = at.hub.add_index("library/nested", None, [child])
    outer = at.hub.add_manifest(
        "library/nested",
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [inner.descriptor]},
        tag="1",
        media_type=OCI_INDEX,
    )
    await at.mirror.get("/v2/library/nested/manifests/1")  # the outer one alone
    assert (await at.pushed("nested:1", **TARGET))["digest"] == outer.digest
    assert set(at.ghcr.repository("me/nested").manifests) == {child.digest, inner.digest, outer.digest}


async def test_foreign_layers_are_told_and_left_out(at: Way) -> None:
    image = at.hub.add_image("library/win", None, layers=[1000])
    body = json.loads(image.manifest.raw)
    foreign: dict[str, Any] = {
        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "digest": "sha256:" + "f" * 64,
        "size": 5000,
        "urls": ["https://elsewhere.test/x"],
    }
    body["layers"].insert(0, foreign)
    at.hub.add_manifest("library/win", body, tag="1")
    await at.pull("win:1")
    at.ghcr.repository("me/win").blobs[foreign["digest"]] = b""  # which a real registry does not ask for
    events = await at.push("win:1", **TARGET)
    assert [event["digest"] for event in of(events, "layer") if event["state"] == "skipped"] == [foreign["digest"]]
    assert one(events, "pushed")["layers"] == 1


async def test_a_dry_run_fetches_no_blob(at: Way) -> None:
    _, children = three_platforms(at.hub)
    await at.pull("multi:1", platforms=["linux/amd64"])
    at.hub.forget()
    events = await at.push("multi:1", dry_run=True, **TARGET)
    planned = one(events, "plan")
    rest = sum(len(data) for child in children[1:] for _, data in [*child.layers, child.config])
    whole = sum(len(data) for child in children for _, data in [*child.layers, child.config])
    assert (planned["fetch_bytes"], planned["send_bytes"], planned["send_layers"]) == (rest, whole, 3)
    assert at.hub.count(BLOBS) == 0
    assert {request.method for request in at.ghcr.seen()} == {"HEAD"}
    assert "would be fetched" in one(events, "note")["message"]


async def test_nothing_goes_out_that_he_may_not_see(tmp_path: Path) -> None:
    """Breaks if what a client pushed here under a private repository goes out for whoever may read its public part: a
    public manifest may name what is not public."""
    async with way(tmp_path, hub={"username": "me", "password": "pw"}, access=with_ci(tmp_path)) as at:
        at.hub.access.scheme, at.hub.access.users, at.hub.access.private = "bearer", {"me": "pw"}, ["library/secret"]
        secret = at.hub.add_image("library/secret", "1", layers=[b"not for everybody"])
        digest, _ = secret.layers[0]
        body = json.loads(secret.manifest.raw)
        at.hub.add_manifest("library/open", body, tag="1")
        at.hub.add_blob("library/open", secret.config[1])
        await at.pull("secret:1")
        assert (await at.mirror.get("/v2/library/open/manifests/1")).status == 200
        error = one(await push_as_ci(at, "open:1", "ghcr.io/me/x"), "error")
        assert digest[7:19] in error["message"]
        assert at.ghcr.received(UPLOADS) == 0


async def test_what_was_pushed_here_counts_as_private_until_its_registry_shows_it(tmp_path: Path) -> None:
    """Breaks if it is enough that the bytes are linked under the name: a manifest that everybody may read names a layer
    that was pushed here and is not for everybody."""
    login = {"username": "me", "password": "pw", "push": "local"}
    async with way(tmp_path, ghcr=login, access=with_ci(tmp_path)) as at:
        at.ghcr.access.scheme, at.ghcr.access.users = "bearer", {"me": "pw"}
        image = at.ghcr.add_image("open/app", "1", layers=[b"pushed here", 1000])
        digest, data = image.layers[0]
        del at.ghcr.repository("open/app").blobs[digest]
        assert await at.upload("ghcr.io/open/app", digest, data) == 201
        assert (await at.mirror.get("/v2/ghcr.io/open/app/manifests/1")).status == 200
        error = one(await push_as_ci(at, "ghcr.io/open/app:1", "ghcr.io/me/x"), "error")
        assert digest[7:19] in error["message"]
        assert at.ghcr.received(UPLOADS) == 0
        assert (await at.pushed("ghcr.io/open/app:1", to="ghcr.io/me/x"))["layers"] == 2  # the socket may

"""`POST /api/v1/pull` against a scripted registry: platforms, and what is no image."""

import json
from pathlib import Path

from tests.faults.support import stored
from tests.operations.pictures import bytes_of, layout_index
from tests.operations.streams import Upstream, of, one
from tests.support import images
from tests.support.images import Layout

NAME = "docker.io/library/alpine:3"
BLOBS = "GET */blobs/*"


async def test_the_platform_and_its_attestation(upstream: Upstream, tmp_path: Path) -> None:
    registry, mirror, api = upstream
    index = layout_index(tmp_path / "layout", attestations=True)
    registry.add_layout_image("library/alpine", "3", index)
    registry.content.repository("library/alpine")
    arm, own, other = index.child("arm64"), index.child("amd64"), index.children[2]
    said = index.children[3]
    planned = one(await api.pull("alpine:3", dry_run=True, platforms=["linux/arm64"]), "plan")
    events = await api.pull("alpine:3", platforms=["linux/arm64"])
    pulled = one(events, "pulled")
    assert (pulled["digest"], pulled["platform"]) == (index.digest, "linux/arm64/v8")
    assert pulled["bytes_fetched"] == bytes_of(arm) + bytes_of(said) == planned["fetch_bytes"]
    shown = {event["digest"] for event in of(events, "layer")}
    assert shown == {layer.digest for layer in arm.layers}
    held = {f"sha256:{name}" for name in stored(tmp_path / "data")}
    assert {blob.digest for blob in (*arm.blobs, *said.blobs, arm.manifest, said.manifest, index.manifest)} == held
    assert not held & {own.digest, own.config.digest, other.digest, other.config.digest}
    registry.forget()
    assert (await mirror.get(f"/v2/library/alpine/manifests/{said.digest}")).status == 200
    assert registry.count() == 0


async def test_several_platforms_and_all(upstream: Upstream, tmp_path: Path) -> None:
    registry, _, api = upstream
    index = layout_index(tmp_path / "layout", attestations=True)
    registry.add_layout_image("library/alpine", "3", index)
    both = one(await api.pull("alpine:3", platforms=["linux/amd64", "arm64"], dry_run=True), "plan")
    everything = one(await api.pull("alpine:3", platforms=["all"], dry_run=True), "plan")
    assert both["fetch_bytes"] == everything["fetch_bytes"] == sum(blob.size for blob in index.blobs)
    pulled = one(await api.pull("alpine:3", platforms=["all"]), "pulled")
    assert pulled["bytes_fetched"] == everything["fetch_bytes"]
    assert pulled["platform"] == "linux/amd64,linux/arm64/v8"
    assert one(await api.pull("alpine:3", platforms=["linux/amd64"]), "pulled")["status"] == "up_to_date"


async def test_a_platform_that_is_not_there_says_which_are(upstream: Upstream, tmp_path: Path) -> None:
    registry, _, api = upstream
    registry.add_layout_image("library/alpine", "3", layout_index(tmp_path / "layout", attestations=True))
    for more in ({}, {"dry_run": True}):
        error = one(await api.pull("alpine:3", platforms=["linux/s390x", "linux/amd64"], **more), "error")
        assert error["exit_code"] == 4
        assert error["message"] == (
            "no matching manifest for linux/s390x in the manifest list entries: there are linux/amd64, linux/arm64/v8"
        )
    assert registry.count(BLOBS) == 0


async def test_a_single_image_of_another_platform(upstream: Upstream) -> None:
    registry, _, api = upstream
    registry.add_image("library/alpine", "3", layers=[70_000])
    error = one(await api.pull("alpine:3", platforms=["linux/arm64"]), "error")
    assert "does not match the specified platform: wanted linux/arm64, actual: linux/amd64" in error["message"]
    assert registry.sent("*/blobs/*") < 70_000  # the config alone
    assert one(await api.pull("alpine:3", platforms=["linux/amd64"]), "pulled")["platform"] == "linux/amd64"


async def test_nonsense_for_a_platform_is_refused_at_once(upstream: Upstream) -> None:
    (refused,) = await upstream[2].pull("alpine", platforms=["no such/thing"])
    assert refused["status"] == 400
    assert "is no platform" in refused["errors"][0]["message"]


async def test_artifacts_caches_and_docker_manifests(upstream: Upstream, tmp_path: Path) -> None:
    registry, _, api = upstream
    chart = registry.add_blob("library/thing", b"chart" * 1000)
    empty = registry.add_blob("library/thing", b"{}")
    artifact = {
        "schemaVersion": 2,
        "mediaType": images.OCI.manifest,
        "artifactType": "application/vnd.example",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2},
        "layers": [{"mediaType": "application/vnd.example.chart", "digest": chart, "size": 5000}],
    }
    registry.add_manifest("library/thing", artifact, tag="chart")
    cache = {
        "schemaVersion": 2,
        "mediaType": images.OCI.index,
        "manifests": [
            {"mediaType": images.OCI.layer, "digest": chart, "size": 5000},
            {"mediaType": "application/vnd.buildkit.cacheconfig.v0", "digest": empty, "size": 2},
        ],
    }
    registry.add_manifest("library/thing", cache, tag="cache", media_type=images.OCI.index)
    layout = Layout(tmp_path / "layout")
    docker = images.layered_image(layout, [30_000], flavor=images.DOCKER)
    registry.add_layout_image("library/thing", "list", layout.add_index([docker], flavor=images.DOCKER))
    registry.add_layout_image("library/thing", "schema2", docker)
    events = await api.pull(*(f"thing:{tag}" for tag in ("chart", "cache", "list", "schema2")))
    assert events[-1] == {"event": "end", "ok": 4, "failed": 0}
    assert {event["name"].rpartition(":")[2]: event["platform"] for event in of(events, "pulled")} == {
        "chart": "",
        "cache": "",
        "list": "linux/amd64",
        "schema2": "linux/amd64",
    }
    assert {f"sha256:{name}" for name in stored(tmp_path / "data")} >= {chart, empty, *(b.digest for b in docker.blobs)}


async def test_foreign_layers_are_left_out_with_a_note(upstream: Upstream) -> None:
    registry, _, api = upstream
    image = registry.add_image("library/win", "1", layers=[1000])
    manifest = json.loads(image.manifest.raw)
    foreign = "sha256:" + "f" * 64
    manifest["layers"].insert(
        0,
        {
            "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "digest": foreign,
            "size": 10**9,
            "urls": ["http://127.0.0.1:9/layer"],
        },
    )
    registry.add_manifest("library/win", manifest, tag="1")
    events = await api.pull("win:1")
    assert one(events, "note")["message"] == "layers that may not be distributed are left out: ffffffffffff"
    assert one(events, "pulled")["bytes_fetched"] == 1000 + len(image.config[1])
    assert not registry.count(f"*{foreign}")
    assert one(await api.pull("win:1", if_missing=True), "pulled")["status"] == "up_to_date"

"""What BuildKit pushes and pulls back, by a client that sends the bodies that it writes: its registry cache in both
forms (moby/buildkit, `cache/remotecache/export.go`), and images with provenance and SBOM (`exporter/containerimage`).

For each blob BuildKit (containerd's pusher) asks HEAD, then POST, then one PUT with the whole body; then manifests by
digest, children first, and the root under its tag.
"""

import json
from typing import Any

import pytest

from tests.server.calls import OCI_INDEX, OCI_MANIFEST
from tests.server.pushing import Scene, descriptor, digest_of

CACHE_CONFIG = "application/vnd.buildkit.cacheconfig.v0"
IN_TOTO = "application/vnd.in-toto+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYERS = [b"layer one", b"layer two"]
CACHE = json.dumps(
    {
        "layers": [{"blob": digest_of(LAYERS[0]), "parent": -1}, {"blob": digest_of(LAYERS[1]), "parent": 0}],
        "records": [{"digest": digest_of(b"record"), "layers": [{"layer": 1, "createdAt": "2024-09-06T22:20:07Z"}]}],
    }
).encode()


async def sent(scene: Scene, name: str, *blobs: bytes) -> None:
    """As containerd's pusher does."""
    for data in blobs:
        digest = digest_of(data)
        if (await scene.ask(f"HEAD /v2/{name}/blobs/{digest}")).status == 200:
            continue
        answer = await scene.put(await scene.begin(name), digest, data)
        assert answer.status == 201, answer


async def pulled(scene: Scene, name: str, tag: str) -> dict[str, bytes]:
    """All that a tag leads to, by digest."""
    root = await scene.got(f"{name}/manifests/{tag}")
    assert isinstance(root, bytes)
    found: dict[str, bytes] = {digest_of(root): root}
    waiting = [json.loads(root)]
    while waiting:
        body = waiting.pop()
        for child in [*body.get("manifests", []), *body.get("layers", []), *filter(None, [body.get("config")])]:
            is_manifest = child["mediaType"] in (OCI_MANIFEST, OCI_INDEX)
            data = await scene.got(f"{name}/{'manifests' if is_manifest else 'blobs'}/{child['digest']}")
            assert isinstance(data, bytes), child
            found[child["digest"]] = data
            if is_manifest:
                waiting.append(json.loads(data))
    assert all(digest_of(data) == digest for digest, data in found.items())
    return found


@pytest.mark.parametrize("image_manifest", [False, True])
async def test_its_cache(scene: Scene, image_manifest: bool) -> None:
    """`type=registry,mode=max`: an index of blobs; with `image-manifest=true` an image whose config is the cache's."""
    await sent(scene, "team/cache", *LAYERS, CACHE)
    layers = [
        descriptor(data, "application/vnd.oci.image.layer.v1.tar+gzip")
        | {"annotations": {"buildkit/createdat": "2024-09-06T22:20:07Z", "containerd.io/uncompressed": digest_of(data)}}
        for data in LAYERS
    ]
    config = descriptor(CACHE, CACHE_CONFIG)
    if image_manifest:
        body: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers}
    else:
        body = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [*layers, config]}
    raw = json.dumps(body).encode()
    assert (await scene.manifest(raw, "buildcache", "team/cache")).status == 201
    await scene.restart()
    assert set(await pulled(scene, "team/cache", "buildcache")) == {digest_of(raw), *map(digest_of, (*LAYERS, CACHE))}


async def test_an_image_with_attestations(scene: Scene) -> None:
    """`--provenance=mode=max --sbom=true`: an index of an image and of what attests to it, for an unknown platform."""
    config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []}}).encode()
    statements = [
        json.dumps({"_type": "https://in-toto.io/Statement/v0.1", "predicateType": kind}).encode()
        for kind in ("https://slsa.dev/provenance/v0.2", "https://spdx.dev/Document")
    ]
    attested = json.dumps({"architecture": "unknown", "os": "unknown", "config": {}}).encode()
    await sent(scene, "team/app", *LAYERS, config, *statements, attested)
    image = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(config, CONFIG_TYPE),
            "layers": [descriptor(data) for data in LAYERS],
        }
    ).encode()
    kinds = [{"annotations": {"in-toto.io/predicate-type": json.loads(data)["predicateType"]}} for data in statements]
    attestation = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(attested, CONFIG_TYPE),
            "layers": [descriptor(data, IN_TOTO) | kind for data, kind in zip(statements, kinds, strict=True)],
        }
    ).encode()
    top = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [
                descriptor(image, OCI_MANIFEST) | {"platform": {"architecture": "amd64", "os": "linux"}},
                descriptor(attestation, OCI_MANIFEST)
                | {
                    "annotations": {
                        "vnd.docker.reference.digest": digest_of(image),
                        "vnd.docker.reference.type": "attestation-manifest",
                    },
                    "platform": {"architecture": "unknown", "os": "unknown"},
                },
            ],
        }
    ).encode()
    for raw in (image, attestation):
        assert (await scene.manifest(raw, None, "team/app")).status == 201
    assert (await scene.manifest(top, "1", "team/app")).status == 201
    await scene.restart()
    everything = (*LAYERS, config, *statements, attested, image, attestation, top)
    assert await pulled(scene, "team/app", "1") == {digest_of(data): data for data in everything}

"""Manifests: what real builders write is read, what could be read in two ways is refused, nothing else is raised."""

import json
from typing import Any

import pytest

from mirror.errors import ManifestInvalid
from mirror.oci.digest import Digest
from mirror.oci.manifest import (
    DOCKER_CONFIG,
    DOCKER_FOREIGN_LAYER,
    DOCKER_LAYER,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_ARTIFACT,
    OCI_CONFIG,
    OCI_EMPTY,
    OCI_INDEX,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    SCHEMA1_TYPES,
    Child,
    Descriptor,
    Manifest,
    Role,
)

Json = dict[str, Any]


def descriptor(media_type: str, content: bytes = b"", **more: object) -> Json:
    return {"mediaType": media_type, "digest": str(Digest.of(content)), "size": len(content), **more}


def image(**changes: object) -> Json:
    layers = [descriptor(OCI_LAYER_GZIP, b"layer 0"), descriptor(OCI_LAYER_GZIP, b"layer 1")]
    config = descriptor(OCI_CONFIG, b"{}")
    return changed({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers}, changes)


def index(**changes: object) -> Json:
    manifests = [
        descriptor(OCI_MANIFEST, b"amd64", platform={"os": "linux", "architecture": "amd64"}),
        descriptor(OCI_MANIFEST, b"arm64", platform={"os": "linux", "architecture": "arm64", "variant": "v8"}),
    ]
    return changed({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}, changes)


def artifact(**changes: object) -> Json:
    return changed({"mediaType": OCI_ARTIFACT, "artifactType": "a/b", "blobs": [descriptor("c/d", b"blob")]}, changes)


def changed(body: Json, changes: dict[str, object]) -> Json:
    """With these members; `...` takes one away."""
    return {key: value for key, value in {**body, **changes}.items() if value is not ...}


def parse(body: object, **options: Any) -> Manifest:
    return Manifest.parse(json.dumps(body).encode(), **options)


# --- what is read -----------------------------------------------------------------------------------------


def test_an_image() -> None:
    raw = json.dumps(image(annotations={"a": "b"}), indent=3).encode() + b"\n"
    manifest = Manifest.parse(raw)
    assert manifest.raw is raw
    assert manifest.descriptor == Descriptor(OCI_MANIFEST, Digest.of(raw), len(raw))
    config = Descriptor(OCI_CONFIG, Digest.of(b"{}"), 2)
    assert manifest.config == config
    assert manifest.children() == (
        Child(Role.CONFIG, config),
        Child(Role.LAYER, Descriptor(OCI_LAYER_GZIP, Digest.of(b"layer 0"), 7)),
        Child(Role.LAYER, Descriptor(OCI_LAYER_GZIP, Digest.of(b"layer 1"), 7)),
    )
    assert not manifest.is_index
    assert manifest.subject is None
    assert manifest.artifact_type == OCI_CONFIG
    assert manifest.annotations == {"a": "b"}
    assert len({manifest, Manifest.parse(raw)}) == 1
    assert len({*manifest.children(), *Manifest.parse(raw).children()}) == 3


def test_a_docker_image() -> None:
    manifest = parse(
        image(
            mediaType=DOCKER_MANIFEST,
            config=descriptor(DOCKER_CONFIG, b"{}"),
            layers=[
                descriptor(DOCKER_FOREIGN_LAYER, b"windows", urls=["https://example.com/layer"]),
                descriptor(DOCKER_FOREIGN_LAYER, b"elsewhere"),
                descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", b"oci"),
                descriptor(DOCKER_LAYER, b"urls alone", urls=["https://example.com/layer"]),
                descriptor(DOCKER_LAYER, b"ours", urls=[]),
            ],
        )
    )
    assert manifest.descriptor.media_type == DOCKER_MANIFEST
    assert [child.foreign for child in manifest.children()] == [False, True, True, True, True, False]


def test_an_index() -> None:
    manifest = parse(index())
    assert manifest.is_index
    assert manifest.config is None
    assert manifest.artifact_type is None
    assert [(child.role, child.platform) for child in manifest.children()] == [
        (Role.MANIFEST, "linux/amd64"),
        (Role.MANIFEST, "linux/arm64/v8"),
    ]
    assert parse(index(mediaType=DOCKER_LIST)).is_index
    assert parse(index(artifactType="a/b")).artifact_type == "a/b"


def test_an_attested_index_of_docker() -> None:
    """docker ≥ 29.1 pulls these too, so whoever mirrors "one platform" must find them by their annotations."""
    annotations = {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": str(Digest.of(b"x")),
    }
    platform = {"architecture": "unknown", "os": "unknown"}
    manifest = parse(index(manifests=[descriptor(OCI_MANIFEST, platform=platform, annotations=annotations)]))
    (child,) = manifest.children()
    assert child.platform == "unknown/unknown"
    assert child.annotations == annotations


def test_a_cache_image_of_buildkit() -> None:
    """`image-manifest=false`: an index whose "manifests" are layers and a config, to be fetched as blobs."""
    manifests = [
        descriptor(OCI_LAYER_GZIP, b"1", annotations={"buildkit/createdat": "2024-01-01T00:00:00Z"}),
        descriptor("application/vnd.buildkit.cacheconfig.v0", b"2"),
        descriptor(OCI_MANIFEST, b"3"),
        *(descriptor(media_type, b"4") for media_type in sorted(SCHEMA1_TYPES)),
    ]
    children = parse(index(manifests=manifests)).children()
    assert [child.role for child in children] == [Role.BLOB, Role.BLOB, Role.MANIFEST, Role.MANIFEST, Role.MANIFEST]


def test_artifacts() -> None:
    manifest = parse(artifact(subject=descriptor(OCI_MANIFEST, b"subject")))
    assert [child.role for child in manifest.children()] == [Role.BLOB]
    assert manifest.subject == Descriptor(OCI_MANIFEST, Digest.of(b"subject"), 7)
    assert manifest.artifact_type == "a/b"
    assert parse(artifact(blobs=...)).children() == ()

    signature = parse(image(config=descriptor(OCI_EMPTY, b"{}", data="e30="), artifactType="c/d", layers=[]))
    assert signature.artifact_type == "c/d"
    helm = parse(image(config=descriptor("application/vnd.cncf.helm.config.v1+json", b"{}"), artifactType=""))
    assert helm.artifact_type == "application/vnd.cncf.helm.config.v1+json"


def test_null_is_as_good_as_nothing() -> None:
    """Go writes an empty list as null, and reads a null member as none."""
    assert parse(image(layers=None, subject=None, annotations=None, artifactType=None)).children()[1:] == ()
    assert parse(index(manifests=None, mediaType="")).descriptor.media_type == OCI_INDEX
    assert parse(artifact(blobs=None)).children() == ()


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        (None, None),
        ({}, None),
        ({"os": "linux"}, None),
        ({"architecture": "amd64"}, None),
        ({"os": "linux", "architecture": "amd64", "variant": ""}, "linux/amd64"),
        ({"os": "linux", "architecture": "amd64", "variant": None}, "linux/amd64"),
        ({"os": "linux", "architecture": "arm", "variant": "v7"}, "linux/arm/v7"),
        ({"os": "windows", "architecture": "amd64", "os.version": "10.0.1", "os.features": ["x"]}, "windows/amd64"),
    ],
)
def test_platforms(platform: Json | None, expected: str | None) -> None:
    (child,) = parse(index(manifests=[descriptor(OCI_MANIFEST, platform=platform)])).children()
    assert child.platform == expected


def test_sizes_of_any_file() -> None:
    for size in (0, 2**40, 2**63 - 1):
        assert parse(image(config={**descriptor(OCI_CONFIG), "size": size})).children()[0].descriptor.size == size


def test_unknown_members_are_left_alone() -> None:
    assert parse(image(extra={"deep": [1, 2.5, None, True]}, config=descriptor(OCI_CONFIG, vendor=1))).config


def test_annotations_cannot_be_changed() -> None:
    manifest = parse(image(annotations={"a": "b"}))
    with pytest.raises(TypeError):
        manifest.annotations["a"] = "c"  # type: ignore[index]


# --- its type ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "declared", "expected"),
    [
        # the body says it
        (image(), None, OCI_MANIFEST),
        (image(), OCI_MANIFEST, OCI_MANIFEST),
        (image(), f"{OCI_MANIFEST.upper()} ; charset=utf-8", OCI_MANIFEST),
        (image(), "application/json", OCI_MANIFEST),
        (image(), "text/plain; charset=utf-8", OCI_MANIFEST),
        (image(), "", OCI_MANIFEST),
        # it is silent: the header, else the members
        (image(mediaType=...), DOCKER_MANIFEST, DOCKER_MANIFEST),
        (image(mediaType=None), DOCKER_MANIFEST, DOCKER_MANIFEST),
        (image(mediaType=...), None, OCI_MANIFEST),
        (image(mediaType=...), "application/octet-stream", OCI_MANIFEST),
        (image(mediaType=..., schemaVersion=...), None, OCI_MANIFEST),
        (index(mediaType=...), DOCKER_LIST, DOCKER_LIST),
        (index(mediaType=...), None, OCI_INDEX),
        (artifact(mediaType=...), OCI_ARTIFACT, OCI_ARTIFACT),
        (artifact(mediaType=...), None, OCI_ARTIFACT),
    ],
)
def test_type(body: Json, declared: str | None, expected: str) -> None:
    assert parse(body, declared=declared).descriptor.media_type == expected


@pytest.mark.parametrize(
    ("body", "declared"),
    [
        # CVE-2021-41190: one document, two readings
        (image(manifests=[]), None),
        (image(manifests=index()["manifests"], mediaType=...), None),
        (image(manifests=index()["manifests"], mediaType=...), OCI_MANIFEST),
        (image(manifests=index()["manifests"], mediaType=...), OCI_INDEX),
        (index(layers=[]), None),
        (index(layers=None), None),
        (index(config=descriptor(OCI_CONFIG)), None),
        (image(fsLayers=[]), None),
        (image(blobs=[]), None),
        (artifact(layers=[]), None),
        (image(mediaType=OCI_INDEX), None),
        (index(mediaType=OCI_MANIFEST), None),
        # body and header
        (image(), DOCKER_MANIFEST),
        (image(), OCI_INDEX),
        (image(), "application/vnd.example+json"),
        (image(mediaType=...), OCI_INDEX),
        (index(mediaType=...), OCI_MANIFEST),
        (image(mediaType=...), "application/vnd.example+json"),
        # unsupported
        (image(mediaType="application/vnd.example+json"), None),
        (image(mediaType="application/json"), None),
        (image(mediaType=1), None),
        (image(mediaType=[OCI_MANIFEST]), None),
        ({}, None),
        ({"schemaVersion": 2}, None),
        ({"schemaVersion": 2, "layers": []}, None),
        (image(schemaVersion=3), None),
        (image(schemaVersion="2"), None),
        (image(schemaVersion=2.0), None),
        (image(schemaVersion=True), None),
    ],
)
def test_ambiguous_or_unsupported(body: Json, declared: str | None) -> None:
    with pytest.raises(ManifestInvalid):
        parse(body, declared=declared)


@pytest.mark.parametrize(
    ("body", "declared"),
    [
        ({"schemaVersion": 1, "name": "x", "tag": "1", "fsLayers": [], "history": [], "signatures": []}, None),
        ({"schemaVersion": 1}, None),
        *(({"mediaType": media_type}, None) for media_type in SCHEMA1_TYPES),
        *((image(mediaType=...), media_type) for media_type in SCHEMA1_TYPES),
    ],
)
def test_schema_1_is_refused_by_its_name(body: Json, declared: str | None) -> None:
    with pytest.raises(ManifestInvalid, match="schema 1"):
        parse(body, declared=declared)


@pytest.mark.parametrize(
    "key", ["Layers", "LAYERS", "layer\u017f", "Manifests", "MediaType", "schemaversion", "Subject"]
)
def test_members_in_another_case_are_refused(key: str) -> None:
    """Go's clients read them, and the last one wins: they would see other layers than this mirror."""
    with pytest.raises(ManifestInvalid, match="case"):
        parse(image(**{key: []}))


@pytest.mark.parametrize("key", ["Digest", "URLs", "Size", "\u017fize", "mediatype"])
def test_members_of_descriptors_in_another_case_are_refused(key: str) -> None:
    with pytest.raises(ManifestInvalid, match=r"layers\[0\].*case"):
        parse(image(layers=[{**descriptor(OCI_LAYER), key: 1}]))


def test_members_given_twice_are_refused() -> None:
    raw = json.dumps(image()).encode()
    for twice in (raw[:-1] + b', "layers": []}', raw.replace(b'"size": 2', b'"size": 2, "size": 3')):
        assert json.loads(twice)
        with pytest.raises(ManifestInvalid, match="twice"):
            Manifest.parse(twice)

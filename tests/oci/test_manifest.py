"""Manifests: what real builders write is read, what could be read in two ways is refused, nothing else is raised."""

import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import DigestInvalid, ManifestInvalid, ManifestTooLarge
from mirror.oci.digest import Digest
from mirror.oci.manifest import (
    CHILDREN_LIMIT,
    DEPTH_LIMIT,
    DOCKER_CONFIG,
    DOCKER_FOREIGN_LAYER,
    DOCKER_LAYER,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    INDEX_TYPES,
    MANIFEST_LIMIT,
    MANIFEST_TYPES,
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


# --- what is wrong ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"digest": ...},
        {"digest": None},
        {"digest": 1},
        {"digest": "sha256:../../../etc/passwd"},
        {"digest": "sha256:" + "A" * 64},
        {"digest": "md5:" + "0" * 32},
        {"size": ...},
        {"size": None},
        {"size": -1},
        {"size": 2**63},
        {"size": 1.0},
        {"size": True},
        {"size": "1"},
        {"mediaType": ...},
        {"mediaType": ""},
        {"mediaType": 1},
        {"mediaType": "a/b\n"},
        {"mediaType": "a/é"},
        {"mediaType": "a/" + "b" * 300},
        {"annotations": []},
        {"annotations": "a"},
        {"annotations": {"a": 1}},
        {"annotations": {"a": None}},
        {"annotations": {"a": "\ud800"}},
        {"annotations": {"\udfff": "a"}},
        {"platform": []},
        {"platform": "linux/amd64"},
        {"platform": {"os": 1, "architecture": "amd64"}},
        {"platform": {"os": ["linux"], "architecture": "amd64"}},
        {"platform": {"os": "linux\n", "architecture": "amd64"}},
        {"platform": {"os": "linux", "architecture": "a/b"}},
        {"platform": {"os": "linux", "architecture": "amd64", "variant": 8}},
        {"platform": {"OS": "linux", "architecture": "amd64"}},
    ],
)
def test_malformed_descriptors(change: dict[str, object]) -> None:
    bad = changed(descriptor(OCI_MANIFEST), change)
    for body in (image(layers=[bad]), image(config=bad), index(manifests=[bad]), artifact(blobs=[bad])):
        with pytest.raises(ManifestInvalid):
            parse(body)
    if not change.keys() & {"annotations", "platform"}:
        with pytest.raises(ManifestInvalid, match="subject"):
            parse(image(subject=bad))


@pytest.mark.parametrize(
    "body",
    [
        image(config=...),
        image(config=None),
        image(config=[]),
        image(config="x"),
        image(layers=...),
        image(layers={}),
        image(layers="x"),
        image(layers=[None]),
        image(layers=[[]]),
        index(manifests=...),
        index(manifests={"0": 1}),
        index(manifests=[1]),
        artifact(blobs={}),
        image(subject=[]),
        image(subject={}),
        image(subject=1),
        image(artifactType=1),
        image(artifactType="\x1b[31m"),
        image(annotations=["a"]),
        image(annotations={"a": {"b": "c"}}),
        [],
        [image()],
        "x",
        1,
        None,
        True,
    ],
)
def test_malformed_bodies(body: object) -> None:
    with pytest.raises(ManifestInvalid):
        parse(body)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"{",
        b"\x00",
        b"\xff\xfe{}",
        json.dumps(image()).encode("utf-16"),
        json.dumps(image()).encode("utf-32"),
        json.dumps(image()).encode("utf-8-sig"),
        json.dumps(image()).encode() + b"{}",
        json.dumps(image(x="y")).encode().replace(b"y", b"\xff"),
        json.dumps(image(x="y")).encode().replace(b'"y"', b"NaN"),
        json.dumps(image(x="y")).encode().replace(b'"y"', b"-Infinity"),
        json.dumps(image(x="y")).encode().replace(b'"y"', b"1" * 5000),
        json.dumps(image(x="y")).encode().replace(b"y", b"\n"),
    ],
)
def test_what_is_no_json(raw: bytes) -> None:
    with pytest.raises(ManifestInvalid):
        Manifest.parse(raw)


def test_messages_say_where() -> None:
    with pytest.raises(ManifestInvalid, match=r"layers\[1\]: size"):
        parse(image(layers=[descriptor(OCI_LAYER), changed(descriptor(OCI_LAYER), {"size": ...})]))


# --- digests and limits -----------------------------------------------------------------------------------


def test_the_bytes_decide() -> None:
    raw = json.dumps(image()).encode()
    for algorithm in ("sha256", "sha512"):
        digest = Digest.of(raw, algorithm)
        assert Manifest.parse(raw, digest=digest).descriptor.digest == digest
        with pytest.raises(DigestInvalid):
            Manifest.parse(raw + b" ", digest=digest)
    with pytest.raises(DigestInvalid):  # before anything is read from them
        Manifest.parse(b"<html>", digest=Digest.of(raw))


def test_four_mebibytes() -> None:
    raw = json.dumps(image()).encode()
    assert Manifest.parse(raw.ljust(MANIFEST_LIMIT)).descriptor.size == MANIFEST_LIMIT
    with pytest.raises(ManifestTooLarge):
        Manifest.parse(raw.ljust(MANIFEST_LIMIT + 1))


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def test_depth() -> None:
    assert parse(image(x=nested(DEPTH_LIMIT - 1))).config
    for levels in (DEPTH_LIMIT, 200):
        with pytest.raises(ManifestInvalid, match="deep"):
            parse(image(x=nested(levels)))
    for opening in (b"[", b'{"a":'):  # deeper than Python's own reader goes
        with pytest.raises(ManifestInvalid):
            Manifest.parse(opening * 90_000)


def test_children_are_counted() -> None:
    small = {"mediaType": "a/b", "digest": str(Digest.of(b"")), "size": 0}
    assert len(parse(index(manifests=[small] * CHILDREN_LIMIT)).children()) == CHILDREN_LIMIT
    with pytest.raises(ManifestInvalid, match="more than"):
        parse(index(manifests=[small] * (CHILDREN_LIMIT + 1)))


@pytest.mark.parametrize(
    "piece",
    [b"[", b"{", b"[],", b"{},", b'{"a":', b"0,", b'"",', b'"a":"b",', b"\\u0041", b'"', b"\\", b"9", b"-", b"/"],
)
@pytest.mark.parametrize("start", [b"", b'{"a":', b'{"a":[', b'{"mediaType":"', b"{"])
def test_bombs_are_cheap(start: bytes, piece: bytes) -> None:
    raw = start + piece * ((MANIFEST_LIMIT - len(start)) // len(piece))
    started = time.process_time()
    with pytest.raises(ManifestInvalid):
        Manifest.parse(raw)
    assert time.process_time() - started < 2.0


# --- whatever the bytes -----------------------------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
keys = st.sampled_from(
    ["mediaType", "schemaVersion", "config", "layers", "manifests", "blobs", "fsLayers", "digest", "size", "platform",
     "annotations", "subject", "artifactType", "os", "architecture", "variant", "urls", "Layers", "x"]
)  # fmt: skip
values = st.recursive(
    scalars
    | st.sampled_from([*sorted(MANIFEST_TYPES), *sorted(SCHEMA1_TYPES), OCI_CONFIG, str(Digest.of(b"")), 2, 0])
    | st.builds(descriptor, st.sampled_from([OCI_MANIFEST, OCI_INDEX, OCI_LAYER])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=6),
    max_leaves=20,
)
bodies = st.builds(
    lambda base, changes: base(**changes),
    st.sampled_from([image, index, artifact, lambda **changes: changed({}, changes)]),
    st.dictionaries(keys, values | st.just(...), max_size=3),
)
declarations = st.none() | st.sampled_from(sorted(MANIFEST_TYPES | SCHEMA1_TYPES)) | st.text()


def check(raw: bytes, declared: str | None) -> None:
    """Only the module's own errors; and what was parsed answers everything, in types that fit a database."""
    with contextlib.suppress(ManifestInvalid, ManifestTooLarge, DigestInvalid):
        manifest = Manifest.parse(raw, declared=declared)
        assert manifest.raw == raw
        assert manifest.descriptor == Descriptor(manifest.descriptor.media_type, Digest.of(raw), len(raw))
        assert manifest.descriptor.media_type in MANIFEST_TYPES
        assert manifest.is_index == (manifest.descriptor.media_type in INDEX_TYPES)
        for child in manifest.children():
            assert 0 <= child.descriptor.size < 2**63
            assert child.descriptor.media_type.isascii()
            "".join([*child.annotations, *child.annotations.values()]).encode()
            assert isinstance(hash(child), int)
        assert manifest.config is None or manifest.children()[0].descriptor == manifest.config
        assert manifest.artifact_type is None or manifest.artifact_type.isprintable()
        "".join([*manifest.annotations, *manifest.annotations.values()]).encode()
        assert manifest.subject is None or manifest.subject.size >= 0
        again = Manifest.parse(raw, declared=manifest.descriptor.media_type, digest=manifest.descriptor.digest)
        assert again == manifest


@given(bodies | values, declarations)
def test_any_json(body: object, declared: str | None) -> None:
    check(json.dumps(body).encode(), declared)


@given(st.binary(), declarations)
def test_any_bytes(raw: bytes, declared: str | None) -> None:
    check(raw, declared)


@given(st.data())
def test_a_manifest_with_a_few_bytes_changed(data: st.DataObject) -> None:
    raw = bytearray(json.dumps(data.draw(st.sampled_from([image(), index(), artifact()]))).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    check(bytes(raw), None)


def test_annotations_cannot_be_changed() -> None:
    manifest = parse(image(annotations={"a": "b"}))
    with pytest.raises(TypeError):
        manifest.annotations["a"] = "c"  # type: ignore[index]

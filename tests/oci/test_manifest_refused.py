"""Manifests that are refused: malformed, too large, too deep, or any bytes at all. Nothing else is raised."""

import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import DigestInvalid, ManifestInvalid, ManifestTooLarge
from mirror.oci.digest import Digest
from mirror.oci.document import DEPTH_LIMIT
from mirror.oci.manifest import (
    CHILDREN_LIMIT,
    INDEX_TYPES,
    MANIFEST_LIMIT,
    MANIFEST_TYPES,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    SCHEMA1_TYPES,
    Descriptor,
    Manifest,
)
from tests.oci.test_manifest import artifact, changed, descriptor, image, index, parse

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
    ("item", "allowed", "refused"), [([], 90_000, 110_000), ({}, 90_000, 110_000), (0, 260_000, 270_000)]
)
def test_parts_are_counted_before_they_are_built(item: object, allowed: int, refused: int) -> None:
    assert parse(image(x=[item] * allowed)).config
    with pytest.raises(ManifestInvalid, match="too many parts"):
        parse(image(x=[item] * refused))


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

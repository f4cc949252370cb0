"""Manifests and their descriptors (OCI image-spec: descriptor.md, manifest.md, image-index.md; docker's
"Image Manifest Version 2, Schema 2").

A manifest's bytes are kept and relayed as they came; this module only reads what they say. Everything is
checked in `Manifest.parse`; afterwards nothing raises. What is read is what Go's clients would read from the
same bytes, and where two readers could differ, the manifest is refused (CVE-2021-41190).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Self

from mirror.errors import DigestInvalid, ManifestInvalid, ManifestTooLarge
from mirror.oci import document
from mirror.oci.digest import Digest

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
OCI_ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"

IMAGE_TYPES: frozenset[str] = frozenset({DOCKER_MANIFEST, OCI_MANIFEST})
INDEX_TYPES: frozenset[str] = frozenset({DOCKER_LIST, OCI_INDEX})
MANIFEST_TYPES: frozenset[str] = IMAGE_TYPES | INDEX_TYPES | {OCI_ARTIFACT}

SCHEMA1_TYPES: frozenset[str] = frozenset(
    {
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    }
)
"""Docker's first manifests, with their signatures inside: read by nobody any more, and not by this mirror."""

MANIFEST_LIMIT = 4 * 1024 * 1024
"""Bytes of a manifest (distribution-spec, "Pushing Manifests": registries should accept at least 4 MiB)."""

CHILDREN_LIMIT = 10_000
_SIZE_LIMIT = 2**63 - 1
_TEXT_LIMIT = 255

_FOREIGN_LAYER = re.compile(
    r"application/vnd\.(?:docker\.image\.rootfs\.foreign\.|oci\.image\.layer\.nondistributable\.).*"
)
_PLATFORM_PART = re.compile(r"[A-Za-z0-9._-]{1,64}")

# What each kind has of the others' members is an attack or a mistake: readers would differ in what it is.
_SHAPES = frozenset({"config", "layers", "manifests", "blobs", "fsLayers"})
_IMAGE_SHAPE = frozenset({"config", "layers"})
_INDEX_SHAPE = frozenset({"manifests"})
_ARTIFACT_SHAPE = frozenset({"blobs"})

# Go matches the names of members without regard to case, so that `Layers` is `layers` to most clients.
_MEMBERS = {
    name.casefold(): name
    for name in (
        *_SHAPES, "schemaVersion", "mediaType", "artifactType", "subject", "annotations",
        "digest", "size", "urls", "platform", "os", "architecture", "variant",
    )
}  # fmt: skip
_KNOWN = frozenset(_MEMBERS.values())

_Object = document.Object
_NOTHING: Mapping[str, str] = MappingProxyType({})


def is_foreign(media_type: str) -> bool:
    """Whether this type of layer may not be distributed: a registry need not have it."""
    return _FOREIGN_LAYER.fullmatch(media_type) is not None


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What some content is, how it is called, how many bytes it has (image-spec, descriptor.md)."""

    media_type: str
    digest: Digest
    size: int


class Role(StrEnum):
    """What a child is to its manifest."""

    CONFIG = "config"
    LAYER = "layer"
    MANIFEST = "manifest"
    BLOB = "blob"  # of an index, but no manifest (BuildKit's cache images); or of an artifact manifest


@dataclass(frozen=True, slots=True)
class Child:
    """One descriptor inside a manifest. `platform` is written as docker does: `linux/arm64/v8`.

    `foreign` content names other places to get it from, or may not be distributed: a registry need not have it,
    and its `urls` are never followed.
    """

    role: Role
    descriptor: Descriptor
    platform: str | None = None
    annotations: Mapping[str, str] = field(default_factory=lambda: _NOTHING, hash=False)
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class _Content:
    """What a manifest's bytes say."""

    children: tuple[Child, ...]
    config: Descriptor | None
    subject: Descriptor | None
    artifact_type: str | None
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest's untouched bytes and their descriptor. `parse` makes them; each one is valid throughout."""

    raw: bytes = field(repr=False)
    descriptor: Descriptor
    _content: _Content = field(repr=False, compare=False)

    @classmethod
    def parse(cls, raw: bytes, *, declared: str | None = None, digest: Digest | None = None) -> Self:
        """Read and check a manifest.

        `digest` is what the bytes must hash to (without it, their sha256 names them). The type is the body's
        `mediaType`; where the body is silent it is `declared` (a `Content-Type`, its parameters ignored), and
        where that says nothing either, it follows from the members. `application/json` and the like say
        nothing; a declared type of some vendor that is not the body's is a conflict.

        Raises `ManifestTooLarge` beyond `MANIFEST_LIMIT`, `DigestInvalid` if the bytes are not those of
        `digest`, and `ManifestInvalid` for all else: no JSON object of bounded size, schema 1, members given
        twice or in another case, image and index and artifact mixed, descriptors that are none.
        """
        if len(raw) > MANIFEST_LIMIT:
            raise ManifestTooLarge(f"the manifest is larger than {MANIFEST_LIMIT} bytes")
        actual = Digest.of(raw, digest.algorithm if digest else "sha256")
        if digest is not None and actual != digest:
            raise DigestInvalid("the manifest's bytes are not those its digest names")
        body = document.decode(raw)
        media_type = _media_type(body, declared)
        return cls(raw, Descriptor(media_type, actual, len(raw)), _content(body, media_type))

    def children(self) -> tuple[Child, ...]:
        """Config and layers, or an index's manifests, or an artifact's blobs, in order. Not the subject."""
        return self._content.children

    @property
    def is_index(self) -> bool:
        """Whether its children are manifests."""
        return self.descriptor.media_type in INDEX_TYPES

    @property
    def config(self) -> Descriptor | None:
        """An image manifest's config."""
        return self._content.config

    @property
    def subject(self) -> Descriptor | None:
        """The manifest that this one refers to."""
        return self._content.subject

    @property
    def artifact_type(self) -> str | None:
        """What a referrers list calls it: its `artifactType`, else its config's media type.

        (distribution-spec, "Listing Referrers"; an index without the former has none.)
        """
        return self._content.artifact_type

    @property
    def annotations(self) -> Mapping[str, str]:
        """Its own annotations."""
        return self._content.annotations


# --- which kind -------------------------------------------------------------------------------------------


def _media_type(body: _Object, declared: str | None) -> str:
    """The manifest's type, which its members agree with."""
    _check_members(body, "the manifest")
    shape = _SHAPES & body.keys()
    said = _said(declared)
    own = _optional_text(body, "mediaType", "the manifest")
    version = body.get("schemaVersion")
    if version == 1 or "fsLayers" in shape or (own or said) in SCHEMA1_TYPES:
        raise ManifestInvalid("docker's schema 1 manifests are not supported: push the image again as schema 2 or OCI")
    if version is not None and (version != 2 or type(version) is not int):
        raise ManifestInvalid("schemaVersion is not 2")
    if own is not None and said is not None and own != said:
        raise ManifestInvalid("the manifest's mediaType is not the Content-Type it came with")
    media_type = own or said or _inferred(shape)
    if media_type not in MANIFEST_TYPES:
        raise ManifestInvalid("this type of manifest is not supported")
    if shape - _shape_of(media_type):
        raise ManifestInvalid("the manifest has members of another type than it claims to be")
    return media_type


def _said(declared: str | None) -> str | None:
    """The type a header declares, or None where it says nothing about manifests."""
    text = (declared or "").partition(";")[0].strip().lower()
    return text if text.startswith("application/vnd.") else None


def _shape_of(media_type: str) -> frozenset[str]:
    if media_type in INDEX_TYPES:
        return _INDEX_SHAPE
    return _IMAGE_SHAPE if media_type in IMAGE_TYPES else _ARTIFACT_SHAPE


def _inferred(shape: frozenset[str]) -> str:
    if shape == _INDEX_SHAPE:
        return OCI_INDEX
    if shape == _IMAGE_SHAPE:
        return OCI_MANIFEST
    if shape == _ARTIFACT_SHAPE:
        return OCI_ARTIFACT
    raise ManifestInvalid("the manifest does not say its mediaType, and its members do not tell it either")


# --- what it says -----------------------------------------------------------------------------------------


def _content(body: _Object, media_type: str) -> _Content:
    config: Descriptor | None = None
    children: list[Child] = []
    if media_type in IMAGE_TYPES:
        first = _child(body.get("config"), Role.CONFIG, "config")
        config = first.descriptor
        children = [first, *_list(body, "layers", Role.LAYER)]
    elif media_type in INDEX_TYPES:
        children = _list(body, "manifests", None)
    else:
        children = _list(body, "blobs", Role.BLOB)
    subject = body.get("subject")
    artifact_type = _optional_text(body, "artifactType", "the manifest")
    return _Content(
        children=tuple(children),
        config=config,
        subject=None if subject is None else _descriptor(_as_object(subject, "subject"), "subject"),
        artifact_type=artifact_type or (config.media_type if config else None),
        annotations=_annotations(body, "the manifest"),
    )


def _list(body: _Object, key: str, role: Role | None) -> list[Child]:
    """The children under `key`; without a role, each has the one its media type gives it."""
    items = body.get(key)
    if items is None:
        # Go writes an empty list as null, and artifacts leave `blobs` out; the other two are required
        if key in body or key == "blobs":
            return []
        raise ManifestInvalid(f"{key} is missing")
    if not isinstance(items, list):
        raise ManifestInvalid(f"{key} is not a list")
    if len(items) > CHILDREN_LIMIT:
        raise ManifestInvalid(f"{key} has more than {CHILDREN_LIMIT} entries")
    return [_child(item, role, f"{key}[{number}]") for number, item in enumerate(items)]


def _child(value: object, role: Role | None, where: str) -> Child:
    item = _as_object(value, where)
    descriptor = _descriptor(item, where)
    if role is None:
        is_manifest = descriptor.media_type in MANIFEST_TYPES or descriptor.media_type in SCHEMA1_TYPES
        role = Role.MANIFEST if is_manifest else Role.BLOB
    return Child(
        role=role,
        descriptor=descriptor,
        platform=_platform(item, where),
        annotations=_annotations(item, where),
        foreign=bool(item.get("urls")) or is_foreign(descriptor.media_type),
    )


def _descriptor(item: _Object, where: str) -> Descriptor:
    _check_members(item, where)
    media_type = _optional_text(item, "mediaType", where)
    if media_type is None:
        raise ManifestInvalid(f"{where}: mediaType is missing")
    digest = item.get("digest")
    if not isinstance(digest, str):
        raise ManifestInvalid(f"{where}: digest is missing")
    size = item.get("size")
    if type(size) is not int or not 0 <= size <= _SIZE_LIMIT:  # a bool is an int, and 1.0 is none
        raise ManifestInvalid(f"{where}: size is not a number of bytes")
    try:
        return Descriptor(media_type, Digest.parse(digest), size)
    except DigestInvalid as error:
        raise ManifestInvalid(f"{where}: {error.message}") from None


def _platform(item: _Object, where: str) -> str | None:
    """`os/architecture[/variant]`, or None where there is no platform, or half of one."""
    value = item.get("platform")
    if value is None:
        return None
    platform = _as_object(value, f"{where}.platform")
    _check_members(platform, f"{where}.platform")
    os, architecture, variant = (_optional_text(platform, key, where) for key in ("os", "architecture", "variant"))
    parts = [part for part in (os, architecture, variant) if part]
    if any(_PLATFORM_PART.fullmatch(part) is None for part in parts):
        raise ManifestInvalid(f"{where}.platform is malformed")
    return "/".join(parts) if os and architecture else None


def _annotations(item: _Object, where: str) -> Mapping[str, str]:
    value = item.get("annotations")
    if value is None:
        return _NOTHING
    found = _as_object(value, f"{where}: annotations")
    try:
        # JSON can escape half of a surrogate pair, which no UTF-8 (so no database, no client) can hold.
        "".join((*found.keys(), *found.values())).encode()
    except (TypeError, UnicodeEncodeError):
        raise ManifestInvalid(f"{where}: an annotation is not a Unicode string") from None
    return MappingProxyType(found)


def _optional_text(item: _Object, key: str, where: str) -> str | None:
    """A short printable text; None where it is missing, null or empty, which are one to Go."""
    value = item.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > _TEXT_LIMIT or not (value.isascii() and value.isprintable()):
        raise ManifestInvalid(f"{where}: {key} is malformed")
    return value


def _as_object(value: object, where: str) -> _Object:
    if not isinstance(value, dict):
        raise ManifestInvalid(f"{where} is missing, or not an object")
    return value


def _check_members(item: _Object, where: str) -> None:
    for key in item:
        if key not in _KNOWN and key.casefold() in _MEMBERS:
            raise ManifestInvalid(f"{where}: {_MEMBERS[key.casefold()]} is written in another case")

"""What a fake registry holds: repositories with blobs, manifests and tags. Digests are text, as on the wire."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import images

OCI_MANIFEST = images.OCI.manifest
OCI_INDEX = images.OCI.index


@dataclass(frozen=True, slots=True)
class FakeManifest:
    """A manifest as it is held: bytes, type, digest."""

    raw: bytes
    media_type: str
    digest: str

    @property
    def descriptor(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.raw)}


@dataclass(frozen=True, slots=True)
class FakeImage:
    """What `add_image` made. `layers` are (digest, bytes) in order."""

    manifest: FakeManifest
    config: tuple[str, bytes]
    layers: tuple[tuple[str, bytes], ...]

    @property
    def digest(self) -> str:
        return self.manifest.digest


@dataclass(slots=True)
class FakeRepository:
    """One repository. Tests may change every dictionary at any time: move a tag, drop a blob."""

    blobs: dict[str, bytes | Path] = field(default_factory=dict)
    manifests: dict[str, FakeManifest] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def find(self, reference: str) -> FakeManifest | None:
        """The manifest of a tag or a digest."""
        return self.manifests.get(self.tags.get(reference, reference))

    def referrers(self, subject: str, artifact_type: str | None) -> list[dict[str, Any]]:
        """Descriptors of the manifests whose `subject` is this digest (distribution-spec, "Listing Referrers")."""
        found = []
        for manifest in self.manifests.values():
            value = json.loads(manifest.raw)
            if value.get("subject", {}).get("digest") == subject:
                kind = value.get("artifactType") or value.get("config", {}).get("mediaType")
                if artifact_type in (None, kind):
                    found.append(manifest.descriptor | {"artifactType": kind})
        return found


class Content:
    """All repositories of one fake registry."""

    def __init__(self) -> None:
        self.repositories: dict[str, FakeRepository] = {}

    def repository(self, name: str) -> FakeRepository:
        """The repository of that name, made where there is none."""
        return self.repositories.setdefault(name, FakeRepository())

    def add_blob(self, name: str, data: bytes | Path, *, digest: str | None = None) -> str:
        """Hold a blob; `digest` lies about its bytes where it is given."""
        if digest is None:
            digest = digest_of(data if isinstance(data, bytes) else data.read_bytes())
        self.repository(name).blobs[digest] = data
        return digest

    def add_manifest(
        self, name: str, value: dict[str, Any] | bytes, *, tag: str | None = None, media_type: str = OCI_MANIFEST
    ) -> FakeManifest:
        """Hold a manifest, and let `tag` name it."""
        raw = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
        manifest = FakeManifest(raw, media_type, digest_of(raw))
        repository = self.repository(name)
        repository.manifests[manifest.digest] = manifest
        if tag is not None:
            repository.tags[tag] = manifest.digest
        return manifest

    def add_image(
        self,
        name: str,
        tag: str | None = "latest",
        *,
        layers: Sequence[int | bytes] = (1000, 2000, 3000),
        seed: str = "",
        extra: dict[str, Any] | None = None,
    ) -> FakeImage:
        """An image of `layers`: bytes, or sizes of deterministic random bytes. Another `seed` gives other bytes.

        `extra` goes into the manifest (`subject`, `annotations`, `artifactType`).
        """
        made = [
            layer if isinstance(layer, bytes) else random_bytes(f"{seed}/{position}", layer)
            for position, layer in enumerate(layers)
        ]
        config = json.dumps(
            {
                "os": "linux",
                "architecture": "amd64",
                "config": {"Labels": {"seed": seed}},
                "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in made]},
            }
        ).encode()
        held = [(self.add_blob(name, layer), layer) for layer in made]
        manifest = self.add_manifest(
            name,
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": {"mediaType": images.OCI.config, "digest": self.add_blob(name, config), "size": len(config)},
                "layers": [
                    {"mediaType": images.OCI.layer, "digest": digest, "size": len(layer)} for digest, layer in held
                ],
                **(extra or {}),
            },
            tag=tag,
        )
        return FakeImage(manifest, (digest_of(config), config), tuple(held))

    def add_index(self, name: str, tag: str | None, children: Sequence[FakeImage]) -> FakeManifest:
        """An image index of `children`, which claim the platforms amd64, arm64, …"""
        architectures = ("amd64", "arm64", "s390x", "riscv64")
        entries = [
            child.manifest.descriptor | {"platform": {"os": "linux", "architecture": architecture}}
            for child, architecture in zip(children, architectures, strict=False)
        ]
        value = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
        return self.add_manifest(name, value, tag=tag, media_type=OCI_INDEX)

    def add_layout_image(self, name: str, tag: str | None, image: images.Image | images.Index) -> None:
        """Hold what `tests.support.images` made; blobs stay where they lie."""
        for blob in image.blobs:
            self.repository(name).blobs[blob.digest] = blob.path
        for manifest in image.manifests:
            self.add_manifest(name, manifest.read(), media_type=manifest.media_type)
        if tag is not None:
            self.repository(name).tags[tag] = image.digest


def digest_of(data: bytes) -> str:
    """sha256 as registries write it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def random_bytes(seed: str, size: int) -> bytes:
    """Bytes that do not compress, the same for the same seed."""
    return random.Random(seed).randbytes(size)

"""Images made on the spot, without a network: as OCI layouts on disk (`registry.push` uploads them).

Everything is deterministic: the same call gives the same digests. Digests are text here ("sha256:…"), since tests
compare them with what clients print.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from tests.support.packages import program

MIB = 1 << 20
GREETING = "hello from mirror"
_CREATED = "2024-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Flavor:
    """The media types of one image format."""

    manifest: str
    index: str
    config: str
    layer: str


OCI = Flavor(
    manifest="application/vnd.oci.image.manifest.v1+json",
    index="application/vnd.oci.image.index.v1+json",
    config="application/vnd.oci.image.config.v1+json",
    layer="application/vnd.oci.image.layer.v1.tar+gzip",
)
DOCKER = Flavor(
    manifest="application/vnd.docker.distribution.manifest.v2+json",
    index="application/vnd.docker.distribution.manifest.list.v2+json",
    config="application/vnd.docker.container.image.v1+json",
    layer="application/vnd.docker.image.rootfs.diff.tar.gzip",
)


@dataclass(frozen=True, slots=True)
class Blob:
    """One blob at rest in a layout. `diff_id` is the digest of a layer before compression, else empty."""

    digest: str
    media_type: str
    size: int
    path: Path
    diff_id: str = ""
    annotations: dict[str, str] = field(default_factory=dict, hash=False)

    @property
    def descriptor(self) -> dict[str, Any]:
        """What a manifest says of it."""
        said: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        return {**said, "annotations": self.annotations} if self.annotations else said

    def read(self) -> bytes:
        """The whole blob."""
        return self.path.read_bytes()


@dataclass(frozen=True, slots=True)
class Image:
    """One platform's image (or another manifest with config and layers, such as an attestation).

    `config.digest` is what docker and podman call the image's ID.
    """

    manifest: Blob
    config: Blob
    layers: tuple[Blob, ...]
    platform: dict[str, str] = field(hash=False)
    annotations: dict[str, str] = field(default_factory=dict, hash=False)

    @property
    def digest(self) -> str:
        """The manifest's digest."""
        return self.manifest.digest

    @property
    def size(self) -> int:
        """Bytes of manifest, config and layers together."""
        return sum(blob.size for blob in (self.manifest, *self.blobs))

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """Config and layers."""
        return (self.config, *self.layers)

    @property
    def manifests(self) -> tuple[Blob, ...]:
        """The manifests to push, in their order."""
        return (self.manifest,)


@dataclass(frozen=True, slots=True)
class Index:
    """Several images under one digest; `children` are images and, where asked for, their attestations."""

    manifest: Blob
    children: tuple[Image, ...]

    @property
    def digest(self) -> str:
        """The index's digest."""
        return self.manifest.digest

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """All configs and layers, each once."""
        return tuple({blob.digest: blob for child in self.children for blob in child.blobs}.values())

    @property
    def manifests(self) -> tuple[Blob, ...]:
        """The manifests to push: children before the index."""
        return (*(child.manifest for child in self.children), self.manifest)

    def child(self, architecture: str) -> Image:
        """The image of one architecture. Raises `LookupError` where there is none."""
        for child in self.children:
            if child.platform["architecture"] == architecture:
                return child
        raise LookupError(architecture)


class Layout:
    """An OCI layout in a folder: blobs by digest, and `index.json` with what was tagged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._blobs = folder / "blobs" / "sha256"
        self._blobs.mkdir(parents=True, exist_ok=True)
        (folder / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))
        self._tagged: list[dict[str, Any]] = []
        self._staged = 0

    def add_bytes(self, data: bytes, media_type: str) -> Blob:
        """Keep `data` as a blob."""
        digest = hashlib.sha256(data).hexdigest()
        path = self._blobs / digest
        path.write_bytes(data)
        return Blob(f"sha256:{digest}", media_type, len(data), path)

    def add_json(self, value: dict[str, Any], media_type: str) -> Blob:
        """Keep `value`, written compactly with its keys sorted, as a blob."""
        return self.add_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode(), media_type)

    def add_layer(self, fill: Callable[[tarfile.TarFile], None], *, level: int = 6, flavor: Flavor = OCI) -> Blob:
        """Keep the gzipped tar that `fill` writes as a layer; memory does not grow with its size."""
        self._staged += 1
        staging = self.folder / f"staging-{self._staged}"
        with staging.open("wb") as file:
            packed = _Hashing(file)
            with gzip.GzipFile(filename="", mode="wb", compresslevel=level, fileobj=packed, mtime=0) as zipped:
                plain = _Hashing(zipped)
                with tarfile.open(fileobj=plain, mode="w|", format=tarfile.PAX_FORMAT, bufsize=MIB) as tar:
                    fill(tar)
        digest = packed.digest
        path = staging.rename(self._blobs / digest.removeprefix("sha256:"))
        return Blob(digest, flavor.layer, path.stat().st_size, path, diff_id=plain.digest)

    def add_image(
        self,
        layers: Sequence[Blob],
        *,
        config: dict[str, Any] | None = None,
        platform: dict[str, str] | None = None,
        annotations: dict[str, str] | None = None,
        flavor: Flavor = OCI,
    ) -> Image:
        """An image of `layers` (`config` is the part that says what a container runs)."""
        runs_on = platform or {"os": "linux", "architecture": "amd64"}
        settings = self.add_json(
            {
                "created": _CREATED,
                **runs_on,
                "config": config or {},
                "rootfs": {"type": "layers", "diff_ids": [layer.diff_id or layer.digest for layer in layers]},
                "history": [{"created": _CREATED, "created_by": f"layer {n}"} for n in range(len(layers))],
            },
            flavor.config,
        )
        manifest = self.add_json(
            {
                "schemaVersion": 2,
                "mediaType": flavor.manifest,
                "config": settings.descriptor,
                "layers": [layer.descriptor for layer in layers],
            },
            flavor.manifest,
        )
        return Image(manifest, settings, tuple(layers), runs_on, annotations or {})

    def add_index(self, children: Sequence[Image], *, flavor: Flavor = OCI) -> Index:
        """An index (or manifest list) of `children`."""
        entries = [
            {**replace(child.manifest, annotations=child.annotations).descriptor, "platform": child.platform}
            for child in children
        ]
        value = {"schemaVersion": 2, "mediaType": flavor.index, "manifests": entries}
        return Index(self.add_json(value, flavor.index), tuple(children))

    def tag(self, image: Image | Index, name: str) -> None:
        """Write `index.json` anew with `image` under `name`, beside what was tagged before."""
        entry = {**image.manifest.descriptor, "annotations": {"org.opencontainers.image.ref.name": name}}
        self._tagged.append(entry)
        (self.folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": self._tagged}))


def busybox_image(layout: Layout, *, label: str = "", architecture: str = "amd64", flavor: Flavor = OCI) -> Image:
    """A runnable image of this machine's static busybox that prints `GREETING`.

    `label` changes the config (so the ID and the manifest's digest) but not the layer. `architecture` is only
    what the image claims. Raises `FileNotFoundError` without the package busybox-static.
    """
    config: dict[str, Any] = {"Env": ["PATH=/bin"], "Cmd": ["echo", *GREETING.split()], "WorkingDir": "/"}
    if label:
        config["Labels"] = {"mirror.tests": label}
    layer = layout.add_layer(_fill_busybox, flavor=flavor)
    return layout.add_image(
        [layer], config=config, platform={"os": "linux", "architecture": architecture}, flavor=flavor
    )


def layered_image(layout: Layout, sizes: Iterable[int], *, seed: str = "layers", flavor: Flavor = OCI) -> Image:
    """An image with one layer per entry of `sizes`, each a file of so many bytes that do not compress.

    Such a layer is its file and less than 1 percent or 12 KiB more, whichever is larger.
    """
    layers = [random_layer(layout, size, seed=f"{seed}-{n}", flavor=flavor) for n, size in enumerate(sizes)]
    return layout.add_image(layers, flavor=flavor)


def random_layer(layout: Layout, size: int, *, seed: str, flavor: Flavor = OCI) -> Blob:
    """A layer with one file `data-<seed>` of `size` deterministic pseudo-random bytes, stored uncompressed in gzip."""

    def fill(tar: tarfile.TarFile) -> None:
        _add_file(tar, f"data-{seed}", _RandomBytes(seed), size)

    return layout.add_layer(fill, level=0, flavor=flavor)


def large_image(layout: Layout, size: int = 300 * MIB, *, flavor: Flavor = OCI) -> Image:
    """An image with a single large layer. Takes some seconds: keep it for the session."""
    return layered_image(layout, [size], seed="large", flavor=flavor)


def platforms_index(layout: Layout, *, attestations: bool = False, flavor: Flavor = OCI) -> Index:
    """busybox for linux/amd64 and, as it claims, linux/arm64, which share their layer.

    With `attestations`, each platform is followed by a manifest as BuildKit attaches it: platform unknown/unknown,
    annotated with the digest of the image it speaks of.
    """
    images = [
        busybox_image(layout, label=architecture, architecture=architecture, flavor=flavor)
        for architecture in ("amd64", "arm64")
    ]
    attached = [attestation(layout, image) for image in images] if attestations else []
    return layout.add_index([*images, *attached], flavor=flavor)


def attestation(layout: Layout, image: Image) -> Image:
    """BuildKit's attestation manifest for `image`: one in-toto statement as its layer."""
    predicate = "https://slsa.dev/provenance/v0.2"
    statement = layout.add_json(
        {
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": predicate,
            "subject": [{"name": "busybox", "digest": {"sha256": image.digest.removeprefix("sha256:")}}],
            "predicate": {"buildType": "https://mobyproject.org/buildkit@v1"},
        },
        "application/vnd.in-toto+json",
    )
    return layout.add_image(
        [replace(statement, annotations={"in-toto.io/predicate-type": predicate})],
        platform={"os": "unknown", "architecture": "unknown"},
        annotations={
            "vnd.docker.reference.digest": image.digest,
            "vnd.docker.reference.type": "attestation-manifest",
        },
    )


class _Hashing(io.RawIOBase):
    """A file to write to that hashes what passes."""

    def __init__(self, target: IO[bytes] | gzip.GzipFile) -> None:
        super().__init__()
        self._target = target
        self._hash = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self._hash.update(data)
        return self._target.write(data)

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


class _RandomBytes(io.RawIOBase):
    """A file to read from without end: the same bytes for the same seed."""

    def __init__(self, seed: str) -> None:
        super().__init__()
        self._random = random.Random(seed)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        return self._random.randbytes(max(size, 0))


def _fill_busybox(tar: tarfile.TarFile) -> None:
    path = program("busybox")
    if path is None:
        raise FileNotFoundError("busybox (package busybox-static)")
    for name in ("bin", "etc", "tmp", "proc", "sys", "dev"):
        folder = tarfile.TarInfo(name)
        folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
        tar.addfile(folder)
    data = Path(path).read_bytes()
    _add_file(tar, "bin/busybox", io.BytesIO(data), len(data), mode=0o755)
    for name in ("sh", "ls", "echo", "cat", "sleep", "sha256sum", "true", "false"):
        link = tarfile.TarInfo(f"bin/{name}")
        link.type, link.linkname, link.mode = tarfile.SYMTYPE, "busybox", 0o777
        tar.addfile(link)
    users = b"root:x:0:0:root:/:/bin/sh\n"
    _add_file(tar, "etc/passwd", io.BytesIO(users), len(users))


def _add_file(tar: tarfile.TarFile, name: str, data: Any, size: int, *, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, mode
    tar.addfile(entry, data)

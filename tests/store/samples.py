"""Content that the store's tests write."""

import json
from collections.abc import Sequence

from mirror.oci.digest import Digest
from mirror.oci.manifest import OCI_CONFIG, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST, Descriptor, Manifest, Role
from mirror.oci.names import Repository
from mirror.store.catalog import Catalog
from mirror.store.protocols import Origin, Proof

ALPINE = Repository("docker.io", "library/alpine")
NGINX = Repository("docker.io", "library/nginx")
TOOL = Repository("ghcr.io", "team/tool")
OWN = Repository("local", "team/app")

CONFIG = b"{}"


def digest_of(text: str) -> Digest:
    """The digest of a short text."""
    return Digest.of(text.encode())


def image(*layers: str, subject: Manifest | None = None, note: str = "", config: bytes = CONFIG) -> Manifest:
    """An image manifest whose layers are these texts."""
    body: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _descriptor(Descriptor(OCI_CONFIG, Digest.of(config), len(config))),
        "layers": [_descriptor(Descriptor(OCI_LAYER_GZIP, digest_of(text), len(text))) for text in layers],
    }
    if subject:
        body["subject"] = _descriptor(subject.descriptor)
    if note:
        body["annotations"] = {"note": note}
    return Manifest.parse(json.dumps(body).encode())


def index(children: Sequence[Manifest]) -> Manifest:
    """An index of manifests."""
    entries = [_descriptor(child.descriptor) for child in children]
    entries = [{**entry, "platform": {"os": "linux", "architecture": f"a{n}"}} for n, entry in enumerate(entries)]
    return Manifest.parse(json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode())


async def hold_image(
    catalog: Catalog, repository: Repository, manifest: Manifest, proof: Proof = Proof.ANONYMOUS, at: float = 1
) -> Digest:
    """Hold a manifest and what it names: blobs of their sizes, of an index only itself. Returns its digest."""
    for child in manifest.children():
        if child.role is not Role.MANIFEST:
            item = child.descriptor
            await catalog.hold(item.digest, item.size, f"place of {item.digest.short}", [(repository, proof)], at)
    await catalog.hold_manifest(repository, manifest, "place", proof, at)
    return manifest.descriptor.digest


async def hold_index(
    catalog: Catalog,
    repository: Repository,
    children: Sequence[Manifest],
    proof: Proof = Proof.ANONYMOUS,
    at: float = 1,
) -> Digest:
    """Hold an index with its images."""
    for child in children:
        await hold_image(catalog, repository, child, proof, at)
    return await hold_image(catalog, repository, index(children), proof, at)


async def tag(
    catalog: Catalog, repository: Repository, name: str, to: Digest, origin: Origin = Origin.UPSTREAM, at: float = 1
) -> None:
    """Let a tag name a manifest, wherever it is now."""
    known = await catalog.tag(repository, name)
    assert await catalog.move_tag(repository, name, known.manifest if known else None, to, origin, at, "test")


def _descriptor(descriptor: Descriptor) -> dict[str, object]:
    return {"mediaType": descriptor.media_type, "digest": str(descriptor.digest), "size": descriptor.size}

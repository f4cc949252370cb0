"""Content that the store's tests write."""

import json
from collections.abc import Sequence

from mirror.oci.digest import Digest
from mirror.oci.manifest import OCI_CONFIG, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST, Descriptor, Manifest
from mirror.oci.names import Repository

ALPINE = Repository("docker.io", "library/alpine")
NGINX = Repository("docker.io", "library/nginx")
TOOL = Repository("ghcr.io", "team/tool")
OWN = Repository("local", "team/app")

CONFIG = b"{}"


def digest_of(text: str) -> Digest:
    """The digest of a short text."""
    return Digest.of(text.encode())


def image(*layers: str, subject: Manifest | None = None, note: str = "") -> Manifest:
    """An image manifest whose layers are these texts."""
    body: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _descriptor(Descriptor(OCI_CONFIG, Digest.of(CONFIG), len(CONFIG))),
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


def _descriptor(descriptor: Descriptor) -> dict[str, object]:
    return {"mediaType": descriptor.media_type, "digest": str(descriptor.digest), "size": descriptor.size}

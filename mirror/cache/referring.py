"""Referrers at registries without an API for them: an index under a tag that is made of the subject's digest
(distribution-spec, "Referrers Tag Schema").

The list is read, added to and written: what others have put into it stays as it is. Two of this mirror's own never do
that to one list at the same time; a client of that registry that does so cannot be kept from it.
"""

import asyncio
import json
import logging
import re
from collections import defaultdict
from typing import Any

from mirror.errors import MirrorError, UpstreamGone
from mirror.oci.digest import Digest
from mirror.oci.manifest import OCI_INDEX, Manifest
from mirror.oci.names import Reference, Repository
from mirror.upstream.protocols import Destination

log = logging.getLogger(__name__)

# "The <alg> is the digest algorithm … truncated to 32 characters …", "<ref> … truncated to 64 characters"; "Any
# characters not allowed by <reference> tags MUST be replaced with -".
_ALGORITHM, _REFERENCE = 32, 64
_NOT_IN_TAGS = re.compile(r"[^A-Za-z0-9._-]")


def fallback_tag(subject: Digest) -> str:
    """The tag under which the referrers of a digest are listed."""
    text = f"{subject.algorithm[:_ALGORITHM]}-{subject.hex[:_REFERENCE]}"
    return _NOT_IN_TAGS.sub("-", text)


class Referring:
    """Keeps such lists."""

    def __init__(self) -> None:
        self._writing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # by registry

    async def list(self, destination: Destination, repository: Repository, manifest: Manifest) -> None:
        """See to it that the list of its subject's referrers has this manifest, which is there already.

        A list that cannot be read is left as it is, as the specification says. Raises as `Destination` does.
        """
        if manifest.subject is None:
            return
        reference = Reference(repository, fallback_tag(manifest.subject.digest), None)
        async with self._writing[repository.registry]:
            await self._add(destination, reference, manifest)

    async def _add(self, destination: Destination, reference: Reference, manifest: Manifest) -> None:
        try:
            raw = (await destination.manifest(reference)).raw
        except UpstreamGone:
            raw = b""
        try:
            added = with_referrer(raw, manifest)
        except MirrorError as error:
            log.warning(
                "%s lists no referrers, %s is not added to it: %s", reference, manifest.descriptor.digest, error
            )
            return
        if added is not None:
            await destination.put(reference, added)


def with_referrer(raw: bytes, manifest: Manifest) -> Manifest | None:
    """The list in `raw` (empty: there is none) with this manifest in it; None where it has it already.

    Raises `ManifestInvalid` or `ManifestTooLarge` where it is no index, or would not be one.
    """
    digest = manifest.descriptor.digest
    body: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
    if raw:
        known = Manifest.parse(raw, declared=OCI_INDEX)
        if any(child.descriptor.digest == digest for child in known.children()):
            return None
        body = json.loads(raw)
    body["manifests"] = [*(body["manifests"] or ()), described(manifest)]
    return Manifest.parse(json.dumps(body, separators=(",", ":")).encode(), declared=OCI_INDEX)


def described(manifest: Manifest) -> dict[str, object]:
    """Its descriptor as a list of referrers has it (distribution-spec, "Listing Referrers")."""
    descriptor: dict[str, object] = {
        "mediaType": manifest.descriptor.media_type,
        "digest": str(manifest.descriptor.digest),
        "size": manifest.descriptor.size,
    }
    if manifest.artifact_type is not None:
        descriptor["artifactType"] = manifest.artifact_type
    if manifest.annotations:
        descriptor["annotations"] = dict(manifest.annotations)
    return descriptor

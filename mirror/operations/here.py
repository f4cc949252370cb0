"""What is held of an image, for whoever may see it. Nobody is asked."""

from collections.abc import Sequence
from dataclasses import dataclass

from mirror.cache.content import Content
from mirror.cache.manifests import Manifests
from mirror.cache.proofs import Proofs
from mirror.cache.rights import Principal
from mirror.errors import ManifestUnknown, MirrorError
from mirror.oci.digest import Digest
from mirror.oci.manifest import Descriptor, Manifest
from mirror.oci.names import Reference, Repository
from mirror.operations.plan import Plan, plan
from mirror.operations.platforms import Platform
from mirror.store.protocols import Tags


@dataclass(frozen=True, slots=True)
class Here:
    """The looks of one principal."""

    catalog: Tags
    manifests: Manifests
    content: Content
    proofs: Proofs
    principal: Principal

    async def root(self, reference: Reference) -> Manifest | None:
        """The manifest that this name stands for here; None where it stands for nothing that he may see."""
        digest = reference.digest
        if digest is None:
            row = await self.catalog.tag(reference.repository, reference.tag or "")
            if row is None:
                return None
            digest = row.manifest
        return await self.manifest(reference.repository, digest)

    async def manifest(self, repository: Repository, digest: Digest) -> Manifest | None:
        """The manifest of this digest, as this repository holds it."""
        kept = await self.manifests.held(repository, digest)
        trusted = self.proofs.trusted(self.principal, repository)
        if kept is None or not self.proofs.visible(kept.link, repository, trusted=trusted):
            return None
        return kept.manifest

    async def whole(
        self, repository: Repository, root: Manifest | None, platforms: Sequence[Platform] | None
    ) -> Plan | None:
        """What the image `root` needs on these platforms (as `plan` has it), if it has them and all of that is here."""

        async def read(descriptor: Descriptor) -> Manifest:
            found = await self.manifest(repository, descriptor.digest)
            if found is None:
                raise _Missing("it is not here")
            return found

        if root is None:
            return None
        try:
            made = await plan(root, platforms, read)
        except (_Missing, ManifestUnknown):
            return None
        for digest in made.parts:
            if not await self.content.held(self.principal, repository, digest):
                return None
        return made


class _Missing(MirrorError):
    """Part of an image is not here."""

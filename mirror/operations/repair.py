"""What is damaged: which images need it, and how it is had once more."""

import logging
from typing import Protocol

from mirror.cache.content import Content
from mirror.cache.manifests import Manifests
from mirror.cache.rights import SOCKET, Principal
from mirror.cache.sight import Sight
from mirror.errors import MirrorError
from mirror.oci.digest import Digest
from mirror.oci.names import LOCAL, Repository
from mirror.operations.fetching import CLIENT
from mirror.store import inventory, protocols

log = logging.getLogger(__name__)

_NAMED = 100  # images that are named
_ASKED = 10  # repositories under which it is asked for
_NOWHERE = Repository(LOCAL, "nowhere")  # to look at a blob without looking from a repository


class Catalog(protocols.Links, inventory.Images, inventory.Collection, Protocol):
    """What of the catalog is needed here."""


class Repair:
    """Of damaged blobs, layers and manifests alike."""

    def __init__(self, *, catalog: Catalog, content: Content, manifests: Manifests, sight: Sight) -> None:
        self._catalog = catalog
        self._content = content
        self._manifests = manifests
        self._sight = sight

    async def names(self, principal: Principal, digest: Digest) -> tuple[str, ...]:
        """The images that need it, as far as he may know of them, tags first."""
        rows = [*await self._catalog.find(digest.hex, _NAMED), *await self._catalog.sharing(digest, _NAMED)]
        seen = [row for row in rows if self._sight.sees(principal, row)]
        names = [f"{row.repository}:{row.tag}" if row.tag else f"{row.repository}@{row.manifest}" for row in seen]
        return tuple(dict.fromkeys(names))[:_NAMED]

    async def heal(self, digest: Digest) -> str | None:
        """Fetch what is quarantined from a registry, under a repository that has it; None where it is here again, else
        why not. Whoever asked for it: the mirror restores what it had, with the right that it had."""
        why = "no registry is known to have it"
        is_manifest = any(as_manifest for _, as_manifest in await self._catalog.homes(digest, _NAMED))
        for repository in await self._repositories(digest):
            try:
                if is_manifest:
                    await self._manifests.renew(SOCKET, repository, digest)
                else:
                    await self._content.bring(SOCKET, repository, digest, CLIENT)
            except MirrorError as error:
                why = error.message
                log.info("%s is not to be had from %s: %s", digest, repository, error.message)
                continue
            if await self.holding(digest) is not None:
                log.info("%s was fetched anew from %s", digest, repository)
                return None
            why = "it was fetched, and could not be kept"
        return why

    async def holding(self, digest: Digest) -> protocols.Holding | None:
        """What the catalog has of it, wherever it is linked; None where it is not held."""
        return await self._catalog.holding(_NOWHERE, digest, is_manifest=False)

    async def _repositories(self, digest: Digest) -> list[Repository]:
        homes = [home for home, _ in await self._catalog.homes(digest, _NAMED)]
        homes += [row.repository for row in await self._catalog.sharing(digest, _NAMED)]
        return [home for home in dict.fromkeys(homes) if not home.is_own][:_ASKED]

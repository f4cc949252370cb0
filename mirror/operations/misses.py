"""`misses`: what was asked for and could not be given, because no registry could be asked; and still is not here."""

from collections.abc import Sequence
from typing import Protocol

from mirror.cache.rights import Principal
from mirror.cache.sight import Sight
from mirror.errors import DigestInvalid, NameInvalid
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.store.inventory import Miss
from mirror.store.protocols import Holding, Tag

MOST = 1000
"""As many as the catalog keeps."""


class Catalog(Protocol):
    """What of the catalog is needed here."""

    async def misses(self, limit: int) -> Sequence[Miss]: ...
    async def tag(self, repository: Repository, name: str) -> Tag | None: ...
    async def holding(self, repository: Repository, digest: Digest, *, is_manifest: bool) -> Holding | None: ...
    async def forget_misses(self) -> None: ...


class MissList:
    """The list."""

    def __init__(self, *, catalog: Catalog, sight: Sight) -> None:
        self._catalog = catalog
        self._sight = sight

    async def list(self, principal: Principal, limit: int) -> list[Miss]:
        """Those that he may know of, asked for most lately first."""
        found: list[Miss] = []
        for miss in await self._catalog.misses(MOST):
            if len(found) >= limit:
                break
            repository = repository_of(miss.name)
            if repository is None or not await self._sight.knows(principal, repository):
                continue
            if not await self._came(repository, miss.name):
                found.append(miss)
        return found

    async def _came(self, repository: Repository, name: str) -> bool:
        """Whether it has come since."""
        _, at, text = name.partition("@")
        if not at:
            tag = await self._catalog.tag(repository, name.rpartition(":")[2])
            return tag is not None and await self._is_held(repository, tag.manifest)
        try:
            return await self._is_held(repository, Digest.parse(text))
        except DigestInvalid:
            return False

    async def _is_held(self, repository: Repository, digest: Digest) -> bool:
        for is_manifest in (True, False):
            held = await self._catalog.holding(repository, digest, is_manifest=is_manifest)
            if held is not None and held.link is not None:
                return True
        return False

    async def clear(self) -> None:
        """Begin it anew."""
        await self._catalog.forget_misses()


def repository_of(name: str) -> Repository | None:
    """The repository in `registry/path:tag` or `registry/path@digest`, as a miss is called."""
    whole, at, _ = name.partition("@")
    if not at:
        whole = name.rpartition(":")[0]
    registry, _, path = whole.partition("/")
    try:
        return Repository(registry, path)
    except NameInvalid:
        return None

"""`misses`: what was asked for and could not be given, because no registry could be asked."""

from collections.abc import Sequence
from typing import Protocol

from mirror.cache.rights import Principal
from mirror.cache.sight import Sight
from mirror.errors import NameInvalid
from mirror.oci.names import Repository
from mirror.store.inventory import Miss

MOST = 1000
"""As many as the catalog keeps."""


class Catalog(Protocol):
    """What of the catalog is needed here."""

    async def misses(self, limit: int) -> Sequence[Miss]: ...
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
            if repository is not None and await self._sight.knows(principal, repository):
                found.append(miss)
        return found

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

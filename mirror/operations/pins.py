"""`pin` and `unpin`: what neither eviction nor `prune` may take, and what `rmi` takes only when it is forced.

A pin is somebody's, and stands on a name: a tag keeps whatever it names, also after it has moved; a digest keeps that
manifest. What several owners pin stays until the last one lets go.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mirror.cache.names import Names
from mirror.cache.rights import Action, Principal, Rights
from mirror.cache.sight import Sight
from mirror.clock import Clock
from mirror.errors import ManifestUnknown, MirrorError
from mirror.oci.names import Reference
from mirror.operations.pull import owner_of
from mirror.operations.resolve import Resolver
from mirror.store import inventory


class Catalog(Protocol):
    """What of the catalog is used."""

    async def pin(self, reference: Reference, owner: str, at: float) -> None: ...
    async def unpin(self, reference: Reference, owner: str | None) -> int: ...
    async def pins(self) -> Sequence[inventory.Pin]: ...


@dataclass(frozen=True, slots=True)
class Pin:
    """One pin: the canonical name, whose it is, since when (wall seconds)."""

    name: str
    owner: str
    pinned_at: float


class Pins:
    """The verbs."""

    def __init__(
        self, *, catalog: Catalog, resolver: Resolver, rights: Rights, sight: Sight, names: Names, clock: Clock
    ) -> None:
        self._catalog = catalog
        self._resolver = resolver
        self._rights = rights
        self._sight = sight
        self._names = names
        self._clock = clock

    async def listed(self, principal: Principal) -> list[Pin]:
        """Those that he may know of, by name and owner."""
        found = []
        for pin in await self._catalog.pins():
            if await self._sight.knows(principal, pin.repository):
                name = f"{pin.repository}{'@' if ':' in pin.reference else ':'}{pin.reference}"
                found.append(Pin(name, pin.owner, pin.pinned_at))
        return found

    async def add(self, principal: Principal, texts: Sequence[str], owner: str | None) -> list[Pin]:
        """Pin all of these, or none. By a tag it is the tag that is pinned; by an ID the manifest, wherever it is.

        Raises `ManifestUnknown` where there is no such image, `Denied` where he may not.
        """
        references = [each for text in texts for each in await self._meant(principal, text)]
        whose, at = owner or owner_of(principal), self._clock.wall()
        for reference in references:
            self._rights.require(principal, Action.ADMIN, reference.repository)
        for reference in references:
            await self._catalog.pin(reference, whose, at)
        return [Pin(str(reference), whose, at) for reference in references]

    async def remove(self, principal: Principal, text: str, owner: str | None) -> int:
        """Take pins of this name away, this owner's or everybody's. It need not be held. How many they were.

        Raises `ManifestUnknown` where it is not pinned, `Denied` where he may not.
        """
        reference = self._named(text)
        taken = await self._unpin(principal, reference, owner) if reference is not None else 0
        if not taken:
            try:
                meant = await self._meant(principal, text)
            except ManifestUnknown:
                meant = []
            for each in meant:
                taken += await self._unpin(principal, each, owner)
        if not taken:
            by = f" by {owner}" if owner else ""
            raise ManifestUnknown(f"{text} is not pinned{by}", detail={"name": text})
        return taken

    async def _unpin(self, principal: Principal, reference: Reference, owner: str | None) -> int:
        self._rights.require(principal, Action.ADMIN, reference.repository)
        return await self._catalog.unpin(reference, owner)

    async def _meant(self, principal: Principal, text: str) -> list[Reference]:
        meaning = await self._resolver.find(principal, text)
        if meaning.reference is not None:
            return [meaning.reference]
        found = {(row.repository, row.manifest) for row in meaning.rows}
        return [Reference(home, None, manifest) for home, manifest in sorted(found)]

    def _named(self, text: str) -> Reference | None:
        try:
            return self._names.reference(text)
        except MirrorError:
            return None

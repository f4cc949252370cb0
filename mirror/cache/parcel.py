"""What is to be sent of an image: its manifests, children before parents, and its blobs, each once.

What counts as held is what the sender's view shows (`inventory.View`): that bytes lie in the store gives nobody the
right to send them anywhere. A registry that first says it has a blob, and then that it has not, gets nothing by that.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from mirror.cache.content import quarantine
from mirror.cache.leases import Leases
from mirror.errors import BlobUnknown, ManifestInvalid
from mirror.oci.digest import Digest
from mirror.oci.manifest import Child, Descriptor, Manifest, Role
from mirror.oci.names import LOCAL, Repository
from mirror.store import protocols
from mirror.store.inventory import View
from mirror.store.protocols import BlobStore, Holding

_MOST_PARTS = 100_000
_DEEPEST = 32
_INLINE = 64 * 1024  # bytes of a manifest that are parsed on the loop
_NOWHERE = Repository(LOCAL, "nowhere")  # for what is asked of the store, not of a repository


class Catalog(protocols.Links, protocols.Manifests, Protocol):
    """The parts of the catalog that packing uses."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A config or a layer, or an index's child that is no manifest."""

    descriptor: Descriptor
    is_config: bool
    held: bool


@dataclass(frozen=True, slots=True)
class Parcel:
    """An image ready to go. What may not be distributed is no part of it: a registry need not have it."""

    root: Manifest
    manifests: tuple[Descriptor, ...]  # held ones below the root, children before parents
    missing: tuple[Descriptor, ...]  # manifests below it that are not held
    blobs: tuple[Blob, ...]
    foreign: tuple[Descriptor, ...]

    @property
    def layers(self) -> int:
        return sum(not blob.is_config for blob in self.blobs)

    @property
    def bytes(self) -> int:
        """Of all blobs."""
        return sum(blob.descriptor.size for blob in self.blobs)


class Packing:
    """Packs."""

    def __init__(self, *, store: BlobStore, catalog: Catalog, leases: Leases) -> None:
        self._store = store
        self._catalog = catalog
        self._leases = leases

    async def pack(self, root: Manifest, view: View) -> Parcel:
        """Walk down from a manifest, which need not be stored itself. Raises `ManifestInvalid` where it has more parts
        than anybody needs, `StoreFailed`."""
        manifests: list[Descriptor] = []
        missing: list[Descriptor] = []
        blobs: dict[Digest, Blob] = {}
        foreign: dict[Digest, Descriptor] = {}
        seen: set[Digest] = set()
        path: list[tuple[Manifest, Iterator[Child]]] = [(root, iter(root.children()))]
        while path:
            manifest, children = path[-1]
            child = next(children, None)
            if child is None:
                path.pop()
                manifests.append(manifest.descriptor)
            elif child.role is not Role.MANIFEST:
                await self._add(child, view, blobs, foreign)
            elif child.descriptor.digest not in seen:
                seen.add(child.descriptor.digest)
                below = await self._shown(child.descriptor.digest, view)
                if below is not None:
                    path.append((below, iter(below.children())))
                else:
                    missing.append(child.descriptor)
            if len(path) > _DEEPEST or len(blobs) + len(seen) > _MOST_PARTS:
                raise ManifestInvalid("the index has more below it than can be sent at once")
        return Parcel(root, tuple(manifests[:-1]), tuple(missing), tuple(blobs.values()), tuple(foreign.values()))

    async def manifest(self, digest: Digest) -> Manifest | None:
        """A held manifest, whoever may see it; None where there is none, or its bytes are rotten. Raises
        `StoreFailed`."""
        async with self._leases.hold(digest):
            holding = await self._catalog.holding(_NOWHERE, digest, is_manifest=True)
            media_type = await self._catalog.manifest_type(digest)
            if holding is None or media_type is None:
                return None
            try:
                raw = await self._store.read(digest, holding.location, holding.size)
            except BlobUnknown:
                await quarantine(self._catalog, digest)
                return None
        if len(raw) <= _INLINE:
            return Manifest.parse(raw, declared=media_type, digest=digest)
        return await asyncio.to_thread(Manifest.parse, raw, declared=media_type, digest=digest)

    async def _shown(self, digest: Digest, view: View) -> Manifest | None:
        holding = await self._catalog.holding(view.repository, digest, is_manifest=True)
        return await self.manifest(digest) if _shows(view, holding) else None

    async def _add(
        self, child: Child, view: View, blobs: dict[Digest, Blob], foreign: dict[Digest, Descriptor]
    ) -> None:
        digest = child.descriptor.digest
        if child.foreign and child.role is not Role.CONFIG:
            foreign[digest] = child.descriptor
        elif digest not in blobs:
            holding = await self._catalog.holding(view.repository, digest, is_manifest=False)
            held = _shows(view, holding) or (holding is not None and holding.public)
            blobs[digest] = Blob(child.descriptor, child.role is Role.CONFIG, held)


def _shows(view: View, holding: Holding | None) -> bool:
    """Whether it is held and the view's own repository shows it (`conditions.seen`)."""
    link = holding.link if holding is not None else None
    return link is not None and (
        link.anonymous_at is not None
        or link.pushed_at is not None
        or (view.trusted and link.credentials_at is not None)
    )

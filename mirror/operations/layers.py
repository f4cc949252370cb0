"""`layers`: what an image is made of, and who shares it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mirror.cache.rights import Principal
from mirror.cache.sight import Sight
from mirror.oci.digest import Digest
from mirror.operations.composition import EdgesSeen
from mirror.operations.image import Selection, edges_of, layers
from mirror.store.inventory import ImageRow

_SHARING = 500  # images that are looked at for each layer


class Catalog(EdgesSeen, Protocol):
    """What of the catalog is needed here."""

    async def sharing(self, digest: Digest, limit: int) -> Sequence[ImageRow]: ...


@dataclass(frozen=True, slots=True)
class SharedLayer:
    """One layer, and the canonical names of other images that have it, as far as the asker may see them."""

    digest: str
    size: int
    media_type: str
    held: bool
    shared_with: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LayerList:
    """An image's layers, in the order of its manifest."""

    layers: tuple[SharedLayer, ...]


class Layers:
    """Lists layers."""

    def __init__(self, *, catalog: Catalog, selection: Selection, sight: Sight) -> None:
        self._catalog = catalog
        self._selection = selection
        self._sight = sight

    async def of(self, principal: Principal, text: str, platform: str | None) -> LayerList:
        """The layers of the image that `text` means. Raises as `Selection.select`."""
        selected = await self._selection.select(principal, text, platform)
        found: list[SharedLayer] = []
        shared: dict[Digest, tuple[str, ...]] = {}
        for layer in layers(await edges_of(self._catalog, selected)):
            digest = Digest.parse(layer.digest)
            if digest not in shared:  # an image may have a layer twice
                shared[digest] = await self._shared(principal, digest, selected.named)
            found.append(SharedLayer(layer.digest, layer.size, layer.media_type, layer.held, shared[digest]))
        return LayerList(tuple(found))

    async def _shared(self, principal: Principal, layer: Digest, own: Digest) -> tuple[str, ...]:
        rows = await self._catalog.sharing(layer, _SHARING)
        names = [
            f"{row.repository}:{row.tag}" if row.tag is not None else f"{row.repository}@{row.manifest}"
            for row in rows
            if row.manifest != own and self._sight.sees(principal, row)
        ]
        return tuple(names)

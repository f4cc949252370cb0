"""`inspect` and `history`: everything about one image."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

from mirror.cache.names import Names
from mirror.cache.rights import Principal
from mirror.cache.sight import Sight
from mirror.errors import ManifestUnknown, MirrorError
from mirror.oci.digest import Digest
from mirror.oci.manifest import INDEX_TYPES, OCI_MANIFEST, Manifest, Role
from mirror.oci.names import Repository
from mirror.operations.composition import Child, Composition, EdgesSeen, Made, choose
from mirror.operations.configs import Configs, parsed
from mirror.operations.images import Describer, Image, PlatformEntry
from mirror.operations.platforms import Platform
from mirror.operations.resolve import Meaning, Resolver
from mirror.store.inventory import Edge, ImageRow, Pin, View

_NAMED = 1000  # images that are looked at for an image's other names
_ATTESTS = "vnd.docker.reference.type"  # BuildKit, docs/attestations/attestation-storage.md


class Catalog(EdgesSeen, Protocol):
    """What of the catalog is needed here."""

    async def find(self, prefix: str, limit: int) -> Sequence[ImageRow]: ...
    async def pins(self) -> Sequence[Pin]: ...


class Kept(Protocol):
    """A manifest that a repository holds."""

    @property
    def manifest(self) -> Manifest: ...


class Manifests(Protocol):
    """What of `cache.manifests` is needed here."""

    async def held(self, repository: Repository, digest: Digest) -> Kept | None: ...
    async def public(self, repository: Repository, digest: Digest) -> Manifest | None: ...


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer, or blob, of an image; in the order of its manifest. `held`: its bytes are here."""

    digest: str
    size: int
    media_type: str
    held: bool


@dataclass(frozen=True, slots=True)
class ImageDetail(Image):
    """One image, whole. `config` and `layers` are those of the platform that it stands for."""

    media_type: str
    manifest: dict[str, Any] | None  # parsed
    config: dict[str, Any] | None  # parsed
    layers: tuple[Layer, ...]
    children: tuple[PlatformEntry, ...]  # of an index
    tags: tuple[str, ...]  # canonical names of this image, all that he may see
    pins: tuple[str, ...]  # whose


@dataclass(frozen=True, slots=True)
class Selected:
    """What was asked for. `child`: the image of one platform that stands for it, if one is held; `row` has its
    manifest where a platform was chosen, else the one that was `named`. `view`: how he sees its repository."""

    row: ImageRow
    view: View
    named: Digest
    child: Child | None


class Selection:
    """Finds one image, and the platform of it that is meant."""

    def __init__(self, *, resolver: Resolver, composition: Composition) -> None:
        self._resolver = resolver
        self._composition = composition

    async def select(self, principal: Principal, text: str, platform: str | None) -> Selected:
        """Without `platform` it is the one that an ID names, else this machine's, else the first one held.

        Raises as `Resolver.find`, `RequestInvalid` for what is no platform, and `ManifestUnknown` where that platform
        is not held.
        """
        wish = Platform.parse(platform) if platform else None
        meaning = await self._resolver.find(principal, text)
        row = meaning.rows[0]
        named = row.manifest
        (made,) = await self._composition.of(principal, [row])
        child = _chosen(made, meaning) if wish is None else _suiting(made, wish, text)
        if child is not None and child.manifest != named:
            row = replace(row, manifest=child.manifest, media_type=OCI_MANIFEST, manifest_size=0)
        return Selected(row, self._composition.view(principal, row.repository), named, child or made.chosen)


def _chosen(made: Made, meaning: Meaning) -> Child | None:
    """The child whose ID was said, where it is not the one that the index stands for."""
    if meaning.identity is None or made.id == meaning.identity:
        return None
    return next((child for child in made.children if child.held and child.config == meaning.identity), None)


def _suiting(made: Made, wish: Platform, text: str) -> Child:
    child = choose(wish, made.children)
    if child is None:
        raise ManifestUnknown(
            f"image {text} is held, but not for the platform {wish}",
            detail={"name": text, "platforms": [each.platform for each in made.children if each.held]},
        )
    return child


class Inspection:
    """Looks at one image."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        manifests: Manifests,
        selection: Selection,
        describer: Describer,
        configs: Configs,
        sight: Sight,
        names: Names,
    ) -> None:
        self._catalog = catalog
        self._manifests = manifests
        self._selection = selection
        self._describer = describer
        self._configs = configs
        self._sight = sight
        self._names = names

    async def image(self, principal: Principal, text: str, platform: str | None) -> ImageDetail:
        """Everything about the image that `text` means. Raises as `Selection.select`."""
        selected = await self._selection.select(principal, text, platform)
        kept = await self._manifest(selected)
        row = selected.row
        if kept is not None:
            descriptor = kept.descriptor
            row = replace(row, media_type=descriptor.media_type, manifest_size=descriptor.size)
        (image,) = await self._describer.images(principal, [row])
        child = selected.child
        below = await edges_of(self._catalog, selected)
        return ImageDetail(
            **_values(image, platforms=_marked(image.platforms, kept)),
            media_type=row.media_type,
            manifest=None if kept is None else _object(await parsed(kept.raw)),
            config=await self._config(row.repository, child),
            layers=layers(below),
            children=_marked(image.platforms, kept) if row.media_type in INDEX_TYPES else (),
            tags=await self._tags(principal, row, child),
            pins=await self._pins(row),
        )

    async def _manifest(self, selected: Selected) -> Manifest | None:
        row = selected.row
        try:
            kept = await self._manifests.held(row.repository, row.manifest)
            if kept is None and row.manifest != selected.named:  # an index of it names it, and anybody may read it
                return await self._manifests.public(row.repository, row.manifest)
        except MirrorError:
            return None
        return kept.manifest if kept is not None else None

    async def _config(self, repository: Repository, child: Child | None) -> dict[str, Any] | None:
        if child is None or child.config is None or not child.config_held:
            return None
        return await self._configs.document(repository, child.config)

    async def _tags(self, principal: Principal, row: ImageRow, child: Child | None) -> tuple[str, ...]:
        """The tags of this manifest and, as in docker, of all that have the same ID."""
        digests = [row.manifest, *([child.config] if child is not None and child.config is not None else [])]
        found: set[str] = set()
        for digest in digests:
            rows = await self._catalog.find(digest.hex, _NAMED)
            found.update(
                f"{each.repository}:{each.tag}"
                for each in rows
                if each.tag is not None and self._sight.sees(principal, each)
            )
        return tuple(sorted(found))

    async def _pins(self, row: ImageRow) -> tuple[str, ...]:
        meant = {str(row.manifest), *([row.tag] if row.tag is not None else [])}
        pins = await self._catalog.pins()
        return tuple(sorted({pin.owner for pin in pins if pin.repository == row.repository and pin.reference in meant}))


async def edges_of(catalog: EdgesSeen, selected: Selected) -> Sequence[Edge]:
    """What the image that was selected names, as he sees it there. Nothing where none is held."""
    if selected.child is None:
        return ()
    seen = (selected.view, selected.child.manifest)
    return (await catalog.edges_seen([seen]))[seen]


def layers(edges: Iterable[Edge]) -> tuple[Layer, ...]:
    """What a manifest names beside its config and other manifests."""
    return tuple(
        Layer(str(edge.child), edge.size, edge.media_type, edge.held)
        for edge in edges
        if edge.role in (Role.LAYER, Role.BLOB)
    )


def _values(image: Image, **changed: object) -> dict[str, Any]:
    return {field.name: getattr(image, field.name) for field in fields(Image)} | changed


def _marked(entries: Sequence[PlatformEntry], manifest: Manifest | None) -> tuple[PlatformEntry, ...]:
    """With attestations marked by what the index says of them, which the catalog does not keep."""
    if manifest is None or not manifest.is_index:
        return tuple(entries)
    said: Mapping[str, bool] = {
        str(child.descriptor.digest): _ATTESTS in child.annotations for child in manifest.children()
    }
    return tuple(
        replace(each, attestation=each.attestation and said.get(each.digest, each.attestation)) for each in entries
    )


def _object(value: object) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None

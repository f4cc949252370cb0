"""The reading operations around a catalog and a store in memory, and images put there.

shown = Showing()
alpine = await shown.hold(ALPINE, "3", config={"created": "2024-01-01T00:00:00Z"}, layers=[b"one"])
page = await shown.images()
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mirror.cache.names import Names
from mirror.cache.ownership import OwnNames
from mirror.cache.rights import SOCKET, Principal, Rights
from mirror.cache.sight import Sight
from mirror.oci.digest import Digest
from mirror.oci.manifest import OCI_CONFIG, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST, Manifest
from mirror.oci.names import Repository
from mirror.operations.composition import Composition
from mirror.operations.configs import Configs
from mirror.operations.image import Inspection, Selection
from mirror.operations.images import Describer, Image, ImageList, Page, Wanted
from mirror.operations.layers import Layers
from mirror.operations.platforms import Platform
from mirror.operations.resolve import Resolver
from mirror.operations.tags import TagList
from mirror.store.protocols import Origin, Proof
from tests.cache.support import World

AMD64: dict[str, Any] = {"os": "linux", "architecture": "amd64"}
ARM64: dict[str, Any] = {"os": "linux", "architecture": "arm64"}
NOBODYS: dict[str, Any] = {"os": "unknown", "architecture": "unknown"}
ATTESTS = {"vnd.docker.reference.type": "attestation-manifest"}


@dataclass(frozen=True, slots=True)
class Held:
    """What `hold` put there. `config` is docker's ID."""

    manifest: Manifest
    config: Digest
    layers: tuple[bytes, ...]

    @property
    def digest(self) -> Digest:
        return self.manifest.descriptor.digest

    @property
    def size(self) -> int:
        """Bytes of manifest, config and layers."""
        return sum(child.descriptor.size for child in self.manifest.children()) + self.manifest.descriptor.size


class Showing:
    """The operations. docker.io needs no credentials, ghcr.io has some; `own` are own names."""

    def __init__(self, *, host: str = "linux/amd64", own: Sequence[str] = (), rights: Rights | None = None) -> None:
        self.world = World(credentials=["ghcr.io"], rights=rights)
        rights = self.world.rights
        self.catalog, self.store, self.clock = self.world.catalog, self.world.store, self.world.clock
        self.names = Names("docker.io", ["docker.io", "ghcr.io"], OwnNames(own))
        self.sight = Sight(rights=rights, proofs=self.world.proofs)
        self.configs = Configs(catalog=self.catalog, store=self.store)
        self.composition = Composition(
            catalog=self.catalog, configs=self.configs, rights=rights, host=Platform.parse(host)
        )
        self.describer = Describer(catalog=self.catalog, composition=self.composition, names=self.names)
        self.resolver = Resolver(catalog=self.catalog, rights=rights, sight=self.sight, names=self.names)
        self.selection = Selection(resolver=self.resolver, composition=self.composition)
        self.list = ImageList(
            catalog=self.catalog,
            describer=self.describer,
            composition=self.composition,
            configs=self.configs,
            resolver=self.resolver,
            sight=self.sight,
            names=self.names,
            uses=self.world.uses,
            clock=self.clock,
        )
        self.inspection = Inspection(
            catalog=self.catalog,
            manifests=self.world.manifests,
            selection=self.selection,
            describer=self.describer,
            configs=self.configs,
            sight=self.sight,
            names=self.names,
        )
        self.layers = Layers(catalog=self.catalog, selection=self.selection, sight=self.sight)
        self.tags = TagList(
            catalog=self.catalog,
            listings=self.world.listings,
            describer=self.describer,
            rights=rights,
            sight=self.sight,
            names=self.names,
            policy=self.world.policy,
        )

    # --- putting images there ----------------------------------------------------------------------------------

    async def hold(
        self,
        repository: Repository,
        tag: str | None,
        *,
        config: Mapping[str, Any] | bytes = AMD64,
        layers: Sequence[bytes] = (b"layer",),
        missing: Sequence[bytes] = (),
        proof: Proof = Proof.ANONYMOUS,
        config_type: str = OCI_CONFIG,
    ) -> Held:
        """An image, and everything below it but the layers `missing`. As manifest alone where `tag` is None."""
        raw = config if isinstance(config, bytes) else json.dumps(config).encode()
        body = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(config_type, raw),
            "layers": [descriptor(OCI_LAYER_GZIP, each) for each in (*layers, *missing)],
        }
        manifest = Manifest.parse(json.dumps(body).encode())
        for data in (raw, *layers):
            await self.blob(repository, data, proof)
        await self.hold_manifest(repository, tag, manifest, proof)
        return Held(manifest, Digest.of(raw), (*layers, *missing))

    async def index(
        self,
        repository: Repository,
        tag: str | None,
        children: Sequence[tuple[Manifest, Mapping[str, Any] | None] | tuple[Manifest, Mapping[str, Any], bool]],
        *,
        proof: Proof = Proof.ANONYMOUS,
    ) -> Manifest:
        """An index of (manifest, platform), or (manifest, platform, attests?)."""
        entries = []
        for child, platform, *attests in children:
            entry: dict[str, Any] = {
                "mediaType": child.descriptor.media_type,
                "digest": str(child.descriptor.digest),
                "size": child.descriptor.size,
            }
            if platform is not None:
                entry["platform"] = dict(platform)
            if any(attests):
                entry["annotations"] = ATTESTS
            entries.append(entry)
        body = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
        manifest = Manifest.parse(json.dumps(body).encode())
        await self.hold_manifest(repository, tag, manifest, proof)
        return manifest

    async def blob(self, repository: Repository, data: bytes, proof: Proof = Proof.ANONYMOUS) -> Digest:
        digest = Digest.of(data)
        location = await self.store.put(data, digest)
        await self.catalog.hold(digest, len(data), location, [(repository, proof)], self.clock.wall())
        return digest

    async def tag(self, repository: Repository, name: str, to: Digest) -> None:
        """Let a tag name a manifest that is linked there."""
        known = await self.catalog.tag(repository, name)
        moved = await self.catalog.move_tag(
            repository, name, known.manifest if known else None, to, Origin.UPSTREAM, self.clock.wall(), "test"
        )
        assert moved

    async def hold_manifest(
        self, repository: Repository, tag: str | None, manifest: Manifest, proof: Proof = Proof.ANONYMOUS
    ) -> None:
        """A manifest alone, without what it names."""
        location = await self.store.put(manifest.raw, manifest.descriptor.digest)
        await self.catalog.hold_manifest(repository, manifest, location, proof, self.clock.wall())
        if tag is not None:
            await self.tag(repository, tag, manifest.descriptor.digest)

    # --- looking at them ---------------------------------------------------------------------------------------

    async def page(
        self,
        wanted: Wanted | None = None,
        *,
        principal: Principal = SOCKET,
        limit: int = 1000,
        cursor: str | None = None,
    ) -> Page:
        return await self.list.page(principal, wanted or Wanted(), limit=limit, cursor=cursor)

    async def images(self, wanted: Wanted | None = None, *, principal: Principal = SOCKET) -> list[Image]:
        """A whole list."""
        return list((await self.page(wanted, principal=principal)).images)

    async def named(self, wanted: Wanted | None = None, *, principal: Principal = SOCKET) -> list[str]:
        """A whole list, by names as people write them."""
        return [called(image) for image in await self.images(wanted, principal=principal)]


def called(image: Image) -> str:
    """`alpine:3`, or `alpine@<none>`."""
    return f"{image.name}:{image.tag}" if image.tag is not None else f"{image.name}@<none>"


def descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    """What a manifest says of some bytes."""
    return {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data)}


def made_at(created: str, **more: Any) -> dict[str, Any]:
    """A config of this time."""
    return {**AMD64, "created": created, **more}

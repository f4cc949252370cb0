"""The verbs around scripted registries, without sockets, on either catalog.

life = Life(catalog)
image = await life.hold(ALPINE, "3.20", "layer one", "layer two")
await life.tag(SOCKET, "alpine:3.20", "team/app:1")
assert await life.remove("team/app:1") == [...]
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from mirror.cache.names import Names
from mirror.cache.ownership import Ownership, OwnNames
from mirror.cache.policy import Policy
from mirror.cache.rights import LOOPBACK, SOCKET, Principal, Rights, naming
from mirror.cache.sight import Sight
from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest
from mirror.oci.names import Repository
from mirror.operations.composition import Composition
from mirror.operations.configs import Configs
from mirror.operations.platforms import Platform
from mirror.operations.remove import Event, Remove, Unwanted
from mirror.operations.resolve import Resolver
from mirror.operations.tag import Tag, Tagged
from mirror.store.catalog import Catalog
from tests.cache.scripted import ScriptedRegistry
from tests.cache.support import World
from tests.store.samples import CONFIG, image, index


class Life(World):
    """A mirror whose images are pulled, named and removed."""

    def __init__(
        self,
        catalog: Catalog | None = None,
        *,
        own: Iterable[str] = (),
        default_registry: str = "docker.io",
        registries: Iterable[str] = ("docker.io", "ghcr.io"),
        rights: Rights | None = None,
        policy: Policy | None = None,
        credentials: Iterable[str] = (),
    ) -> None:
        super().__init__(catalog=catalog, rights=rights, policy=policy, credentials=credentials)
        self._declared = naming(own)
        self._default = default_registry
        self._registries = tuple(registries)
        self.sight = Sight(rights=self.rights, proofs=self.proofs)
        self.begin()

    def begin(self) -> None:
        """What a process has in memory, as after a start (before `ownership.load`)."""
        self.restart()
        self.own = OwnNames()
        self.names = Names(self._default, self._registries, self.own)
        self.ownership = Ownership(
            names=self.own,
            catalog=self.catalog,
            proofs=self.proofs,
            policy=self.policy,
            default_registry=self._default,
            declared=self._declared,
        )
        composition = Composition(
            catalog=self.catalog,
            configs=Configs(catalog=self.catalog, store=self.store),
            rights=self.rights,
            host=Platform.of("linux", "amd64"),
        )
        resolver = Resolver(catalog=self.catalog, rights=self.rights, sight=self.sight, names=self.names)
        self.tagging = Tag(
            resolver=resolver,
            composition=composition,
            names=self.names,
            ownership=self.ownership,
            rights=self.rights,
            sight=self.sight,
            proofs=self.proofs,
            policy=self.policy,
            catalog=self.catalog,
            tags=self.tags,
            manifests=self.manifests,
            tasks=self.tasks,
            clock=self.clock,
        )
        self.removing = Remove(
            resolver=resolver,
            composition=composition,
            names=self.names,
            rights=self.rights,
            catalog=self.catalog,
            tags=self.tags,
            manifests=self.manifests,
            collector=self.sweep,
            tasks=self.tasks,
            clock=self.clock,
        )

    # --- what is there ---------------------------------------------------------------------------------------

    def registry(self, name: str) -> ScriptedRegistry:
        return self.hub if name == "docker.io" else self.other

    def offer(self, repository: Repository, manifest: Manifest, *tags: str, layers: Sequence[str] = ()) -> Digest:
        """Its registry has this image."""
        registry = self.registry(repository.registry)
        for text in layers:
            registry.add(repository, text.encode())
        registry.add(repository, CONFIG)
        return registry.push(repository, manifest, *tags)

    async def hold(self, repository: Repository, tag: str, *layers: str, who: Principal = LOOPBACK) -> Manifest:
        """An image of these layers, offered by its registry and pulled whole."""
        manifest = image(*layers)
        self.offer(repository, manifest, tag, layers=layers)
        await self.tags.by_tag(who, repository, tag)
        await self.hold_parts(repository, manifest, who)
        return manifest

    async def hold_index(self, repository: Repository, tag: str, *children: Sequence[str]) -> Manifest:
        """An index of images of these layers; its platforms are linux/a0, linux/a1 and so on."""
        images = [image(*layers) for layers in children]
        for child, layers in zip(images, children, strict=True):
            self.offer(repository, child, layers=layers)
        top = index(images)
        self.offer(repository, top, tag)
        await self.tags.by_tag(LOOPBACK, repository, tag)
        for child in images:
            await self.manifests.by_digest(LOOPBACK, repository, child.descriptor.digest)
            await self.hold_parts(repository, child)
        return top

    async def hold_parts(self, repository: Repository, manifest: Manifest, who: Principal = LOOPBACK) -> None:
        for child in manifest.children():
            await World.pull(self, repository, child.descriptor.digest, who)
        async with asyncio.timeout(60):
            while len(self.tasks):  # a real catalog writes on a thread of its own
                await asyncio.sleep(0.001)
        self.clock.advance(1)

    # --- the verbs -------------------------------------------------------------------------------------------

    async def tag(self, source: str, target: str, who: Principal = SOCKET) -> Tagged:
        return await self.tagging.tag(who, source, target)

    async def remove(self, *references: str, who: Principal = SOCKET, **more: Any) -> list[Event]:
        self.clock.advance(1)
        return [event async for event in self.removing.remove(who, Unwanted(references, **more))]

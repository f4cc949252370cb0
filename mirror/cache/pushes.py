"""Manifests that clients put here, blobs that they mount, and what they take away again (distribution-spec, "Pushing
Manifests", "Mounting a blob", "Content Management").

A manifest is accepted where each of its children is linked in its repository, as far as whoever pushes may see it, or,
under a registry's name, is confirmed by that registry. Everything that it brings is one transaction.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from mirror.cache.content import Content
from mirror.cache.leases import Leases
from mirror.cache.manifests import Manifests
from mirror.cache.policy import PushMode
from mirror.cache.proofs import Proofs
from mirror.cache.rights import Action, Principal, Rights
from mirror.cache.sweep import Sweep
from mirror.cache.tags import Tags
from mirror.cache.targets import Targets
from mirror.clock import Clock
from mirror.errors import BlobUnknown, ManifestBlobUnknown, ManifestUnknown, Offline, Unsupported
from mirror.oci.digest import Digest
from mirror.oci.manifest import Child, Manifest, Role
from mirror.oci.names import Repository
from mirror.store import inventory, protocols, pushing
from mirror.store.protocols import BlobStore, Origin, Proof
from mirror.store.pushing import Push
from mirror.tasks import Tasks

_HOMES = 100  # repositories that a blob may be mounted from where none is said
_AT_ONCE = 16  # children that are looked for at the same time
_INLINE = 64 * 1024  # bytes of a manifest that are parsed on the loop


class Catalog(pushing.Pushes, protocols.Links, inventory.Collection, Protocol):
    """The parts of the catalog that pushes use."""


class Forward(Protocol):
    """Who sends on what was put under a registry's name (`cache.forward`)."""

    async def through(
        self, repository: Repository, manifest: Manifest, references: Sequence[str | Digest], *, trusted: bool
    ) -> None:
        """Let the registry have it all, under each of these names. Raises where it does not."""
        ...

    async def delete(self, repository: Repository, reference: str | Digest) -> None:
        """Let the registry delete it; what it does not have is deleted. Raises an `UpstreamError`, `Offline`."""
        ...

    def changed(self) -> None:
        """Something waits to be sent, from now on, or no more."""
        ...


@dataclass(frozen=True, slots=True)
class Pushes:
    """What clients put here and take away."""

    store: BlobStore
    catalog: Catalog
    leases: Leases
    content: Content
    manifests: Manifests
    tags: Tags
    proofs: Proofs
    rights: Rights
    targets: Targets
    forward: Forward
    sweep: Sweep
    tasks: Tasks
    clock: Clock

    # --- putting ---------------------------------------------------------------------------------------------

    async def mount(
        self, principal: Principal, repository: Repository, digest: Digest, source: Repository | None
    ) -> bool:
        """Link a blob that a GET by him under `source` (None: anywhere) would be served from here; False else."""
        async with self.leases.hold(digest):
            if not await self._may_have(principal, repository, digest, source):
                return False
            return await self.tasks.finish("mount", self._mount(repository, digest))

    async def _mount(self, repository: Repository, digest: Digest) -> bool:
        linked = await self.catalog.link(repository, digest, Proof.PUSHED, self.clock.wall(), is_manifest=False)
        if linked:
            self.targets.made(repository)
        return linked

    async def put(
        self,
        principal: Principal,
        repository: Repository,
        raw: bytes,
        *,
        declared: str | None,
        reference: str | Digest,
        tags: Sequence[str] = (),
    ) -> Manifest:
        """Accept a manifest under a tag, or under its digest and `tags`.

        Raises `ManifestTooLarge`, `ManifestInvalid`, `DigestInvalid`, `ManifestBlobUnknown` naming a child that is not
        there, `NoRoom`, `StoreFailed`, and what the registry says where it has to have it first.
        """
        digest = reference if isinstance(reference, Digest) else None
        manifest = await _parsed(raw, declared, digest)
        names = tuple(dict.fromkeys(tags)) if digest is not None else (str(reference),)
        mode = self.targets.mode(repository)
        async with AsyncExitStack() as stack:
            for each in sorted({child.descriptor.digest for child in manifest.children()}):
                await stack.enter_async_context(self.leases.hold(each))
            needed, adopted = await self._children(principal, repository, manifest)
            if mode is PushMode.THROUGH:
                trusted = self.proofs.trusted(principal, repository)
                await self.forward.through(repository, manifest, names, trusted=trusted)
            push = Push(
                tags=names,
                origin=Origin.UPSTREAM if mode is PushMode.THROUGH else Origin.LOCAL,
                at=self.clock.wall(),
                actor=principal.actor,
                needed=needed,
                adopted=adopted,
                target=repository.registry if mode is PushMode.QUEUE else None,
            )
            await self.tasks.finish("push", self._keep(repository, manifest, push))
        return manifest

    async def _keep(self, repository: Repository, manifest: Manifest, push: Push) -> None:
        digest = manifest.descriptor.digest
        async with self.leases.hold(digest):
            location = await self.store.put(manifest.raw, digest)
            missing = await self.catalog.push_manifest(repository, manifest, location, push)
        if missing is not None:  # it was taken away while the others were looked for
            raise _missing(repository, missing)
        self.targets.made(repository)
        self.manifests.forget(repository, digest)
        for tag in push.tags:
            self.tags.forget(repository, tag)
        if push.target is not None:
            self.forward.changed()

    # --- what may be named -----------------------------------------------------------------------------------

    async def _may_have(
        self, principal: Principal, repository: Repository, digest: Digest, source: Repository | None
    ) -> bool:
        if source is not None:
            return self._readable(principal, source) and await self.content.held(principal, source, digest)
        holding = await self.catalog.holding(repository, digest, is_manifest=False)
        if holding is None:
            return False
        if holding.public:
            return True
        homes = [home for home, is_manifest in await self.catalog.homes(digest, _HOMES) if not is_manifest]
        for home in homes:
            if self._readable(principal, home) and await self.content.held(principal, home, digest):
                return True
        return False

    def _readable(self, principal: Principal, repository: Repository) -> bool:
        return self.rights.allows(principal, Action.PULL, repository)

    async def _children(
        self, principal: Principal, repository: Repository, manifest: Manifest
    ) -> tuple[tuple["_Kind", ...], tuple[Digest, ...]]:
        """Those that are linked here, as manifest or as blob, and blobs that are to be linked, once all are known to be
        there.

        What is public is adopted by an own name: before it became own, a HEAD under it said that the blob was there.
        """
        gate = asyncio.Semaphore(_AT_ONCE)
        wanted = list(dict.fromkeys(_kind(child) for child in manifest.children() if not child.foreign))

        async def look(kind: _Kind) -> _There:
            async with gate:
                return await self._where(principal, repository, kind)

        found = dict(zip(wanted, await asyncio.gather(*map(look, wanted)), strict=True))
        missing = next((kind for kind, there in found.items() if there is _There.NOWHERE), None)
        if missing is not None:
            raise _missing(repository, missing[0])
        return (
            tuple(kind for kind, there in found.items() if there is _There.LINKED),
            tuple(kind[0] for kind, there in found.items() if there is _There.PUBLIC),
        )

    async def _where(self, principal: Principal, repository: Repository, kind: "_Kind") -> "_There":
        """Where this child is for him. Raises an `UpstreamNoAnswer` where its registry has to say and does not."""
        digest, is_manifest = kind
        holding = await self.catalog.holding(repository, digest, is_manifest=is_manifest)
        if holding is not None and holding.link is not None:
            trusted = self.proofs.trusted(principal, repository)
            # what was put here may be named by whoever may push here, also if he may not read it
            if holding.link.pushed_at is not None or self.proofs.visible(holding.link, repository, trusted=trusted):
                return _There.LINKED
        if repository.is_own:
            public = holding is not None and holding.public and not is_manifest
            return _There.PUBLIC if public else _There.NOWHERE
        try:
            if is_manifest:
                await self.manifests.by_digest(principal, repository, digest)
            else:
                await self.content.stat(principal, repository, digest)
        except (BlobUnknown, ManifestUnknown, Offline):  # offline by choice: what is not here is nowhere
            return _There.NOWHERE
        return _There.UPSTREAM

    # --- taking away -----------------------------------------------------------------------------------------

    async def untag(self, principal: Principal, repository: Repository, tag: str) -> None:
        """Take a tag away, and nothing else. Raises `ManifestUnknown` where there is none."""
        await self._first_there(repository, tag)

        async def work() -> object:
            gone = await self.catalog.untag(repository, tag, self.clock.wall(), principal.actor)
            self.tags.forget(repository, tag)
            self.forward.changed()
            return gone

        if await self.tasks.finish("untag", work()) is None:
            raise ManifestUnknown(f"{repository}:{tag} is not known here")

    async def drop_manifest(self, principal: Principal, repository: Repository, digest: Digest) -> None:
        """Take a manifest away, with the tags that name it. Raises `ManifestUnknown` where there is none."""
        await self._first_there(repository, digest)

        async def work() -> Sequence[str] | None:
            tags = await self.catalog.drop_manifest(repository, digest, self.clock.wall(), principal.actor)
            self.manifests.forget(repository, digest)
            for tag in tags or ():
                self.tags.forget(repository, tag)
            self.forward.changed()
            return tags

        if await self.tasks.finish("delete", work()) is None:
            raise ManifestUnknown(f"manifest {digest} is not known in {repository}")
        await self.sweep.collect([digest])

    async def drop_blob(self, repository: Repository, digest: Digest) -> None:
        """Take a blob out of an own repository. Raises `BlobUnknown` where it is not there, `Unsupported` under a
        registry's name: what is public would go on being served there."""
        if not repository.is_own:
            raise Unsupported(f"blobs of {repository.registry} cannot be deleted here")
        if not await self.tasks.finish("delete", self.catalog.drop_blob(repository, digest)):
            raise BlobUnknown(f"blob {digest} is not known in {repository}")
        await self.sweep.collect([digest])

    async def _first_there(self, repository: Repository, reference: str | Digest) -> None:
        """Where pushes go to the registry, so do deletions."""
        if self.targets.mode(repository) in (PushMode.THROUGH, PushMode.QUEUE):
            await self.forward.delete(repository, reference)


_Kind = tuple[Digest, bool]
"""A child's digest, and whether it is a manifest."""


class _There(Enum):
    """Where a child is."""

    LINKED = auto()
    PUBLIC = auto()
    UPSTREAM = auto()
    NOWHERE = auto()


def _kind(child: Child) -> _Kind:
    return child.descriptor.digest, child.role is Role.MANIFEST


async def _parsed(raw: bytes, declared: str | None, digest: Digest | None) -> Manifest:
    if len(raw) <= _INLINE:
        return Manifest.parse(raw, declared=declared, digest=digest)
    return await asyncio.to_thread(Manifest.parse, raw, declared=declared, digest=digest)


def _missing(repository: Repository, digest: Digest) -> ManifestBlobUnknown:
    return ManifestBlobUnknown(f"{digest} is not known in {repository}", detail={"digest": str(digest)})

"""The catalog in memory."""

from collections.abc import Sequence
from dataclasses import replace

from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest, Role
from mirror.oci.names import Repository
from mirror.store.inventory import Miss, View
from mirror.store.memory.pushing import MemoryPushing
from mirror.store.protocols import (
    Holding,
    Origin,
    Partial,
    Proof,
    RepositoryFacts,
    Tag,
    Totals,
    Visibility,
)


class MemoryCatalog(MemoryPushing):
    """`Catalog` in dicts."""

    # --- repositories -------------------------------------------------------------------------------------

    async def repository(self, repository: Repository) -> RepositoryFacts:
        return self._repositories.get(repository, RepositoryFacts(Visibility.UNKNOWN, 0.0))

    async def set_visibility(self, repository: Repository, visibility: Visibility, at: float) -> None:
        self._repositories[repository] = RepositoryFacts(visibility, at)

    async def own_repositories(self) -> Sequence[Repository]:
        return sorted(self._own)

    # --- blobs and links ----------------------------------------------------------------------------------

    async def holding(self, repository: Repository, digest: Digest, *, is_manifest: bool) -> Holding | None:
        blob = self._held(digest)
        if blob is None:
            return None
        own = self._links.get((repository, digest, is_manifest))
        return Holding(
            size=blob.size,
            location=blob.location,
            link=own.link if own else None,
            public=any(
                (linked, kind) == (digest, is_manifest) and row.link.anonymous_at is not None
                for (_, linked, kind), row in self._links.items()
            ),
        )

    async def supplied(self, registry: str, digest: Digest, *, is_manifest: bool) -> bool:
        return any(
            (linked, kind, home.registry) == (digest, is_manifest, registry)
            and (row.link.anonymous_at is not None or row.link.credentials_at is not None)
            for (home, linked, kind), row in self._links.items()
        )

    async def hold(
        self, digest: Digest, size: int, location: str, links: Sequence[tuple[Repository, Proof]], at: float
    ) -> None:
        self._hold(digest, size, location, at)
        for repository, proof in links:
            self._link(repository, digest, proof, at, is_manifest=False)

    async def link(self, repository: Repository, digest: Digest, proof: Proof, at: float, *, is_manifest: bool) -> bool:
        blob = self._held(digest)
        if blob is None:
            return False
        self._link(repository, digest, proof, at, is_manifest=is_manifest)
        if proof is Proof.PUSHED and not is_manifest:
            blob.touched_at = max(blob.touched_at or 0.0, at)
        return True

    async def quarantine(self, digest: Digest) -> None:
        blob = self._held(digest)
        if blob:
            blob.state = "quarantined"

    async def expected_size(self, repository: Repository, digest: Digest) -> int | None:
        sizes = [
            child.descriptor.size
            for parent, manifest in self._manifests.items()
            if self._held(parent) and (repository, parent, True) in self._links
            for child in manifest.children()
            if child.descriptor.digest == digest
        ]
        return min(sizes, default=None)

    # --- deletion -----------------------------------------------------------------------------------------

    async def begin_delete(
        self, digest: Digest, used_before: float | None = None, *, now: float | None = None
    ) -> str | None:
        blob = self._blobs.get(digest)
        if blob is None or blob.state == "deleting" or not self._collectable(digest, used_before, now=now):
            return None
        blob.state = "deleting"
        return blob.location

    async def deleted(self, digest: Digest) -> None:
        blob = self._blobs.get(digest)
        if blob and blob.state == "deleting":
            self._forget(digest)

    async def deleting(self) -> Sequence[tuple[Digest, str]]:
        return [(digest, blob.location) for digest, blob in self._blobs.items() if blob.state == "deleting"]

    # --- manifests ----------------------------------------------------------------------------------------

    async def hold_manifest(
        self, repository: Repository, manifest: Manifest, location: str, proof: Proof, at: float
    ) -> None:
        self._hold_manifest(repository, manifest, location, proof, at)

    async def manifest_type(self, digest: Digest) -> str | None:
        manifest = self._manifests.get(digest)
        return manifest.descriptor.media_type if manifest and self._held(digest) else None

    async def in_an_index(self, repository: Repository, digest: Digest, *, trusted: bool) -> bool:
        return any(
            child.role is Role.MANIFEST
            and self._held(parent) is not None
            and self._shown(View(repository, trusted), parent, is_manifest=True)
            for parent, child in self._naming(digest)
        )

    async def referrers(self, repository: Repository, subject: Digest) -> Sequence[Digest]:
        found = []
        for digest, manifest in self._manifests.items():
            row = self._links.get((repository, digest, True))
            if row and self._held(digest) and manifest.subject and manifest.subject.digest == subject:
                found.append((row.linked_at, digest.to_bytes(), digest))
        return [digest for _, _, digest in sorted(found)]

    # --- tags ---------------------------------------------------------------------------------------------

    async def tag(self, repository: Repository, name: str) -> Tag | None:
        return self._tags.get(repository, {}).get(name)

    async def tags(self, repository: Repository) -> Sequence[str]:
        return sorted(self._tags.get(repository, {}))

    async def move_tag(
        self,
        repository: Repository,
        name: str,
        expected: Digest | None,
        to: Digest,
        origin: Origin,
        at: float,
        actor: str,
    ) -> bool:
        known = await self.tag(repository, name)
        held = self._held(to) is not None and (repository, to, True) in self._links
        if not held or (known.manifest if known else None) != expected:
            return False
        self._place_tag(repository, name, to, origin, at, actor)
        return True

    async def confirm_tag(self, repository: Repository, name: str, manifest: Digest, at: float) -> bool:
        tag = await self.tag(repository, name)
        if tag is None or tag.manifest != manifest:
            return False
        self._tags[repository][name] = replace(tag, checked_at=at, gone_at=None)
        return True

    async def tag_gone(self, repository: Repository, name: str, at: float) -> None:
        tag = await self.tag(repository, name)
        if tag and tag.gone_at is None:
            self._tags[repository][name] = replace(tag, gone_at=at)

    async def drop_tag(self, repository: Repository, name: str, expected: Digest, at: float, actor: str) -> None:
        tag = await self.tag(repository, name)
        if tag is not None and tag.manifest == expected and not self._pinned(repository, name):
            self._drop_tag(repository, name, at, actor)

    async def only_here(self, limit: int) -> Sequence[tuple[Repository, Tag]]:
        gone = [
            (tag.gone_at, repository, tag.name, tag)
            for repository, names in self._tags.items()
            for tag in names.values()
            if tag.gone_at is not None
        ]
        return [(repository, tag) for _, repository, _, tag in sorted(gone, key=lambda row: row[:3])][:limit]

    # --- begun downloads, misses, the whole ---------------------------------------------------------------

    async def partial(self, digest: Digest, registry: str, *, anonymous: bool) -> Partial | None:
        for row in self._partials.values():
            if (row.digest, row.registry, row.anonymous) == (digest, registry, anonymous):
                return row
        return None

    async def begin_partial(self, partial: Partial) -> None:
        earlier = await self.partial(partial.digest, partial.registry, anonymous=partial.anonymous)
        if earlier:
            del self._partials[earlier.id]
        self._partials[partial.id] = partial

    async def end_partial(self, ingest_id: str) -> None:
        self._partials.pop(ingest_id, None)

    async def partials(self) -> Sequence[Partial]:
        return sorted(self._partials.values(), key=lambda row: (row.started_at, row.id))

    async def missed(self, name: str, at: float) -> None:
        known = self._misses.get(name, Miss(name, 0, at))
        self._misses[name] = Miss(name, known.count + 1, max(known.last_at, at))

    async def instance(self) -> str:
        return self._instance

    async def totals(self) -> Totals:
        held = [blob.size for blob in self._blobs.values() if blob.state == "held"]
        tags = [tag for names in self._tags.values() for tag in names.values()]
        return Totals(
            blobs=len(held),
            bytes=sum(held),
            repositories=len({repository for repository, _, _ in self._links}),
            tags=len(tags),
            only_here=sum(tag.gone_at is not None for tag in tags),
        )

    async def close(self) -> None:
        """Nothing to do; what it knows stays readable."""

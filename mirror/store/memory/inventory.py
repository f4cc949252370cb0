"""What people set, and what may go, in memory: `inventory`'s parts of the catalog, counted out plainly."""

import math
from collections.abc import Mapping, Sequence
from copy import copy

from mirror.oci.digest import Digest
from mirror.oci.manifest import Role
from mirror.oci.names import Reference, Repository
from mirror.store.inventory import (
    Candidate,
    ConfigFacts,
    Miss,
    Move,
    Pin,
    Usage,
    View,
)
from mirror.store.memory.images import MemoryImages
from mirror.store.protocols import Origin, Proof


class MemoryInventory(MemoryImages):
    """`Lifecycle`, `Collection`, `Configs`."""

    # --- what people set ----------------------------------------------------------------------------------

    async def set_tag(
        self, repository: Repository, name: str, to: Digest, at: float, actor: str, source: View | None = None
    ) -> bool:
        if self._held(to) is None:
            return False
        if repository.is_own and source is not None and to in self._manifests:
            self._adopt(repository, source, to, at)
        if (repository, to, True) not in self._links:
            return False
        self._place_tag(repository, name, to, Origin.LOCAL, at, actor)
        return True

    def _adopt(self, repository: Repository, source: View, to: Digest, at: float) -> None:
        shown = [(to, True)] if self._shown(source, to, is_manifest=True) else []
        for digest, is_manifest in shown:  # which grows meanwhile
            self._link(repository, digest, Proof.PUSHED, at, is_manifest=is_manifest)
            edges = self._edges_seen(source, digest) if is_manifest else []
            shown += [(edge.child, edge.role == Role.MANIFEST) for edge in edges if edge.held]
        below = self._below(to) if shown else set()
        for home, digest, _ in self._links:
            if home == repository and digest in below:
                self._blobs[digest].touched_at = None

    async def remove_tag(self, repository: Repository, name: str, at: float, actor: str) -> Digest | None:
        tag = self._tags.get(repository, {}).get(name)
        if tag is None:
            return None
        self._drop_tag(repository, name, at, actor)
        if self._left_behind(repository, tag.manifest, also_pushed=True):
            self._unlink(repository, tag.manifest, at, actor, also_pushed=True)
        return tag.manifest

    async def foresee(
        self, removals: Sequence[tuple[Repository, str | Digest]], at: float
    ) -> Sequence[tuple[Digest, int]]:
        before = {name: copy(table) for name, table in vars(self).items()}
        before["_tags"] = {home: dict(tags) for home, tags in self._tags.items()}
        try:
            below: set[Digest] = set()
            for repository, target in removals:
                if isinstance(target, Digest):
                    below |= self._below(target)
                    await self.remove_manifest(repository, target, at, "")
                elif (digest := await self.remove_tag(repository, target, at, "")) is not None:
                    below |= self._below(digest)
            gone: list[tuple[Digest, int]] = []
            while free := [
                digest
                for digest in below
                if (blob := self._blobs.get(digest)) is not None
                and blob.state != "deleting"
                and self._collectable(digest, None, now=at)
            ]:
                gone += [(digest, self._blobs[digest].size) for digest in free]
                for digest in free:
                    self._forget(digest)
            return gone
        finally:
            vars(self).update(before)

    async def remove_manifest(self, repository: Repository, digest: Digest, at: float, actor: str) -> Sequence[str]:
        if (repository, digest, True) not in self._links:
            return []
        for key in [key for key in self._pins if key[:2] == (repository, str(digest))]:
            del self._pins[key]
        return self._unlink(repository, digest, at, actor, also_pushed=True)

    def _unlink(
        self, repository: Repository, manifest: Digest, at: float, actor: str, *, also_pushed: bool
    ) -> Sequence[str]:
        names = [tag.name for tag in self._tagged(repository, manifest)]
        for name in names:
            self._drop_tag(repository, name, at, actor)
        del self._links[repository, manifest, True]
        below = {digest for digest, is_manifest in self._tree(manifest) if is_manifest}
        while left := [digest for digest in below if self._left_behind(repository, digest, also_pushed=also_pushed)]:
            for digest in left:
                del self._links[repository, digest, True]
        return names

    def _left_behind(self, repository: Repository, digest: Digest, *, also_pushed: bool) -> bool:
        """Whether nothing but a tag or an index that is gone kept this manifest here."""
        row = self._links.get((repository, digest, True))
        return (
            row is not None
            and (also_pushed or row.link.pushed_at is None)
            and not self._tagged(repository, digest)
            and not self._is_child(repository, digest)
            and not self._pinned(repository, str(digest))
        )

    async def pin(self, reference: Reference, owner: str, at: float) -> None:
        self._pins.setdefault((reference.repository, str(reference.target), owner), at)

    async def unpin(self, reference: Reference, owner: str | None) -> int:
        mine = [
            key
            for key in self._pins
            if key[:2] == (reference.repository, str(reference.target)) and owner in (None, key[2])
        ]
        for key in mine:
            del self._pins[key]
        return len(mine)

    async def pins(self) -> Sequence[Pin]:
        return [Pin(*key, self._pins[key]) for key in sorted(self._pins)]

    async def history(self, repository: Repository, name: str | None, limit: int) -> Sequence[Move]:
        moves = [move for home, move in self._history if home == repository and name in (None, move.name)]
        return moves[::-1][:limit]

    async def misses(self, limit: int) -> Sequence[Miss]:
        return sorted(self._misses.values(), key=lambda miss: (miss.last_at, miss.name), reverse=True)[:limit]

    async def forget_misses(self) -> None:
        self._misses.clear()

    # --- what may go --------------------------------------------------------------------------------------

    async def touch(self, used: Sequence[tuple[Repository, str | Digest]], blobs: Sequence[Digest], at: float) -> None:
        for home, target in used:
            if isinstance(target, Digest):
                self._use(target, at)
            elif tag := self._tags.get(home, {}).get(target):
                self._tags_used[home, target] = max(self._tags_used.get((home, target), 0.0), at)
                self._use(tag.manifest, at)
        for digest in blobs:
            if blob := self._blobs.get(digest):
                blob.used_at = max(blob.used_at, at)

    def _evictable(self, repository: Repository, manifest: Digest) -> bool:
        row = self._links.get((repository, manifest, True))
        if row is None or row.link.pushed_at is not None or manifest not in self._manifests:
            return False
        tags = self._tagged(repository, manifest)
        return (
            self._held(manifest) is not None
            and not any(tag.origin is Origin.LOCAL or tag.gone_at is not None for tag in tags)
            and not self._pinned(repository, str(manifest), *(tag.name for tag in tags))
            and not self._is_child(repository, manifest)
        )

    async def candidates(self, limit: int) -> Sequence[Candidate]:
        found = [
            Candidate(home, digest, self._blobs[digest].used_at)
            for home, digest, is_manifest in self._links
            if is_manifest and self._evictable(home, digest)
        ]
        return sorted(found, key=lambda each: (each.used_at, each.repository, each.manifest))[:limit]

    async def evict(self, repository: Repository, manifest: Digest, used_before: float, at: float) -> bool:
        if not self._evictable(repository, manifest) or self._blobs[manifest].used_at >= used_before:
            return False
        self._unlink(repository, manifest, at, "eviction", also_pushed=False)
        return True

    async def unreferenced(self, used_before: float, limit: int) -> Sequence[tuple[Digest, int]]:
        found = [
            (blob.used_at, digest, blob.size)
            for digest, blob in self._blobs.items()
            if blob.state != "deleting" and self._collectable(digest, used_before)
        ]
        return [(digest, size) for _, digest, size in sorted(found)][:limit]

    async def foresee_evictions(
        self, evictions: Sequence[tuple[Repository, Digest]], at: float
    ) -> Sequence[tuple[Digest, int]]:
        before = {name: copy(table) for name, table in vars(self).items()}
        before["_tags"] = {home: dict(tags) for home, tags in self._tags.items()}
        try:
            for repository, manifest in evictions:
                await self.evict(repository, manifest, math.inf, at)
            gone: list[tuple[Digest, int]] = []
            while free := [
                (digest, blob.size)
                for digest, blob in self._blobs.items()
                if blob.state != "deleting" and self._collectable(digest, None, now=at)
            ]:
                gone += free
                for digest, _ in free:
                    self._forget(digest)
            return gone
        finally:
            vars(self).update(before)

    async def foresee_freed(self, evictions: Sequence[tuple[Repository, Digest]], at: float) -> tuple[int, int]:
        found = await self.foresee_evictions(evictions, at)
        return len(found), sum(size for _, size in found)

    async def usage(self) -> Usage:
        roots = {digest for _, digest, is_manifest in self._links if is_manifest}
        roots |= {tag.manifest for tags in self._tags.values() for tag in tags.values()}
        below = self._sizes({digest for root in roots for digest in self._below(root)})
        return Usage(len(self._blobs), sum(blob.size for blob in self._blobs.values()), len(below), sum(below.values()))

    async def states(self, digests: Sequence[Digest]) -> Mapping[Digest, str]:
        return {digest: self._blobs[digest].state for digest in digests if digest in self._blobs}

    def _collectable(self, digest: Digest, used_before: float | None, *, now: float | None = None) -> bool:
        now = used_before if now is None else now
        return (
            not self._needed(digest)
            and (used_before is None or self._blobs[digest].used_at < used_before)
            and (now is None or not self._awaited(digest, now))
        )

    async def held_bytes(self) -> int:
        return sum(self._sizes(self._blobs).values())

    async def stored_bytes(self) -> int:
        return sum(blob.size for blob in self._blobs.values())

    async def unverified(self, after: Digest | None, limit: int) -> Sequence[tuple[Digest, str, int]]:
        held = sorted(digest for digest in self._blobs if self._held(digest) and (after is None or digest > after))
        return [(digest, self._blobs[digest].location, self._blobs[digest].size) for digest in held[:limit]]

    async def quarantined(self, after: Digest | None, limit: int) -> Sequence[tuple[Digest, str, int]]:
        bad = [digest for digest, blob in self._blobs.items() if blob.state == "quarantined"]
        listed = sorted(digest for digest in bad if after is None or digest > after)
        return [(digest, self._blobs[digest].location, self._blobs[digest].size) for digest in listed[:limit]]

    async def homes(self, digest: Digest, limit: int) -> Sequence[tuple[Repository, bool]]:
        found = sorted((home, is_manifest) for home, linked, is_manifest in self._links if linked == digest)
        return found[:limit]

    async def verified(self, digests: Sequence[Digest], at: float) -> None:
        """Nothing here asks when that was."""

    # --- configs ------------------------------------------------------------------------------------------

    async def configs(self, manifests: Sequence[Digest]) -> Mapping[Digest, ConfigFacts]:
        return {
            digest: self._configs[manifest.config.digest]
            for digest in manifests
            if (manifest := self._manifests.get(digest)) and manifest.config and manifest.config.digest in self._configs
        }

    async def note_config(self, manifest: Digest, facts: ConfigFacts) -> None:
        known = self._manifests.get(manifest) if self._held(manifest) else None
        if known and known.config and known.config.digest == facts.config and self._held(facts.config):
            self._configs[facts.config] = facts

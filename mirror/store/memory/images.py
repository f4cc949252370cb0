"""Lists of images in memory: `inventory.Images`, counted out plainly."""

from collections.abc import Iterable, Mapping, Sequence

from mirror.oci.digest import Digest
from mirror.oci.manifest import Child, Role
from mirror.oci.names import Repository
from mirror.store.inventory import (
    Edge,
    ImageRow,
    Place,
    View,
    Weight,
    cursor_after,
    read_cursor,
)
from mirror.store.memory.state import MemoryState
from mirror.store.protocols import Origin, Tag


class MemoryImages(MemoryState):
    """`Images`."""

    def _tagged_row(self, repository: Repository, tag: Tag) -> ImageRow | None:
        manifest = self._manifests.get(tag.manifest)
        linked = self._links.get((repository, tag.manifest, True))
        if manifest is None or linked is None:
            return None
        return ImageRow(
            repository=repository,
            tag=tag.name,
            manifest=tag.manifest,
            media_type=manifest.descriptor.media_type,
            manifest_size=self._blobs[tag.manifest].size,
            origin=tag.origin,
            link=linked.link,
            moved_at=tag.moved_at,
            gone_at=tag.gone_at,
            used_at=self._tags_used.get((repository, tag.name)),
            pinned=self._pinned(repository, tag.name, str(tag.manifest)),
        )

    def _untagged_row(self, repository: Repository, digest: Digest, *, children: bool) -> ImageRow | None:
        manifest, blob = self._manifests.get(digest), self._held(digest)
        if manifest is None or blob is None or self._tagged(repository, digest):
            return None
        if not children and self._is_child(repository, digest):
            return None
        linked = self._links[repository, digest, True]
        return ImageRow(
            repository=repository,
            tag=None,
            manifest=digest,
            media_type=manifest.descriptor.media_type,
            manifest_size=blob.size,
            origin=Origin.UPSTREAM if linked.link.pushed_at is None else Origin.LOCAL,
            link=linked.link,
            moved_at=linked.linked_at,
            gone_at=None,
            used_at=blob.used_at,
            pinned=self._pinned(repository, str(digest)),
        )

    def _rows(self, children_too: Iterable[Digest] = ()) -> list[ImageRow]:
        tagged = (self._tagged_row(home, tag) for home, tags in self._tags.items() for tag in tags.values())
        untagged = (
            self._untagged_row(home, digest, children=digest in children_too)
            for home, digest, is_manifest in self._links
            if is_manifest
        )
        rows = [row for group in (tagged, untagged) for row in group if row]
        return sorted(rows, key=_order)

    async def images(
        self, *, repository: Repository | None, registry: str | None, cursor: str | None, limit: int
    ) -> tuple[Sequence[ImageRow], str | None]:
        place = read_cursor(cursor) if cursor else Place()
        if limit <= 0:
            return [], None
        after = (place.tag is None, *place.home, place.tag or "", place.at, place.digest)
        rows = [
            row
            for row in self._rows()
            if (repository is None or row.repository == repository)
            and (registry is None or row.repository.registry == registry)
            and _order(row) > after
        ]
        return rows[:limit], cursor_after(rows[limit - 1]) if len(rows) > limit else None

    async def image(self, repository: Repository, tag: str) -> ImageRow | None:
        known = self._tags.get(repository, {}).get(tag)
        return self._tagged_row(repository, known) if known else None

    async def edges(self, manifests: Sequence[Digest]) -> Sequence[Edge]:
        return [
            _edge(parent, position, child, held=self._held(child.descriptor.digest) is not None)
            for parent in sorted(set(manifests))
            if parent in self._manifests and self._held(parent)
            for position, child in enumerate(self._manifests[parent].children())
        ]

    async def edges_seen(
        self, manifests: Sequence[tuple[View, Digest]]
    ) -> Mapping[tuple[View, Digest], Sequence[Edge]]:
        return {(view, parent): self._edges_seen(view, parent) for view, parent in manifests}

    def _edges_seen(self, view: View, parent: Digest) -> list[Edge]:
        if parent not in self._manifests or not self._seen(view, parent, is_manifest=True):
            return []
        children = self._manifests[parent].children()
        shown = [self._seen(view, each.descriptor.digest, is_manifest=each.role is Role.MANIFEST) for each in children]
        return [_edge(parent, *each, held=held) for each, held in zip(enumerate(children), shown, strict=True)]

    async def find(self, prefix: str, limit: int) -> Sequence[ImageRow]:
        if not prefix or set(prefix) - set("0123456789abcdef"):
            return []
        matched = {digest for digest in self._manifests if digest.hex.startswith(prefix)}
        configured: set[tuple[Repository, Digest]] = set()
        for config in {manifest.config.digest for manifest in self._manifests.values() if manifest.config}:
            if config.hex.startswith(prefix):
                configured |= self._homes_above(config, Role.CONFIG)
        rows = self._rows(children_too=matched)
        return [row for row in rows if row.manifest in matched or (row.repository, row.manifest) in configured][:limit]

    async def sharing(self, digest: Digest, limit: int) -> Sequence[ImageRow]:
        above = self._homes_above(digest)
        return [row for row in self._rows() if (row.repository, row.manifest) in above][:limit]

    def _sizes(self, digests: Iterable[Digest]) -> dict[Digest, int]:
        return {digest: blob.size for digest in digests if (blob := self._held(digest))}

    async def weigh(self, manifests: Sequence[Digest]) -> Mapping[Digest, Weight]:
        images = {digest: self._below(digest) for digest in self._manifests if self._is_image(digest)}
        weights = {}
        for manifest in manifests:
            sizes = self._sizes(self._below(manifest))
            others = set[Digest]().union(*(below for digest, below in images.items() if digest != manifest))
            if sizes:
                unique = sum(size for digest, size in sizes.items() if digest not in others)
                weights[manifest] = Weight(sum(sizes.values()), unique)
        return weights

    async def weigh_together(self, manifests: Sequence[Digest]) -> int:
        return sum(self._sizes(set[Digest]().union(*map(self._below, manifests))).values())

    async def sizes(self) -> Mapping[Digest, Weight]:
        return await self.weigh([digest for digest in self._manifests if self._is_image(digest)])

    def _holding(self) -> list[Repository]:
        """Repositories that hold a manifest."""
        held = {home for home, digest, kind in self._links if kind and digest in self._manifests and self._held(digest)}
        return sorted(held)

    async def search(self, text: str, limit: int) -> Sequence[Repository]:
        small = "".join(letter.lower() if letter.isascii() else letter for letter in text)
        return [home for home in self._holding() if small in (home.path if home.is_own else str(home))][:limit]

    async def repositories(self, after: Repository | tuple[str, str] | None, limit: int) -> Sequence[Repository]:
        place = (after.registry, after.path) if isinstance(after, Repository) else after or ("", "")
        return [home for home in self._holding() if (home.registry, home.path) > place][:limit]


def _edge(parent: Digest, position: int, child: Child, *, held: bool) -> Edge:
    return Edge(
        parent=parent,
        position=position,
        child=child.descriptor.digest,
        role=child.role,
        media_type=child.descriptor.media_type,
        size=child.descriptor.size,
        platform=child.platform,
        held=held,
    )


def _order(row: ImageRow) -> tuple[bool, str, str, str, float, bytes]:
    """Tags by their names, then manifests without, by their time."""
    home = row.repository
    if row.tag is not None:
        return False, home.registry, home.path, row.tag, Place().at, b""
    return True, home.registry, home.path, "", row.moved_at, row.manifest.to_bytes()

"""What the catalog in memory knows, and how its facts hang together."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from mirror.errors import StoreFailed
from mirror.oci.digest import Digest
from mirror.oci.manifest import Child, Manifest, Role
from mirror.oci.names import Repository
from mirror.store.inventory import ConfigFacts, Miss, Move, View
from mirror.store.protocols import UPLOAD_GRACE, Link, Origin, Partial, Proof, RepositoryFacts, Tag


@dataclass(slots=True)
class _Blob:
    """One row of `blobs`. A digest that is not held has none."""

    size: int
    location: str
    used_at: float
    touched_at: float | None
    state: str = "held"


@dataclass(slots=True)
class _Linked:
    """One row of `links`."""

    linked_at: float
    link: Link = field(default_factory=Link)


class MemoryState:
    """The tables, and the conditions that several parts of the catalog judge by."""

    def __init__(self) -> None:
        self._instance = secrets.token_hex(16)
        self._repositories: dict[Repository, RepositoryFacts] = {}
        self._own: set[Repository] = set()  # they stay, whatever goes
        self._blobs: dict[Digest, _Blob] = {}
        self._links: dict[tuple[Repository, Digest, bool], _Linked] = {}
        self._manifests: dict[Digest, Manifest] = {}
        self._tags: dict[Repository, dict[str, Tag]] = {}
        self._tags_used: dict[tuple[Repository, str], float] = {}
        self._history: list[tuple[Repository, Move]] = []
        self._pins: dict[tuple[Repository, str, str], float] = {}
        self._configs: dict[Digest, ConfigFacts] = {}
        self._partials: dict[str, Partial] = {}
        self._misses: dict[str, Miss] = {}

    # --- blobs and links ----------------------------------------------------------------------------------

    def _held(self, digest: Digest) -> _Blob | None:
        blob = self._blobs.get(digest)
        return blob if blob and blob.state == "held" else None

    def _hold(self, digest: Digest, size: int, location: str, at: float) -> None:
        blob = self._blobs.get(digest)
        if blob and blob.state == "deleting":
            raise StoreFailed(f"{digest} is just being deleted: try again")
        used_at, touched_at = (max(blob.used_at, at), max(blob.touched_at or 0.0, at)) if blob else (at, at)
        self._blobs[digest] = _Blob(size, location, used_at, touched_at)

    def _forget(self, digest: Digest) -> None:
        """Its bytes are gone, and with them its links and what it said as a manifest."""
        del self._blobs[digest]
        self._manifests.pop(digest, None)
        self._configs.pop(digest, None)
        for key in [key for key in self._links if key[1] == digest]:
            del self._links[key]

    def _link(self, repository: Repository, digest: Digest, proof: Proof, at: float, *, is_manifest: bool) -> None:
        row = self._links.setdefault((repository, digest, is_manifest), _Linked(at))
        if repository.is_own:
            self._own.add(repository)
        proven = f"{proof.value}_at"
        row.link = replace(row.link, **{proven: max(at, getattr(row.link, proven) or 0.0)})

    def _hold_manifest(
        self, repository: Repository, manifest: Manifest, location: str, proof: Proof, at: float
    ) -> None:
        digest = manifest.descriptor.digest
        self._hold(digest, manifest.descriptor.size, location, at)
        self._link(repository, digest, proof, at, is_manifest=True)
        self._manifests.setdefault(digest, manifest)
        if proof is Proof.PUSHED:
            for child in manifest.children():
                if blob := self._blobs.get(child.descriptor.digest):
                    blob.touched_at = None

    def _seen(self, view: View, digest: Digest, *, is_manifest: bool) -> bool:
        """Whether it is held and a view shows it (`conditions.seen`)."""
        public = self._public(digest, is_manifest=is_manifest)
        return self._held(digest) is not None and (public or self._shown(view, digest, is_manifest=is_manifest))

    def _public(self, digest: Digest, *, is_manifest: bool) -> bool:
        return any(
            (other, kind) == (digest, is_manifest) and row.link.anonymous_at is not None
            for (_, other, kind), row in self._links.items()
        )

    def _shown(self, view: View, digest: Digest, *, is_manifest: bool) -> bool:
        """Whether a view's own repository shows it (`conditions.linked`)."""
        row = self._links.get((view.repository, digest, is_manifest))
        return row is not None and (
            row.link.anonymous_at is not None
            or row.link.pushed_at is not None
            or (view.trusted and row.link.credentials_at is not None)
        )

    def _use(self, digest: Digest, at: float) -> None:
        for other in {digest, *self._above(digest, Role.MANIFEST)}:
            blob = self._blobs.get(other)
            if blob:
                blob.used_at = max(blob.used_at, at)

    # --- what names what ----------------------------------------------------------------------------------

    def _naming(self, digest: Digest) -> Iterator[tuple[Digest, Child]]:
        """Known manifests that name it, and as what."""
        for parent, manifest in self._manifests.items():
            for child in manifest.children():
                if child.descriptor.digest == digest:
                    yield parent, child

    def _above(self, digest: Digest, role: Role | None = None) -> set[Digest]:
        """Manifests below which it lies; with `role`, as children of that role all the way."""
        found: set[Digest] = set()
        new = {digest}
        while new:
            new = {
                parent for each in new for parent, child in self._naming(each) if role is None or child.role == role
            } - found
            found |= new
        return found

    def _homes_above(self, digest: Digest, role: Role | None = None) -> set[tuple[Repository, Digest]]:
        """As `_above`, each with a repository that holds it; from one to another while all between is public. `role`:
        of the lowest one."""
        lowest = {parent for parent, child in self._naming(digest) if role is None or child.role == role}
        new = {
            (home, each, self._public(each, is_manifest=True))
            for home, each, is_manifest in self._links
            if is_manifest and each in lowest
        }
        found: set[tuple[Repository, Digest, bool]] = set()
        while new:
            found |= new
            above = [(home, open_, parent) for home, each, open_ in new for parent, _ in self._naming(each)]
            new = {
                (holder, parent, open_ and self._public(parent, is_manifest=True))
                for home, open_, parent in above
                for holder, linked, is_manifest in self._links
                if is_manifest and linked == parent and (open_ or holder == home)
            } - found
        return {(home, each) for home, each, _ in found}

    def _below(self, digest: Digest) -> set[Digest]:
        """It and everything below it, held or not."""
        found: set[Digest] = set()
        new = {digest}
        while new:
            found |= new
            new = {
                child.descriptor.digest
                for each in new
                if each in self._manifests
                for child in self._manifests[each].children()
            } - found
        return found

    def _tree(self, manifest: Digest) -> Iterator[tuple[Digest, bool]]:
        """It and what is below it, and whether each is named as a manifest."""
        yield manifest, True
        if manifest in self._manifests:
            for child in self._manifests[manifest].children():
                if child.role is Role.MANIFEST:
                    yield from self._tree(child.descriptor.digest)
                else:
                    yield child.descriptor.digest, False

    def _is_child(self, repository: Repository, manifest: Digest) -> bool:
        """Whether the repository holds an index above it."""
        return any((repository, parent, True) in self._links for parent in self._above(manifest, Role.MANIFEST))

    def _tagged(self, repository: Repository, manifest: Digest) -> list[Tag]:
        tags = self._tags.get(repository, {})
        return [tags[name] for name in sorted(tags) if tags[name].manifest == manifest]

    def _pinned(self, repository: Repository, *references: str) -> bool:
        return any(home == repository and reference in references for home, reference, _ in self._pins)

    def _is_image(self, manifest: Digest) -> bool:
        return manifest in self._manifests and any(
            digest == manifest and (self._tagged(home, manifest) or (kind and not self._is_child(home, manifest)))
            for home, digest, kind in self._links
        )

    def _needed(self, digest: Digest) -> bool:
        """Whether a root needs it (design.md §6); see `Deletion.begin_delete`."""
        linked = {manifest for _, manifest, is_manifest in self._links if is_manifest}
        return (
            digest in linked
            or any(tag.manifest == digest for tags in self._tags.values() for tag in tags.values())
            or any(reference == str(digest) for _, reference, _ in self._pins)
            or any(
                self._blobs[parent].state != "deleting"
                and not (child.role is Role.MANIFEST and digest in self._manifests and parent in linked)
                for parent, child in self._naming(digest)
            )
        )

    def _awaited(self, digest: Digest, at: float) -> bool:
        """Whether it is an upload whose manifest may still come."""
        touched_at = self._blobs[digest].touched_at
        pushed = any(
            other == digest and not is_manifest and row.link.pushed_at is not None
            for (_, other, is_manifest), row in self._links.items()
        )
        return pushed and touched_at is not None and touched_at >= at - UPLOAD_GRACE

    # --- tags ---------------------------------------------------------------------------------------------

    def _place_tag(self, repository: Repository, name: str, to: Digest, origin: Origin, at: float, actor: str) -> None:
        tags = self._tags.setdefault(repository, {})
        known = tags.get(name)
        self._use(to, max(at, self._tags_used.get((repository, name), 0.0)))
        if known and known.manifest == to:
            tags[name] = Tag(name, to, origin, known.moved_at, at, None)
            return
        tags[name] = Tag(name, to, origin, at, at, None)
        self._history.append((repository, Move(name, at, to, actor)))

    def _drop_tag(self, repository: Repository, name: str, at: float, actor: str) -> None:
        if self._tags.get(repository, {}).pop(name, None):
            self._tags_used.pop((repository, name), None)
            self._history.append((repository, Move(name, at, None, actor)))

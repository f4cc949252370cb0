"""The catalog's contracts for the life of an image: what is held, what is kept, what may go.

As in `protocols`: a method that writes is one transaction, a method that reads is one SELECT; times are wall time,
sizes bytes. Lists are paged by a cursor, which is opaque, and complete however the catalog changes meanwhile: what
was there all the time is listed once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mirror.oci.digest import Digest
from mirror.oci.names import Reference, Repository
from mirror.store.protocols import Link, Origin


@dataclass(frozen=True, slots=True)
class Edge:
    """A child of a held manifest, as its bytes name it. `held`: its bytes are here."""

    parent: Digest
    position: int
    child: Digest
    role: str  # oci.manifest.Role
    media_type: str
    size: int
    platform: str | None
    held: bool


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One tag, or one manifest that a repository holds without a tag of its own."""

    repository: Repository
    tag: str | None
    manifest: Digest
    media_type: str
    manifest_size: int
    origin: Origin
    link: Link
    moved_at: float
    gone_at: float | None
    used_at: float | None  # when it was last pulled
    pinned: bool


@dataclass(frozen=True, slots=True)
class Candidate:
    """A manifest that eviction may take: upstream can tell it again, nothing pins it, nobody pushed it here."""

    repository: Repository
    manifest: Digest
    used_at: float


@dataclass(frozen=True, slots=True)
class Pin:
    repository: Repository
    reference: str  # a tag's name or a digest
    owner: str
    pinned_at: float


@dataclass(frozen=True, slots=True)
class Move:
    """One move of a tag; `manifest` None where it was dropped."""

    name: str
    at: float
    manifest: Digest | None
    actor: str


@dataclass(frozen=True, slots=True)
class Miss:
    name: str
    count: int
    last_at: float


class Images(Protocol):
    """What is held, for lists and for inspection."""

    async def images(
        self, *, repository: Repository | None, registry: str | None, cursor: str | None, limit: int
    ) -> tuple[Sequence[ImageRow], str | None]:
        """Tags in the order of (registry, path, name), then held manifests without a tag; and the next cursor.

        A child of a held index is no image of its own, unless it is tagged.
        """
        ...

    async def edges(self, manifests: Sequence[Digest]) -> Sequence[Edge]:
        """The children of these held manifests (at most 500), by parent and position."""
        ...

    async def find(self, prefix: str, limit: int) -> Sequence[ImageRow]:
        """Images by the beginning of their manifest's or their config's hex (docker's short ids)."""
        ...

    async def sharing(self, digest: Digest, limit: int) -> Sequence[ImageRow]:
        """Images below whose manifest this blob lies."""
        ...

    async def sizes(self) -> Sequence[tuple[Digest, Sequence[tuple[Digest, int]]]]:
        """Every image's manifest with the held blobs below it (itself included): what UNIQUE, df and totals are
        counted from. Large: called for whole reports only."""
        ...

    async def search(self, text: str, limit: int) -> Sequence[Repository]:
        """Repositories held whose name contains `text`, wildcards taken literally."""
        ...

    async def repositories(self, after: Repository | None, limit: int) -> Sequence[Repository]:
        """Repositories that hold anything, in the order of their names."""
        ...


class Lifecycle(Protocol):
    """Facts that people set."""

    async def set_tag(self, repository: Repository, name: str, to: Digest, at: float, actor: str) -> bool:
        """Move a tag here by hand: origin local. Links `to` into an own repository where another one holds it.
        False if `to` is no held manifest."""
        ...

    async def remove_manifest(self, repository: Repository, digest: Digest, at: float, actor: str) -> Sequence[str]:
        """Unlink a manifest, and drop the tags here that name it: at once invisible. Returns those tags."""
        ...

    async def pin(self, reference: Reference, owner: str, at: float) -> None: ...
    async def unpin(self, reference: Reference, owner: str | None) -> int:
        """How many pins were taken away; `owner` None: everybody's."""
        ...

    async def pins(self) -> Sequence[Pin]: ...
    async def history(self, repository: Repository, name: str | None, limit: int) -> Sequence[Move]:
        """Newest first."""
        ...

    async def misses(self, limit: int) -> Sequence[Miss]:
        """Those asked for most lately first."""
        ...

    async def forget_misses(self) -> None: ...


class Collection(Protocol):
    """What may go. Roots are checked again inside each deleting transaction (design.md §6)."""

    async def touch(self, used: Sequence[tuple[Repository, str | Digest]], blobs: Sequence[Digest], at: float) -> None:
        """These tags and manifests, and these blobs, were just pulled."""
        ...

    async def candidates(self, limit: int) -> Sequence[Candidate]:
        """What eviction may take, least recently used first."""
        ...

    async def evict(self, repository: Repository, manifest: Digest, used_before: float, at: float) -> bool:
        """Unlink a candidate and drop its upstream tags, unless it was pinned, pushed, tagged by hand or used since
        `used_before`. Its blobs stay until they are collected."""
        ...

    async def unreferenced(self, used_before: float, limit: int) -> Sequence[tuple[Digest, int]]:
        """Held blobs that no root needs and that were last used before then, with their sizes, oldest first."""
        ...

    async def held_bytes(self) -> int: ...
    async def unverified(self, after: Digest | None, limit: int) -> Sequence[tuple[Digest, str, int]]:
        """Held blobs in the order of their digests, with location and size: what `verify` walks."""
        ...

    async def verified(self, digests: Sequence[Digest], at: float) -> None: ...

"""The store's contracts: bytes at rest, and the facts about them.

Blobs follow the life of an ingest, as in containerd's `content.Ingester`: nothing written is visible until
`publish` returns; a digest, once published, never changes. Facts follow design.md §3: every method that
writes is one transaction, run whole; every method that reads is one SELECT.

Times are wall time, seconds since 1970. Sizes and offsets are bytes. Row ids never leave `store/`.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest
from mirror.oci.names import Repository


class Hash(Protocol):
    """What of `hashlib` is needed here."""

    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...
    def copy(self) -> "Hash": ...


class Proof(StrEnum):
    """Why a repository may name a blob (design.md §4). A link carries a set of them; none replaces another."""

    ANONYMOUS = "anonymous"  # the registry delivered it, under this repository, to a request without credentials
    CREDENTIALS = "credentials"  # it did so with the mirror's credentials
    PUSHED = "pushed"  # a client put it here


class Visibility(StrEnum):
    """Who may read a repository of a registry for which the mirror has credentials."""

    PUBLIC = "public"
    PRIVATE = "private"
    UNKNOWN = "unknown"


class Origin(StrEnum):
    """Who last moved a tag."""

    UPSTREAM = "upstream"
    LOCAL = "local"


UPLOAD_GRACE = 24 * 3600.0
"""Seconds for which an upload waits for its manifest."""


# --- bytes ------------------------------------------------------------------------------------------------


class BlobReader(Protocol):
    """One blob as one reader sees it: a file at rest, a flight being followed, a pass-through."""

    @property
    def digest(self) -> Digest: ...
    @property
    def size(self) -> int: ...

    async def ready(self, offset: int, end: int) -> int:
        """Wait until something past `offset` may be sent, and return up to where (at most `end`).

        Raises an `UpstreamError` or `StoreFailed` when it will never be: the sender aborts the connection.
        """
        ...

    def fileno(self) -> int | None:
        """A descriptor to `sendfile` from, or None where the bytes are in memory. Ask again after each `ready`."""
        ...

    async def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes at `offset`, which `ready` has released. Never empty."""
        ...


class Ingest(Protocol):
    """An open write. `offset` bytes are accepted, `written` of them can be read through `open_descriptor`."""

    @property
    def id(self) -> str: ...
    @property
    def offset(self) -> int: ...
    @property
    def written(self) -> int: ...

    def open_descriptor(self) -> int:
        """A new read-only descriptor on what is written so far; the caller closes it. Stays good after publish."""
        ...

    async def write(self, chunk: bytes) -> None:
        """Accept `chunk` at `offset`. Returns when it is queued; waits while the queue is full.

        Raises `NoRoom` or `StoreFailed`, also for a chunk accepted earlier; then only `abort` is left.
        """
        ...

    async def verify(self, expected: Digest) -> None:
        """Wait until all is written; raise `DigestInvalid` if it is not what `expected` names."""
        ...

    async def hash_state(self) -> Hash:
        """A copy of the hash over the first `written` bytes; only after a failed `write`, when nothing moves."""
        ...

    async def abort(self) -> None:
        """Drop it and its bytes. Harmless when repeated, or after publish."""
        ...

    async def suspend(self) -> None:
        """Close it but keep its bytes, to be resumed later under the same id."""
        ...


class BlobStore(Protocol):
    """Blobs by digest. Commit order (restic `local.go` Save): staging, fsync, rename, fsync of the directory."""

    async def begin(self, on_written: Callable[[int], None], *, algorithm: str = "sha256") -> Ingest:
        """Open a write. `on_written(written)` is called on the event loop as bytes become readable."""
        ...

    async def resume(
        self, ingest_id: str, on_written: Callable[[int], None], *, algorithm: str = "sha256"
    ) -> Ingest | None:
        """Open a suspended write (also one a killed process left), its bytes hashed again. None if there is none."""
        ...

    async def publish(self, ingest: Ingest, expected: Digest) -> str:
        """Verify, make durable, make visible. Returns the opaque location.

        Raises `DigestInvalid`, `NoRoom`, `StoreFailed`; the ingest is then dropped, never tried again.
        """
        ...

    async def put(self, data: bytes, expected: Digest) -> str:
        """Publish bytes already verified against `expected` (small blobs, manifests). Callers that wait together
        are made durable together."""
        ...

    def open(self, digest: Digest, location: str, size: int) -> AbstractAsyncContextManager[BlobReader]:
        """A reader of a published blob. Raises `BlobUnknown` if the file is missing or has another size."""
        ...

    async def read(self, digest: Digest, location: str, size: int) -> bytes:
        """A whole small blob, verified against its digest. Raises `BlobUnknown` if missing or rotten."""
        ...

    async def delete(self, location: str) -> int:
        """Remove a published blob's bytes, and return how many. Missing ones are no error: 0."""
        ...

    def walk(self) -> AsyncIterator[tuple[Digest, str, int]]:
        """Every published blob: digest, location, size."""
        ...

    def active(self) -> frozenset[str]:
        """Ids of the ingests that this process has open."""
        ...

    async def staged(self) -> Sequence[str]:
        """Ids of ingests that lie in staging and that no open `Ingest` of this process uses."""
        ...

    async def staging(self) -> Mapping[str, int]:
        """All that lies in staging, open or not: ids and sizes."""
        ...

    async def discard(self, ingest_id: str) -> int:
        """Remove a staged ingest's bytes, and return how many. One that is open is left alone: 0."""
        ...

    async def free(self) -> int:
        """Bytes that may still be written, the reserve taken off; below zero by what it lacks."""
        ...


# --- facts ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Link:
    """That a repository holds a blob, with its proofs: when each was last given, or None."""

    anonymous_at: float | None = None
    credentials_at: float | None = None
    pushed_at: float | None = None


@dataclass(frozen=True, slots=True)
class Holding:
    """What the catalog knows of one digest, seen from one repository, as a blob or as a manifest: a manifest's bytes
    are not served as a blob because they are public as a manifest."""

    size: int
    location: str
    link: Link | None  # this repository's own
    public: bool  # some repository holds it with an anonymous proof


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag as the catalog has it."""

    name: str
    manifest: Digest
    origin: Origin
    moved_at: float
    checked_at: float  # when its registry last confirmed it
    gone_at: float | None  # since when its registry says it is gone


@dataclass(frozen=True, slots=True)
class RepositoryFacts:
    visibility: Visibility
    checked_at: float  # when the visibility was last confirmed; 0 if never


@dataclass(frozen=True, slots=True)
class Partial:
    """A download that was begun and can be resumed by its own source only."""

    id: str
    digest: Digest
    registry: str
    anonymous: bool
    started_at: float


class Repositories(Protocol):
    async def repository(self, repository: Repository) -> RepositoryFacts: ...
    async def set_visibility(self, repository: Repository, visibility: Visibility, at: float) -> None: ...
    async def own_repositories(self) -> Sequence[Repository]:
        """The mirror's own repositories, also those that hold nothing any more, in the order of their names."""
        ...


class Links(Protocol):
    async def holding(self, repository: Repository, digest: Digest, *, is_manifest: bool) -> Holding | None:
        """What is known of a held blob, or None where it is not held. `link` is of that kind only."""
        ...

    async def supplied(self, registry: str, digest: Digest, *, is_manifest: bool) -> bool:
        """Whether this registry has delivered it to this mirror, under whatever name (anonymous or credentials)."""
        ...

    async def hold(
        self, digest: Digest, size: int, location: str, links: Sequence[tuple[Repository, Proof]], at: float
    ) -> None:
        """A blob was published: state `held`, linked in each repository with its proof.

        Raises `StoreFailed` while it is being deleted.
        """
        ...

    async def link(self, repository: Repository, digest: Digest, proof: Proof, at: float, *, is_manifest: bool) -> bool:
        """Add a proof to a link, making it where there is none. False if the blob is not held (any more)."""
        ...

    async def quarantine(self, digest: Digest) -> None:
        """A published blob was found missing or rotten: it is served no more until it is held again."""
        ...

    async def expected_size(self, repository: Repository, digest: Digest) -> int | None:
        """The size that some manifest held by this repository gives for this child, if any does. What another one
        holds is not told, nor believed."""
        ...


class Deletion(Protocol):
    """Deleting a blob: `begin_delete`, then its bytes (`BlobStore.delete`), then `deleted`. A start finishes what
    `deleting` still lists. The caller sees to it that nothing publishes the digest meanwhile (a lease in memory)."""

    async def begin_delete(
        self, digest: Digest, used_before: float | None = None, *, now: float | None = None
    ) -> str | None:
        """Mark a held (or quarantined) blob as deleting and return its location.

        None where it is not held, or is still needed: by a tag, a pin, the outbox, a held manifest that names it, or,
        for a manifest, by a repository it is linked in. With `used_before` also where it was used since then; with
        `now` (else `used_before`) also where it is an upload whose manifest may still come: pushed less than
        `UPLOAD_GRACE` before then, and named by no pushed manifest since. What is deleting is no longer served, linked
        or held anew.

        Of its manifests, an index that some repository holds needs only those that some repository holds: an image can
        lose a platform. An index that nobody holds any more keeps them until it is deleted itself.
        """
        ...

    async def deleted(self, digest: Digest) -> None:
        """The bytes of a deleting blob are gone: forget it, its links, and what it said as a manifest."""
        ...

    async def deleting(self) -> Sequence[tuple[Digest, str]]:
        """Blobs whose deletion was begun and not finished, with their locations."""
        ...


class Manifests(Protocol):
    async def hold_manifest(
        self, repository: Repository, manifest: Manifest, location: str, proof: Proof, at: float
    ) -> None:
        """A manifest was published: blob, link, edges, in one transaction. Raises as `hold` does."""
        ...

    async def manifest_type(self, digest: Digest) -> str | None:
        """The stored media type of a held manifest."""
        ...

    async def in_an_index(self, repository: Repository, digest: Digest, *, trusted: bool) -> bool:
        """Whether a held index that is linked in this repository, and that its link shows to the trusted or to anybody,
        names it as a manifest."""
        ...

    async def referrers(self, repository: Repository, subject: Digest) -> Sequence[Digest]:
        """Held manifests linked in this repository that name `subject`, oldest first."""
        ...


class Tags(Protocol):
    async def tag(self, repository: Repository, name: str) -> Tag | None: ...
    async def tags(self, repository: Repository) -> Sequence[str]:
        """Names of all tags held, in ASCII order."""
        ...

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
        """Compare-and-set: from `expected` (None: it does not exist) to `to`, checked at `at`, no longer gone.

        False if somebody moved it meanwhile, or `to` is no held manifest linked here. A move is kept in `tag_history`.
        """
        ...

    async def confirm_tag(self, repository: Repository, name: str, manifest: Digest, at: float) -> bool:
        """Its registry says the tag still names `manifest`. False if here it does not (any more)."""
        ...

    async def tag_gone(self, repository: Repository, name: str, at: float) -> None:
        """Its registry says the tag is gone; the first time stays."""
        ...

    async def drop_tag(self, repository: Repository, name: str, expected: Digest, at: float, actor: str) -> None:
        """Take a tag away that still names `expected`, unless it is pinned."""
        ...

    async def only_here(self, limit: int) -> Sequence[tuple[Repository, Tag]]:
        """Tags that their registry no longer has."""
        ...


class Partials(Protocol):
    async def partial(self, digest: Digest, registry: str, *, anonymous: bool) -> Partial | None: ...
    async def begin_partial(self, partial: Partial) -> None: ...
    async def end_partial(self, ingest_id: str) -> None: ...
    async def partials(self) -> Sequence[Partial]: ...


class Misses(Protocol):
    async def missed(self, name: str, at: float) -> None:
        """Something was asked for and could not be given; counted, rows capped."""
        ...


@dataclass(frozen=True, slots=True)
class Totals:
    """How much is held."""

    blobs: int
    bytes: int
    repositories: int
    tags: int
    only_here: int

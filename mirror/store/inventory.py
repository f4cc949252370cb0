"""The catalog's contracts for the life of an image: what is held, what is kept, what may go.

As in `protocols`: a method that writes is one transaction, a method that reads is one SELECT; times are wall time,
sizes bytes. Lists are paged by a cursor, which is opaque, and complete however the catalog changes meanwhile: what
was there all the time is listed once.

An **image** is a tag, or a held manifest that a repository holds without a tag of its own and not as a child of an
index that it holds as well. What is **below** a manifest are its children, theirs, and so on; not its subject.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mirror.errors import DigestInvalid, RequestInvalid
from mirror.oci.digest import Digest
from mirror.oci.names import Reference, Repository
from mirror.store.protocols import Link, Origin


@dataclass(frozen=True, slots=True)
class View:
    """A repository as somebody sees it (design.md §4): what is linked there, with what its registry served to the
    mirror's credentials alone only if he is `trusted` with that; and blobs, but no manifests, that are public anywhere.
    """

    repository: Repository
    trusted: bool


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
    """One tag, or one manifest that a repository holds without a tag of its own.

    A tag is listed also while its manifest is quarantined; then `edges` knows nothing of it.
    """

    repository: Repository
    tag: str | None
    manifest: Digest
    media_type: str
    manifest_size: int
    origin: Origin  # without a tag: local where it was pushed
    link: Link
    moved_at: float  # without a tag: since when it is linked
    gone_at: float | None
    used_at: float | None  # when it was last pulled: by this tag, or, without one, at all
    pinned: bool  # by this tag or by this digest, in this repository


@dataclass(frozen=True, slots=True)
class Candidate:
    """A manifest that eviction may take: upstream can tell it again, nothing pins it, nobody pushed it here.

    Not what a tag names that is gone upstream, nor what waits in the outbox, nor a child of an index that the same
    repository holds: it goes with the index. `used_at` is the last use in whatever repository.
    """

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


@dataclass(frozen=True, slots=True)
class Weight:
    """Held bytes below a manifest, itself included, each blob once; and those of them that no other image needs."""

    size: int
    unique: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What lies on the disk, whatever its state; and what of it is held below some image, each blob once."""

    blobs: int
    bytes: int
    image_blobs: int
    image_bytes: int


@dataclass(frozen=True, slots=True)
class ConfigFacts:
    """What an image's config says, as far as lists show it."""

    config: Digest
    created: str | None  # as the config has it: RFC 3339
    platform: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a list of images stands: behind a tag, or, where `tag` is None, behind a manifest without one."""

    home: tuple[str, str] = ("", "")  # registry, path
    tag: str | None = ""
    at: float = -9e99
    digest: bytes = b""

    def not_before(self, home: tuple[str, str]) -> "Place":
        """This place, or the beginning of that repository if it comes later."""
        return self if self.home >= home else Place(home, None if self.tag is None else "")


def cursor_after(row: ImageRow) -> str:
    """The cursor of `Images.images` that goes on after this row. It names the row: whoever must not see the one must
    not get the other, so a list from which rows were taken out ends with the cursor of its own last row."""
    place: list[object] = [row.repository.registry, row.repository.path]
    place += [row.tag] if row.tag is not None else [float(row.moved_at), str(row.manifest)]
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> Place:
    """Where a cursor stands. Raises `RequestInvalid` if it is none."""
    try:
        packed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        match json.loads(packed.decode()):
            case [str(registry), str(path), str(tag)]:
                return Place((registry, path), tag)
            case [str(registry), str(path), float(at), str(digest)]:
                return Place((registry, path), None, at, Digest.parse(digest).to_bytes())
            case _:
                pass
    except (ValueError, RecursionError, DigestInvalid):
        pass
    raise RequestInvalid("the cursor is none that this mirror gave out")


class Images(Protocol):
    """What is held, for lists and for inspection."""

    async def images(
        self, *, repository: Repository | None, registry: str | None, cursor: str | None, limit: int
    ) -> tuple[Sequence[ImageRow], str | None]:
        """Tags in the order of (registry, path, name), then held manifests without a tag, by (registry, path, time);
        and the next cursor, None at the end. Raises `RequestInvalid` for a cursor that is none."""
        ...

    async def image(self, repository: Repository, tag: str) -> ImageRow | None:
        """The image of one tag, None where there is none."""
        ...

    async def edges(self, manifests: Sequence[Digest]) -> Sequence[Edge]:
        """The children of these held manifests (at most 500), by parent and position."""
        ...

    async def edges_seen(
        self, manifests: Sequence[tuple[View, Digest]]
    ) -> Mapping[tuple[View, Digest], Sequence[Edge]]:
        """The children of each of these manifests (at most 500), by position, as a view shows them: `held` are those
        that are here and that it shows. Of a manifest that it does not show there are none."""
        ...

    async def find(self, prefix: str, limit: int) -> Sequence[ImageRow]:
        """Images by the beginning of their manifest's or their config's hex (docker's short ids), tags first.

        By a manifest's hex also a child of an index, wherever it is linked; by a config's the index, too, where its
        repository holds what is between.
        """
        ...

    async def sharing(self, digest: Digest, limit: int) -> Sequence[ImageRow]:
        """Images below whose manifest this blob lies, held or not, and whose repository holds what is between; tags
        first."""
        ...

    async def weigh(self, manifests: Sequence[Digest]) -> Mapping[Digest, Weight]:
        """Of each of these manifests (a page of them) what it holds, and what it alone holds: SIZE and UNIQUE."""
        ...

    async def weigh_together(self, manifests: Sequence[Digest]) -> int:
        """Held bytes below these manifests (any number of them), themselves included, each blob counted once."""
        ...

    async def sizes(self) -> Mapping[Digest, Weight]:
        """`weigh` of every image's manifest: what `df` is counted from. For whole reports only: it takes seconds and
        100 MB where there are 100,000 images."""
        ...

    async def search(self, text: str, limit: int) -> Sequence[Repository]:
        """Repositories that hold a manifest and whose name (registry and path; of own ones the path alone) contains
        `text`, wildcards taken literally, capitals like small letters."""
        ...

    async def repositories(self, after: Repository | tuple[str, str] | None, limit: int) -> Sequence[Repository]:
        """Repositories that hold a manifest, in the order of (registry, path); after one of them, or after a registry
        and a path where there need be none."""
        ...


class Lifecycle(Protocol):
    """Facts that people set."""

    async def set_tag(
        self, repository: Repository, name: str, to: Digest, at: float, actor: str, source: View | None = None
    ) -> bool:
        """Move a tag here by hand: origin local.

        An own repository takes from `source` what that shows of `to` and of what is below it: it is linked there as
        pushed. Elsewhere, and without a `source`, `to` must be linked. False if `to` is no held manifest, or not linked
        where it must be.
        """
        ...

    async def remove_tag(self, repository: Repository, name: str, at: float, actor: str) -> Digest | None:
        """Drop a tag, and unlink the manifest that it named unless something else keeps it there: another tag, a pin
        of its digest, the outbox, an index that the repository holds. Returns that manifest, None without such a tag.

        Children go along as in `remove_manifest`; pins of tags stay.
        """
        ...

    async def remove_manifest(self, repository: Repository, digest: Digest, at: float, actor: str) -> Sequence[str]:
        """Unlink a manifest, and drop the tags here that name it: at once invisible. Returns those tags.

        Of an index its children here go along, but for those that are tagged or pinned by digest, wait in the outbox,
        or belong to another index here. Pins of the digest end, pins of tags stay.
        """
        ...

    async def foresee(
        self, removals: Sequence[tuple[Repository, str | Digest]], at: float
    ) -> Sequence[tuple[Digest, int]]:
        """What would be deleted, with its size, if all these tags (`remove_tag`) and manifests (`remove_manifest`) were
        removed at `at`, and after them what of them nothing needs any more. Nothing is changed."""
        ...

    async def pin(self, reference: Reference, owner: str, at: float) -> None:
        """It need not be held. Where a reference has a tag and a digest, the digest is pinned."""
        ...

    async def unpin(self, reference: Reference, owner: str | None) -> int:
        """How many pins were taken away; `owner` None: everybody's."""
        ...

    async def pins(self) -> Sequence[Pin]:
        """By repository, reference and owner."""
        ...

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
        """These tags and manifests, and these blobs, were just pulled; a child's use is its index's, too."""
        ...

    async def candidates(self, limit: int) -> Sequence[Candidate]:
        """What eviction may take, least recently used first."""
        ...

    async def evict(self, repository: Repository, manifest: Digest, used_before: float, at: float) -> bool:
        """Unlink a candidate and drop its upstream tags, unless it is none any more (it was pinned, pushed, tagged by
        hand …) or was used since `used_before`. Its blobs stay until they are collected.

        Children go along as in `remove_manifest`, but for pushed ones.
        """
        ...

    async def unreferenced(self, used_before: float, limit: int) -> Sequence[tuple[Digest, int]]:
        """Held (and quarantined) blobs that no root needs and that were last used before then, with their sizes,
        oldest first.

        What a manifest names follows once that one is deleted: ask again until there is no more. Slow (it walks all
        that was not used since): ask for many at a time.
        """
        ...

    async def foresee_evictions(
        self, evictions: Sequence[tuple[Repository, Digest]], at: float
    ) -> Sequence[tuple[Digest, int]]:
        """What would be deleted, with its size, if all these candidates were evicted at `at`, and after them all that
        nothing needs then: also what nothing needs already. Nothing is changed. For whole reports, as `sizes`."""
        ...

    async def foresee_freed(self, evictions: Sequence[tuple[Repository, Digest]], at: float) -> tuple[int, int]:
        """How many blobs `foresee_evictions` lists, and their bytes together: without a list of them."""
        ...

    async def usage(self) -> Usage:
        """How much there is, and how much of it belongs to images. For whole reports, as `sizes`."""
        ...

    async def states(self, digests: Sequence[Digest]) -> Mapping[Digest, str]:
        """In which state these digests are: held, deleting or quarantined. One that is missing here is absent."""
        ...

    async def held_bytes(self) -> int: ...
    async def stored_bytes(self) -> int:
        """Bytes of all blobs that lie on the disk: held, quarantined and just being deleted."""
        ...

    async def unverified(self, after: Digest | None, limit: int) -> Sequence[tuple[Digest, str, int]]:
        """Held blobs in the order of their digests, with location and size: what `verify` walks."""
        ...

    async def quarantined(self, after: Digest | None, limit: int) -> Sequence[tuple[Digest, str, int]]:
        """What was found bad and is served no more, as `unverified` lists what is held."""
        ...

    async def homes(self, digest: Digest, limit: int) -> Sequence[tuple[Repository, bool]]:
        """The repositories in which a blob is linked, in the order of their names, and whether as a manifest. Also of
        one that is quarantined."""
        ...

    async def verified(self, digests: Sequence[Digest], at: float) -> None: ...


class Configs(Protocol):
    """What configs say, remembered: a list of images must not open every config there is."""

    async def configs(self, manifests: Sequence[Digest]) -> Mapping[Digest, ConfigFacts]:
        """Of those of these manifests whose config was noted. An index has no config: ask for its children."""
        ...

    async def note_config(self, manifest: Digest, facts: ConfigFacts) -> None:
        """This held manifest's config was read. Ignored where it names another config, or that is not held."""
        ...

"""The life of an image in SQLite: `inventory`'s parts of the catalog."""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from string import ascii_lowercase, ascii_uppercase
from typing import TypeVar

from mirror.oci.digest import Digest
from mirror.oci.names import Reference, Repository
from mirror.store import reads_inventory as reads
from mirror.store.commands import foresight
from mirror.store.commands import inventory as commands
from mirror.store.database import Database
from mirror.store.inventory import (
    Candidate,
    ConfigFacts,
    Edge,
    ImageRow,
    Miss,
    Move,
    Pin,
    Place,
    Usage,
    View,
    Weight,
    cursor_after,
    read_cursor,
)
from mirror.store.protocols import UPLOAD_GRACE, Link, Origin
from mirror.store.reads import Row

Many = TypeVar("Many")
Made = TypeVar("Made")

_MANY = 1000  # of anything, that take longer than a thread costs
_LAST = "\U0010ffff"  # sorts behind every name
_LONGEST = 64  # bytes of the longest hash
_HEX = frozenset("0123456789abcdef")
_SMALL = str.maketrans(ascii_uppercase, ascii_lowercase)


class SqliteInventory:
    """`Images`, `Lifecycle`, `Collection`, `Configs`. What else may be raised is said at `SqliteCatalog`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._readers = database.readers
        self._write = database.write
        self._write_own = database.write_own

    # --- images -------------------------------------------------------------------------------------------

    async def images(
        self, *, repository: Repository | None, registry: str | None, cursor: str | None, limit: int
    ) -> tuple[Sequence[ImageRow], str | None]:
        place = read_cursor(cursor) if cursor else Place()
        if limit <= 0:
            return [], None
        if repository is not None:
            first = last = (repository.registry, repository.path)
        else:
            first, last = (registry or "", ""), (registry or _LAST, _LAST)
        place = place.not_before(first)
        rows: list[ImageRow] = []
        if place.tag is not None:  # one more than asked for tells whether there is a next page
            found = await self._readers.all(reads.TAGGED_IMAGES, *place.home, place.tag, *last, limit + 1)
            rows = [_image(row) for row in found]
            place = Place(first, None)
        if len(rows) <= limit:
            wanted = limit + 1 - len(rows)
            found = await self._readers.all(reads.UNTAGGED_IMAGES, *place.home, place.at, place.digest, *last, wanted)
            rows += [_image(row) for row in found]
        page = rows[:limit]
        return page, cursor_after(page[-1]) if len(rows) > limit else None

    async def image(self, repository: Repository, tag: str) -> ImageRow | None:
        row = await self._readers.one(reads.TAGGED_IMAGE, repository.registry, repository.path, tag)
        return _image(row) if row else None

    async def edges(self, manifests: Sequence[Digest]) -> Sequence[Edge]:
        return [_edge(row) for row in await self._readers.all(reads.EDGES, reads.packed(manifests))]

    async def edges_seen(
        self, manifests: Sequence[tuple[View, Digest]]
    ) -> Mapping[tuple[View, Digest], Sequence[Edge]]:
        asked = list(dict.fromkeys(manifests))
        found: list[list[Edge]] = [[] for _ in asked]
        for number, *row in await self._readers.all(reads.EDGES_SEEN, *_viewed(asked)):
            found[number].append(_edge(row))
        return dict(zip(asked, found, strict=True))

    async def find(self, prefix: str, limit: int) -> Sequence[ImageRow]:
        if not prefix or len(prefix) > 2 * _LONGEST or set(prefix) - _HEX:
            return []
        low = bytes.fromhex(prefix + "0" * (len(prefix) % 2))
        high = bytes.fromhex(prefix.ljust(2 * _LONGEST, "f"))
        ranges = [algorithm + end for algorithm in (b"\x01", b"\x02") for end in (low, high)]
        return [_image(row) for row in await self._readers.all(reads.FIND, *ranges, limit)]

    async def sharing(self, digest: Digest, limit: int) -> Sequence[ImageRow]:
        return [_image(row) for row in await self._readers.all(reads.SHARING, digest.to_bytes(), limit)]

    async def weigh(self, manifests: Sequence[Digest]) -> Mapping[Digest, Weight]:
        return _weights(await self._readers.all(reads.WEIGH, reads.packed(manifests)))

    async def weigh_together(self, manifests: Sequence[Digest]) -> int:
        wanted = await asyncio.to_thread(reads.packed, manifests)  # of 100,000 it takes a tenth of a second
        return await self._readers.report(_only, reads.WEIGH_TOGETHER, wanted)

    async def sizes(self) -> Mapping[Digest, Weight]:
        return await self._readers.report(_weights, reads.SIZES)

    async def search(self, text: str, limit: int) -> Sequence[Repository]:
        return [Repository(*row) for row in await self._readers.all(reads.SEARCH, _lower(text), limit)]

    async def repositories(self, after: Repository | tuple[str, str] | None, limit: int) -> Sequence[Repository]:
        place = (after.registry, after.path) if isinstance(after, Repository) else after or ("", "")
        return [Repository(*row) for row in await self._readers.all(reads.HELD_REPOSITORIES, *place, limit)]

    # --- what people set ----------------------------------------------------------------------------------

    async def set_tag(
        self, repository: Repository, name: str, to: Digest, at: float, actor: str, source: View | None = None
    ) -> bool:
        return await self._write_own(commands.set_tag, repository, name, to, at, actor, source)

    async def remove_tag(self, repository: Repository, name: str, at: float, actor: str) -> Digest | None:
        return await self._write_own(commands.remove_tag, repository, name, at, actor)

    async def remove_manifest(self, repository: Repository, digest: Digest, at: float, actor: str) -> Sequence[str]:
        return await self._write_own(commands.remove_manifest, repository, digest, at, actor)

    async def foresee(
        self, removals: Sequence[tuple[Repository, str | Digest]], at: float
    ) -> Sequence[tuple[Digest, int]]:
        return await self._write(foresight.foresee, removals, at)

    async def pin(self, reference: Reference, owner: str, at: float) -> None:
        await self._write_own(commands.pin, reference, owner, at)

    async def unpin(self, reference: Reference, owner: str | None) -> int:
        return await self._write_own(commands.unpin, reference, owner)

    async def pins(self) -> Sequence[Pin]:
        return [Pin(Repository(*row[:2]), *row[2:]) for row in await self._readers.all(reads.PINS)]

    async def history(self, repository: Repository, name: str | None, limit: int) -> Sequence[Move]:
        home = (repository.registry, repository.path)
        if name is None:
            rows = await self._readers.all(reads.HISTORY, *home, limit)
        else:
            rows = await self._readers.all(reads.TAG_HISTORY, *home, limit, name)
        return [
            Move(tag, at, None if manifest is None else Digest.from_bytes(manifest), actor)
            for tag, at, manifest, actor in rows
        ]

    async def misses(self, limit: int) -> Sequence[Miss]:
        return [Miss(*row) for row in await self._readers.all(reads.MISSES, limit)]

    async def forget_misses(self) -> None:
        await self._write(commands.forget_misses)

    # --- what may go --------------------------------------------------------------------------------------

    async def touch(self, used: Sequence[tuple[Repository, str | Digest]], blobs: Sequence[Digest], at: float) -> None:
        await self._write(commands.touch, used, blobs, at)

    async def candidates(self, limit: int) -> Sequence[Candidate]:
        rows = await self._readers.all(reads.CANDIDATES, limit)
        return await _off_loop(_candidates, rows)

    async def evict(self, repository: Repository, manifest: Digest, used_before: float, at: float) -> bool:
        return await self._write(commands.evict, repository, manifest, used_before, at)

    async def unreferenced(self, used_before: float, limit: int) -> Sequence[tuple[Digest, int]]:
        rows = await self._readers.report(list, reads.UNREFERENCED, used_before, UPLOAD_GRACE, limit)
        return [(Digest.from_bytes(digest), size) for digest, size, _ in rows]

    async def foresee_evictions(
        self, evictions: Sequence[tuple[Repository, Digest]], at: float
    ) -> Sequence[tuple[Digest, int]]:
        return await self._readers.report(_sized, reads.FORESEEN, at, UPLOAD_GRACE, *_written(evictions))

    async def foresee_freed(self, evictions: Sequence[tuple[Repository, Digest]], at: float) -> tuple[int, int]:
        return await self._readers.report(
            _counted, reads.FREED, at, UPLOAD_GRACE, *await _off_loop(_written, evictions)
        )

    async def usage(self) -> Usage:
        return await self._readers.report(lambda rows: Usage(*next(iter(rows))), reads.USAGE)

    async def states(self, digests: Sequence[Digest]) -> Mapping[Digest, str]:
        rows = await self._readers.all(reads.STATES, reads.packed(digests))
        return {Digest.from_bytes(digest): state for digest, state in rows}

    async def held_bytes(self) -> int:
        row = await self._readers.one(reads.HELD_BYTES)
        return _only([row] if row else [])

    async def stored_bytes(self) -> int:
        return await self._readers.report(_only, reads.STORED_BYTES)

    async def unverified(self, after: Digest | None, limit: int) -> Sequence[tuple[Digest, str, int]]:
        rows = await self._readers.all(reads.UNVERIFIED, after.to_bytes() if after else b"", limit)
        return [(Digest.from_bytes(digest), location, size) for digest, location, size in rows]

    async def quarantined(self, after: Digest | None, limit: int) -> Sequence[tuple[Digest, str, int]]:
        rows = await self._readers.all(reads.QUARANTINED, after.to_bytes() if after else b"", limit)
        return [(Digest.from_bytes(digest), location, size) for digest, location, size in rows]

    async def homes(self, digest: Digest, limit: int) -> Sequence[tuple[Repository, bool]]:
        rows = await self._readers.all(reads.HOMES, digest.to_bytes(), limit)
        return [(Repository(registry, path), bool(is_manifest)) for registry, path, is_manifest in rows]

    async def verified(self, digests: Sequence[Digest], at: float) -> None:
        await self._write(commands.verified, digests, at)

    # --- configs ------------------------------------------------------------------------------------------

    async def configs(self, manifests: Sequence[Digest]) -> Mapping[Digest, ConfigFacts]:
        return {
            Digest.from_bytes(manifest): ConfigFacts(Digest.from_bytes(config), created, platform)
            for manifest, config, created, platform in await self._readers.all(reads.CONFIGS, reads.packed(manifests))
        }

    async def note_config(self, manifest: Digest, facts: ConfigFacts) -> None:
        await self._write(commands.note_config, manifest, facts)


def _image(row: Row) -> ImageRow:
    registry, path, tag, manifest, media_type, size, origin, anonymous, credentials, pushed = row[:10]
    moved_at, gone_at, used_at, pinned = row[10:14]
    return ImageRow(
        repository=Repository(registry, path),
        tag=tag,
        manifest=Digest.from_bytes(manifest),
        media_type=media_type,
        manifest_size=size,
        origin=Origin(origin),
        link=Link(anonymous, credentials, pushed),
        moved_at=moved_at,
        gone_at=gone_at,
        used_at=used_at,
        pinned=bool(pinned),
    )


def _edge(row: Row) -> Edge:
    parent, position, child, role, media_type, size, platform, held = row
    return Edge(
        parent=Digest.from_bytes(parent),
        position=position,
        child=Digest.from_bytes(child),
        role=role,
        media_type=media_type,
        size=size,
        platform=platform,
        held=bool(held),
    )


def _viewed(manifests: Sequence[tuple[View, Digest]]) -> tuple[bytes, str]:
    """As `EDGES_SEEN` reads them."""
    digests: list[bytes] = []
    places: list[tuple[str, str, bool, int, int]] = []
    at = 1
    for view, manifest in manifests:
        digests.append(manifest.to_bytes())
        home, length = view.repository, len(digests[-1])
        places.append((home.registry, home.path, view.trusted, at, length))
        at += length
    return b"".join(digests), json.dumps(places)


async def _off_loop(make: Callable[[Sequence[Many]], Made], many: Sequence[Many]) -> Made:
    """What `make` makes of them: on a thread, where there are so many that others would wait."""
    return make(many) if len(many) < _MANY else await asyncio.to_thread(make, many)


def _candidates(rows: Sequence[Row]) -> Sequence[Candidate]:
    return [Candidate(Repository(row[0], row[1]), Digest.from_bytes(row[2]), row[3]) for row in rows]


def _only(rows: Iterable[Row]) -> int:
    """The one number that an aggregate gives."""
    (number,) = next(iter(rows))
    total: int = number
    return total


def _weights(rows: Iterable[Row]) -> Mapping[Digest, Weight]:
    return {Digest.from_bytes(digest): Weight(size, unique) for digest, size, unique in rows}


def _counted(rows: Iterable[Row]) -> tuple[int, int]:
    count, size = next(iter(rows))
    return count, size


def _written(evictions: Sequence[tuple[Repository, Digest]]) -> tuple[bytes, str]:
    """As `FORESEEN` reads them."""
    homes = json.dumps([(repository.registry, repository.path) for repository, _ in evictions])
    return reads.packed(manifest for _, manifest in evictions), homes


def _sized(rows: Iterable[Row]) -> Sequence[tuple[Digest, int]]:
    return [(Digest.from_bytes(digest), size) for digest, size in rows]


def _lower(text: str) -> str:
    """ASCII in small letters, as all names are; whatever else it has is in no name."""
    return text.translate(_SMALL)

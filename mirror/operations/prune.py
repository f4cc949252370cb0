"""`prune`: what nothing needs, or nobody used lately, goes; never what is pinned, was pushed or tagged here, is gone
upstream, or waits to be sent.

Without a choice it is docker's dangling images: manifests without a tag, and blobs that belong to no image. `all` takes
tagged images, too; so do `keep` (all but the newest tags of each repository) and `max_size` (the least recently used,
until no more than that is left). `until` (last used before then) and `reference` narrow it down. What belongs to no
image goes always, whatever was chosen. With `all` also half downloads that would be gone on with.

He who may administer some repositories only removes images from these only.

A dry run tells what a run would do: both follow the same list, and the same conditions decide what is needed.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from mirror.cache.eviction import Eviction
from mirror.cache.names import Names
from mirror.cache.rights import Action, Principal, Rights
from mirror.cache.sweep import Sweep
from mirror.cache.uses import Uses
from mirror.clock import Clock
from mirror.oci.digest import Digest
from mirror.oci.names import Reference, Repository
from mirror.operations.df import EVERY, every_row
from mirror.operations.events import End, Failed
from mirror.operations.filters import NamePattern
from mirror.operations.remove import Deleted, Freed, Untagged
from mirror.store import inventory
from mirror.store.inventory import Candidate, ImageRow
from mirror.store.protocols import BlobStore, Partials


@dataclass(frozen=True, slots=True)
class Beyond:
    """So many bytes more than `max_size` stay: they belong to what was pushed, is pinned, or does not go for another
    reason."""

    bytes: int
    event: Literal["beyond"] = "beyond"


Event = Untagged | Deleted | Freed | Failed | Beyond | End

_TOGETHER = 50  # images in one go
_Key = tuple[Repository, Digest]


class Catalog(inventory.Images, inventory.Collection, Partials, Protocol):
    """The parts of the catalog that this verb uses."""


@dataclass(frozen=True, slots=True)
class Unneeded:
    """What is to go. `until` in wall seconds, `max_size` in bytes, `keep` in tags."""

    until: float | None = None
    references: tuple[str, ...] = ()
    keep: int | None = None
    max_size: int | None = None
    all: bool = False
    dry_run: bool = False


class Prune:
    """The verb."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        store: BlobStore,
        eviction: Eviction,
        sweep: Sweep,
        uses: Uses,
        rights: Rights,
        names: Names,
        clock: Clock,
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._eviction = eviction
        self._sweep = sweep
        self._uses = uses
        self._rights = rights
        self._names = names
        self._clock = clock

    def prune(self, principal: Principal, asked: Unneeded) -> AsyncIterator[Event]:
        """Everything that is asked for; the last event is an `End`. Raises `RequestInvalid` for a pattern that is none.

        What is interrupted is half done: what was told is gone, the rest is as it was.
        """
        return self._all(principal, asked, [NamePattern(text) for text in asked.references])

    async def _all(
        self, principal: Principal, asked: Unneeded, patterns: Sequence[NamePattern]
    ) -> AsyncIterator[Event]:
        await self._uses.flush()
        rows = await self._rows()
        candidates = await self._catalog.candidates(EVERY)
        # On a thread: there may be a hundred thousand.
        meant = await asyncio.to_thread(self._chosen, principal, asked, patterns, rows, candidates)
        chosen, beyond = await self._fitting(asked, meant)
        if beyond:
            yield Beyond(beyond)
        done = 0
        async for event in self._foresee(asked, rows, chosen) if asked.dry_run else self._do(asked, rows, chosen):
            done += isinstance(event, Untagged | Deleted)
            yield event
        yield End(done, 0)

    # --- which ones ------------------------------------------------------------------------------------------

    async def _rows(self) -> dict[_Key, list[ImageRow]]:
        found: dict[_Key, list[ImageRow]] = {}
        async for row in every_row(self._catalog):
            found.setdefault((row.repository, row.manifest), []).append(row)
        return found

    def _chosen(
        self,
        principal: Principal,
        asked: Unneeded,
        patterns: Sequence[NamePattern],
        rows: Mapping[_Key, Sequence[ImageRow]],
        candidates: Sequence[Candidate],
    ) -> list[Candidate]:
        """Those of his that may go and are meant, least recently used first. One with several tags is meant by all of
        them."""
        tagged_too = asked.all or asked.keep is not None or asked.max_size is not None
        newest = _newest(rows, asked.keep) if asked.keep is not None else set()
        chosen = []
        for each in candidates:
            if not self._rights.allows(principal, Action.ADMIN, each.repository):
                continue
            names = rows.get((each.repository, each.manifest), ())
            if not tagged_too and any(row.tag is not None for row in names):
                continue
            if asked.until is not None and each.used_at >= asked.until:
                continue
            if any((row.repository, row.tag) in newest for row in names):
                continue
            if patterns and not all(self._matches(patterns, row) for row in names):
                continue
            chosen.append(each)
        return chosen

    def _matches(self, patterns: Sequence[NamePattern], row: ImageRow) -> bool:
        familiar = self._names.familiar(row.repository)
        return any(pattern.matches(row, familiar) for pattern in patterns)

    async def _fitting(self, asked: Unneeded, chosen: list[Candidate]) -> tuple[list[Candidate], int]:
        """With `max_size` as few of them as will do, or as free as much as all of them; and how many bytes more than
        `max_size` are left then."""
        if asked.max_size is None:
            return chosen, 0
        wanted = await self._catalog.stored_bytes() - asked.max_size
        if wanted <= 0:
            return [], 0
        most = await self._freed(chosen)
        low, high = 0, len(chosen)
        while low < high:  # the more go, the less is left
            middle = (low + high) // 2
            if await self._freed(chosen[:middle]) >= min(wanted, most):
                high = middle
            else:
                low = middle + 1
        return chosen[:low], max(0, wanted - most)

    async def _freed(self, chosen: Sequence[Candidate]) -> int:
        """How many bytes go with these."""
        _, size = await self._catalog.foresee_freed(_keys(chosen), self._clock.wall())
        return size

    # --- foreseeing it, and doing it ---------------------------------------------------------------------------

    async def _foresee(
        self, asked: Unneeded, rows: Mapping[_Key, Sequence[ImageRow]], chosen: Sequence[Candidate]
    ) -> AsyncIterator[Event]:
        for each in chosen:
            for event in _untagged(rows, each):
                yield event
        deleted = await self._catalog.foresee_evictions(_keys(chosen), self._clock.wall())
        for digest, _ in deleted:
            yield Deleted(str(digest))
        staged = sum(size for _, size in await self._half_downloads()) if asked.all else 0
        yield Freed(sum(size for _, size in deleted) + staged)

    async def _do(
        self, asked: Unneeded, rows: Mapping[_Key, Sequence[ImageRow]], chosen: Sequence[Candidate]
    ) -> AsyncIterator[Event]:
        for start in range(0, len(chosen), _TOGETHER):
            gone, deleted = await self._eviction.evict(chosen[start : start + _TOGETHER])
            for each in gone:
                for event in _untagged(rows, each):
                    yield event
            for digest, _ in deleted:
                yield Deleted(str(digest))
            yield Freed(sum(size for _, size in deleted))
        loose = await self._sweep.collect_loose()
        for digest, _ in loose:
            yield Deleted(str(digest))
        freed = sum(size for _, size in loose)
        for ingest_id, _ in await self._half_downloads() if asked.all else ():
            freed += await self._store.discard(ingest_id)
            await self._catalog.end_partial(ingest_id)
        yield Freed(freed)

    async def _half_downloads(self) -> list[tuple[str, int]]:
        """What lies in staging and is not just being written."""
        sizes = await self._store.staging()
        open_ = self._store.active()
        return [(ingest_id, size) for ingest_id, size in sizes.items() if ingest_id not in open_]


def _keys(chosen: Sequence[Candidate]) -> list[_Key]:
    return [(each.repository, each.manifest) for each in chosen]


def _newest(rows: Mapping[_Key, Sequence[ImageRow]], keep: int) -> set[tuple[Repository, str | None]]:
    """The tags of each repository that were moved last."""
    by_home: dict[Repository, list[ImageRow]] = {}
    for group in rows.values():
        for row in group:
            if row.tag is not None:
                by_home.setdefault(row.repository, []).append(row)
    return {
        (home, row.tag)
        for home, tags in by_home.items()
        for row in sorted(tags, key=lambda row: (-row.moved_at, row.tag or ""))[:keep]
    }


def _untagged(rows: Mapping[_Key, Sequence[ImageRow]], gone: Candidate) -> list[Untagged]:
    """The names that go with it: its tags, else its digest."""
    home, manifest = gone.repository, gone.manifest
    tags = [row.tag for row in rows.get((home, manifest), ()) if row.tag is not None]
    if not tags:
        return [Untagged(str(Reference(home, None, manifest)))]
    return [Untagged(str(Reference(home, tag, None))) for tag in tags]

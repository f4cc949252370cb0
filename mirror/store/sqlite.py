"""The catalog in SQLite: one writer thread (`writer`, `commands`), a few readers (`reads`), tables in `schema`.

The life of an image (`inventory`) is in `sqlite_inventory`, what is pushed (`pushing`) in `sqlite_pushing`, what is
sent on (`forwarding`) in `sqlite_forwarding`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest
from mirror.oci.names import LOCAL, Repository
from mirror.store import reads
from mirror.store.commands import blobs, ledgers, tags
from mirror.store.database import Database
from mirror.store.protocols import (
    Holding,
    Link,
    Origin,
    Partial,
    Proof,
    RepositoryFacts,
    Tag,
    Totals,
    Visibility,
)
from mirror.store.sqlite_pushing import SqlitePushing


class SqliteCatalog(SqlitePushing):
    """`Catalog` on one SQLite database. Made by `start`, ended by `close`.

    What is the mirror's own (a push, a local tag, a delete) is on disk before its method returns; what upstream can
    tell again is written without waiting for the disk. Beside what the protocol says, each method raises `NoRoom` or
    `StoreFailed` where the disk refuses, and `DataInvalid` once the database is found damaged.
    """

    @classmethod
    async def start(cls, path: Path) -> Self:
        """Open the catalog at `path`, making or migrating it.

        Raises `DataInvalid` where it is damaged, foreign, or written by a newer release: it is then unchanged.
        """
        return cls(await Database.start(path))

    async def close(self) -> None:
        """Finish what was accepted, write the log back, close. Harmless when repeated."""
        await self._database.close()

    # --- repositories -------------------------------------------------------------------------------------

    async def repository(self, repository: Repository) -> RepositoryFacts:
        row = await self._readers.lookup(reads.REPOSITORY, repository.registry, repository.path)
        return RepositoryFacts(Visibility(row[0]), row[1]) if row else RepositoryFacts(Visibility.UNKNOWN, 0.0)

    async def set_visibility(self, repository: Repository, visibility: Visibility, at: float) -> None:
        await self._write(tags.set_visibility, repository, visibility, at)

    async def own_repositories(self) -> Sequence[Repository]:
        return [Repository(*row) for row in await self._readers.all(reads.OWN_REPOSITORIES, LOCAL)]

    # --- blobs and links ----------------------------------------------------------------------------------

    async def holding(self, repository: Repository, digest: Digest, *, is_manifest: bool) -> Holding | None:
        statement = reads.HOLDING_AS_MANIFEST if is_manifest else reads.HOLDING_AS_BLOB
        row = await self._readers.lookup(statement, repository.registry, repository.path, digest.to_bytes())
        if row is None:
            return None
        size, location, linked_at, *proofs, public = row
        return Holding(
            size=size,
            location=location,
            link=None if linked_at is None else Link(*proofs),
            public=bool(public),
        )

    async def supplied(self, registry: str, digest: Digest, *, is_manifest: bool) -> bool:
        statement = reads.SUPPLIED_AS_MANIFEST if is_manifest else reads.SUPPLIED_AS_BLOB
        return await self._readers.one(statement, registry, digest.to_bytes()) is not None

    async def hold(
        self, digest: Digest, size: int, location: str, links: Sequence[tuple[Repository, Proof]], at: float
    ) -> None:
        own = any(proof is Proof.PUSHED for _, proof in links)
        write = self._write_own if own else self._write
        await write(blobs.hold, digest, size, location, links, at)

    async def link(self, repository: Repository, digest: Digest, proof: Proof, at: float, *, is_manifest: bool) -> bool:
        write = self._write_own if proof is Proof.PUSHED else self._write
        return await write(blobs.link, repository, digest, proof, at, is_manifest=is_manifest)

    async def quarantine(self, digest: Digest) -> None:
        await self._write(blobs.quarantine, digest)

    async def expected_size(self, repository: Repository, digest: Digest) -> int | None:
        row = await self._readers.one(reads.EXPECTED_SIZE, repository.registry, repository.path, digest.to_bytes())
        return row[0] if row else None

    async def begin_delete(
        self, digest: Digest, used_before: float | None = None, *, now: float | None = None
    ) -> str | None:
        return await self._write_own(blobs.begin_delete, digest, used_before, now=now)

    async def deleted(self, digest: Digest) -> None:
        await self._write(blobs.deleted, digest)  # if it is lost, the next start finds it deleting

    async def deleting(self) -> Sequence[tuple[Digest, str]]:
        return [(Digest.from_bytes(row[0]), row[1]) for row in await self._readers.all(reads.DELETING)]

    # --- manifests ----------------------------------------------------------------------------------------

    async def hold_manifest(
        self, repository: Repository, manifest: Manifest, location: str, proof: Proof, at: float
    ) -> None:
        write = self._write_own if proof is Proof.PUSHED else self._write
        await write(blobs.hold_manifest, repository, manifest, location, proof, at)

    async def manifest_type(self, digest: Digest) -> str | None:
        row = await self._readers.one(reads.MANIFEST_TYPE, digest.to_bytes())
        return row[0] if row else None

    async def in_an_index(self, repository: Repository, digest: Digest, *, trusted: bool) -> bool:
        statement = reads.IN_AN_INDEX_TRUSTED if trusted else reads.IN_AN_INDEX
        return await self._readers.one(statement, repository.registry, repository.path, digest.to_bytes()) is not None

    async def referrers(self, repository: Repository, subject: Digest) -> Sequence[Digest]:
        rows = await self._readers.all(reads.REFERRERS, repository.registry, repository.path, subject.to_bytes())
        return [Digest.from_bytes(row[0]) for row in rows]

    # --- tags ---------------------------------------------------------------------------------------------

    async def tag(self, repository: Repository, name: str) -> Tag | None:
        row = await self._readers.lookup(reads.TAG, repository.registry, repository.path, name)
        return _tag(row) if row else None

    async def tags(self, repository: Repository) -> Sequence[str]:
        return [row[0] for row in await self._readers.all(reads.TAGS, repository.registry, repository.path)]

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
        write = self._write_own if origin is Origin.LOCAL else self._write
        return await write(tags.move_tag, repository, name, expected, to, origin, at, actor)

    async def confirm_tag(self, repository: Repository, name: str, manifest: Digest, at: float) -> bool:
        return await self._write(tags.confirm_tag, repository, name, manifest, at)

    async def tag_gone(self, repository: Repository, name: str, at: float) -> None:
        await self._write(tags.tag_gone, repository, name, at)

    async def drop_tag(self, repository: Repository, name: str, expected: Digest, at: float, actor: str) -> None:
        await self._write_own(tags.drop_tag, repository, name, expected, at, actor)

    async def only_here(self, limit: int) -> Sequence[tuple[Repository, Tag]]:
        return [(Repository(row[0], row[1]), _tag(row[2:])) for row in await self._readers.all(reads.ONLY_HERE, limit)]

    # --- begun downloads, misses, the whole ---------------------------------------------------------------

    async def partial(self, digest: Digest, registry: str, *, anonymous: bool) -> Partial | None:
        row = await self._readers.one(reads.PARTIAL, digest.to_bytes(), registry, anonymous)
        return _partial(row) if row else None

    async def begin_partial(self, partial: Partial) -> None:
        await self._write(ledgers.begin_partial, partial)

    async def end_partial(self, ingest_id: str) -> None:
        await self._write(ledgers.end_partial, ingest_id)

    async def partials(self) -> Sequence[Partial]:
        return [_partial(row) for row in await self._readers.all(reads.PARTIALS)]

    async def missed(self, name: str, at: float) -> None:
        await self._write(ledgers.missed, name, at)

    async def instance(self) -> str:
        row = await self._readers.one(reads.INSTANCE)
        assert row is not None  # noqa: S101 — made when the catalog was opened
        value: str = row[0]
        return value

    async def totals(self) -> Totals:
        row = await self._readers.one(reads.TOTALS)
        assert row is not None  # noqa: S101 — an aggregate always has its row
        return Totals(*row)


def _tag(row: Sequence[Any]) -> Tag:
    name, manifest, origin, moved_at, checked_at, gone_at = row
    return Tag(name, Digest.from_bytes(manifest), Origin(origin), moved_at, checked_at, gone_at)


def _partial(row: Sequence[Any]) -> Partial:
    ingest_id, digest, registry, anonymous, started_at = row
    return Partial(ingest_id, Digest.from_bytes(digest), registry, bool(anonymous), started_at)

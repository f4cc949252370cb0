"""Images that are sent on, in SQLite: `forwarding`'s parts of the catalog."""

from collections.abc import Sequence

from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.store.commands import forwarding as commands
from mirror.store.forwarding import LONGEST_WAIT, SESSION_SECONDS, OpenUpload, Queued
from mirror.store.reads import Row
from mirror.store.sqlite_inventory import SqliteInventory

SESSION = """
    SELECT s.location, s.begun_at FROM repositories r JOIN sessions s ON s.repository = r.id AND s.digest = ?3
    WHERE r.registry = ?1 AND r.path = ?2 AND s.begun_at > ?4 - ?5 AND s.begun_at <= ?4
"""

MOUNTABLE = """
    SELECT r.registry, r.path, max(known.at) AS latest
    FROM (
        SELECT l.repository, max(coalesce(l.anonymous_at, l.credentials_at), coalesce(l.credentials_at, l.anonymous_at))
               AS at
        FROM blobs b CROSS JOIN links l ON l.blob = b.id AND l.is_manifest = 0
        WHERE b.digest = ?2 AND (l.anonymous_at IS NOT NULL OR l.credentials_at IS NOT NULL)
        UNION ALL SELECT u.repository, u.known_at FROM upstream_blobs u WHERE u.digest = ?2
    ) known
    CROSS JOIN repositories r ON r.id = known.repository
    WHERE r.registry = ?1
    GROUP BY r.id ORDER BY latest DESC, r.path LIMIT ?3
"""

_ENTRIES = """
    SELECT o.id, r.registry, r.path, o.reference, b.digest, o.target,
           o.queued_at, o.attempts, o.tried_at, o.next_at, o.refused, o.failure
    FROM outbox o CROSS JOIN repositories r ON r.id = o.repository CROSS JOIN blobs b ON b.id = o.manifest
"""

QUEUED = f"{_ENTRIES} ORDER BY o.id LIMIT ?"

ENTRY = f"{_ENTRIES} WHERE o.id = ?"

# ?1 is now, ?2 the longest that anything waits.
DUE = f"""
    {_ENTRIES}
    WHERE coalesce(o.next_at <= ?1 OR o.next_at > ?1 + ?2, 1) AND NOT EXISTS (
        SELECT 1 FROM outbox e
        WHERE e.repository = o.repository AND e.target = o.target AND e.id < o.id
          AND NOT e.refused AND e.next_at > ?1 AND e.next_at <= ?1 + ?2)
    ORDER BY o.id
"""  # noqa: S608 — SQL of our own


class SqliteForwarding(SqliteInventory):
    """`Forwarding`, `Outbox`. What else may be raised is said at `SqliteCatalog`.

    A session is on disk before anything is sent to it: without it all would be sent again. What a registry has, and
    why a push failed, can be asked again.
    """

    # --- at the registry ----------------------------------------------------------------------------------

    async def session(self, repository: Repository, digest: Digest, now: float) -> OpenUpload | None:
        home = (repository.registry, repository.path)
        row = await self._readers.one(SESSION, *home, digest.to_bytes(), now, SESSION_SECONDS)
        return OpenUpload(*row) if row else None

    async def note_session(self, repository: Repository, digest: Digest, location: str, at: float) -> None:
        await self._write_own(commands.note_session, repository, digest, location, at)

    async def end_session(self, repository: Repository, digest: Digest) -> None:
        await self._write(commands.end_session, repository, digest)

    async def at_upstream(self, repository: Repository, digest: Digest, at: float) -> None:
        await self._write(commands.at_upstream, repository, digest, at)

    async def mountable(self, registry: str, digest: Digest, limit: int) -> Sequence[Repository]:
        rows = await self._readers.all(MOUNTABLE, registry, digest.to_bytes(), limit)
        return [Repository(*row[:2]) for row in rows]

    # --- the outbox ---------------------------------------------------------------------------------------

    async def enqueue(self, repository: Repository, reference: str, manifest: Digest, target: str, at: float) -> bool:
        return await self._write_own(commands.enqueue_held, repository, reference, manifest, target, at)

    async def queued(self, limit: int) -> Sequence[Queued]:
        return [_queued(row) for row in await self._readers.all(QUEUED, limit)]

    async def queued_entry(self, entry: int) -> Queued | None:
        row = await self._readers.one(ENTRY, entry)
        return _queued(row) if row else None

    async def queued_due(self, now: float) -> Sequence[Queued]:
        return [_queued(row) for row in await self._readers.all(DUE, now, LONGEST_WAIT)]

    async def sent(self, entry: int, manifest: Digest, at: float) -> bool:
        return await self._write_own(commands.sent, entry, manifest, at)

    async def send_failed(self, entry: int, at: float, next_at: float, failure: str, *, refused: bool) -> None:
        await self._write(commands.send_failed, entry, at, next_at, failure, refused=refused)

    async def retry_queued(self, entry: int | None) -> int:
        return await self._write_own(commands.retry_queued, entry)

    async def drop_queued(self, entry: int | None) -> int:
        return await self._write_own(commands.drop_queued, entry)


def _queued(row: Row) -> Queued:
    number, registry, path, reference, manifest, target, queued_at, attempts, tried_at, next_at, refused, failure = row
    return Queued(
        id=number,
        repository=Repository(registry, path),
        reference=reference,
        manifest=Digest.from_bytes(manifest),
        target=target,
        queued_at=queued_at,
        attempts=attempts,
        tried_at=tried_at,
        next_at=next_at,
        refused=bool(refused),
        failure=failure,
    )

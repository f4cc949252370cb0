"""Pushes in SQLite: `pushing`'s parts of the catalog."""

from collections.abc import Sequence

from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest
from mirror.oci.names import Repository
from mirror.store.commands import pushing as commands
from mirror.store.pushing import Push, Upload
from mirror.store.sqlite_forwarding import SqliteForwarding

_UPLOADS = "SELECT id, registry, path, owner, algorithm, touched_at FROM uploads"
UPLOAD = f"{_UPLOADS} WHERE id = ?"
UPLOADS = f"{_UPLOADS} ORDER BY touched_at, id"


class SqlitePushing(SqliteForwarding):
    """`Uploads`, `Pushes`. What else may be raised is said at `SqliteCatalog`."""

    async def begin_upload(self, upload: Upload) -> None:
        await self._write(commands.begin_upload, upload)

    async def upload(self, upload_id: str) -> Upload | None:
        row = await self._readers.one(UPLOAD, upload_id)
        return _upload(*row) if row else None

    async def uploads(self) -> Sequence[Upload]:
        return [_upload(*row) for row in await self._readers.all(UPLOADS)]

    async def touch_upload(self, upload_id: str, at: float) -> None:
        await self._write(commands.touch_upload, upload_id, at)

    async def end_upload(self, upload_id: str) -> None:
        await self._write(commands.end_upload, upload_id)

    async def finish_upload(
        self, upload_id: str, repository: Repository, digest: Digest, size: int, location: str, at: float
    ) -> None:
        await self._write_own(commands.finish_upload, upload_id, repository, digest, size, location, at)

    async def push_manifest(
        self, repository: Repository, manifest: Manifest, location: str, push: Push
    ) -> Digest | None:
        return await self._write_own(commands.push_manifest, repository, manifest, location, push)

    async def drop_manifest(
        self, repository: Repository, digest: Digest, at: float, actor: str
    ) -> Sequence[str] | None:
        return await self._write_own(commands.drop_manifest, repository, digest, at, actor)

    async def untag(self, repository: Repository, name: str, at: float, actor: str) -> Digest | None:
        return await self._write_own(commands.untag, repository, name, at, actor)

    async def drop_blob(self, repository: Repository, digest: Digest) -> bool:
        return await self._write_own(commands.drop_blob, repository, digest)


def _upload(upload_id: str, registry: str, path: str, owner: str, algorithm: str, touched_at: float) -> Upload:
    return Upload(upload_id, Repository(registry, path), owner, algorithm, touched_at)

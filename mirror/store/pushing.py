"""What the catalog knows of pushes: uploads under way, manifests that clients put here, what they take away again.

Contracts as in `protocols`: each method is one transaction. All of these are facts of the mirror's own: they are on
disk before a method returns, but for the beginning and the end of an upload, which a client can tell again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest
from mirror.oci.names import Repository
from mirror.store.protocols import Origin


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload that was begun. `id` is its ingest's, too; `owner` says who alone may go on with it."""

    id: str
    repository: Repository
    owner: str
    algorithm: str
    touched_at: float  # wall time


@dataclass(frozen=True, slots=True)
class Push:
    """How a manifest is put here.

    `needed`: children, as manifest or as blob, that must be held and linked in the repository; `adopted`: blobs that
    are public, and become linked there with it. `target`: the registry that it waits to be sent to.
    """

    tags: tuple[str, ...]
    origin: Origin
    at: float
    actor: str
    needed: tuple[tuple[Digest, bool], ...] = ()
    adopted: tuple[Digest, ...] = ()
    target: str | None = None


class Uploads(Protocol):
    async def begin_upload(self, upload: Upload) -> None: ...
    async def upload(self, upload_id: str) -> Upload | None: ...
    async def uploads(self) -> Sequence[Upload]:
        """All of them, the longest untouched first."""
        ...

    async def touch_upload(self, upload_id: str, at: float) -> None: ...
    async def end_upload(self, upload_id: str) -> None: ...
    async def finish_upload(
        self, upload_id: str, repository: Repository, digest: Digest, size: int, location: str, at: float
    ) -> None:
        """The bytes of an upload were published: held, and linked as pushed; the upload is over. Raises as `hold`."""
        ...


class Pushes(Protocol):
    async def push_manifest(
        self, repository: Repository, manifest: Manifest, location: str, push: Push
    ) -> Digest | None:
        """A client put a manifest here: blob, link, edges, and the tags that name it from now on.

        Returns a child that is needed and not there; then nothing has changed. Raises as `hold`.
        """
        ...

    async def drop_manifest(
        self, repository: Repository, digest: Digest, at: float, actor: str
    ) -> Sequence[str] | None:
        """Take a manifest, and no other, out of a repository, with the tags that name it, its pins and what waits to
        be sent of it: at once invisible. Returns those tags, None where it is not there."""
        ...

    async def untag(self, repository: Repository, name: str, at: float, actor: str) -> Digest | None:
        """Take a tag away, and nothing else. Returns what it named, None where there is no such tag."""
        ...

    async def drop_blob(self, repository: Repository, digest: Digest) -> bool:
        """Take a blob out of a repository, whatever needs it there. False where it is not there."""
        ...

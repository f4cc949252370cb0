"""Pushes in memory: `pushing`'s parts of the catalog."""

from collections.abc import Sequence
from dataclasses import replace

from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest
from mirror.oci.names import Repository
from mirror.store.memory.forwarding import MemoryForwarding
from mirror.store.protocols import Proof
from mirror.store.pushing import Push, Upload


class MemoryPushing(MemoryForwarding):
    """`Uploads`, `Pushes`."""

    def __init__(self) -> None:
        super().__init__()
        self._uploads: dict[str, Upload] = {}

    async def begin_upload(self, upload: Upload) -> None:
        self._uploads[upload.id] = upload

    async def upload(self, upload_id: str) -> Upload | None:
        return self._uploads.get(upload_id)

    async def uploads(self) -> Sequence[Upload]:
        return sorted(self._uploads.values(), key=lambda each: (each.touched_at, each.id))

    async def touch_upload(self, upload_id: str, at: float) -> None:
        known = self._uploads.get(upload_id)
        if known is not None:
            self._uploads[upload_id] = replace(known, touched_at=max(known.touched_at, at))

    async def end_upload(self, upload_id: str) -> None:
        self._uploads.pop(upload_id, None)

    async def finish_upload(
        self, upload_id: str, repository: Repository, digest: Digest, size: int, location: str, at: float
    ) -> None:
        self._hold(digest, size, location, at)
        self._link(repository, digest, Proof.PUSHED, at, is_manifest=False)
        await self.end_upload(upload_id)

    async def push_manifest(
        self, repository: Repository, manifest: Manifest, location: str, push: Push
    ) -> Digest | None:
        for digest, is_manifest in push.needed:
            if (repository, digest, is_manifest) not in self._links or self._held(digest) is None:
                return digest
        missing = next((digest for digest in push.adopted if self._held(digest) is None), None)
        if missing is not None:
            return missing
        for digest in push.adopted:
            self._link(repository, digest, Proof.PUSHED, push.at, is_manifest=False)
        digest = manifest.descriptor.digest
        self._hold_manifest(repository, manifest, location, Proof.PUSHED, push.at)
        for name in push.tags:
            self._place_tag(repository, name, digest, push.origin, push.at, push.actor)
        if push.target is not None:
            for reference in push.tags or (str(digest),):
                self._enqueue(repository, reference, digest, push.target, push.at)
        return None

    async def drop_manifest(
        self, repository: Repository, digest: Digest, at: float, actor: str
    ) -> Sequence[str] | None:
        if self._links.pop((repository, digest, True), None) is None:
            return None
        names = [tag.name for tag in self._tagged(repository, digest)]
        for name in names:
            self._take_tag(repository, name, at, actor)
        self._unpin(repository, str(digest))
        self._unqueue(repository, digest=digest)
        return names

    async def untag(self, repository: Repository, name: str, at: float, actor: str) -> Digest | None:
        tag = self._tags.get(repository, {}).get(name)
        if tag is None:
            return None
        self._take_tag(repository, name, at, actor)
        return tag.manifest

    async def drop_blob(self, repository: Repository, digest: Digest) -> bool:
        return self._links.pop((repository, digest, False), None) is not None

    def _take_tag(self, repository: Repository, name: str, at: float, actor: str) -> None:
        self._drop_tag(repository, name, at, actor)
        self._unpin(repository, name)
        self._unqueue(repository, reference=name)

    def _unpin(self, repository: Repository, reference: str) -> None:
        for key in [key for key in self._pins if key[:2] == (repository, reference)]:
            del self._pins[key]

"""Images that are sent on, in memory: `forwarding`'s parts of the catalog."""

from collections.abc import Sequence
from dataclasses import replace

from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.store.forwarding import KNOWN_SECONDS, LONGEST_WAIT, SESSION_SECONDS, OpenUpload, Queued
from mirror.store.memory.inventory import MemoryInventory
from mirror.store.protocols import Origin


class MemoryForwarding(MemoryInventory):
    """`Forwarding`, `Outbox`."""

    def __init__(self) -> None:
        super().__init__()
        self._sessions: dict[tuple[Repository, Digest], OpenUpload] = {}
        self._at_upstream: dict[tuple[Repository, Digest], float] = {}
        self._outbox: dict[int, Queued] = {}
        self._numbers = 0

    # --- at the registry ----------------------------------------------------------------------------------

    async def session(self, repository: Repository, digest: Digest, now: float) -> OpenUpload | None:
        known = self._sessions.get((repository, digest))
        return known if known is not None and now - SESSION_SECONDS < known.begun_at <= now else None

    async def note_session(self, repository: Repository, digest: Digest, location: str, at: float) -> None:
        for key in [key for key, known in self._sessions.items() if known.begun_at <= at - SESSION_SECONDS]:
            del self._sessions[key]
        self._sessions[repository, digest] = OpenUpload(location, at)

    async def end_session(self, repository: Repository, digest: Digest) -> None:
        self._sessions.pop((repository, digest), None)

    async def at_upstream(self, repository: Repository, digest: Digest, at: float) -> None:
        for key in [key for key, known_at in self._at_upstream.items() if known_at <= at - KNOWN_SECONDS]:
            del self._at_upstream[key]
        self._at_upstream[repository, digest] = max(at, self._at_upstream.get((repository, digest), at))

    async def mountable(self, registry: str, digest: Digest, limit: int) -> Sequence[Repository]:
        known = [(at, home) for (home, other), at in self._at_upstream.items() if other == digest]
        for (home, other, is_manifest), row in self._links.items():
            proofs = (row.link.anonymous_at, row.link.credentials_at)
            if other == digest and not is_manifest:
                known += [(at, home) for at in proofs if at is not None]
        latest: dict[Repository, float] = {}
        for at, home in known:
            if home.registry == registry:
                latest[home] = max(at, latest.get(home, at))
        return sorted(latest, key=lambda home: (-latest[home], home))[:limit]

    # --- the outbox ---------------------------------------------------------------------------------------

    async def enqueue(self, repository: Repository, reference: str, manifest: Digest, target: str, at: float) -> bool:
        if manifest not in self._manifests or self._held(manifest) is None:
            return False
        self._enqueue(repository, reference, manifest, target, at)
        return True

    def _enqueue(self, repository: Repository, reference: str, manifest: Digest, target: str, at: float) -> None:
        """`commands.forwarding.enqueue`."""
        for entry in list(self._outbox.values()):
            if (entry.repository, entry.reference, entry.target) == (repository, reference, target):
                del self._outbox[entry.id]
        self._numbers += 1
        self._outbox[self._numbers] = Queued(self._numbers, repository, reference, manifest, target, at)

    def _unqueue(self, repository: Repository, *, reference: str | None = None, digest: Digest | None = None) -> None:
        """What a repository has waiting under a reference, or of a manifest, is sent no more."""
        for entry in list(self._outbox.values()):
            if entry.repository == repository and (entry.reference == reference or entry.manifest == digest):
                del self._outbox[entry.id]

    async def queued(self, limit: int) -> Sequence[Queued]:
        return [self._outbox[number] for number in sorted(self._outbox)][:limit]

    async def queued_entry(self, entry: int) -> Queued | None:
        return self._outbox.get(entry)

    async def queued_due(self, now: float) -> Sequence[Queued]:
        waiting: set[tuple[Repository, str]] = set()
        due = []
        for number in sorted(self._outbox):
            entry = self._outbox[number]
            place = (entry.repository, entry.target)
            if entry.next_at is not None and now < entry.next_at <= now + LONGEST_WAIT:
                if not entry.refused:
                    waiting.add(place)
            elif place not in waiting:
                due.append(entry)
        return due

    async def sent(self, entry: int, manifest: Digest, at: float) -> bool:
        known = self._outbox.get(entry)
        if known is None or known.manifest != manifest:
            return False
        del self._outbox[entry]
        tag = self._tags.get(known.repository, {}).get(known.reference)
        if tag is not None and tag.manifest == manifest:
            self._tags[known.repository][tag.name] = replace(tag, origin=Origin.UPSTREAM, checked_at=at)
        return True

    async def send_failed(self, entry: int, at: float, next_at: float, failure: str, *, refused: bool) -> None:
        if (known := self._outbox.get(entry)) is not None:
            self._outbox[entry] = replace(
                known, attempts=known.attempts + 1, tried_at=at, next_at=next_at, refused=refused, failure=failure
            )

    async def retry_queued(self, entry: int | None) -> int:
        meant = [number for number in self._outbox if entry in (None, number)]
        for number in meant:
            self._outbox[number] = replace(
                self._outbox[number], attempts=0, tried_at=None, next_at=None, refused=False, failure=None
            )
        return len(meant)

    async def drop_queued(self, entry: int | None) -> int:
        meant = [number for number in self._outbox if entry in (None, number)]
        for number in meant:
            del self._outbox[number]
        return len(meant)

    # --- what waits is kept -------------------------------------------------------------------------------

    def _waits(self, manifest: Digest) -> bool:
        return any(entry.manifest == manifest for entry in self._outbox.values())

    def _needed(self, digest: Digest) -> bool:
        return self._waits(digest) or super()._needed(digest)

    def _left_behind(self, repository: Repository, digest: Digest, *, also_pushed: bool) -> bool:
        return not self._waits(digest) and super()._left_behind(repository, digest, also_pushed=also_pushed)

    def _evictable(self, repository: Repository, manifest: Digest) -> bool:
        return not self._waits(manifest) and super()._evictable(repository, manifest)

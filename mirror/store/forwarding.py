"""The catalog's contracts for images that are sent on: uploads open at a registry, what registries are known to have,
and the pushes that wait.

As in `protocols`: a method that writes is one transaction, a method that reads is one SELECT; times are wall time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mirror.oci.digest import Digest
from mirror.oci.names import Reference, Repository, valid_tag

SESSION_SECONDS = 24 * 3600.0
"""How long an upload is believed to be open: registries forget them after a week or sooner."""

KNOWN_SECONDS = 90 * 86400.0
"""How long a registry is believed to have what it had: one that has lost it costs one mount in vain."""

LONGEST_WAIT = 3600.0
"""Seconds between two tries of a push at the most. A later time was written by a clock that was wrong: it counts as
past."""


@dataclass(frozen=True, slots=True)
class OpenUpload:
    """An upload that a registry has open for us."""

    location: str = field(repr=False)  # a secret of ours and that registry's
    begun_at: float


@dataclass(frozen=True, slots=True)
class Queued:
    """A push that waits to be sent to its registry. `refused`: the registry has said no, or it can never go as it is;
    it waits for `retry`, and is tried again only now and then."""

    id: int
    repository: Repository  # whose it is here
    reference: str  # a tag's name or a digest
    manifest: Digest
    target: str  # the registry
    queued_at: float
    attempts: int = 0  # that failed
    tried_at: float | None = None
    next_at: float | None = None  # not before then; None: at once
    refused: bool = False
    failure: str | None = None

    @property
    def destination(self) -> Reference:
        """Where it goes: to the path that it has here."""
        repository = Repository(self.target, self.repository.path)
        if valid_tag(self.reference):
            return Reference(repository, self.reference, None)
        return Reference(repository, None, Digest.parse(self.reference))


class Forwarding(Protocol):
    """What is open at registries, and what they have."""

    async def session(self, repository: Repository, digest: Digest, now: float) -> OpenUpload | None:
        """The upload of this blob to this repository of its registry, if one is open; none from the future."""
        ...

    async def note_session(self, repository: Repository, digest: Digest, location: str, at: float) -> None:
        """An upload was begun, or goes on elsewhere. Those that are too old are forgotten."""
        ...

    async def end_session(self, repository: Repository, digest: Digest) -> None: ...

    async def at_upstream(self, repository: Repository, digest: Digest, at: float) -> None:
        """The registry has this blob under this repository. It proves nothing to anybody here: no link is made."""
        ...

    async def mountable(self, registry: str, digest: Digest, limit: int) -> Sequence[Repository]:
        """Repositories of a registry in which it has, or had, this blob: it delivered it from there, or was seen to
        have it. The latest first. Their names are for that registry, and for nobody who may not know of them."""
        ...


class Outbox(Protocol):
    """Pushes that wait, in the order in which they came. What waits keeps its manifest, and all that is below it."""

    async def enqueue(self, repository: Repository, reference: str, manifest: Digest, target: str, at: float) -> bool:
        """Queue a held manifest; False where it is not held. It takes the place of what waits under the same
        reference, as a new entry at the end."""
        ...

    async def queued(self, limit: int) -> Sequence[Queued]: ...
    async def queued_entry(self, entry: int) -> Queued | None: ...
    async def queued_due(self, now: float) -> Sequence[Queued]:
        """Those that may be tried now: not before their time, nor before an earlier one for the same repository that
        still waits for its own, unless that was refused."""
        ...

    async def sent(self, entry: int, manifest: Digest, at: float) -> bool:
        """It has arrived: the entry goes, if it still is about that manifest, and its tag, if it still names that,
        is the registry's from here on."""
        ...

    async def send_failed(self, entry: int, at: float, next_at: float, failure: str, *, refused: bool) -> None:
        """It did not arrive: why, and when to try again."""
        ...

    async def retry_queued(self, entry: int | None) -> int:
        """Let one, or all, be tried at once, as if it had never been tried. How many they were."""
        ...

    async def drop_queued(self, entry: int | None) -> int:
        """Send one, or all, no more. How many they were. What nothing else needs may then be collected."""
        ...

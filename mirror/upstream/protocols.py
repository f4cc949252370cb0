"""The contracts of the upstream ring: what a flight and a tag read from, and what a push writes to.

A `Source` is one registry seen with or without credentials. It retries nothing that it cannot retry unseen:
resuming a broken blob is the flight's business, which asks `open` anew with the offset it has reached.
A `Destination` is one registry to push to. An upload goes from `begin` over `send` to `finish`; after an
`UpstreamNoAnswer` on the way it goes on from `resume`; where that gives None, and after `UpstreamGone`, from `begin`.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from mirror.oci.digest import Digest
from mirror.oci.manifest import Descriptor, Manifest
from mirror.oci.names import Reference, Repository


class Download(Protocol):
    """An open body. `size` is the whole blob's length in bytes, None where the registry does not say;
    `offset` is where `chunks` begin, 0 where the registry ignored the range.

    Iterating raises an `UpstreamError` when the connection breaks, falls silent or ends early.
    """

    @property
    def size(self) -> int | None: ...
    @property
    def offset(self) -> int: ...
    @property
    def chunks(self) -> AsyncIterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class Fetched:
    """A manifest as it came: untouched bytes, the declared type. Not yet verified, not yet parsed."""

    raw: bytes
    media_type: str | None
    digest: Digest | None  # what the header claims; never trusted


@dataclass(frozen=True, slots=True)
class TagPage:
    names: tuple[str, ...]
    next: str | None  # opaque: hand it back to get the next page


class Source(Protocol):
    """One registry, seen with (`anonymous` False) or without credentials.

    Every method raises `UpstreamGone` where the registry says that this is not there for us, and an
    `UpstreamNoAnswer` for all that is no answer: outage, 429, our credentials refused, a breaker that is open.
    """

    @property
    def key(self) -> tuple[str, bool]:
        """(registry, anonymous?)"""
        ...

    def open(
        self, repository: Repository, digest: Digest, offset: int = 0, end: int | None = None
    ) -> AbstractAsyncContextManager[Download]:
        """A blob's bytes from `offset` to `end` (exclusive)."""
        ...

    async def size(self, repository: Repository, digest: Digest) -> int | None:
        """The registry has this blob for us, and how long it is (None: it has it, but does not say)."""
        ...

    async def head(self, reference: Reference) -> Descriptor | None:
        """What a tag or digest names, or None where this registry's HEAD does not tell (then ask `manifest`)."""
        ...

    async def manifest(self, reference: Reference) -> Fetched:
        """A manifest by tag or digest, at most 4 MiB."""
        ...

    async def tags(self, repository: Repository, page: str | None) -> TagPage:
        """One page of tag names; `page` is None or an earlier page's `next`."""
        ...

    async def referrers(self, repository: Repository, subject: Digest) -> Fetched | None:
        """The referrers index, by the API, else by the fallback tag; None where there is neither."""
        ...


@dataclass(frozen=True, slots=True)
class Session:
    """An upload that a registry has open for us: where it goes on, and how many bytes it has acknowledged."""

    location: str = field(repr=False)  # an absolute URL, as the registry gave it; a secret of ours and that registry's
    offset: int = 0


class Destination(Protocol):
    """One registry, written to with the mirror's credentials if there are any (distribution-spec, "Push").

    What writes raises `UpstreamRefused` where the registry says that we may not, or that what is sent is wrong; every
    method an `UpstreamNoAnswer` for all that is no answer (our password refused, a 429), or `Offline`. Nothing is tried
    again here but for another authorization, and no breaker keeps anything back.
    """

    @property
    def registry(self) -> str: ...

    async def size(self, repository: Repository, digest: Digest) -> int | None:
        """As `Source.size`: one HEAD, `UpstreamGone` where it has no such blob, or does not let us see it (`refused`:
        whether we may push it is then still open)."""
        ...

    async def head(self, reference: Reference) -> Descriptor | None:
        """As `Source.head`."""
        ...

    async def begin(
        self, repository: Repository, digest: Digest, mount_from: Repository | None = None
    ) -> Session | None:
        """Begin an upload; None where the registry mounted the blob from `mount_from` instead (201).

        `mount_from` is a repository of the same registry; where we may not mount from there, an upload is begun.
        """
        ...

    async def resume(self, repository: Repository, location: str) -> Session | None:
        """Where an earlier upload stands (GET of its location); None where it cannot go on: begin anew.

        The offset is the registry's word: where it is beyond the blob's end, begin anew as well.
        """
        ...

    async def send(self, repository: Repository, session: Session, chunks: AsyncIterator[bytes], count: int) -> Session:
        """Send `count` bytes from `session.offset` on, as they come out of `chunks`, in one PATCH.

        The session returned may stand before what was sent: then send the rest. No time limit but for stalling. Raises
        `UpstreamGone` where the registry knows the upload no more, and what `chunks` raises as it is; `chunks` is not
        touched any more once this has ended, in whatever way.
        """
        ...

    async def finish(self, repository: Repository, session: Session, digest: Digest) -> None:
        """All is there: let the registry verify and keep it.

        Raises `UpstreamGone` where the registry knows the upload no more. After that, or without an answer, the blob
        may be there all the same: `size` tells.
        """
        ...

    async def put(self, reference: Reference, manifest: Manifest) -> bool:
        """Put a manifest under a tag or its digest. Whether the registry has seen to its subject (`OCI-Subject`);
        True as well where it has none."""
        ...

    async def manifest(self, reference: Reference) -> Fetched:
        """As `Source.manifest`."""
        ...

    async def delete(self, reference: Reference) -> None:
        """Delete a tag, or a manifest by its digest. `UpstreamGone` where there is none."""
        ...


@dataclass(frozen=True, slots=True)
class SourceState:
    """How one source is doing, for status and metrics."""

    registry: str
    anonymous: bool
    up: bool
    since: float | None  # wall time of the first failure of this outage
    reason: str | None  # a sentence, without secrets
    retry_at: float | None  # wall time before which nothing is sent
    pulls_left: int | None  # Docker Hub's ratelimit-remaining
    pulls_limit: int | None
    fetched_bytes: int
    checked: bool = False  # whether it has answered anything yet
    limited: bool = False  # it said 429
    refused: bool = False  # it did not accept our credentials


@dataclass(frozen=True, slots=True)
class Found:
    """A repository that a registry's search found: its path there, as the registry writes it, and what it says."""

    path: str
    description: str = ""
    stars: int = 0
    official: bool = False
    automated: bool = False


class Searches(Protocol):
    """The searches of all configured registries."""

    async def search(self, registry: str, term: str, limit: int, *, anonymous: bool) -> Sequence[Found]:
        """Repositories that match `term`, at most `limit`; with an empty term, any.

        Raises `NameUnknown` where the registry is not configured, `NoSearch` where it offers none, `Offline`, or an
        `UpstreamNoAnswer`.
        """
        ...


class LoginStore(Protocol):
    """This mirror's own logins at registries. Every method raises `NameUnknown` for a registry not configured."""

    def set_by_settings(self, registry: str) -> bool:
        """Whether the settings say user and password, so that nothing else is used."""
        ...

    async def log_in(self, registry: str, username: str, password: str) -> str:
        """Try a login at the registry, keep it, use it from now on; returns where it is kept.

        Raises, with nothing kept, `UpstreamCredentialsRefused` where the registry refuses it, an `UpstreamNoAnswer` or
        `Offline` where that cannot be known, `MirrorError` where it cannot be kept.
        """
        ...

    async def log_out(self, registry: str) -> bool:
        """Forget the login, at once; whether there was one. Raises `MirrorError` where that fails."""
        ...


class Upstreams(Protocol):
    """All configured registries."""

    def source(self, registry: str, *, anonymous: bool) -> Source:
        """Raises `NameUnknown` where the registry is not configured or not enabled."""
        ...

    def destination(self, registry: str) -> Destination:
        """The registry as it is written to: at the first of its URLs. Raises `NameUnknown`."""
        ...

    def has_credentials(self, registry: str) -> bool: ...
    def states(self) -> list[SourceState]: ...
    async def probe(self) -> None:
        """Ask each registry `GET /v2/` once (and Docker Hub its limit), in parallel, bounded in time."""
        ...


Headers = Mapping[str, str]

"""One image made ready to be sent to a registry: what of it is not here is fetched first.

Nothing is fetched that its new registry has already, and nothing is sent that whoever asks may not see under the
image's own name. An index goes whole, or not at all.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from mirror.cache.content import Content
from mirror.cache.leases import Leases
from mirror.cache.manifests import Manifests
from mirror.cache.names import Names
from mirror.cache.parcel import Blob, Parcel
from mirror.cache.proofs import Proofs
from mirror.cache.rights import Principal, Rights
from mirror.cache.sight import Sight
from mirror.cache.tags import Tags
from mirror.cache.transfer import Transfers
from mirror.clock import Clock
from mirror.errors import BlobUnknown, ManifestBlobUnknown, ManifestUnknown, MirrorError, UpstreamGone
from mirror.logs import human
from mirror.oci.digest import Digest
from mirror.oci.manifest import Descriptor, Manifest
from mirror.oci.names import Reference, Repository
from mirror.operations import plan
from mirror.operations.events import Note
from mirror.operations.fetching import Fetching, Layers
from mirror.operations.here import Here
from mirror.operations.plan import Plan
from mirror.operations.platforms import Platform, of_config
from mirror.operations.pull import mismatch
from mirror.operations.stream import Feed
from mirror.store import protocols
from mirror.store.inventory import View
from mirror.tasks import each
from mirror.upstream.protocols import Destination

Ask = Callable[[Descriptor], Awaitable[bool]]

CLIENT = "push"
"""Who answers for downloads that a push begins (`Flights`)."""

_AT_ONCE = 4  # questions to registries
_EVERY = 0.1  # seconds between two words on one layer
_LISTED = 5  # parts of an image that are named in one sentence


class Catalog(protocols.Tags, protocols.Links, Protocol):
    """The parts of the catalog that a push uses."""


class Destinations(Protocol):
    """Part of `Upstreams`."""

    def destination(self, registry: str) -> Destination:
        """Raises `NameUnknown` where the registry is not configured."""
        ...


@dataclass(frozen=True, slots=True)
class Sources:
    """Where everything comes from, and where it goes."""

    names: Names
    rights: Rights
    sight: Sight
    proofs: Proofs
    tags: Tags
    manifests: Manifests
    content: Content
    leases: Leases
    transfers: Transfers
    upstreams: Destinations
    catalog: Catalog
    clock: Clock


@dataclass(frozen=True, slots=True)
class Layer:
    """How far a layer is on its way; `done` of `size` bytes are there, or, while it is fetched, here.

    `mounted_from`: another repository of that registry, where the asker may know of it.
    """

    name: str
    digest: str
    size: int
    state: Literal["preparing", "fetching", "pushing", "exists", "mounted", "pushed", "skipped"]
    done: int = 0
    mounted_from: str | None = None
    event: Literal["layer"] = "layer"


@dataclass(slots=True)
class Telling:
    """What one image's layers tell from time to time, not for each chunk."""

    name: str
    feed: Feed[Any]
    clock: Clock
    _said_at: dict[Digest, float] = field(default_factory=dict, init=False)

    def hint(self, digest: Digest, size: int, state: Literal["fetching", "pushing"], done: int) -> None:
        now, said_at = self.clock.monotonic(), self._said_at.get(digest)
        if said_at is None or now - said_at >= _EVERY:
            self._said_at[digest] = now
            self.feed.hint(Layer(self.name, str(digest), size, state, done))


@dataclass(frozen=True, slots=True)
class Gathered:
    """`parcel` says of each part whether it can go out from here. `fetched`: bytes that were, or would be, fetched."""

    parcel: Parcel
    fetched: int


@dataclass(slots=True)
class Gathering:
    """One image's turn: `source`, as `principal` sees it, on its way to `target`. `gate` bounds the blobs that are
    fetched at a time."""

    sources: Sources
    principal: Principal
    source: Reference
    target: Repository
    telling: Telling
    gate: asyncio.Semaphore
    dry_run: bool = False

    # --- what it is ------------------------------------------------------------------------------------------

    async def root(self) -> Manifest:
        """The manifest that the name stands for here. Raises `ManifestUnknown` where there is none that he may see."""
        digest = self.source.digest
        if digest is None:
            row = await self.sources.catalog.tag(self._home, self.source.tag or "")
            digest = row.manifest if row is not None else None
        kept = await self.sources.manifests.held(self._home, digest) if digest is not None else None
        if kept is None or not self.sources.sight.sees_link(self.principal, self._home, kept.link):
            raise no_local_image(self.source)
        return kept.manifest

    async def only(self, root: Manifest, wish: Platform) -> Manifest:
        """The image for this platform alone. Raises `ManifestUnknown` where there is none, and as `whole`."""
        if root.is_index:
            return await plan.only(root, wish, self._read)
        found = await self._platform(root)
        if found is not None and found not in wish.accepted():
            raise mismatch(self.source, wish, found)
        return root

    async def whole(self, root: Manifest) -> Gathered:
        """Have all of it here that the target's registry does not have; with `dry_run` no blob is fetched.

        Raises `ManifestBlobUnknown` naming what nobody has, an `UpstreamNoAnswer`, `Offline`, `StoreFailed`.
        """
        await self._bring_manifests(root)
        parcel = await self._pack(root)
        unseen = [blob for blob in parcel.blobs if not await self._sees(blob)]
        there = await each([blob.descriptor for blob in unseen], self._has_blob, _AT_ONCE)
        absent = [blob.descriptor for blob, is_there in zip(unseen, there, strict=True) if not is_there]
        await self._require(root, absent, self._is_to_be_had)
        fetched = sum(descriptor.size for descriptor in absent)
        if absent:
            would = "would be" if self.dry_run else "are"
            await self._note(
                f"{_counted(len(absent))}, {human(fetched)}, {would} fetched from {self._home.registry} first"
            )
        if absent and not self.dry_run:
            await each(absent, self._bring_blob, len(absent))
            parcel = await self._pack(root)
        return Gathered(_judged(parcel, unseen, absent, coming=self.dry_run), fetched)

    @property
    def _home(self) -> Repository:
        return self.source.repository

    @property
    def _here(self) -> Here:
        s = self.sources
        return Here(s.catalog, s.manifests, s.content, s.proofs, self.principal)

    @property
    def _destination(self) -> Destination:
        return self.sources.upstreams.destination(self.target.registry)

    async def _pack(self, root: Manifest) -> Parcel:
        view = View(self._home, trusted=self.sources.proofs.trusted(self.principal, self._home))
        return await self.sources.transfers.pack(root, view)

    async def _note(self, message: str) -> None:
        await self.telling.feed.tell(Note(self.telling.name, message))

    async def _platform(self, root: Manifest) -> Platform | None:
        """What a single image is for, as its config says; None where it does not."""
        made, s = Plan(root), self.sources
        made.add(root)
        if made.config is None:
            return None
        fetching = Fetching(s.content, self.principal, self.source, made, Layers(1), self.telling.feed, s.clock)
        return of_config(await fetching.config(made.config.digest))

    # --- manifests -------------------------------------------------------------------------------------------

    async def _read(self, descriptor: Descriptor) -> Manifest:
        """One that has to be here: its bytes are needed."""
        answer = await self.sources.manifests.by_digest(self.principal, self._home, descriptor.digest)
        return answer.kept.manifest

    async def _bring_manifests(self, root: Manifest) -> None:
        """Level by level: what is below a missing index is known once that is here."""
        settled: set[Digest] = set()
        while True:
            parcel = await self._pack(root)
            new = [part for part in (*parcel.missing, *parcel.manifests) if part.digest not in settled]
            settled.update(part.digest for part in new)
            unseen = [part for part in new if await self._here.manifest(self._home, part.digest) is None]
            there = await each(unseen, self._has_manifest, _AT_ONCE)
            absent = [descriptor for descriptor, is_there in zip(unseen, there, strict=True) if not is_there]
            if not absent:
                return
            await self._require(root, absent, self._bring_manifest)

    async def _bring_manifest(self, descriptor: Descriptor) -> bool:
        try:
            await self._read(descriptor)
        except ManifestUnknown:
            return False
        return True

    async def _has_manifest(self, descriptor: Descriptor) -> bool:
        """Whether the target has it: then it has all that is below."""
        reference = Reference(self.target, None, descriptor.digest)
        try:
            found = await self._destination.head(reference)
            if found is None:  # its HEAD does not tell
                fetched = await self._destination.manifest(reference)
                return Digest.of(fetched.raw, descriptor.digest.algorithm) == descriptor.digest
        except UpstreamGone:
            return False
        return found.digest == descriptor.digest

    # --- blobs -----------------------------------------------------------------------------------------------

    async def _sees(self, blob: Blob) -> bool:
        """Whether it is here, and may go out for him."""
        holding = await self.sources.catalog.holding(self._home, blob.descriptor.digest, is_manifest=False)
        if holding is None or not blob.held:
            return False
        trusted = self.sources.proofs.trusted(self.principal, self._home)
        return holding.public or await self.sources.proofs.blob_visible(holding, self._home, trusted=trusted)

    async def _has_blob(self, descriptor: Descriptor) -> bool:
        try:
            await self._destination.size(self.target, descriptor.digest)
        except UpstreamGone:
            return False
        return True

    async def _is_to_be_had(self, descriptor: Descriptor) -> bool:
        try:
            await self.sources.content.stat(self.principal, self._home, descriptor.digest)
        except BlobUnknown:
            return False
        return True

    async def _bring_blob(self, descriptor: Descriptor) -> None:
        digest, size = descriptor.digest, descriptor.size

        def tell(done: int) -> None:
            self.telling.hint(digest, size, "fetching", done)

        async with self.gate:
            await self.sources.content.bring(self.principal, self._home, digest, CLIENT, tell)

    # --- what nobody has -------------------------------------------------------------------------------------

    async def _require(self, root: Manifest, absent: Sequence[Descriptor], ask: Ask) -> None:
        """Let its own registry have all that is absent, as `ask` finds out. Where that does not say, what is missing
        is told at least."""
        lacking = list(absent)
        if absent and not self._home.is_own:
            try:
                found = await each(absent, ask, _AT_ONCE)
            except MirrorError:
                await self._note(f"not here, and not at {self.target.registry}: {_listed(root, absent)}")
                raise
            lacking = [descriptor for descriptor, is_there in zip(absent, found, strict=True) if not is_there]
        if lacking:
            asked = [] if self._home.is_own else [self._home.registry]
            nor = " nor ".join(dict.fromkeys([*asked, self.target.registry]))
            raise ManifestBlobUnknown(
                f"{self.source.familiar} is not here as a whole: neither this mirror nor {nor} has"
                f" {_listed(root, lacking)}",
                detail={"digests": [str(descriptor.digest) for descriptor in lacking[:_LISTED]]},
            )


def no_local_image(named: Reference | Repository) -> ManifestUnknown:
    """Docker's sentence."""
    return ManifestUnknown(f"An image does not exist locally with the tag: {named.familiar}")


def _judged(parcel: Parcel, unseen: Sequence[Blob], absent: Sequence[Descriptor], *, coming: bool) -> Parcel:
    """What was not seen goes out only where it was fetched, or, with `coming`, would be."""
    fetched = {descriptor.digest for descriptor in absent}
    kept_back = {blob.descriptor.digest for blob in unseen} - fetched
    blobs = tuple(
        replace(
            blob,
            held=(blob.held or (coming and blob.descriptor.digest in fetched))
            and blob.descriptor.digest not in kept_back,
        )
        for blob in parcel.blobs
    )
    return replace(parcel, blobs=blobs)


def _counted(count: int) -> str:
    return "1 blob that is not here" if count == 1 else f"{count} blobs that are not here"


def _listed(root: Manifest, parts: Sequence[Descriptor]) -> str:
    """Some of them, by their platforms where they have any."""
    platforms = {child.descriptor.digest: child.platform for child in root.children()}

    def named(part: Descriptor) -> str:
        platform = platforms.get(part.digest)
        return f"{platform} ({part.digest.short})" if platform else part.digest.short

    more = f" and {len(parts) - _LISTED} more" if len(parts) > _LISTED else ""
    return ", ".join(map(named, parts[:_LISTED])) + more

"""Images on their way to their registries: only what is missing there is sent, children before parents.

Each blob costs one HEAD; where the registry does not have it, it is mounted from a repository where it does, else
uploaded (`delivery`). What is not held here has to be there already, which is found out before anything is sent.
Manifests follow, the root last: what a registry shows is always whole.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeVar

from mirror.cache.delivery import Deliveries, not_held
from mirror.cache.leases import Leases
from mirror.cache.parcel import Blob, Packing, Parcel
from mirror.cache.policy import Policy
from mirror.cache.referring import Referring
from mirror.clock import Clock
from mirror.errors import Offline, StoreFailed, UpstreamGone, UpstreamRefused
from mirror.logs import human
from mirror.oci.digest import Digest
from mirror.oci.manifest import Descriptor, Manifest
from mirror.oci.names import Reference, Repository
from mirror.store import forwarding, protocols
from mirror.store.inventory import View
from mirror.store.protocols import BlobStore
from mirror.tasks import Tasks, each
from mirror.upstream.protocols import Destination

log = logging.getLogger(__name__)
T = TypeVar("T")

LAYERS = 3  # blobs of one image at the same time


class Catalog(protocols.Links, protocols.Manifests, forwarding.Forwarding, Protocol):
    """The parts of the catalog that transfers use."""


class Destinations(Protocol):
    """Part of `Upstreams`."""

    def destination(self, registry: str) -> Destination:
        """Raises `NameUnknown` where the registry is not configured."""
        ...


class Step(StrEnum):
    """How far a blob is."""

    EXISTS = "exists"  # the registry had it
    MISSING = "missing"  # it would have to be sent; only `compare` says so
    MOUNTED = "mounted"
    PUSHING = "pushing"
    PUSHED = "pushed"
    SKIPPED = "skipped"  # it may not be distributed


@dataclass(frozen=True, slots=True)
class Progress:
    """News of one blob; `done` of `size` bytes are there. `mounted_from` may be a repository whose name is not for
    everybody's eyes."""

    digest: Digest
    size: int
    is_config: bool
    step: Step
    done: int = 0
    mounted_from: Repository | None = None


Tell = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Sent:
    """What a transfer came to. Layers without configs, bytes of both; manifests are not counted.

    `bytes` went out for this image: of a layer that was resumed the rest only. What another transfer sent meanwhile
    counts there, and as existing here.
    """

    layers: int
    layers_in_all: int
    bytes: int
    bytes_in_all: int
    mounted: int  # layers
    existing: int  # layers

    def __str__(self) -> str:
        return (
            f"sent {self.layers} of {self.layers_in_all} layer{'' if self.layers_in_all == 1 else 's'}, "
            f"{human(self.bytes)} of {human(self.bytes_in_all)}"
        )


@dataclass(slots=True)
class Counters:
    """What one registry was sent since the start: images, blobs, and the bytes of blobs that went out."""

    images: int = 0
    pushed: int = 0
    mounted: int = 0
    existing: int = 0
    bytes: int = 0


def ignore(_: Progress) -> None:
    """A `tell` for those who do not listen."""


class Transfers:
    """Sends images. `sent` is by registry."""

    def __init__(
        self,
        *,
        store: BlobStore,
        catalog: Catalog,
        upstreams: Destinations,
        leases: Leases,
        policy: Policy,
        tasks: Tasks,
        clock: Clock,
    ) -> None:
        self.sent: dict[str, Counters] = {}
        self.packing = Packing(store=store, catalog=catalog, leases=leases)
        self._catalog = catalog
        self._upstreams = upstreams
        self._policy = policy
        self._clock = clock
        self._referring = Referring()
        self._deliveries = Deliveries(
            store=store, catalog=catalog, leases=leases, policy=policy, tasks=tasks, clock=clock, count=self._went_out
        )

    async def pack(self, root: Manifest, view: View) -> Parcel:
        """What there is to be sent of a manifest, which need not be stored yet. Blobs and manifests below it are held
        as far as the view shows them. Raises `ManifestInvalid`, `StoreFailed`."""
        return await self.packing.pack(root, view)

    async def send(self, parcel: Parcel, target: Reference, *, tags: Sequence[str] = (), tell: Tell = ignore) -> Sent:
        """Let the target's registry have it all, under the target and under further `tags`.

        Raises `ManifestBlobUnknown` naming what is neither held here nor there, `UpstreamRefused`, an
        `UpstreamNoAnswer`, `Offline`, `NameUnknown` for a registry that is not configured, `StoreFailed`. What was sent
        by then is not sent again by the next transfer.
        """
        transfer = self._transfer(parcel, target, tell)
        await transfer.require_missing()
        await transfer.blobs()
        await transfer.manifests(tags)
        self._counters(target.repository.registry).images += 1
        return transfer.result()

    async def compare(self, parcel: Parcel, target: Reference, *, tell: Tell = ignore) -> Sent:
        """What `send` would send at the most: what of it could be mounted is known only by trying. Sends nothing, and
        raises as `send` does."""
        transfer = self._transfer(parcel, target, tell)
        await transfer.require_missing()
        await transfer.compare()
        return transfer.result()

    def _transfer(self, parcel: Parcel, target: Reference, tell: Tell) -> "_Transfer":
        registry = target.repository.registry
        if self._policy.offline:
            raise Offline(f"this mirror is offline: nothing is sent to {registry}")
        return _Transfer(
            parcel,
            target,
            tell,
            self._upstreams.destination(registry),
            self._deliveries,
            self.packing,
            self._referring,
            self._catalog,
            self._clock,
            self._counters(registry),
        )

    def _counters(self, registry: str) -> Counters:
        return self.sent.setdefault(registry, Counters())

    def _went_out(self, registry: str, count: int) -> None:
        self._counters(registry).bytes += count


@dataclass(slots=True)
class _Transfer:
    """One image to one repository."""

    parcel: Parcel
    target: Reference
    tell: Tell
    destination: Destination
    deliveries: Deliveries
    packing: Packing
    referring: Referring
    catalog: Catalog
    clock: Clock
    counters: Counters
    _layers: int = field(default=0, init=False)
    _bytes: int = field(default=0, init=False)
    _mounted: int = field(default=0, init=False)
    _existing: int = field(default=0, init=False)

    @property
    def _repository(self) -> Repository:
        return self.target.repository

    def result(self) -> Sent:
        return Sent(
            layers=self._layers,
            layers_in_all=self.parcel.layers,
            bytes=self._bytes,
            bytes_in_all=self.parcel.bytes,
            mounted=self._mounted,
            existing=self._existing,
        )

    # --- blobs ----------------------------------------------------------------------------------------------

    async def require_missing(self) -> None:
        """What is not held must be there. Nothing has been sent yet."""
        for descriptor in self.parcel.foreign:
            self._tell(Blob(descriptor, is_config=False, held=False), Step.SKIPPED)
        await each(self.parcel.missing, self._require_manifest, LAYERS)
        await each([blob for blob in self.parcel.blobs if not blob.held], self._require, LAYERS)

    async def blobs(self) -> None:
        await each([blob for blob in self.parcel.blobs if blob.held], self._bring, LAYERS)

    async def compare(self) -> None:
        await each([blob for blob in self.parcel.blobs if blob.held], self._compare, LAYERS)

    async def _require_manifest(self, descriptor: Descriptor) -> None:
        if not await self._names(Reference(self._repository, None, descriptor.digest), descriptor.digest):
            raise not_held(descriptor.digest)

    async def _require(self, blob: Blob) -> None:
        if not await self._exists(blob):
            raise not_held(blob.descriptor.digest)

    async def _bring(self, blob: Blob) -> None:
        if await self._exists(blob):
            return
        digest = blob.descriptor.digest

        def went_on(done: int, size: int) -> None:
            self.tell(Progress(digest, size, blob.is_config, Step.PUSHING, done))

        delivered, joined = await self.deliveries.deliver(self.destination, self._repository, digest, went_on)
        if joined:
            self._existing += not blob.is_config
        elif delivered.mounted_from is not None:
            self._mounted += not blob.is_config
            self.counters.mounted += 1
        else:
            self._layers += not blob.is_config
            self._bytes += delivered.sent
            self.counters.pushed += 1
        if delivered.mounted_from is not None:
            self._tell(blob, Step.MOUNTED, delivered.mounted_from)
        else:
            self._tell(blob, Step.PUSHED)

    async def _compare(self, blob: Blob) -> None:
        if not await self._exists(blob):
            self._layers += not blob.is_config
            self._bytes += blob.descriptor.size
            self._tell(blob, Step.MISSING)

    async def _exists(self, blob: Blob) -> bool:
        """One HEAD. What the registry does not let us see may be pushed all the same."""
        digest = blob.descriptor.digest
        try:
            await self.destination.size(self._repository, digest)
        except UpstreamGone:
            return False
        try:
            await self.catalog.at_upstream(self._repository, digest, self.clock.wall())
        except StoreFailed as error:
            log.warning("what %s has is not written down: %s", self._repository.registry, error.message)
        self._existing += not blob.is_config
        self.counters.existing += 1
        self._tell(blob, Step.EXISTS)
        return True

    def _tell(self, blob: Blob, step: Step, mounted_from: Repository | None = None) -> None:
        size = blob.descriptor.size
        done = 0 if step in (Step.MISSING, Step.SKIPPED) else size
        self.tell(Progress(blob.descriptor.digest, size, blob.is_config, step, done, mounted_from))

    # --- manifests ------------------------------------------------------------------------------------------

    async def manifests(self, tags: Iterable[str]) -> None:
        """Children before parents, by their digests; the root under its names."""
        for descriptor in self.parcel.manifests:
            manifest = await self.packing.manifest(descriptor.digest)
            if manifest is None:
                raise not_held(descriptor.digest)
            await self._put(Reference(self._repository, None, descriptor.digest), manifest)
        root = self.parcel.root
        first = self.target.tag
        names = dict.fromkeys([first, *tags] if first is not None else tags)
        if first is None:
            await self._put(Reference(self._repository, None, root.descriptor.digest), root)
        for name in names:
            await self._put(Reference(self._repository, name, None), root)

    async def _put(self, reference: Reference, manifest: Manifest) -> None:
        try:
            seen_to = await self.destination.put(reference, manifest)
        except UpstreamRefused as error:
            # a tag that must not be moved is refused also where it names this very manifest already
            if reference.tag is None or not await self._names(reference, manifest.descriptor.digest):
                raise error from None
            seen_to = manifest.subject is None
        if not seen_to:
            await self.referring.list(self.destination, self._repository, manifest)

    async def _names(self, reference: Reference, digest: Digest) -> bool:
        """Whether the registry has this manifest under this name."""
        try:
            found = await self.destination.head(reference)
            if found is None:  # its HEAD does not tell
                fetched = await self.destination.manifest(reference)
                return Digest.of(fetched.raw, digest.algorithm) == digest
        except UpstreamGone:
            return False
        return found.digest == digest

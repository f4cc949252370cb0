"""Registries that are written to, in memory: what each has received, what it was asked, and what goes wrong.

post = Office(world); ghcr = post.ghcr
ghcr.breaks.append(100)                              # the next upload breaks after 100 bytes
await post.transfers.send(await post.pack(TOOL, manifest), target)
assert ghcr.received[digest] == 5_000_000            # bytes, sent again or not
"""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from mirror.cache.delivery import Deliveries
from mirror.cache.outbox import Outbox
from mirror.cache.parcel import Parcel
from mirror.cache.transfer import Progress, Transfers
from mirror.errors import UpstreamInvalid, UpstreamRefused, UpstreamUnreachable
from mirror.oci.digest import Digest
from mirror.oci.manifest import Descriptor, Manifest
from mirror.oci.names import Reference, Repository
from mirror.store.inventory import View
from mirror.store.protocols import Proof
from mirror.upstream.protocols import Fetched, Session
from tests.cache.scripted import Gate, gone
from tests.cache.support import World
from tests.store.samples import CONFIG


def refused(registry: str = "ghcr.io") -> UpstreamRefused:
    return UpstreamRefused(f"{registry} does not want it", registry=registry)


def silent(registry: str = "ghcr.io") -> UpstreamUnreachable:
    return UpstreamUnreachable(f"{registry} does not answer", registry=registry)


@dataclass
class Receiver:
    """`Destination`. `breaks` are counts of bytes after which the next uploads break, or gates on the way; what came
    before is kept if it `keeps` parts. `mounts`: whether it does that at all."""

    registry: str
    blobs: dict[tuple[Repository, Digest], bytes] = field(default_factory=dict)
    manifests: dict[tuple[Repository, Digest], Manifest] = field(default_factory=dict)
    tags: dict[tuple[Repository, str], Digest] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)  # in which manifests came
    asked: list[str] = field(default_factory=list)
    received: Counter[Digest] = field(default_factory=Counter)
    breaks: deque[int | Gate] = field(default_factory=deque)
    keeps: bool = True
    mounts: bool = True
    has_referrers: bool = True
    down: Exception | None = None
    largest_piece: int = 0
    at_once: int = 0
    most_at_once: int = 0
    _script: defaultdict[str, deque[Gate | Exception]] = field(default_factory=lambda: defaultdict(deque))
    _wanted: dict[str, Digest] = field(default_factory=dict)
    _numbers: int = 0

    def script(self, method: str, *steps: Gate | Exception) -> None:
        """The next calls of `method` wait at a gate, or fail; one step each."""
        self._script[method].extend(steps)

    def count(self, method: str) -> int:
        return sum(line.split(" ")[0] == method for line in self.asked)

    async def _begin(self, method: str, repository: Repository, what: object) -> None:
        self.asked.append(f"{method} {repository.path} {what}")
        await asyncio.sleep(0)
        if self.down is not None:
            raise self.down
        if self._script[method]:
            step = self._script[method].popleft()
            if isinstance(step, Exception):
                raise step
            await step.wait()

    # --- what it has ----------------------------------------------------------------------------------------

    async def size(self, repository: Repository, digest: Digest) -> int | None:
        await self._begin("size", repository, digest.short)
        if (repository, digest) not in self.blobs:
            raise gone(self.registry)
        return len(self.blobs[repository, digest])

    def _named(self, reference: Reference) -> Manifest:
        target = reference.target
        digest = self.tags.get((reference.repository, target)) if isinstance(target, str) else target
        found = self.manifests.get((reference.repository, digest)) if digest is not None else None
        if found is None:
            raise gone(self.registry)
        return found

    async def head(self, reference: Reference) -> Descriptor | None:
        await self._begin("head", reference.repository, reference.target)
        return self._named(reference).descriptor

    async def manifest(self, reference: Reference) -> Fetched:
        await self._begin("manifest", reference.repository, reference.target)
        found = self._named(reference)
        return Fetched(found.raw, found.descriptor.media_type, None)

    # --- uploads --------------------------------------------------------------------------------------------

    async def begin(
        self, repository: Repository, digest: Digest, mount_from: Repository | None = None
    ) -> Session | None:
        await self._begin("begin", repository, digest.short if mount_from is None else f"from {mount_from.path}")
        if mount_from is not None and self.mounts and (mount_from, digest) in self.blobs:
            self.blobs[repository, digest] = self.blobs[mount_from, digest]
            return None
        self._numbers += 1
        location = f"https://{self.registry}/uploads/{self._numbers}"
        self.open(location, digest)
        return Session(location)

    def open(self, location: str, digest: Digest, data: bytes = b"") -> None:
        """Have an upload open, with what it has so far."""
        self.uploads[location] = bytearray(data)
        self._wanted[location] = digest

    async def resume(self, repository: Repository, location: str) -> Session | None:
        await self._begin("resume", repository, location)
        upload = self.uploads.get(location)
        return Session(location, len(upload)) if upload is not None else None

    async def send(self, repository: Repository, session: Session, chunks: AsyncIterator[bytes], count: int) -> Session:
        await self._begin("send", repository, f"{session.offset}+{count}")
        upload = self.uploads.get(session.location)
        if upload is None:
            raise gone(self.registry)
        if len(upload) != session.offset:
            raise UpstreamInvalid("416", registry=self.registry)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        before = bytes(upload)
        try:
            await self._receive(session.location, upload, chunks)
        except BaseException:
            if not self.keeps:
                upload[:] = before
            raise
        finally:
            self.at_once -= 1
        assert len(upload) == session.offset + count
        return Session(session.location, len(upload))

    async def _receive(self, location: str, upload: bytearray, chunks: AsyncIterator[bytes]) -> None:
        stop = self.breaks.popleft() if self.breaks else None
        left = stop if isinstance(stop, int) else None
        async for chunk in chunks:
            self.largest_piece = max(self.largest_piece, len(chunk))
            taken = chunk if left is None else chunk[:left]
            upload += taken
            self.received[self._wanted[location]] += len(taken)
            if isinstance(stop, Gate):
                await stop.wait()
            if left is not None:
                left -= len(taken)
                if not left:
                    raise silent(self.registry)
            await asyncio.sleep(0)

    async def finish(self, repository: Repository, session: Session, digest: Digest) -> None:
        await self._begin("finish", repository, digest.short)
        if session.location not in self.uploads:
            raise gone(self.registry)
        data = bytes(self.uploads.pop(session.location))
        if Digest.of(data, digest.algorithm) != digest:
            raise refused(self.registry)
        self.blobs[repository, digest] = data
        if self._script["finished"]:  # it is there, and nobody hears of it
            step = self._script["finished"].popleft()
            assert isinstance(step, Exception)
            raise step

    # --- manifests ------------------------------------------------------------------------------------------

    async def put(self, reference: Reference, manifest: Manifest) -> bool:
        await self._begin("put", reference.repository, reference.target)
        digest = manifest.descriptor.digest
        for child in manifest.children():  # as registries do; lists of referrers name what is there as well
            known = (reference.repository, child.descriptor.digest)
            if known not in self.blobs and known not in self.manifests and not child.foreign:
                raise refused(self.registry)
        self.manifests[reference.repository, digest] = manifest
        if reference.tag is not None:
            self.tags[reference.repository, reference.tag] = digest
        self.order.append(reference.tag or digest.short)
        return manifest.subject is None or self.has_referrers

    async def delete(self, reference: Reference) -> None:
        home = reference.repository
        await self._begin("delete", home, reference.target)
        if reference.digest is not None:
            there = self.manifests.pop((home, reference.digest), None) is not None
        else:
            there = self.tags.pop((home, str(reference.target)), None) is not None
        if not there:
            raise gone(self.registry)


class Office:
    """What sends, around two registries that receive. The store and the catalog are the world's."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ghcr = Receiver("ghcr.io")
        self.hub = Receiver("docker.io")
        self.news: list[Progress] = []
        for receiver in (self.ghcr, self.hub):
            world.upstreams.destinations[receiver.registry] = receiver
        self.restart()

    def restart(self) -> None:
        """As a new process: all that was only in memory is forgotten."""
        world = self.world
        self.counted: Counter[str] = Counter()
        self.deliveries = Deliveries(
            store=world.store,
            catalog=world.catalog,
            leases=world.leases,
            policy=world.policy,
            tasks=world.tasks,
            clock=world.clock,
            count=self._count,
        )
        self.transfers = Transfers(
            store=world.store,
            catalog=world.catalog,
            upstreams=world.upstreams,
            leases=world.leases,
            policy=world.policy,
            tasks=world.tasks,
            clock=world.clock,
        )
        self.outbox = Outbox(
            catalog=world.catalog,
            transfers=self.transfers,
            policy=world.policy,
            tasks=world.tasks,
            clock=world.clock,
        )

    def _count(self, registry: str, count: int) -> None:
        self.counted[registry] += count

    async def pack(self, home: Repository, root: Manifest) -> Parcel:
        return await self.transfers.pack(root, View(home, trusted=True))

    def steps(self, digest: Digest) -> list[str]:
        """What was told of one blob, each once in a row."""
        told = [str(each.step) for each in self.news if each.digest == digest]
        return [step for number, step in enumerate(told) if number == 0 or told[number - 1] != step]


async def keep(world: World, home: Repository, data: bytes, proof: Proof = Proof.PUSHED) -> Digest:
    """A blob that a repository holds."""
    digest = Digest.of(data)
    location = await world.store.put(data, digest)
    await world.catalog.hold(digest, len(data), location, [(home, proof)], world.clock.wall())
    return digest


async def keep_manifest(world: World, home: Repository, manifest: Manifest, proof: Proof = Proof.PUSHED) -> Digest:
    digest = manifest.descriptor.digest
    location = await world.store.put(manifest.raw, digest)
    await world.catalog.hold_manifest(home, manifest, location, proof, world.clock.wall())
    return digest


async def keep_image(
    world: World, home: Repository, manifest: Manifest, *layers: str, proof: Proof = Proof.PUSHED
) -> Digest:
    """An image and its blobs, as `samples.image` made it of these layers."""
    for data in (CONFIG, *(text.encode() for text in layers)):
        await keep(world, home, data, proof)
    return await keep_manifest(world, home, manifest, proof)

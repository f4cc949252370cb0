"""A scripted upstream in memory, and the cache around it: flights and tags are tested without sockets or real time.

world = World(credentials=["docker.io"])
layer = world.hub.add(ALPINE, b"…")                        # the registry has it
world.hub.anonymous.script("head", unreachable())          # the next HEAD without credentials fails
world.hub.anonymous.bodies.append(Body([100, gate]))       # the next download stops after 100 bytes
assert world.hub.anonymous.asked == ["open library/alpine …"]
"""

import asyncio
import json
import os
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from mirror.cache.content import Content
from mirror.cache.flights import Flights
from mirror.cache.listings import Listings
from mirror.cache.manifests import Manifests
from mirror.cache.policy import Policy
from mirror.cache.proofs import Proofs
from mirror.cache.rights import LOOPBACK, Principal, Rights
from mirror.cache.tags import Tags
from mirror.clock import Clock
from mirror.errors import NameUnknown, UpstreamGone, UpstreamInvalid, UpstreamLimited, UpstreamUnreachable
from mirror.oci.digest import Digest
from mirror.oci.manifest import Descriptor, Manifest
from mirror.oci.names import Reference, Repository
from mirror.store.memory import MemoryBlobStore, MemoryCatalog, MemoryIngest
from mirror.store.protocols import BlobReader, Ingest
from mirror.tasks import Tasks
from mirror.upstream.protocols import Fetched, SourceState, TagPage

CLIENT = "192.0.2.7"


class StillClock(Clock):
    """Time that stands still until a test moves it."""

    def monotonic(self) -> float:
        return 1000.0 + self.shift

    def wall(self) -> float:
        return 1_700_000_000.0 + self.wall_shift

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass on both clocks."""
        self.shift += seconds
        self.wall_shift += seconds


class Gate:
    """Where somebody waits until the test lets him go."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._open = asyncio.Event()

    def release(self) -> None:
        self._open.set()

    async def wait(self) -> None:
        self.reached.set()
        await self._open.wait()


def unreachable(registry: str = "docker.io") -> UpstreamUnreachable:
    return UpstreamUnreachable(f"{registry} does not answer", registry=registry)


def limited(registry: str = "docker.io") -> UpstreamLimited:
    return UpstreamLimited(f"{registry} limits us", registry=registry, retry_after=60)


def gone(registry: str = "docker.io") -> UpstreamGone:
    return UpstreamGone(f"{registry} does not have it", registry=registry)


@dataclass(slots=True)
class Body:
    """How one download goes: `steps` are counts of bytes to send, gates to wait at, errors to raise; then the rest.

    `size` None: the registry does not say. `data`: other bytes than the true ones.
    """

    steps: Sequence[int | Gate | Exception] = ()
    size: int | None = -1
    ignores_range: bool = False
    data: bytes | None = None
    begins_at: int | None = None  # claims to begin elsewhere


@dataclass(slots=True)
class ScriptedDownload:
    size: int | None
    offset: int
    chunks: AsyncIterator[bytes]


@dataclass(slots=True)
class ScriptedRegistry:
    """What one registry holds. `private` repositories are refused to requests without credentials."""

    name: str
    blobs: dict[tuple[Repository, Digest], bytes] = field(default_factory=dict)
    manifests: dict[tuple[Repository, Digest], Manifest] = field(default_factory=dict)
    tags: dict[tuple[Repository, str], Digest] = field(default_factory=dict)
    private: set[Repository] = field(default_factory=set)
    page_size: int = 100
    has_referrers: bool = True
    anonymous: "ScriptedSource" = field(init=False)
    credentialed: "ScriptedSource" = field(init=False)

    def __post_init__(self) -> None:
        self.anonymous = ScriptedSource(self, anonymous=True)
        self.credentialed = ScriptedSource(self, anonymous=False)

    def add(self, repository: Repository, data: bytes, algorithm: str = "sha256") -> Digest:
        """Hold a blob."""
        digest = Digest.of(data, algorithm)
        self.blobs[repository, digest] = data
        return digest

    def push(self, repository: Repository, manifest: Manifest, *tags: str) -> Digest:
        """Hold a manifest, and let tags name it."""
        digest = manifest.descriptor.digest
        self.manifests[repository, digest] = manifest
        for tag in tags:
            self.tags[repository, tag] = digest
        return digest


class ScriptedSource:
    """`Source`: one view of a `ScriptedRegistry`. What is scripted for a method happens before its answer, in turn."""

    def __init__(self, registry: ScriptedRegistry, *, anonymous: bool) -> None:
        self.key = (registry.name, anonymous)
        self.asked: list[str] = []
        self.bodies: deque[Body] = deque()
        self.tells = True  # whether its HEAD of a manifest says anything
        self.tells_sizes = True
        self._registry = registry
        self._script: defaultdict[str, deque[Gate | Exception]] = defaultdict(deque)
        self._always: dict[str, Exception] = {}

    def script(self, method: str, *steps: Gate | Exception) -> None:
        """The next calls of `method` wait at a gate, or fail; one step each."""
        self._script[method].extend(steps)

    def down(self, error: Exception | None) -> None:
        """Everything fails with `error`, until it is None."""
        self._always = {"*": error} if error is not None else {}

    def count(self, method: str) -> int:
        return sum(line.split(" ")[0] == method for line in self.asked)

    async def _begin(self, method: str, repository: Repository, what: object) -> None:
        self.asked.append(f"{method} {repository.path} {what}")
        if "*" in self._always:
            raise self._always["*"]
        if self._script[method]:
            step = self._script[method].popleft()
            if isinstance(step, Exception):
                raise step
            await step.wait()
        if self.key[1] and repository in self._registry.private:
            raise UpstreamGone(f"{self.key[0]} refuses it", registry=self.key[0], refused=True)

    def _gone(self) -> UpstreamGone:
        return gone(self.key[0])

    def _blob(self, repository: Repository, digest: Digest) -> bytes:
        data = self._registry.blobs.get((repository, digest))
        if data is None:
            raise self._gone()
        return data

    def _manifest(self, reference: Reference) -> Manifest:
        target = reference.target
        digest = self._registry.tags.get((reference.repository, target)) if isinstance(target, str) else target
        manifest = self._registry.manifests.get((reference.repository, digest)) if digest is not None else None
        if manifest is None:
            raise self._gone()
        return manifest

    @asynccontextmanager
    async def open(
        self, repository: Repository, digest: Digest, offset: int = 0, end: int | None = None
    ) -> AsyncIterator[ScriptedDownload]:
        await self._begin("open", repository, f"{digest.short} {offset}-{'' if end is None else end}")
        true = self._blob(repository, digest)
        body = self.bodies.popleft() if self.bodies else Body()
        data = body.data if body.data is not None else true
        if offset and offset >= len(data) and not body.ignores_range:
            raise UpstreamInvalid(f"byte {offset} was asked of {len(data)}", registry=self.key[0])
        start = 0 if body.ignores_range else offset
        size = len(data) if body.size == -1 else body.size
        claimed = start if body.begins_at is None else body.begins_at
        yield ScriptedDownload(size, claimed, _chunks(data[start:end], body.steps))

    async def size(self, repository: Repository, digest: Digest) -> int | None:
        await self._begin("size", repository, digest.short)
        data = self._blob(repository, digest)
        return len(data) if self.tells_sizes else None

    async def head(self, reference: Reference) -> Descriptor | None:
        await self._begin("head", reference.repository, _told(reference))
        manifest = self._manifest(reference)
        return manifest.descriptor if self.tells else None

    async def manifest(self, reference: Reference) -> Fetched:
        await self._begin("manifest", reference.repository, _told(reference))
        manifest = self._manifest(reference)
        return Fetched(manifest.raw, manifest.descriptor.media_type, None)

    async def tags(self, repository: Repository, page: str | None) -> TagPage:
        await self._begin("tags", repository, page or "")
        names = sorted(name for held, name in self._registry.tags if held == repository)
        if not names:
            raise self._gone()
        start = int(page or "0")
        end = start + self._registry.page_size
        return TagPage(tuple(names[start:end]), str(end) if end < len(names) else None)

    async def referrers(self, repository: Repository, subject: Digest) -> Fetched | None:
        await self._begin("referrers", repository, subject.short)
        if not self._registry.has_referrers:
            return None
        return Fetched(index_of(self._registry, repository, subject), None, None)


def index_of(registry: ScriptedRegistry, repository: Repository, subject: Digest) -> bytes:
    """A referrers index as the registry would write it."""
    entries = [
        {
            "mediaType": manifest.descriptor.media_type,
            "digest": str(digest),
            "size": manifest.descriptor.size,
            "artifactType": manifest.artifact_type,
        }
        for (held, digest), manifest in registry.manifests.items()
        if held == repository and manifest.subject is not None and manifest.subject.digest == subject
    ]
    return json.dumps({"schemaVersion": 2, "manifests": entries}).encode()


def _told(reference: Reference) -> str:
    return reference.target if isinstance(reference.target, str) else reference.target.short


async def _chunks(data: bytes, steps: Iterable[int | Gate | Exception]) -> AsyncIterator[bytes]:
    for step in steps:
        if isinstance(step, Exception):
            raise step
        if isinstance(step, Gate):
            await step.wait()
        else:
            sent, data = data[:step], data[step:]
            if sent:
                yield sent
    if data:
        yield data


class ScriptedUpstreams:
    """`Upstreams`."""

    def __init__(self, registries: Iterable[ScriptedRegistry], credentials: Iterable[str]) -> None:
        self.registries = {registry.name: registry for registry in registries}
        self.credentials = set(credentials)
        self.reported: list[SourceState] = []

    def source(self, registry: str, *, anonymous: bool) -> ScriptedSource:
        found = self.registries.get(registry)
        if found is None:
            raise NameUnknown(f"{registry} is not configured")
        return found.anonymous if anonymous else found.credentialed

    def has_credentials(self, registry: str) -> bool:
        return registry in self.credentials

    def states(self) -> list[SourceState]:
        return self.reported

    async def probe(self) -> None:
        """Nothing to ask."""


class Store(MemoryBlobStore):
    """The store in memory; as on disk, an ingest can be opened after its publish too."""

    async def publish(self, ingest: Ingest, expected: Digest) -> str:
        location = await super().publish(ingest, expected)
        assert isinstance(ingest, StoreIngest)
        ingest.published = self.blobs[location]
        return location

    def _ingest(self, ingest_id: str, data: bytes, algorithm: str, on_written: Callable[[int], None]) -> "StoreIngest":
        ingest = self._active[ingest_id] = StoreIngest(self, ingest_id, data, algorithm, on_written)
        return ingest


class StoreIngest(MemoryIngest):
    published: bytes | None = None

    def open_descriptor(self) -> int:
        if self.published is None:
            return super().open_descriptor()
        descriptor = os.memfd_create("published")
        os.pwrite(descriptor, self.published, 0)
        return descriptor


def nobody(_: Repository) -> bool:
    """No repository is shared."""
    return False


class World:
    """The cache's parts around scripted registries, a store in memory and time that stands still."""

    def __init__(
        self,
        *,
        credentials: Iterable[str] = (),
        policy: Policy | None = None,
        shared: Callable[[Repository], bool] = nobody,
        limit: int = 1 << 40,
    ) -> None:
        self.clock = StillClock()
        self.policy = policy or Policy()
        self.hub = ScriptedRegistry("docker.io")
        self.other = ScriptedRegistry("ghcr.io")
        self.upstreams = ScriptedUpstreams([self.hub, self.other], credentials)
        self.store = Store(limit=limit)
        self.catalog = MemoryCatalog()
        self.tasks = Tasks()
        self.rights = Rights(loopback=True, shared=shared)
        self.proofs = Proofs(
            catalog=self.catalog, upstreams=self.upstreams, rights=self.rights, policy=self.policy, clock=self.clock
        )
        self.flights = Flights(store=self.store, catalog=self.catalog, tasks=self.tasks, clock=self.clock)
        self.content = Content(
            store=self.store, catalog=self.catalog, flights=self.flights, proofs=self.proofs, clock=self.clock
        )
        self.restart()

    def restart(self) -> None:
        """Forget what is only in memory, as a new process would; the downloads under way stay."""
        self.manifests = Manifests(
            store=self.store,
            catalog=self.catalog,
            proofs=self.proofs,
            policy=self.policy,
            tasks=self.tasks,
            clock=self.clock,
        )
        self.tags = Tags(
            catalog=self.catalog,
            manifests=self.manifests,
            proofs=self.proofs,
            policy=self.policy,
            tasks=self.tasks,
            clock=self.clock,
        )
        self.listings = Listings(
            catalog=self.catalog, manifests=self.manifests, proofs=self.proofs, policy=self.policy, clock=self.clock
        )

    async def pull(self, repository: Repository, digest: Digest, principal: Principal = LOOPBACK) -> bytes:
        """A whole blob, as a client gets it."""
        async with (
            self.content.open(principal, repository, digest, CLIENT) as blob,
            blob.reader(repository, 0, blob.size) as reader,
        ):
            return await read(reader, 0, blob.size)

    async def idle(self) -> None:
        """Wait until no task is left."""
        await settled(lambda: not len(self.tasks))


async def read(reader: BlobReader, start: int, end: int) -> bytes:
    """What a reader gives from `start` to `end`, as `server/send.py` takes it without sendfile."""
    found = bytearray()
    while start + len(found) < end:
        offset = start + len(found)
        ready = await reader.ready(offset, end)
        assert offset < ready <= end
        data = await reader.read(offset, ready - offset)
        assert data
        found += data
    return bytes(found)


async def released_before(error: type[Exception], reader: BlobReader, start: int, end: int) -> int:
    """Up to where a reader was given bytes before it failed, with `error`."""
    try:
        while start < end:
            start = await reader.ready(start, end)
    except error:
        return start
    raise AssertionError(f"no {error.__name__}")


async def settled(condition: Callable[[], bool]) -> None:
    """Let everybody run until `condition` holds; fails where it never does."""
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came about")

"""A scripted upstream in memory: what each registry holds, and what goes wrong when it is asked.

hub.anonymous.script("head", unreachable())          # the next HEAD without credentials fails
hub.anonymous.bodies.append(Body([100, gate]))       # the next download stops after 100 bytes
assert hub.anonymous.asked == ["open library/alpine …"]
"""

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from mirror.errors import NameUnknown, UpstreamGone, UpstreamInvalid, UpstreamLimited, UpstreamUnreachable
from mirror.oci.digest import Digest
from mirror.oci.manifest import Descriptor, Manifest
from mirror.oci.names import Reference, Repository
from mirror.upstream.protocols import Destination, Fetched, SourceState, TagPage


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
        yield ScriptedDownload(size, claimed, _chunks(data if body.ignores_range else data[start:end], body.steps))

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
        self.destinations: dict[str, Destination] = {}  # `receiving` has some

    def source(self, registry: str, *, anonymous: bool) -> ScriptedSource:
        found = self.registries.get(registry)
        if found is None:
            raise NameUnknown(f"{registry} is not configured")
        return found.anonymous if anonymous else found.credentialed

    def destination(self, registry: str) -> Destination:
        found = self.destinations.get(registry)
        if found is None:
            raise NameUnknown(f"{registry} is not configured")
        return found

    def has_credentials(self, registry: str) -> bool:
        return registry in self.credentials

    def states(self) -> list[SourceState]:
        return self.reported

    async def probe(self) -> None:
        """Nothing to ask."""

"""Clients that push, around scripted registries: without sockets and without a disk."""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field

from mirror.cache.names import Names
from mirror.cache.ownership import Ownership, OwnNames
from mirror.cache.policy import Policy, PushMode, RegistryPolicy
from mirror.cache.pushes import Pushes
from mirror.cache.rights import LOOPBACK, Principal, Rights, naming
from mirror.cache.targets import Targets
from mirror.cache.uploads import Uploads
from mirror.errors import MirrorError
from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest
from mirror.oci.names import Repository
from tests.cache.support import World
from tests.store.samples import CONFIG, OWN


@dataclass(slots=True)
class FakeForward:
    """`Forward`: what it was asked for. `refuses`: what everything fails with."""

    sent: list[tuple[Repository, Digest, Sequence[str | Digest]]] = field(default_factory=list)
    deleted: list[tuple[Repository, str | Digest]] = field(default_factory=list)
    woken: int = 0
    refuses: MirrorError | None = None

    async def through(
        self, repository: Repository, manifest: Manifest, references: Sequence[str | Digest], *, trusted: bool
    ) -> None:
        del trusted
        if self.refuses is not None:
            raise self.refuses
        self.sent.append((repository, manifest.descriptor.digest, references))

    async def delete(self, repository: Repository, reference: str | Digest) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.deleted.append((repository, reference))

    def changed(self) -> None:
        self.woken += 1


class Desk(World):
    """Where clients push to. `push`: the mode of docker.io and ghcr.io."""

    def __init__(
        self,
        *,
        push: PushMode = PushMode.LOCAL,
        own: Iterable[str] = (),
        rights: Rights | None = None,
        credentials: Iterable[str] = (),
        limit: int = 1 << 40,
    ) -> None:
        modes = {registry: RegistryPolicy(push=push) for registry in ("docker.io", "ghcr.io")}
        policy = Policy(registries=modes)
        super().__init__(policy=policy, rights=rights, credentials=credentials, limit=limit)
        self.own = OwnNames()
        self.ownership = Ownership(
            names=self.own,
            catalog=self.catalog,
            proofs=self.proofs,
            policy=self.policy,
            default_registry="docker.io",
            declared=naming(own),
        )
        names = Names("docker.io", ["docker.io", "ghcr.io"], self.own)
        self.targets = Targets(names=names, ownership=self.ownership, rights=self.rights, policy=self.policy)
        self.forward = FakeForward()
        self.begin()

    def begin(self) -> None:
        """What a process has in memory, as after a start (before `uploads.recall`)."""
        self.restart()
        self.uploads = Uploads(
            store=self.roomy,
            catalog=self.catalog,
            leases=self.leases,
            made=self.targets.made,
            tasks=self.tasks,
            clock=self.clock,
        )
        self.pushes = Pushes(
            store=self.roomy,
            catalog=self.catalog,
            leases=self.leases,
            content=self.content,
            manifests=self.manifests,
            tags=self.tags,
            proofs=self.proofs,
            rights=self.rights,
            targets=self.targets,
            forward=self.forward,
            sweep=self.sweep,
            tasks=self.tasks,
            clock=self.clock,
        )

    async def blob(self, *texts: str, home: Repository = OWN) -> None:
        """Put these blobs there, and the config."""
        for data in (CONFIG, *(text.encode() for text in texts)):
            await self.uploads.put(home, Digest.of(data), data)

    async def manifest(
        self, manifest: Manifest, tag: str = "1", home: Repository = OWN, principal: Principal = LOOPBACK
    ) -> Manifest:
        """Put a manifest there under a tag."""
        return await self.pushes.put(principal, home, manifest.raw, declared=None, reference=tag)


async def body(*parts: bytes | BaseException) -> AsyncIterator[bytes]:
    """What a client sends, or how it leaves."""
    for part in parts:
        if isinstance(part, BaseException):
            raise part
        yield part

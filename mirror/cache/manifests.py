"""Manifests by digest: from memory, from the store, from upstream (design.md §4 and §5).

By digest a manifest is served only where it is linked, else after one HEAD of that very repository, so that
`library/nginx@sha256:…` vouches for where it came from. Once linked, it is never asked for again. While the registry
gives no answer, an index of that repository vouches for what is public, and it names.
"""

import asyncio
import logging
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Protocol

from mirror.cache.content import Cache, quarantine
from mirror.cache.leases import Leases
from mirror.cache.memory import Recent
from mirror.cache.misses import noting
from mirror.cache.policy import Policy
from mirror.cache.proofs import Proofs, in_time, proof_of
from mirror.cache.rights import Principal
from mirror.cache.uses import Uses
from mirror.clock import Clock
from mirror.errors import (
    BlobUnknown,
    DigestInvalid,
    ManifestInvalid,
    ManifestTooLarge,
    ManifestUnknown,
    Offline,
    StoreFailed,
    UpstreamDigestMismatch,
    UpstreamError,
    UpstreamGone,
    UpstreamInvalid,
    UpstreamNoAnswer,
)
from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest
from mirror.oci.names import Reference, Repository
from mirror.store import protocols as store
from mirror.store.protocols import BlobStore, Link, Proof
from mirror.tasks import Tasks
from mirror.upstream.loops import via
from mirror.upstream.protocols import Fetched, Source

log = logging.getLogger(__name__)

_MEMORY_BYTES = 64 * 1024 * 1024
_LARGE = 64 * 1024
_ENTRY_BYTES = 1024  # what an entry costs beside its raw bytes


class Catalog(store.Links, store.Manifests, store.Misses, Protocol):
    """The parts of the catalog that manifests use."""


@dataclass(slots=True)
class Kept:
    """A manifest as one repository has it. `rendered` is room for whoever serves it to keep its headers ready, `noted`
    the round in which it was last noted as used."""

    manifest: Manifest
    link: Link
    rendered: dict[str, object] = field(default_factory=dict)
    noted: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What is served, and how it came to be. `warning` is our own ASCII text for a `Warning: 299` header."""

    kept: Kept
    cache: Cache
    warning: str | None = None


class Manifests:
    """Manifests, for whoever may see them."""

    def __init__(
        self,
        *,
        store: BlobStore,
        catalog: Catalog,
        leases: Leases,
        uses: Uses,
        proofs: Proofs,
        policy: Policy,
        tasks: Tasks,
        clock: Clock,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._leases = leases
        self._uses = uses
        self._proofs = proofs
        self._policy = policy
        self._tasks = tasks
        self._clock = clock
        self._recent: Recent[tuple[Repository, Digest], Answer] = Recent(
            _MEMORY_BYTES, lambda answer: len(answer.kept.manifest.raw) + _ENTRY_BYTES
        )
        self._forgets = 0  # whoever writes compares it before and after
        self._asking: dict[tuple[Repository, Digest, bool, bool, tuple[str, ...]], asyncio.Task[Kept]] = {}

    # --- by digest -------------------------------------------------------------------------------------------

    def remembered(self, principal: Principal, repository: Repository, digest: Digest) -> Answer | None:
        """What can be answered without waiting for anything."""
        answer = self._recent.get((repository, digest))
        if answer is None or not self._sees(answer.kept, principal, repository):
            return None
        if answer.kept.noted != self._uses.round:
            answer.kept.noted = self._uses.round
            self._uses.image(repository, digest)
        return answer

    async def by_digest(self, principal: Principal, repository: Repository, digest: Digest) -> Answer:
        """Raises `ManifestUnknown` where his registry says that there is none, an `UpstreamNoAnswer` or `Offline`
        where that cannot be known."""
        answer = self.remembered(principal, repository, digest)
        if answer is not None:
            return answer
        trusted = self._proofs.trusted(principal, repository)
        kept = await self.held(repository, digest)
        if kept is not None and self._proofs.visible(kept.link, repository, trusted=trusted):
            self._uses.image(repository, digest)
            return Answer(kept, Cache.HIT)
        answer = self.remembered(principal, repository, digest)  # it came while the catalog was being read
        if answer is not None:
            return answer
        # Whom a mirror asks may wait for that mirror; and who asks while we are offline, for nobody.
        key = (repository, digest, trusted, self._policy.offline, via.get())
        task = self._asking.get(key)
        if task is None:
            task = self._tasks.spawn(f"manifest {digest.short}", self.establish(repository, digest, trusted=trusted))
            self._asking[key] = task
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        try:
            async with noting(self._catalog, f"{repository}@{digest}", self._clock):
                try:
                    async with in_time(repository.registry):
                        return Answer(await asyncio.shield(task), Cache.MISS)
                except (Offline, UpstreamNoAnswer):
                    manifest = await self._named_and_public(repository, digest, trusted=trusted)
                    if manifest is None:
                        raise
                    return Answer(Kept(manifest, Link()), Cache.HIT)
        except UpstreamGone as error:
            raise ManifestUnknown(f"manifest {digest} is not known in {repository}") from error

    async def held(self, repository: Repository, digest: Digest) -> Kept | None:
        """The manifest as this repository holds it, from memory or from the store, whoever may see it; None where
        it is not linked here or its bytes are rotten."""
        answer = self._recent.get((repository, digest))
        if answer is not None:
            return answer.kept
        generation = self._recent.generation
        async with self._leases.hold(digest):
            holding = await self._catalog.holding(repository, digest, is_manifest=True)
            if holding is None or holding.link is None:
                return None
            manifest = await self._read(digest, holding)
        if manifest is None:
            return None
        kept = Kept(manifest, holding.link)
        if self._recent.generation == generation:
            self._recent.put((repository, digest), Answer(kept, Cache.HIT))
        return kept

    async def _named_and_public(self, repository: Repository, digest: Digest, *, trusted: bool) -> Manifest | None:
        """What an index that this repository holds names, and anybody may read elsewhere: while its registry gives no
        answer, that vouches for it. docker, which had it from elsewhere, never asked for it under this name."""
        if repository.is_own or not await self._proofs.readable(repository, trusted=trusted):
            return None
        if not await self._catalog.in_an_index(repository, digest, trusted=trusted):
            return None
        return await self.public(repository, digest)

    async def public(self, repository: Repository, digest: Digest) -> Manifest | None:
        """The bytes of what anybody may read, wherever it is held, for what `repository` names; None for any other."""
        async with self._leases.hold(digest):
            holding = await self._catalog.holding(repository, digest, is_manifest=True)
            return await self._read(digest, holding) if holding is not None and holding.public else None

    def forget(self, repository: Repository, digest: Digest) -> None:
        """It is linked here no more: what was read or asked before is not remembered."""
        self._forgets += 1
        self._recent.drop((repository, digest))

    def forget_all(self, repositories: AbstractSet[Repository]) -> None:
        """As `forget`, of everything in these repositories."""
        self._forgets += 1
        self._recent.drop_where(lambda key: key[0] in repositories)

    def _sees(self, kept: Kept, principal: Principal, repository: Repository) -> bool:
        link = kept.link
        if link.anonymous_at is not None or (link.pushed_at is not None and repository.is_own):
            return True
        return self._proofs.visible(link, repository, trusted=self._proofs.trusted(principal, repository))

    async def _read(self, digest: Digest, holding: store.Holding) -> Manifest | None:
        try:
            raw = await self._store.read(digest, holding.location, holding.size)
        except BlobUnknown:
            await quarantine(self._catalog, digest)
            return None
        except StoreFailed as error:
            log.warning("manifest %s is held and cannot be read; it is fetched: %s", digest, error.message)
            return None
        media_type = await self._catalog.manifest_type(digest)
        return await _parse(raw, media_type, digest)

    async def establish(self, repository: Repository, digest: Digest, *, trusted: bool) -> Kept:
        """Ask for it under this repository: one HEAD where its registry supplied the bytes held, else a GET.

        Raises `UpstreamGone` where it is not there for him, as for what an own repository does not hold.
        """
        reference = Reference(repository, None, digest)
        sources = await self._proofs.sources(repository, trusted=trusted)
        holding = await self._catalog.holding(repository, digest, is_manifest=True)
        vouched = holding is not None and await self._vouched(holding, repository, digest)

        async def ask(source: Source) -> tuple[Manifest, bool]:
            if vouched and holding is not None and await source.head(reference) is not None:
                manifest = await self._read(digest, holding)
                if manifest is not None:
                    return manifest, True
            return await self._obtain(source, reference), False

        (manifest, is_held), source = await self._proofs.first(sources, repository, ("manifest", digest), ask)
        if not is_held:
            return await self.keep(repository, manifest, proof_of(source))
        link = holding.link if holding is not None and holding.link is not None else Link()
        return await self.confirm(repository, Kept(manifest, link), proof_of(source))

    async def _obtain(self, source: Source, reference: Reference) -> Manifest:
        """A manifest that is new to this repository: proven by `source`, fetched on whoever's limit it goes."""
        payers = self._proofs.payers(reference.repository, source)
        if len(payers) > 1 and await source.head(reference) is None:
            payers = [source]  # no proof by HEAD: then by the answer itself
        return await self.fetch(payers, reference)

    async def renew(self, principal: Principal, repository: Repository, digest: Digest) -> Kept:
        """Fetch it from its registry and store it, whatever is held or remembered: what is stored has gone bad.

        Raises `ManifestUnknown`, an `UpstreamNoAnswer`, `Offline`.
        """
        reference = Reference(repository, None, digest)
        trusted = self._proofs.trusted(principal, repository)
        sources = await self._proofs.sources(repository, trusted=trusted)

        async def ask(source: Source) -> Manifest:
            return await self._obtain(source, reference)

        try:
            manifest, source = await self._proofs.first(sources, repository, ("manifest", digest), ask, anew=True)
        except UpstreamGone as error:
            raise ManifestUnknown(f"manifest {digest} is not known in {repository}") from error
        return await self.keep(repository, manifest, proof_of(source))

    # --- for tags --------------------------------------------------------------------------------------------

    async def vouched(self, repository: Repository, digest: Digest) -> Manifest | None:
        """The bytes, if they are held and this repository's registry, which has just named them, supplied them or
        they are public: then no GET is spent on them."""
        holding = await self._catalog.holding(repository, digest, is_manifest=True)
        if holding is None or not await self._vouched(holding, repository, digest):
            return None
        return await self._read(digest, holding)

    async def _vouched(self, holding: store.Holding, repository: Repository, digest: Digest) -> bool:
        """Whether a yes of this repository's registry is about the bytes that are held."""
        return holding.public or await self._catalog.supplied(repository.registry, digest, is_manifest=True)

    async def fetch(self, payers: list[Source], reference: Reference) -> Manifest:
        """Get it from the first of `payers` that answers; verified where the reference is a digest.

        Raises what the last of them raised.
        """
        for payer in payers[:-1]:
            try:
                return await parsed(await payer.manifest(reference), reference, payer)
            except UpstreamError as error:
                log.info("%s without its credentials: %s", reference, error.message)
        return await parsed(await payers[-1].manifest(reference), reference, payers[-1])

    async def keep(self, repository: Repository, manifest: Manifest, proof: Proof) -> Kept:
        """Store and link it. Where the disk refuses it is kept in memory only, and served all the same."""
        at = self._clock.wall()
        digest = manifest.descriptor.digest
        known = await self.held(repository, digest)
        forgets = self._forgets
        try:
            async with self._leases.hold(digest):
                location = await self._store.put(manifest.raw, digest)
                await self._catalog.hold_manifest(repository, manifest, location, proof, at)
        except StoreFailed as error:
            log.warning("manifest %s of %s is served but not kept: %s", digest, repository, error.message)
        link = _proven(known.link if known is not None else Link(), proof, at)
        return self._remember(repository, Kept(manifest, link), forgets)

    async def confirm(self, repository: Repository, kept: Kept, proof: Proof) -> Kept:
        """Its registry named it once more: the link gets this proof, now. What was evicted meanwhile is kept anew."""
        if proof is Proof.ANONYMOUS and kept.link.anonymous_at is not None:
            return kept
        at = self._clock.wall()
        forgets = self._forgets
        digest = kept.manifest.descriptor.digest
        try:
            if not await self._catalog.link(repository, digest, proof, at, is_manifest=True):
                return await self.keep(repository, kept.manifest, proof)
        except StoreFailed as error:
            log.warning("the proof for %s is not written down: %s", repository, error.message)
        return self._remember(repository, Kept(kept.manifest, _proven(kept.link, proof, at)), forgets)

    def _remember(self, repository: Repository, kept: Kept, forgets: int) -> Kept:
        if self._forgets == forgets:
            self._recent.put((repository, kept.manifest.descriptor.digest), Answer(kept, Cache.HIT))
        return kept


def _proven(link: Link, proof: Proof, at: float) -> Link:
    return Link(
        at if proof is Proof.ANONYMOUS else link.anonymous_at,
        at if proof is Proof.CREDENTIALS else link.credentials_at,
        at if proof is Proof.PUSHED else link.pushed_at,
    )


async def _parse(raw: bytes, declared: str | None, digest: Digest | None) -> Manifest:
    """A large index takes a tenth of a second: not on the event loop."""
    if len(raw) <= _LARGE:
        return Manifest.parse(raw, declared=declared, digest=digest)
    return await asyncio.to_thread(Manifest.parse, raw, declared=declared, digest=digest)


async def parsed(fetched: Fetched, reference: Reference, source: Source) -> Manifest:
    """What came, verified against the reference's digest; never against the header, which is not trusted."""
    registry = source.key[0]
    try:
        return await _parse(fetched.raw, fetched.media_type, reference.digest)
    except DigestInvalid:
        raise UpstreamDigestMismatch(
            f"{registry} sent bytes for {reference} that are not what the digest names", registry=registry
        ) from None
    except (ManifestInvalid, ManifestTooLarge) as error:
        raise UpstreamInvalid(
            f"{registry} sent no manifest for {reference}: {error.message}", registry=registry
        ) from None

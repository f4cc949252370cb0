"""Lists that upstream and the mirror know together: tags, referrers.

Upstream's list is asked for as this principal would ask, and remembered for a while; where it gives no answer, what
is held is listed.
"""

import json
import logging
from dataclasses import dataclass
from typing import Protocol

from mirror.cache.manifests import Manifests
from mirror.cache.memory import Recent
from mirror.cache.policy import Policy
from mirror.cache.proofs import Proofs, in_time
from mirror.cache.referring import described
from mirror.cache.rights import Principal
from mirror.clock import Clock
from mirror.errors import ManifestUnknown, MirrorError, NameUnknown, Offline, UpstreamGone, UpstreamNoAnswer
from mirror.oci.digest import Digest
from mirror.oci.manifest import OCI_INDEX, Manifest
from mirror.oci.names import Repository
from mirror.store import protocols as store
from mirror.upstream.protocols import Fetched, Source

log = logging.getLogger(__name__)

MOST_NAMES = 200_000  # of upstream's tags that are read at the most, …
PAGES = 1000  # … on so many pages …
PAGES_WITHIN = 15.0  # … and the seconds after which no further page is asked for
REFERRERS_SECONDS = 300.0
_REMEMBERED_NAMES = 500_000  # tags and referrers kept in memory, over all repositories
_ENTRY = 16  # what an empty list weighs among them
_REFERRER = 8  # and a descriptor, in tags


class Catalog(store.Tags, store.Manifests, Protocol):
    """The parts of the catalog that lists use."""


@dataclass(frozen=True, slots=True)
class Names:
    """Upstream's tags, believed until `until` (monotonic); `cut` where there are more than were read."""

    names: frozenset[str]
    cut: bool
    until: float


@dataclass(frozen=True, slots=True)
class Referring:
    """Upstream's referrers of one digest, believed until `until` (monotonic)."""

    descriptors: tuple[dict[str, object], ...] | None
    until: float


class Listings:
    """Tag lists and referrers, for whoever may read the repository."""

    def __init__(self, *, catalog: Catalog, manifests: Manifests, proofs: Proofs, policy: Policy, clock: Clock) -> None:
        self._catalog = catalog
        self._manifests = manifests
        self._proofs = proofs
        self._policy = policy
        self._clock = clock
        self._tags: Recent[tuple[Repository, bool], Names] = Recent(
            _REMEMBERED_NAMES, lambda known: _ENTRY + len(known.names)
        )
        self._referrers: Recent[tuple[Repository, Digest, bool], Referring] = Recent(
            _REMEMBERED_NAMES, lambda known: _ENTRY + _REFERRER * len(known.descriptors or ())
        )

    async def tags(self, principal: Principal, repository: Repository) -> tuple[list[str], str | None]:
        """All tag names in ASCII order, upstream's and those held for this principal, and a warning where upstream
        could not be asked, or lists more than is read.

        Raises `NameUnknown` where there is nothing that he may know of.
        """
        trusted = self._proofs.trusted(principal, repository)
        warning = None
        try:
            async with in_time(repository.registry):
                upstream, cut = await self._upstream_tags(repository, trusted=trusted)
            if cut:
                warning = f"{repository.registry} lists more tags than the {len(upstream)} that were read"
        except UpstreamGone:
            upstream = frozenset()
        except (UpstreamNoAnswer, Offline) as error:
            upstream, warning = frozenset(), f"{error.message}; only what is held here is listed"
        held = await self._held_tags(repository, upstream, trusted=trusted)
        if not upstream and not held and not repository.is_own:  # an own one is there also when it is empty
            why = f": {warning}" if warning is not None else ""
            raise NameUnknown(f"{repository} is not known{why}", detail={"name": str(repository)})
        return sorted(upstream | held), warning

    async def upstream_tags(self, principal: Principal, repository: Repository) -> list[str]:
        """The tag names that its registry lists for him, in ASCII order. Raises `NameUnknown` where it says that it has
        no such repository, an `UpstreamNoAnswer` or `Offline` where that cannot be known."""
        try:
            names, _ = await self._upstream_tags(repository, trusted=self._proofs.trusted(principal, repository))
        except UpstreamGone as error:
            raise NameUnknown(f"{repository} is not known to {repository.registry}") from error
        return sorted(names)

    async def _held_tags(self, repository: Repository, known: frozenset[str], *, trusted: bool) -> set[str]:
        """Tags held here that name something he may see; those that upstream lists are not looked at again."""
        held = set()
        for name in await self._catalog.tags(repository):
            if name in known:
                continue
            row = await self._catalog.tag(repository, name)
            if row is None or (row.gone_at is not None and not self._policy.keep_gone):
                continue
            kept = await self._manifests.held(repository, row.manifest)
            if kept is not None and self._proofs.visible(kept.link, repository, trusted=trusted):
                held.add(name)
        return held

    async def _upstream_tags(self, repository: Repository, *, trusted: bool) -> tuple[frozenset[str], bool]:
        """Upstream's tags, and whether that is not all of them."""
        key = (repository, trusted)
        known = self._tags.get(key)
        if known is not None and known.until > self._clock.monotonic():
            return known.names, known.cut

        async def ask(source: Source) -> tuple[frozenset[str], bool]:
            until = self._clock.monotonic() + PAGES_WITHIN
            names: set[str] = set()
            page: str | None = None
            for _ in range(PAGES):
                answer = await source.tags(repository, page)
                names.update(answer.names)
                page = answer.next
                if page is None or len(names) >= MOST_NAMES or self._clock.monotonic() >= until:
                    break
            return frozenset(names), page is not None

        sources = await self._proofs.sources(repository, trusted=trusted)
        (names, cut), _ = await self._proofs.first(sources, repository, ("tags", ""), ask)
        until = self._clock.monotonic() + self._policy.of(repository.registry).tag_ttl
        self._tags.put(key, Names(names, cut, until))
        return names, cut

    async def referrers(self, principal: Principal, repository: Repository, subject: Digest) -> list[dict[str, object]]:
        """Descriptors of the manifests that name `subject`, upstream's and those held (OCI distribution-spec,
        "Listing Referrers").

        Raises `ManifestUnknown` where upstream cannot be asked and nothing is held: an empty list would end
        containerd's search.
        """
        trusted = self._proofs.trusted(principal, repository)
        held = await self._held_referrers(repository, subject, trusted=trusted)
        try:
            async with in_time(repository.registry):
                upstream = await self._upstream_referrers(repository, subject, trusted=trusted)
        except UpstreamGone:
            upstream = ()
        except (UpstreamNoAnswer, Offline) as error:
            if not held:
                raise _unknown(repository, subject) from error
            upstream = ()
        if upstream is None and not held:
            upstream = ()
        known = {str(each["digest"]) for each in held}
        return held + [each for each in upstream or () if str(each.get("digest")) not in known]

    async def _held_referrers(
        self, repository: Repository, subject: Digest, *, trusted: bool
    ) -> list[dict[str, object]]:
        found = []
        for digest in await self._catalog.referrers(repository, subject):
            kept = await self._manifests.held(repository, digest)
            if kept is not None and self._proofs.visible(kept.link, repository, trusted=trusted):
                found.append(described(kept.manifest))
        return found

    async def _upstream_referrers(
        self, repository: Repository, subject: Digest, *, trusted: bool
    ) -> tuple[dict[str, object], ...] | None:
        key = (repository, subject, trusted)
        known = self._referrers.get(key)
        if known is not None and known.until > self._clock.monotonic():
            return known.descriptors

        async def ask(source: Source) -> Fetched | None:
            return await source.referrers(repository, subject)

        sources = await self._proofs.sources(repository, trusted=trusted)
        fetched, _ = await self._proofs.first(sources, repository, ("referrers", subject), ask)
        descriptors = _descriptors(fetched) if fetched is not None else None
        self._referrers.put(key, Referring(descriptors, self._clock.monotonic() + REFERRERS_SECONDS))
        return descriptors


def _descriptors(fetched: Fetched) -> tuple[dict[str, object], ...]:
    """The entries of a referrers index, as they came, those that are no descriptors left out."""
    try:
        manifest = Manifest.parse(fetched.raw, declared=OCI_INDEX)
        known = {str(child.descriptor.digest) for child in manifest.children()}
        listed = json.loads(fetched.raw)["manifests"]
    except MirrorError as error:
        log.info("a referrers list that is none: %s", error.message)
        return ()
    return tuple(each for each in listed if each.get("digest") in known)


def _unknown(repository: Repository, subject: Digest) -> ManifestUnknown:
    return ManifestUnknown(f"referrers of {subject} in {repository} cannot be known now")

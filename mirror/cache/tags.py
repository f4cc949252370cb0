"""Manifests by tag: fresh from memory, revalidated by HEAD, stale where upstream gives no answer (design.md §5).

A registry's HEAD does not count against a pull limit, so a GET is spent only on a digest that is new here. One
revalidation at a time per tag and view; clients that leave cancel nothing.
"""

import asyncio
import logging
from collections.abc import Awaitable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol
from weakref import WeakSet

from mirror.cache.content import Cache
from mirror.cache.manifests import Answer, Kept, Manifests, parsed
from mirror.cache.memory import Recent
from mirror.cache.policy import Policy
from mirror.cache.proofs import ANSWER_WITHIN, Proofs, proof_of
from mirror.cache.rights import Principal
from mirror.cache.uses import Uses
from mirror.clock import Clock
from mirror.errors import (
    ManifestUnknown,
    MirrorError,
    Offline,
    StoreFailed,
    UpstreamGone,
    UpstreamNoAnswer,
    UpstreamUnreachable,
)
from mirror.oci.names import Reference, Repository
from mirror.store import protocols as store
from mirror.store.protocols import Link, Misses, Origin, Proof, Tag
from mirror.tasks import Tasks
from mirror.upstream.loops import via
from mirror.upstream.protocols import Source

log = logging.getLogger(__name__)

STALE_SECONDS = 5.0  # how long a stale answer is repeated before upstream is asked again
HURRY = 3.0  # seconds after which a held manifest is served rather than waiting for a slow registry, …
_ENTRIES = 50_000
_Asking = tuple[Repository, str, bool, bool, bool, tuple[str, ...]]


class Catalog(store.Tags, Misses, Protocol):
    """The parts of the catalog that tags use."""


@dataclass(slots=True)
class Entry:
    """What memory knows of a tag: this answer may be given until `until` (monotonic).

    `strangers`: it is stale because the registry told a stranger nothing. With credentials it may well tell more.
    `offline`: it is stale because nobody was to be asked, and holds as long as that does.
    """

    answer: Answer
    until: float
    strangers: bool
    offline: bool = False
    noted: int = 0  # the round in which it was last noted as used


class Tags:
    """Tags, for whoever may see what they name."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        uses: Uses,
        manifests: Manifests,
        proofs: Proofs,
        policy: Policy,
        tasks: Tasks,
        clock: Clock,
    ) -> None:
        self._catalog = catalog
        self._uses = uses
        self._manifests = manifests
        self._proofs = proofs
        self._policy = policy
        self._tasks = tasks
        self._clock = clock
        self._entries: Recent[tuple[Repository, str], Entry] = Recent(_ENTRIES)
        self._asking: dict[_Asking, asyncio.Task[Answer]] = {}
        self._outdated: WeakSet[asyncio.Task[Answer]] = WeakSet()  # they answer those who wait, and remember nothing

    def remembered(self, principal: Principal, repository: Repository, tag: str) -> Answer | None:
        """What can be answered without waiting for anything."""
        entry = self._entries.get((repository, tag))
        if entry is None or entry.until <= self._clock.monotonic() or (entry.offline and not self._policy.offline):
            return None
        link = entry.answer.kept.link
        if link.anonymous_at is None or entry.strangers:
            trusted = self._proofs.trusted(principal, repository)
            if (trusted and entry.strangers) or not self._proofs.visible(link, repository, trusted=trusted):
                return None
        if entry.noted != self._uses.round:
            entry.noted = self._uses.round
            self._uses.image(repository, tag)
        return entry.answer

    async def by_tag(self, principal: Principal, repository: Repository, tag: str) -> Answer:
        """Raises `ManifestUnknown` where his registry says that there is none, an `UpstreamNoAnswer` or `Offline`
        where that cannot be known and nothing is held for him."""
        answer = self.remembered(principal, repository, tag)
        if answer is not None:
            return answer
        trusted = self._proofs.trusted(principal, repository)
        task = self._task(repository, tag, trusted=trusted, anew=False)
        try:
            async with asyncio.timeout(HURRY):
                return await asyncio.shield(task)
        except TimeoutError:
            known = await self._known(repository, tag, trusted=trusted)
        if known is not None:
            return self._stale(*known, f"{repository.registry} is slow")
        try:
            async with asyncio.timeout(ANSWER_WITHIN - HURRY):
                return await asyncio.shield(task)
        except TimeoutError:
            registry = repository.registry
            raise UpstreamUnreachable(f"{registry} gave no answer in time", registry=registry) from None

    async def renew(self, principal: Principal, repository: Repository, tag: str) -> Answer:
        """What its registry says now, however fresh the tag is here. One that was set here by hand is not asked for.

        Raises as `by_tag`, and also where a known manifest goes on being served.
        """
        trusted = self._proofs.trusted(principal, repository)
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                return await asyncio.shield(self._task(repository, tag, trusted=trusted, anew=True))
        except TimeoutError:
            registry = repository.registry
            raise UpstreamUnreachable(f"{registry} gave no answer in time", registry=registry) from None

    def _task(self, repository: Repository, tag: str, *, trusted: bool, anew: bool) -> asyncio.Task[Answer]:
        """The one revalidation under way of this kind, begun where there is none."""
        # Whom a mirror asks may wait for that mirror; and who asks while we are offline, for nobody.
        key = (repository, tag, trusted, anew, self._policy.offline, via.get())
        task = self._asking.get(key)
        if task is None:
            revalidation = self._revalidate(repository, tag, trusted=trusted, anew=anew)
            task = self._asking[key] = self._tasks.spawn(f"tag {repository}:{tag}", revalidation)
            task.add_done_callback(lambda done: self._asked(key, done))
        return task

    def _asked(self, key: _Asking, task: asyncio.Task[Answer]) -> None:
        if self._asking.get(key) is task:
            del self._asking[key]

    def forget(self, repository: Repository, tag: str) -> None:
        """The tag was moved or dropped here: nothing that was known or asked before is remembered."""
        self._entries.drop((repository, tag))
        for key in [key for key in self._asking if key[:2] == (repository, tag)]:
            self._outdated.add(self._asking.pop(key))

    def forget_all(self, repositories: AbstractSet[Repository]) -> None:
        """As `forget`, of every tag of these repositories."""
        self._entries.drop_where(lambda key: key[0] in repositories)
        for key in [key for key in self._asking if key[0] in repositories]:
            self._outdated.add(self._asking.pop(key))

    # --- one revalidation ------------------------------------------------------------------------------------

    async def _revalidate(self, repository: Repository, tag: str, *, trusted: bool, anew: bool) -> Answer:
        row = await self._catalog.tag(repository, tag)  # before upstream is asked: what the compare-and-set expects
        known = await self._seen(repository, row, trusted=trusted)
        if row is not None and row.origin is Origin.LOCAL:
            return await self._set_here(repository, row, known, trusted=trusted)
        if known is not None:
            fresh = self._still_fresh(repository, *known)
            if fresh is not None and not anew:
                return self._enter(repository, tag, Answer(known[1], Cache.HIT), fresh)
        try:
            return await self._ask(repository, tag, row, known, trusted=trusted, anew=anew)
        except UpstreamGone as error:
            answer = await self._gone(repository, tag, known, error, trusted=trusted)
            if anew:
                raise ManifestUnknown(f"{repository}:{tag} is not known to {repository.registry}") from error
            return answer
        except (UpstreamNoAnswer, Offline) as error:
            answer = await self._unknown(repository, tag, known, error, trusted=trusted)
            if anew:
                raise
            return answer

    async def _set_here(
        self, repository: Repository, row: Tag, known: tuple[Tag, Kept] | None, *, trusted: bool
    ) -> Answer:
        """A tag that somebody set here stands until it is removed here, whatever its registry has under that name.
        Only what it names is asked for, by digest, where it may not be seen yet or cannot be read any more."""
        if known is not None:
            ttl = self._policy.of(repository.registry).tag_ttl
            return self._enter(repository, row.name, Answer(known[1], Cache.HIT), ttl)
        try:
            return Answer(await self._manifests.establish(repository, row.manifest, trusted=trusted), Cache.MISS)
        except UpstreamGone as error:
            raise ManifestUnknown(f"{repository.familiar}:{row.name} is not known here") from error

    async def _known(self, repository: Repository, tag: str, *, trusted: bool) -> tuple[Tag, Kept] | None:
        """What is held for him under this tag."""
        return await self._seen(repository, await self._catalog.tag(repository, tag), trusted=trusted)

    async def _seen(self, repository: Repository, row: Tag | None, *, trusted: bool) -> tuple[Tag, Kept] | None:
        if row is None:
            return None
        kept = await self._manifests.held(repository, row.manifest)
        if kept is None or not self._proofs.visible(kept.link, repository, trusted=trusted):
            return None
        return row, kept

    def _still_fresh(self, repository: Repository, row: Tag, kept: Kept) -> float | None:
        """For how many more seconds it need not be asked for; a wall time is believed only if its age makes sense."""
        policy = self._policy.of(repository.registry)
        if policy.immutable(row.name) and row.gone_at is None:
            return policy.tag_ttl
        age = self._clock.age(row.checked_at)
        if age is None or age >= policy.tag_ttl or row.gone_at is not None:
            return None
        return policy.tag_ttl - age

    async def _ask(
        self,
        repository: Repository,
        tag: str,
        row: Tag | None,
        known: tuple[Tag, Kept] | None,
        *,
        trusted: bool,
        anew: bool,
    ) -> Answer:
        reference = Reference(repository, tag, None)

        async def ask(source: Source) -> tuple[Kept, bool]:
            return await self._current(source, reference, known)

        sources = await self._proofs.sources(repository, trusted=trusted)
        (kept, new), source = await self._proofs.first(sources, repository, ("manifest", tag), ask, anew=anew)
        kept = await self._manifests.confirm(repository, kept, proof_of(source))
        if not await self._write(repository, tag, row, kept, proof_of(source)):
            return await self._moved_meanwhile(repository, tag, row, kept, trusted=trusted)
        cache = Cache.MISS if new else Cache.REVALIDATED
        ttl = self._policy.of(repository.registry).tag_ttl
        self._enter(repository, tag, Answer(kept, Cache.HIT), ttl)
        return Answer(kept, cache)

    async def _current(self, source: Source, reference: Reference, known: tuple[Tag, Kept] | None) -> tuple[Kept, bool]:
        """What the tag names upstream now, and whether it had to be fetched."""
        repository = reference.repository
        descriptor = await source.head(reference)
        if descriptor is None:  # a registry whose HEAD does not tell: the GET does
            manifest = await parsed(await source.manifest(reference), reference, source)
            held = await self._manifests.held(repository, manifest.descriptor.digest)
            return held or await self._manifests.keep(repository, manifest, proof_of(source)), held is None
        if known is not None and known[0].manifest == descriptor.digest:
            return known[1], False
        held = await self._manifests.held(repository, descriptor.digest)
        if held is not None:
            return held, False
        vouched = await self._manifests.vouched(repository, descriptor.digest)
        if vouched is not None:
            return await self._manifests.confirm(repository, Kept(vouched, Link()), proof_of(source)), False
        by_digest = Reference(repository, None, descriptor.digest)
        manifest = await self._manifests.fetch(self._proofs.payers(repository, source), by_digest)
        return await self._manifests.keep(repository, manifest, proof_of(source)), True

    async def _write(self, repository: Repository, tag: str, row: Tag | None, kept: Kept, proof: Proof) -> bool:
        """Move or confirm the tag; False if somebody else moved it while upstream was asked, or the manifest is not
        kept."""
        at = self._clock.wall()
        digest = kept.manifest.descriptor.digest
        try:
            expected = row.manifest if row is not None else None
            if row is not None and row.manifest == digest and row.gone_at is None:
                if await self._catalog.confirm_tag(repository, tag, digest, at):
                    return True
                expected = None  # evicted while upstream was asked: all of it comes back, or nothing
                await self._manifests.keep(repository, kept.manifest, proof)
            return await self._catalog.move_tag(repository, tag, expected, digest, Origin.UPSTREAM, at, "upstream")
        except StoreFailed as error:
            log.warning("tag %s of %s is served but not kept: %s", tag, repository, error.message)
            return True

    async def _moved_meanwhile(
        self, repository: Repository, tag: str, row: Tag | None, kept: Kept, *, trusted: bool
    ) -> Answer:
        """What it was moved to; what upstream said where nobody moved it."""
        known = await self._known(repository, tag, trusted=trusted)
        if known is None or (row is not None and known[0].manifest == row.manifest):
            return Answer(kept, Cache.MISS)
        return Answer(known[1], Cache.MISS)

    # --- where upstream does not have it, or does not say ------------------------------------------------------

    async def _gone(
        self,
        repository: Repository,
        tag: str,
        known: tuple[Tag, Kept] | None,
        error: UpstreamGone,
        *,
        trusted: bool,
    ) -> Answer:
        """Public content is kept and served on, stale (or dropped, with `on_upstream_gone = "follow"`); private
        content follows. A stranger's refusal says nothing about what the credentials may see."""
        decisive = trusted or await self._proofs.readable(repository, trusted=False)
        current = await self._catalog.tag(repository, tag)
        if current is not None and current.origin is Origin.LOCAL:  # set here while upstream was asked
            return await self._set_here(
                repository, current, await self._seen(repository, current, trusted=trusted), trusted=trusted
            )
        at = self._clock.wall()
        if known is not None:
            row, kept = known
            keep = self._policy.keep_gone and kept.link.anonymous_at is not None
            if keep:
                if decisive:
                    await self._quietly(self._catalog.tag_gone(repository, tag, at))
                answer = self._stale(row, kept, f"{repository.registry} no longer has it")
                ttl = self._policy.of(repository.registry).tag_ttl
                return self._enter(repository, tag, answer, ttl, strangers=not trusted)
            if decisive and not error.refused:  # whose login ran out has lost nothing: it is shown to nobody, and kept
                await self._quietly(self._catalog.drop_tag(repository, tag, row.manifest, at, "upstream"))
        if decisive:
            self._entries.drop((repository, tag))
        raise ManifestUnknown(f"{repository}:{tag} is not known to {repository.registry}") from error

    async def _unknown(
        self,
        repository: Repository,
        tag: str,
        known: tuple[Tag, Kept] | None,
        error: MirrorError,
        *,
        trusted: bool,
    ) -> Answer:
        """No answer: what is held is served at once, private content for a bounded time only."""
        if known is not None:
            answer = self._stale(*known, error.message)
            offline = isinstance(error, Offline)
            return self._enter(repository, tag, answer, STALE_SECONDS, strangers=not trusted, offline=offline)
        await self._quietly(self._catalog.missed(f"{repository}:{tag}", self._clock.wall()))
        raise error

    def _stale(self, row: Tag, kept: Kept, why: str) -> Answer:
        confirmed = datetime.fromtimestamp(row.checked_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
        return Answer(kept, Cache.STALE, f"{why}; served from the cache, last confirmed {confirmed}")

    async def _quietly(self, writing: Awaitable[None]) -> None:
        """A note in the catalog that no answer depends on."""
        try:
            await writing
        except StoreFailed as error:
            log.warning("not written down: %s", error.message)

    def _enter(
        self,
        repository: Repository,
        tag: str,
        answer: Answer,
        seconds: float,
        *,
        strangers: bool = False,
        offline: bool = False,
    ) -> Answer:
        if asyncio.current_task() in self._outdated:
            return answer
        strangers = strangers and self._proofs.asked_apart(repository)
        until, noted = self._clock.monotonic() + seconds, self._uses.round
        self._entries.put((repository, tag), Entry(answer, until, strangers, offline, noted))
        self._uses.image(repository, tag)
        return answer

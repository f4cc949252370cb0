"""Which bytes a principal may see under a repository, and whom to ask where that is not known (design.md §4).

Proofs stand on the link between a repository and a blob, never on the blob. A set: an update adds and takes
nothing away.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from mirror.cache.memory import Lately
from mirror.cache.policy import Policy, PushMode
from mirror.cache.rights import Principal, Rights
from mirror.clock import Clock
from mirror.errors import (
    MirrorError,
    NameUnknown,
    Offline,
    StoreFailed,
    UpstreamError,
    UpstreamGone,
    UpstreamUnreachable,
)
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.store.protocols import Holding, Link, Proof, Repositories, Visibility
from mirror.upstream.protocols import Source, Upstreams

log = logging.getLogger(__name__)

T = TypeVar("T")
Question = tuple[str, str | Digest]
"""What was asked for: a kind and a name. containerd asks for a digest as a blob first, then as a manifest: the one
"no" must not answer the other question."""

ANSWER_WITHIN = 25.0  # seconds that a client waits for headers at the most; containerd gives up after 30
NEGATIVE_SECONDS = 10.0  # how long a registry's "no" is believed without asking again
_NEGATIVE_ENTRIES = 20_000
_PRIVATE_BELIEVED = 600.0  # seconds for which a private repository is not asked for without credentials first


class Proofs:
    """Sight and sources."""

    def __init__(
        self, *, catalog: Repositories, upstreams: Upstreams, rights: Rights, policy: Policy, clock: Clock
    ) -> None:
        self._catalog = catalog
        self._upstreams = upstreams
        self._rights = rights
        self._policy = policy
        self._clock = clock
        self._refused: Lately[tuple[Repository, Question, tuple[str, bool]]] = Lately(
            NEGATIVE_SECONDS, _NEGATIVE_ENTRIES, clock.monotonic
        )

    # --- what may be seen ------------------------------------------------------------------------------------

    def trusted(self, principal: Principal, repository: Repository) -> bool:
        """Whether he may see what needs the mirror's credentials in this repository."""
        return self._rights.trusted(principal, repository)

    def visible(self, link: Link, repository: Repository, *, trusted: bool) -> bool:
        """Whether this link of `repository` shows its blob. Private content goes dark `private_stale` after its last
        confirmation."""
        if link.anonymous_at is not None:
            return True
        if link.pushed_at is not None and (trusted or not self._guarded(repository)):
            return True
        if link.credentials_at is None or not trusted:
            return False
        age = self._clock.age(link.credentials_at)
        return age is not None and age <= self._policy.private_stale

    async def blob_visible(self, holding: Holding, repository: Repository, *, trusted: bool) -> bool:
        """Whether a held blob may be served under this repository without asking anybody.

        A public blob is served under any upstream repository that he may read, without a new link.
        """
        link = holding.link
        if link is not None and self.visible(link, repository, trusted=trusted):
            return True
        if link is not None and link.credentials_at is not None and trusted and await self._confirmed(repository):
            return True
        if not holding.public or repository.is_own:
            return False
        return await self.readable(repository, trusted=trusted)

    def _guarded(self, repository: Repository) -> bool:
        """Whether what was pushed here counts as private: under the name of a registry that may know it as such, until
        that registry shows it to anybody."""
        if repository.is_own:
            return False
        if self._policy.of(repository.registry).push in (PushMode.THROUGH, PushMode.QUEUE):
            return True
        try:
            return self.asked_apart(repository)
        except NameUnknown:  # it is configured no more: nobody can say
            return True

    async def _confirmed(self, repository: Repository) -> bool:
        """Whether its registry served this private repository to our credentials lately. A client that has the layers
        asks for the tag alone: what it confirms must not go dark beneath it."""
        facts = await self._catalog.repository(repository)
        age = self._clock.age(facts.checked_at)
        return facts.visibility is Visibility.PRIVATE and age is not None and age <= self._policy.private_stale

    async def readable(self, repository: Repository, *, trusted: bool) -> bool:
        """Whether it is known already that he may read this repository at all."""
        if trusted or repository.is_own or not self._upstreams.has_credentials(repository.registry):
            return True
        facts = await self._catalog.repository(repository)
        return facts.visibility is Visibility.PUBLIC

    async def nameable(self, repository: Repository, *, trusted: bool) -> bool:
        """Whether its very name may be told him: what was private when its registry was last asked stays so, also
        where the mirror has no credentials for it any more."""
        if not await self.readable(repository, trusted=trusted):
            return False
        return trusted or (await self._catalog.repository(repository)).visibility is not Visibility.PRIVATE

    def asked_apart(self, repository: Repository) -> bool:
        """Whether its registry is asked for the trusted otherwise than for strangers."""
        return not repository.is_own and self._upstreams.has_credentials(repository.registry)

    # --- whom to ask -----------------------------------------------------------------------------------------

    async def sources(self, repository: Repository, *, trusted: bool) -> list[Source]:
        """The views of the registry that may be asked for him, in order.

        Without credentials first: only that answer makes content public. For a stranger nothing is asked with
        credentials. For the mirror's own repositories there is nobody. Raises `Offline` where nothing may be asked,
        `NameUnknown` for an unknown registry.
        """
        if repository.is_own:
            return []
        if self._policy.offline:
            raise Offline(f"this mirror is offline and does not hold this content of {repository}")
        anonymous = self._upstreams.source(repository.registry, anonymous=True)
        if not trusted or not self._upstreams.has_credentials(repository.registry):
            return [anonymous]
        credentialed = self._upstreams.source(repository.registry, anonymous=False)
        facts = await self._catalog.repository(repository)
        age = self._clock.age(facts.checked_at)
        if facts.visibility is Visibility.PRIVATE and age is not None and age <= _PRIVATE_BELIEVED:
            return [credentialed]
        return [anonymous, credentialed]

    def payers(self, repository: Repository, source: Source) -> list[Source]:
        """Whose pull limit a manifest is fetched on, once `source` has proven that it is there: the credentials' own
        where there are any and the repository is known to be public, else whoever proved it."""
        registry = repository.registry
        if not source.key[1] or not self._upstreams.has_credentials(registry):
            return [source]
        return [self._upstreams.source(registry, anonymous=False), source]

    async def first(
        self,
        sources: list[Source],
        repository: Repository,
        what: Question,
        ask: Callable[[Source], Awaitable[T]],
        *,
        anew: bool = False,
    ) -> tuple[T, Source]:
        """The first answer of these sources, and who gave it; notes what it says about the repository. `anew`: also of
        those that have just said no.

        Raises `UpstreamGone` where every one says no, else the reason why one of them gave no answer.
        """
        no_answer: MirrorError | None = None
        gone: UpstreamGone | None = None
        for source in sources:
            if not anew and (repository, what, source.key) in self._refused:
                gone = UpstreamGone(f"{source.key[0]} does not have it", registry=source.key[0])
                continue
            try:
                answer = await ask(source)
            except UpstreamGone as error:
                self._refused.add((repository, what, source.key))
                gone = error
            except UpstreamError as error:
                no_answer = error
            else:
                await self._note(repository, source, refused_before=gone is not None)
                return answer, source
        raise no_answer or gone or UpstreamGone("nobody to ask", registry=repository.registry)

    async def _note(self, repository: Repository, source: Source, *, refused_before: bool) -> None:
        """A 2xx without credentials: public. With them, after a refusal without: private."""
        if not self._upstreams.has_credentials(repository.registry):
            return
        if not source.key[1] and not refused_before:
            return  # without an answer to a request without credentials the last state stays, however old
        visibility = Visibility.PUBLIC if source.key[1] else Visibility.PRIVATE
        facts = await self._catalog.repository(repository)
        age = self._clock.age(facts.checked_at)
        if facts.visibility is not visibility or age is None or age > _PRIVATE_BELIEVED:
            try:
                await self._catalog.set_visibility(repository, visibility, self._clock.wall())
            except StoreFailed as error:  # the answer does not depend on it; the next one notes it
                log.warning("the visibility of %s is not written down: %s", repository, error.message)


@asynccontextmanager
async def in_time(registry: str) -> AsyncIterator[None]:
    """The limit of what a client waits for, over all sources, URLs and questions together (`ANSWER_WITHIN`)."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN):
            yield
    except TimeoutError:
        raise UpstreamUnreachable(f"{registry} gave no answer in time", registry=registry) from None


def proof_of(source: Source) -> Proof:
    """What an answer of this source proves."""
    return Proof.ANONYMOUS if source.key[1] else Proof.CREDENTIALS

"""`search`: repositories by a term, as a registry's search knows them, or as they are held.

What a registry says to the mirror's credentials is told to those only who may read with them; whoever is a stranger
has it asked without.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mirror.cache.policy import Policy
from mirror.cache.rights import Action, Principal, Rights, Role
from mirror.cache.spelling import Spelling
from mirror.errors import MirrorError, NameInvalid, NoSearch, Offline, RequestInvalid
from mirror.oci.names import DOCKER_HUB, Repository, canonical_registry, is_registry
from mirror.operations.catalog import MATCHES, Held
from mirror.upstream.protocols import Found, Searches, Upstreams

MOST = 100
"""Results at the most, as in docker (moby `registry/search_session.go`)."""
DEFAULT = 25
_HERE = (Role.LOOPBACK, Role.SOCKET)
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})  # as Go's strconv.ParseBool reads them
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_STARS_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Result:
    """One repository. `cached`: something of it is held that the asker may see."""

    name: str
    description: str
    stars: int
    official: bool
    automated: bool
    cached: bool


@dataclass(frozen=True, slots=True)
class Results:
    """`remark`: what there is to know of how they came to be."""

    results: tuple[Result, ...]
    remark: str | None = None


@dataclass(frozen=True, slots=True)
class Filters:
    """Docker's filters of a search (moby `registry/search.go`); None: whatever it is."""

    stars: int = 0
    official: bool | None = None
    automated: bool | None = None

    @classmethod
    def parse(cls, texts: Sequence[str]) -> "Filters":
        """Read `stars=3`, `is-official=true`, `is-automated=false`. Raises `RequestInvalid`."""
        filters = cls()
        for text in texts:
            key, _, value = text.partition("=")
            match key:
                case "stars":
                    if not (value.isascii() and value.isdigit() and len(value) <= _STARS_DIGITS):
                        raise RequestInvalid(f"invalid filter 'stars={value[:100]}': a number is needed")
                    filters = replace(filters, stars=max(filters.stars, int(value)))
                case "is-official":
                    filters = replace(filters, official=_flag(key, value))
                case "is-automated":
                    filters = replace(filters, automated=_flag(key, value))
                case _:
                    raise RequestInvalid(f"invalid filter '{key[:100]}': stars, is-official and is-automated are there")
        return filters

    def fit(self, found: Found) -> bool:
        """Whether this is one of those wanted."""
        return (
            found.stars >= self.stars
            and self.official in (None, found.official)
            and self.automated in (None, found.automated)
        )


class Search:
    """The search, for whoever asks."""

    def __init__(
        self,
        *,
        searches: Searches,
        upstreams: Upstreams,
        held: Held,
        spelling: Spelling,
        rights: Rights,
        policy: Policy,
    ) -> None:
        self._searches = searches
        self._upstreams = upstreams
        self._held = held
        self._spelling = spelling
        self._rights = rights
        self._policy = policy

    async def search(
        self,
        principal: Principal,
        term: str,
        *,
        registry: str | None = None,
        limit: int = DEFAULT,
        local: bool = False,
        filters: Sequence[str] = (),
    ) -> Results:
        """What `registry` finds; the one that the term begins with, or the default one, where none is said.

        With `local` only what is held is searched, and nobody is asked; so too while the mirror is offline, if that
        finds anything. Raises `RequestInvalid`, `NameInvalid`, `NameUnknown` for a registry that is not configured,
        `NoSearch` for one that offers none, `Offline`, an `UpstreamNoAnswer`.
        """
        wanted = Filters.parse(filters)
        if not 1 <= limit <= MOST:
            raise RequestInvalid(f"limit {limit} is outside the range of [1, {MOST}]")
        term = term.strip()
        if local:
            home = canonical_registry(registry) if registry is not None else None
            return Results(await self._local(principal, term, home, limit, wanted))
        home, rest = self._meant(term, registry)
        try:
            found = await self._upstream(principal, home, rest, limit)
        except Offline as error:
            here = await self._local(principal, rest, home, limit, wanted)
            if not here:
                raise
            return Results(here, f"{error.message}; only what is held here is listed")
        results = [await self._result(principal, *each) for each in found if wanted.fit(each[1])]
        return Results(tuple(results))

    async def for_clients(self, principal: Principal, term: str, limit: int) -> list[Result]:
        """What docker and podman are told: what the registry meant finds, and what is held, each under the name that
        is pulled from here. Where the registry cannot be asked, what is held; where nothing is, the reason is raised.
        """
        term = term.strip()
        reason: MirrorError | None = None
        found: list[tuple[Repository, Found]] = []
        try:
            home, rest = self._meant(term, None)
            found = await self._upstream(principal, home, rest, limit)
        except MirrorError as error:
            reason = error
        known = {repository for repository, _ in found}
        more = [each for each in await self._matching(principal, term, limit) if each not in known]
        if reason is not None and not more:
            raise reason
        shown = found[: max(limit - len(more), (limit + 1) // 2)] + [(each, _held(each)) for each in more]
        results = [await self._result(principal, *each) for each in shown[:limit]]
        names = [self._spelling.short(repository) for repository, _ in shown[:limit]]
        return [replace(result, name=name) for result, name in zip(results, names, strict=True)]

    # --- what is held -----------------------------------------------------------------------------------------

    async def _local(
        self, principal: Principal, term: str, registry: str | None, limit: int, wanted: Filters
    ) -> tuple[Result, ...]:
        held = await self._held.search(principal, term, limit if wanted == Filters() else MATCHES, registry)
        chosen = [(each, said) for each in held if wanted.fit(said := _held(each))][:limit]
        return tuple([_result(self._spelling.familiar(each), said, cached=True) for each, said in chosen])

    async def _matching(self, principal: Principal, term: str, limit: int) -> list[Repository]:
        """Held repositories that match what a client searches for: by the whole name, or in the registry it begins
        with."""
        registry, rest = _split(term)
        return await self._held.search(principal, rest, limit, registry)

    # --- what the registry knows ------------------------------------------------------------------------------

    def _meant(self, term: str, registry: str | None) -> tuple[str, str]:
        """The registry to ask, and for what."""
        if registry is not None:
            return canonical_registry(registry), term
        home, rest = _split(term)
        return home or self._spelling.default_registry, rest

    async def _upstream(
        self, principal: Principal, registry: str, term: str, limit: int
    ) -> list[tuple[Repository, Found]]:
        """What the registry finds, and he may know of."""
        credentials = self._upstreams.has_credentials(registry)  # raises NameUnknown
        if self._policy.offline:
            raise Offline(f"this mirror is offline: {registry} is not asked")
        if principal.role is Role.STRANGER or not credentials:
            views = [True]
        else:
            views = [False] if principal.role in _HERE else [True, False]
        failure: NoSearch | None = None
        found: dict[Repository, Found] = {}
        for anonymous in views:
            try:
                said = await self._searches.search(registry, term, limit, anonymous=anonymous)
            except NoSearch as error:
                failure = error
                continue
            for each in said:
                repository = _repository(registry, each)
                if repository is not None and self._may_know(principal, repository, anonymous=anonymous):
                    found.setdefault(repository, each)
        if failure is not None and not found:
            raise failure
        return list(found.items())[:limit]

    def _may_know(self, principal: Principal, repository: Repository, *, anonymous: bool) -> bool:
        if not self._rights.allows(principal, Action.PULL, repository):
            return False
        return anonymous or self._rights.trusted(principal, repository)

    async def _result(self, principal: Principal, repository: Repository, found: Found) -> Result:
        cached = await self._held.shows(principal, repository)
        return _result(self._spelling.familiar(repository), found, cached=cached)


def _split(term: str) -> tuple[str | None, str]:
    """The registry that a term begins with, and the rest (moby `registry/search.go`, splitReposSearchTerm)."""
    first, slash, rest = term.partition("/")
    if slash and is_registry(first):
        return canonical_registry(first), rest
    return None, term


def _repository(registry: str, found: Found) -> Repository | None:
    try:
        return Repository(registry, found.path)
    except NameInvalid:  # too long with its registry
        return None


def _held(repository: Repository) -> Found:
    """What is known of a repository that was found here."""
    official = repository.registry == DOCKER_HUB and repository.path.startswith("library/")
    return Found(repository.path, official=official)


def _result(name: str, found: Found, *, cached: bool) -> Result:
    return Result(name, found.description, found.stars, found.official, found.automated, cached)


def _flag(key: str, value: str) -> bool:
    if value not in _TRUE | _FALSE:
        raise RequestInvalid(f"invalid filter '{key}={value[:100]}': true or false is needed")
    return value in _TRUE

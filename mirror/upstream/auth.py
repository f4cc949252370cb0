"""How one source shows who it is: challenge first (RFC 9110, 11.6; RFC 6750), remembered per origin afterwards.

Our credentials go to the origins the operator configured, and to their token services as far as `realms` allows.
Any other origin that a redirect leads to is a stranger: it may ask for a token of its own, and gets one without
credentials or none.

What a refusal means (design.md §5): where no credentials of ours were involved, or the token service accepted them,
it is the registry's answer about the content (`UpstreamGone`, `refused`). Where they were refused it is an outage of
ours (`UpstreamCredentialsRefused`), and they are not shown again for a minute unless they change.
"""

import logging
import re
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Literal

from yarl import URL

from mirror.clock import Clock
from mirror.errors import UpstreamCredentialsRefused, UpstreamGone, UpstreamInvalid
from mirror.oci.challenge import Challenge, parse_challenges
from mirror.upstream.credentials import Credential, Credentials
from mirror.upstream.guard import Reach
from mirror.upstream.realms import RealmPolicy
from mirror.upstream.tokens import TokenRefused, TokenRequest, Tokens
from mirror.upstream.transport import Response, Transport

log = logging.getLogger(__name__)

REFUSED_SECONDS = 60.0
_ORIGINS, _PATHS = 64, 10_000
_REPOSITORY = re.compile(r"/v2/(.+)/(?:manifests|blobs|tags|referrers)/[^/]+")


@dataclass(frozen=True, slots=True)
class Authorization:
    """What one request shows, and what stands behind it."""

    scheme: Literal["basic", "bearer"]
    secret: str = field(repr=False)
    credential: Credential | None
    request: TokenRequest | None = None  # of a bearer token
    renewed: bool = False  # gained in this operation: if it is refused, there is no better one

    @property
    def header(self) -> str:
        """`Authorization: …`"""
        return self.secret if self.scheme == "basic" else f"Bearer {self.secret}"


@dataclass(slots=True)
class _Known:
    """What an origin asked for last."""

    challenge: Challenge
    reach: Reach
    scopes: OrderedDict[tuple[str, ...], tuple[str, ...]] = field(default_factory=OrderedDict)
    """What it takes for what was wanted."""


class Authenticator:
    """One source's dealings with challenges. `credentials` is None for an anonymous source.

    What a request needs a token for follows from its URL and `actions`; `scopes` says it where the URL does not.
    """

    def __init__(
        self,
        registry: str,
        *,
        transport: Transport,
        tokens: Tokens,
        policy: RealmPolicy,
        credentials: Credentials | None,
        clock: Clock,
        actions: str = "pull",
    ) -> None:
        self._registry = registry
        self._actions = actions  # what a token is asked for, unless a request says it itself
        self._transport = transport
        self._tokens = tokens
        self._policy = policy
        self._credentials = credentials
        self._clock = clock
        self._known: OrderedDict[URL, _Known] = OrderedDict()
        self._refused: tuple[Credential, float] | None = None
        self._complained: Credential | None = None

    async def authorization(self, url: URL, reach: Reach, scopes: tuple[str, ...] = ()) -> Authorization | None:
        """What to show at once, from what this origin asked for before."""
        known = self._known.get(url.origin())
        if known is None:
            return None
        ours = reach is Reach.CONFIGURED
        credential = await self._credential(url) if ours else None
        if known.challenge.scheme == "basic":
            return None if credential is None else self._basic(credential)
        wanted = scopes or self._guess(url)
        needed = known.scopes.get(wanted)
        if needed is None and not (ours and all(map(_is_common, wanted))):
            return None
        request = self._request(url, known.challenge, wanted if needed is None else needed, known.reach, credential)
        try:
            return Authorization("bearer", await self._tokens.get(request), credential, request)
        except TokenRefused:
            if needed is None:
                return None  # our guess was refused: let the registry say what it wants
            return await self._after_refusal(url, request)

    async def renew(
        self, response: Response, sent: Authorization | None, reach: Reach, scopes: tuple[str, ...] = ()
    ) -> Authorization | None:
        """What to show instead of `sent`, which was refused by `response`; None where there is nothing better.

        Raises `UpstreamGone` or `UpstreamCredentialsRefused` where the token service already says it all.
        """
        url = response.url
        challenge = self._choose(response)
        if sent is not None and sent.scheme == "basic" and (challenge is None or challenge.scheme == "basic"):
            return await self._renew_basic(url, sent)
        if challenge is None:
            return None
        wanted = scopes or self._guess(url)
        known = self._remember(url, challenge, response, reach, wanted)
        credential = await self._credential(url) if reach is Reach.CONFIGURED else None
        if challenge.scheme == "basic":
            return None if credential is None else self._basic(credential)
        request = self._request(url, challenge, _needed(challenge, wanted), known.reach, credential)
        if sent is not None and sent.renewed and sent.request == request:
            return None
        stale = sent.secret if sent is not None and sent.scheme == "bearer" else None
        try:
            token = await self._tokens.get(request, stale=stale)
        except TokenRefused:
            return await self._after_refusal(url, request)
        return Authorization("bearer", token, credential, request, renewed=True)

    def verdict(self, response: Response, sent: Authorization | None) -> UpstreamGone | UpstreamCredentialsRefused:
        """What a 401 or 403 means that nothing could avert."""
        credential = sent.credential if sent is not None else None
        if sent is not None and credential is not None and sent.scheme == "basic":
            return self.refuse(credential)
        return self._gone(response.status)

    def refuse(self, credential: Credential) -> UpstreamCredentialsRefused:
        """Note that these were refused; they are not shown again for a while."""
        self._refused = (credential, self._clock.monotonic() + REFUSED_SECONDS)
        error = self._refusal(credential)
        if credential != self._complained:
            self._complained = credential
            log.error("%s", error.message)
        return error

    def accepted(self) -> None:
        """Our credentials worked: the next refusal is worth a word again."""
        self._refused = self._complained = None

    async def _after_refusal(self, url: URL, request: TokenRequest) -> Authorization:
        """The token service refused. Is it about the repository, or about our credentials?

        GHCR refuses with 403 what may not be read; others refuse wrong passwords with either. So the same is asked for
        no repository, as `docker login` does: credentials that are good get a token for that.
        """
        credential = request.credential
        if credential is None:
            raise self._gone(403)
        if request.scopes and await self._is_good(request):
            raise self._gone(403)
        renewed = await self._renewed(url, credential)
        if renewed is None:
            raise self.refuse(credential)
        again = TokenRequest(request.realm, request.service, request.scopes, renewed, request.asked, request.reach)
        try:
            return Authorization("bearer", await self._tokens.get(again), renewed, again, renewed=True)
        except TokenRefused:
            if again.scopes and await self._is_good(again):
                raise self._gone(403) from None
            raise self.refuse(renewed) from None

    async def _is_good(self, request: TokenRequest) -> bool:
        try:
            # Asked now: a token kept from before would vouch for a password that was changed since.
            await self._tokens.get(request.without_scopes(), fresh=True)
        except (TokenRefused, UpstreamInvalid):
            return False
        return True

    async def _renew_basic(self, url: URL, sent: Authorization) -> Authorization | None:
        if sent.credential is None or sent.renewed:
            return None
        renewed = await self._renewed(url, sent.credential)
        return None if renewed is None else self._basic(renewed, renewed=True)

    async def _renewed(self, url: URL, refused: Credential) -> Credential | None:
        """Other credentials than those refused: the helper's next, the file's new content."""
        return await self._credentials.renew(_host(url), refused) if self._credentials is not None else None

    async def _credential(self, url: URL) -> Credential | None:
        """Our credentials for a configured origin, where they may be shown."""
        found = await self._credentials.get(_host(url)) if self._credentials is not None else None
        if found is None:
            return None
        if self._refused is not None and self._refused[0] == found and self._clock.monotonic() < self._refused[1]:
            raise self._refusal(found)
        self._policy.check_transport(url)
        return found

    def _basic(self, credential: Credential, *, renewed: bool = False) -> Authorization:
        if credential.identity_token:
            raise UpstreamCredentialsRefused(
                f"{self._registry}: {credential.source} holds an identity token, but it wants user and password",
                registry=self._registry,
            )
        return Authorization("basic", credential.basic, credential, renewed=renewed)

    def _choose(self, response: Response) -> Challenge | None:
        """Of several challenges, Bearer with a realm; else Basic."""
        found = parse_challenges(response.headers.getall("WWW-Authenticate", []))
        bearer = (c for c in found if c.scheme == "bearer" and c.parameters.get("realm"))
        return next(bearer, None) or next((c for c in found if c.scheme == "basic"), None)

    def _remember(
        self, url: URL, challenge: Challenge, response: Response, reach: Reach, wanted: tuple[str, ...]
    ) -> _Known:
        origin = url.origin()
        realm_reach = self._realm_reach(url, challenge, response, reach)
        known = self._known.setdefault(origin, _Known(challenge, realm_reach))
        known.challenge, known.reach = challenge, realm_reach
        self._known.move_to_end(origin)
        if len(self._known) > _ORIGINS:
            self._known.popitem(last=False)
        if _scopes(challenge):
            known.scopes[wanted] = _needed(challenge, wanted)
            if len(known.scopes) > _PATHS:
                known.scopes.popitem(last=False)
        return known

    def _realm_reach(self, url: URL, challenge: Challenge, response: Response, reach: Reach) -> Reach:
        realm = _realm(challenge)
        at_home = reach is Reach.CONFIGURED and realm.is_absolute() and realm.origin() == url.origin()
        if at_home or self._policy.is_listed(realm):
            return Reach.CONFIGURED
        return self._transport.reach_from(response, reach)

    def _request(
        self, url: URL, challenge: Challenge, scopes: tuple[str, ...], reach: Reach, credential: Credential | None
    ) -> TokenRequest:
        return TokenRequest(
            realm=_realm(challenge),
            service=challenge.parameters.get("service"),
            scopes=scopes,
            credential=credential,
            asked=url.origin(),
            reach=reach,
        )

    def _guess(self, url: URL) -> tuple[str, ...]:
        """The scope that nearly every registry asks for."""
        path = _repository(url)
        return (repository_scope(path, self._actions),) if path else ()

    def _gone(self, status: int) -> UpstreamGone:
        return UpstreamGone(f"{self._registry} refused: {status}", registry=self._registry, refused=True)

    def _refusal(self, credential: Credential) -> UpstreamCredentialsRefused:
        return UpstreamCredentialsRefused(
            f"{self._registry}: our credentials (from {credential.source}) were refused; correct them or log in again",
            registry=self._registry,
        )


def repository_scope(path: str, actions: str) -> str:
    """A token's scope (distribution `spec/auth/scope.md`); `actions` such as `pull,push`."""
    return f"repository:{path}:{actions}"


def _repository(url: URL) -> str:
    match = _REPOSITORY.search(url.raw_path)
    return match[1] if match else ""


def _scopes(challenge: Challenge) -> tuple[str, ...]:
    return tuple(challenge.parameters.get("scope", "").split())


def _needed(challenge: Challenge, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The scopes to ask for: the challenge's, and where more than reading is wanted, that too.

    Registries challenge a HEAD for `pull`, and leave out the repository that a mount comes from. A challenge that names
    a repository for more than `pull` is believed: not every registry knows an action `delete`.
    """
    asked = _scopes(challenge)
    if not asked or all(map(_only_reads, wanted)):
        return asked or wanted
    believed = {_resource(scope) for scope in asked if not _only_reads(scope)}
    ours = {_resource(scope) for scope in wanted} - believed
    return (
        *(scope for scope in asked if _resource(scope) not in ours),
        *(scope for scope in wanted if _resource(scope) in ours),
    )


def _resource(scope: str) -> str:
    """`repository:team/app` of `repository:team/app:pull,push`."""
    return scope.rpartition(":")[0]


def _only_reads(scope: str) -> bool:
    return scope.rpartition(":")[2] == "pull"


def _is_common(scope: str) -> bool:
    """Whether every token service knows its actions: some answer 400 to another."""
    return set(scope.rpartition(":")[2].split(",")) <= {"pull", "push"}


def _realm(challenge: Challenge) -> URL:
    try:
        return URL(challenge.parameters.get("realm", ""))
    except ValueError:
        return URL()


def _host(url: URL) -> str:
    return url.host_port_subcomponent or ""

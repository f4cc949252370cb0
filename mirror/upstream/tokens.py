"""The token service's client (distribution `spec/auth/token.md`; `oauth.md` for refresh tokens; RFC 6750).

Tokens are kept per realm, service, scopes and credential, and renewed before they expire. Callers that need the same
token wait for one request together.
"""

import asyncio
import json
import re
from collections import OrderedDict
from dataclasses import dataclass, field

from yarl import URL

from mirror.clock import Clock
from mirror.errors import UpstreamForbidden, UpstreamInvalid, UpstreamLimited, UpstreamUnreachable
from mirror.upstream.bodies import drain, read_capped
from mirror.upstream.credentials import Credential
from mirror.upstream.guard import Reach
from mirror.upstream.limits import rest_seconds
from mirror.upstream.realms import RealmPolicy, load_suffixes
from mirror.upstream.translate import origin_of
from mirror.upstream.transport import Response, Transport

TOKEN_LIMIT = 1 << 16
_DEFAULT_SECONDS = 60.0  # token.md: "If the expires_in field is omitted … 60 seconds"
_LONGEST_SECONDS = 3600.0
_EARLY_SHARE, _EARLY_MOST = 0.2, 30.0
_KEPT = 2000
_HOPS = 3
_BEARER = re.compile(r"[\x21-\x7e]{1,32768}")


class TokenRefused(Exception):
    """The token service gave no token: 401 or 403."""


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What is asked of whom. `asked` is the registry's URL that sent us there, which rules apply to."""

    realm: URL
    service: str | None
    scopes: tuple[str, ...]
    credential: Credential | None
    asked: URL = field(compare=False)
    reach: Reach = field(compare=False)

    def without_scopes(self) -> "TokenRequest":
        """The same for no repository at all: whether the credentials are good."""
        return TokenRequest(self.realm, self.service, (), self.credential, self.asked, self.reach)


@dataclass(slots=True)
class _Kept:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    token: str | None = field(default=None, repr=False)
    good_until: float = 0.0


class Tokens:
    """The tokens of one source."""

    def __init__(self, registry: str, *, transport: Transport, policy: RealmPolicy, clock: Clock) -> None:
        self._registry = registry
        self._transport = transport
        self._policy = policy
        self._clock = clock
        self._kept: OrderedDict[TokenRequest, _Kept] = OrderedDict()

    async def get(self, request: TokenRequest, *, stale: str | None = None, fresh: bool = False) -> str:
        """A token that is good for a while and is not `stale`; where `fresh`, one that is given out now.

        Raises `TokenRefused`, `UpstreamForbidden` where the credentials may not go there, `UpstreamLimited`,
        `UpstreamUnreachable` or `UpstreamInvalid`.
        """
        kept = self._kept.setdefault(request, _Kept())
        self._kept.move_to_end(request)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        async with kept.lock:
            now = self._clock.monotonic()
            if fresh or kept.token is None or kept.token == stale or kept.good_until <= now:
                kept.token = None
                kept.token, seconds = await self._fetch(request)
                kept.good_until = now + seconds - min(seconds * _EARLY_SHARE, _EARLY_MOST)
            return kept.token

    async def _fetch(self, request: TokenRequest) -> tuple[str, float]:
        response = await self._ask(request)
        if response.status != 200:
            await drain(response)
            raise self._failure(response)
        raw = await read_capped(response, TOKEN_LIMIT, registry=self._registry, what="token")
        return self._parse(raw, response.url)

    async def _ask(self, request: TokenRequest) -> Response:
        """Send it, and follow redirects to where the same credentials may go."""
        url, reach = request.realm, request.reach
        if request.credential is not None:
            await load_suffixes()
        for _ in range(_HOPS):
            self._check(request, url)
            response = await self._send(request, url, reach)
            location = response.headers.get("Location")
            if response.status not in (301, 302, 307, 308) or location is None:
                return response
            await drain(response)
            before, url = url, _join(url, location)
            if url.origin() != before.origin() and not self._policy.is_listed(url):
                reach = self._transport.reach_from(response, reach)
        raise UpstreamInvalid(f"{self._registry}: its token service redirects without end", registry=self._registry)

    async def _send(self, request: TokenRequest, url: URL, reach: Reach) -> Response:
        headers = {"Accept": "application/json"}
        credential = request.credential
        if credential is not None and credential.identity_token:
            form = {
                "grant_type": "refresh_token",
                "service": request.service or "",
                "client_id": "mirror",
                "scope": " ".join(request.scopes),
                "refresh_token": credential.secret,
            }
            return await self._transport.send("POST", url, headers=headers, reach=reach, form=form)
        query = [("service", request.service)] if request.service else []
        query += [("scope", scope) for scope in request.scopes]
        if credential is not None:
            headers["Authorization"] = credential.basic
        return await self._transport.send("GET", url.extend_query(query), headers=headers, reach=reach)

    def _check(self, request: TokenRequest, url: URL) -> None:
        if url.scheme not in ("http", "https") or not url.host:
            raise UpstreamInvalid(f"{self._registry}: its token service has no usable URL", registry=self._registry)
        if request.credential is not None:
            self._policy.check_realm(request.asked, url)
        if request.asked.scheme == "https" and url.scheme == "http":
            raise UpstreamForbidden(
                f"{self._registry}: it led from https to a token service over plain http at {origin_of(url)}",
                registry=self._registry,
            )

    def _failure(self, response: Response) -> Exception:
        where, status = origin_of(response.url), response.status
        if status in (401, 403) or (status == 400 and response.method == "POST"):  # oauth2: invalid_grant is a 400
            return TokenRefused()
        if status == 429:
            seconds = rest_seconds(response.headers.get("Retry-After"), self._clock.wall())
            return UpstreamLimited(
                f"{self._registry}: its token service limits our requests", registry=self._registry, retry_after=seconds
            )
        if status >= 500:
            return UpstreamUnreachable(
                f"{self._registry}: its token service at {where} answered {status}", registry=self._registry
            )
        return UpstreamInvalid(
            f"{self._registry}: its token service at {where} answered {status}", registry=self._registry
        )

    def _parse(self, raw: bytes, url: URL) -> tuple[str, float]:
        try:
            value = json.loads(raw)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            token = value.get("token") or value.get("access_token")
            if isinstance(token, str) and _BEARER.fullmatch(token):
                return token, _seconds(value.get("expires_in"))
        raise UpstreamInvalid(
            f"{self._registry}: its token service at {origin_of(url)} gave no usable token", registry=self._registry
        )


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        return _DEFAULT_SECONDS
    return min(float(value), _LONGEST_SECONDS)


def _join(base: URL, location: str) -> URL:
    try:
        return base.join(URL(location))
    except ValueError:
        return URL()

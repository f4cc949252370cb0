"""One operation at one URL: authentication and redirects, one hop at a time, until there is an answer.

Redirects (RFC 9110, 15.4) come on every kind of request and lead anywhere. Each hop builds its headers anew: what
authenticates us at one origin is shown to no other. A signed URL is sent on byte for byte.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from yarl import URL

from mirror.clock import Clock
from mirror.errors import (
    Offline,
    UpstreamError,
    UpstreamForbidden,
    UpstreamGone,
    UpstreamInvalid,
    UpstreamLimited,
    UpstreamLoop,
    UpstreamUnreachable,
)
from mirror.upstream.auth import Authenticator, Authorization
from mirror.upstream.bodies import drain
from mirror.upstream.endpoints import Endpoint, Endpoints
from mirror.upstream.guard import Reach
from mirror.upstream.limits import rest_seconds
from mirror.upstream.loops import is_loop
from mirror.upstream.translate import origin_of
from mirror.upstream.transport import Response, Transport
from mirror.upstream.upload import UploadBody

HOPS = 10
_RENEWALS = 2  # nothing known at first: then a token or password; then a renewed one
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class Answer:
    """The last hop's answer. `hops` is how many redirects led there."""

    response: Response = field(repr=False)  # aiohttp's shows its whole URL
    hops: int
    sent: Authorization | None
    endpoint: Endpoint

    @property
    def status(self) -> int:
        return self.response.status


@dataclass(frozen=True, slots=True)
class _Request:
    """What is the same on every hop."""

    method: str
    headers: Mapping[str, str]
    scopes: tuple[str, ...] = ()
    body: bytes | UploadBody | None = None

    @property
    def is_spent(self) -> bool:
        """Whether its body cannot be sent again."""
        return isinstance(self.body, UploadBody) and self.body.begun

    def may_follow(self, status: int) -> bool:
        """Whether a redirect with this status asks for the same once more (RFC 9110, 15.4: of writes, 307 and 308)."""
        return self.method in ("GET", "HEAD") or (status in (307, 308) and not self.is_spent)


class Exchange:
    """The operations of one source, or of one destination."""

    def __init__(
        self,
        registry: str,
        *,
        transport: Transport,
        auth: Authenticator,
        endpoints: Endpoints,
        clock: Clock,
        offline: Callable[[], bool] = lambda: False,
    ) -> None:
        self._registry = registry
        self._offline = offline
        self._transport = transport
        self._auth = auth
        self._clock = clock
        self._origins = frozenset(endpoint.origin for endpoint in endpoints.all)
        self._beyond = Reach.OUTER  # where this registry may lead, as of its last answer

    async def ask(
        self,
        endpoint: Endpoint,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        *,
        scopes: tuple[str, ...] = (),
        body: bytes | UploadBody | None = None,
    ) -> Answer:
        """Send `method` to `url`, a URL of this registry or one that it named. The caller judges the answer.

        `scopes` are what a token has to be good for, where the URL does not tell. Raises `Offline` while nothing is to
        be sent anywhere; `UpstreamUnreachable` where an `UploadBody` would have to be sent again, and `UpstreamInvalid`
        where it is redirected.
        """
        if self._offline():
            raise Offline(f"this mirror is offline: {self._registry} is not asked")
        request = _Request(method, headers, scopes, body)
        reach = self._reach(url, self._beyond)
        for hop in range(HOPS + 1):
            response, sent = await self._authenticated(request, url, reach)
            beyond = self._transport.reach_from(response, reach)
            if reach is Reach.CONFIGURED:
                self._beyond = beyond
            if response.status not in _REDIRECTS:
                return Answer(response, hop, sent, endpoint)
            await drain(response)
            if not request.may_follow(response.status):
                raise UpstreamInvalid(
                    f"{self._registry}: {origin_of(response.url)} redirected a {method} ({response.status}), "
                    f"which is not followed",
                    registry=self._registry,
                )
            url = self.follow(response.url, response.headers.get("Location"))
            reach = self._reach(url, beyond)
        raise UpstreamInvalid(f"{self._registry}: more than {HOPS} redirects", registry=self._registry)

    async def judged(self, endpoint: Endpoint, method: str, url: URL, headers: Mapping[str, str]) -> Answer:
        """`ask`, and raise what its status means unless that is for the caller to say (2xx and 4xx of other kinds)."""
        answer = await self.ask(endpoint, method, url, headers)
        await self.judge(answer)
        return answer

    async def judge(self, answer: Answer) -> None:
        """Raises the error that this answer's status stands for; the answer is closed then."""
        try:
            error = await self._error(answer)
        except BaseException:
            answer.response.close()
            raise
        if error is not None:
            await drain(answer.response)
            raise error

    async def _error(self, answer: Answer) -> UpstreamError | None:
        status = answer.status
        if status in (401, 403):
            return await self._refusal(answer)
        if status in (404, 410, 451):
            return UpstreamGone(f"{self._registry} does not have it", registry=self._registry)
        if status == 429:
            return self._limited(answer.response)
        if is_loop(status, answer.response.headers):
            return self._loop()
        return self.unreachable(answer) if status >= 500 or status == 408 else None

    def trust_again(self) -> None:
        """Our credentials are others now: what was refused before says nothing about them."""
        self._auth.accepted()

    def follow(self, base: URL, location: str | None) -> URL:
        """Where a `Location` or `Link` at `base` leads. Raises `UpstreamInvalid` or `UpstreamForbidden`."""
        url = _resolve(base, location or "")
        if url is None or not url.host:
            raise UpstreamInvalid(f"{self._registry}: it led to no usable URL", registry=self._registry)
        if url.scheme not in ("http", "https") or (base.scheme == "https" and url.scheme == "http"):
            raise UpstreamForbidden(
                f"{self._registry}: it led from {base.scheme} to {origin_of(url)}, which is not followed",
                registry=self._registry,
            )
        return url

    def unreachable(self, answer: Answer) -> UpstreamUnreachable:
        """An answer that is none."""
        where = origin_of(answer.response.url)
        return UpstreamUnreachable(f"{self._registry}: {where} answered {answer.status}", registry=self._registry)

    def invalid(self, answer: Answer) -> UpstreamInvalid:
        """An answer that this request cannot have."""
        where = origin_of(answer.response.url)
        return UpstreamInvalid(f"{self._registry}: {where} answered {answer.status}", registry=self._registry)

    def _reach(self, url: URL, beyond: Reach) -> Reach:
        return Reach.CONFIGURED if url.origin() in self._origins else beyond

    async def _authenticated(self, request: _Request, url: URL, reach: Reach) -> tuple[Response, Authorization | None]:
        """One hop: what this origin asked for before at once, what it asks for now once more."""
        sent = await self._auth.authorization(url, reach, request.scopes)
        response = await self._send(request, url, reach, sent)
        for _ in range(_RENEWALS):
            better = await self._renew(request, response, sent, reach) if _may_be_averted(response, sent) else None
            if better is None:
                break
            await drain(response)
            if request.is_spent:
                raise UpstreamUnreachable(
                    f"{self._registry}: {origin_of(url)} wants another authorization in the middle of an upload",
                    registry=self._registry,
                )
            sent = better
            response = await self._send(request, url, reach, sent)
        if sent is not None and sent.credential is not None and response.status not in (401, 403):
            self._auth.accepted()
        return response, sent

    async def _send(self, request: _Request, url: URL, reach: Reach, sent: Authorization | None) -> Response:
        shown = {} if sent is None else {"Authorization": sent.header}
        headers = {**request.headers, **shown}
        return await self._transport.send(request.method, url, headers=headers, reach=reach, body=request.body)

    async def _renew(
        self, request: _Request, response: Response, sent: Authorization | None, reach: Reach
    ) -> Authorization | None:
        try:
            return await self._auth.renew(response, sent, reach, request.scopes)
        except BaseException:
            response.close()
            raise

    async def _refusal(self, answer: Answer) -> UpstreamError:
        """401 or 403. A store that we were redirected to and that asked for nothing does not speak of the content."""
        sent = answer.sent
        if answer.hops and sent is None and "WWW-Authenticate" not in answer.response.headers:
            return self.unreachable(answer)
        if sent is not None and sent.scheme == "basic" and answer.status == 403:
            # Forbidden, or (ECR) expired? What the ping says of the same password tells.
            ping = await self._send(_Request("GET", {}), answer.endpoint.ping, Reach.CONFIGURED, sent)
            await drain(ping)
            if ping.status not in (401, 403):
                return UpstreamGone(f"{self._registry} refused: 403", registry=self._registry, refused=True)
        return self._auth.verdict(answer.response, sent)

    def _limited(self, response: Response) -> UpstreamLimited:
        seconds = rest_seconds(response.headers.get("Retry-After"), self._clock.wall())
        return UpstreamLimited(
            f"{self._registry} limits our requests; nothing is sent there for {seconds:.0f} s",
            registry=self._registry,
            retry_after=seconds,
        )

    def _loop(self) -> UpstreamLoop:
        return UpstreamLoop(
            f"{self._registry}: its URL leads back to this mirror; correct `url` of the registry",
            registry=self._registry,
        )


def _may_be_averted(response: Response, sent: Authorization | None) -> bool:
    """Whether a better authorization may help: 401; 403 with a challenge; 403 for a password (ECR's expired one)."""
    if response.status == 401:
        return True
    basic = sent is not None and sent.scheme == "basic"
    return response.status == 403 and (basic or "WWW-Authenticate" in response.headers)


def _resolve(base: URL, location: str) -> URL | None:
    """`location` as it stands where it is printable ASCII, else quoted; without a user, which no server may name."""
    verbatim = location.isascii() and location.isprintable() and " " not in location
    try:
        target = URL(location, encoded=verbatim)
        url = target if target.scheme else base.join(target)
        return url.with_user(None) if url.raw_user or url.raw_password else url
    except ValueError:
        return None

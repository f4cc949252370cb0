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


class Exchange:
    """The operations of one source."""

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

    async def ask(self, endpoint: Endpoint, method: str, url: URL, headers: Mapping[str, str]) -> Answer:
        """Send `method` to `url`, a URL of this registry or one that it named. The caller judges the answer.

        Raises `Offline` while nothing is to be sent anywhere.
        """
        if self._offline():
            raise Offline(f"this mirror is offline: {self._registry} is not asked")
        reach = self._reach(url, self._beyond)
        for hop in range(HOPS + 1):
            response, sent = await self._authenticated(method, url, headers, reach)
            beyond = self._transport.reach_from(response, reach)
            if reach is Reach.CONFIGURED:
                self._beyond = beyond
            if response.status not in _REDIRECTS:
                return Answer(response, hop, sent, endpoint)
            await drain(response)
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

    async def _authenticated(
        self, method: str, url: URL, headers: Mapping[str, str], reach: Reach
    ) -> tuple[Response, Authorization | None]:
        """One hop: what this origin asked for before at once, what it asks for now once more."""
        sent = await self._auth.authorization(url, reach)
        response = await self._send(method, url, headers, reach, sent)
        for _ in range(_RENEWALS):
            better = await self._renew(response, sent, reach) if _may_be_averted(response, sent) else None
            if better is None:
                break
            await drain(response)
            sent = better
            response = await self._send(method, url, headers, reach, sent)
        if sent is not None and sent.credential is not None and response.status not in (401, 403):
            self._auth.accepted()
        return response, sent

    async def _send(
        self, method: str, url: URL, headers: Mapping[str, str], reach: Reach, sent: Authorization | None
    ) -> Response:
        shown = {} if sent is None else {"Authorization": sent.header}
        return await self._transport.send(method, url, headers={**headers, **shown}, reach=reach)

    async def _renew(self, response: Response, sent: Authorization | None, reach: Reach) -> Authorization | None:
        try:
            return await self._auth.renew(response, sent, reach)
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
            ping = await self._send("GET", answer.endpoint.ping, {}, Reach.CONFIGURED, sent)
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

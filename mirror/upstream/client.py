"""`RegistrySource`: one registry as a flight and a tag read it (protocols.py, `Source`).

It retries what can be retried unseen: another authorization, the registry's other URLs, a CDN URL that has expired.
A body that breaks off is the flight's to resume; every `open` asks the registry anew, and the URL that broke last.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from yarl import URL

from mirror.clock import Clock
from mirror.errors import (
    DigestInvalid,
    UpstreamCredentialsRefused,
    UpstreamGone,
    UpstreamInvalid,
    UpstreamLimited,
    UpstreamNoAnswer,
    UpstreamUnreachable,
)
from mirror.oci.digest import Digest
from mirror.oci.manifest import MANIFEST_LIMIT, MANIFEST_TYPES, OCI_INDEX, Descriptor
from mirror.oci.names import Reference, Repository
from mirror.oci.ranges import parse_content_range
from mirror.upstream.bodies import drain, read_capped
from mirror.upstream.breaker import Breaker
from mirror.upstream.download import BlobDownload
from mirror.upstream.endpoints import Endpoint, Endpoints
from mirror.upstream.exchange import Answer, Exchange
from mirror.upstream.limits import Quota, parse_quota
from mirror.upstream.listing import PAGES_LIMIT, TAGS_LIMIT, Page, next_link, parse_index, parse_tags
from mirror.upstream.protocols import Download, Fetched, SourceState, TagPage
from mirror.upstream.translate import origin_of

HEADERS_SECONDS = 15.0
"""Until the headers of an answer are there, at one URL: authentication and redirects included."""
OPERATION_SECONDS = 25.0
"""The same over all URLs. containerd gives up after 30 s without headers."""
BODY_SECONDS = 60.0
"""For the body of a manifest or a list."""
PING_SECONDS = 5.0

_ACCEPT = {"Accept": ", ".join(sorted(MANIFEST_TYPES))}
_ACCEPT_INDEX = {"Accept": OCI_INDEX}
_ACCEPT_JSON = {"Accept": "application/json"}
_PAGE_SIZE = "n=1000"
_REFERRERS_PAGES = 100
_HUB_HOST = "registry-1.docker.io"
_UNSATISFIED = "bytes */"
R = TypeVar("R")


class RegistrySource:
    """One registry, with or without credentials. `Registries` builds it."""

    def __init__(
        self,
        registry: str,
        *,
        anonymous: bool,
        exchange: Exchange,
        endpoints: Endpoints,
        clock: Clock,
        headers_seconds: float = HEADERS_SECONDS,
    ) -> None:
        self._registry = registry
        self._anonymous = anonymous
        self._exchange = exchange
        self._endpoints = endpoints
        self._clock = clock
        self._headers_seconds = headers_seconds
        self._quota = Quota()
        self._fetched_bytes = 0
        self._trouble: UpstreamNoAnswer | None = None
        self._trouble_since: float | None = None
        self._checked = False
        self.breaker: Breaker | None = None

    @property
    def key(self) -> tuple[str, bool]:
        """(registry, anonymous?)"""
        return self._registry, self._anonymous

    @property
    def is_hub(self) -> bool:
        """Whether this is Docker Hub itself, and not something else configured under its name."""
        return any(endpoint.origin.host == _HUB_HOST for endpoint in self._endpoints.all)

    # --- blobs --------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def open(
        self, repository: Repository, digest: Digest, offset: int = 0, end: int | None = None
    ) -> AsyncIterator[Download]:
        """A blob's bytes from `offset` to `end` (exclusive); `offset` of the download is 0 where Range was ignored."""

        async def begin(endpoint: Endpoint) -> BlobDownload:
            return await self._begin(endpoint, endpoint.url(repository.path, "blobs", str(digest)), offset, end)

        download = await self._run(begin)
        try:
            yield download
        finally:
            download.close()

    async def size(self, repository: Repository, digest: Digest) -> int | None:
        """That the registry has this blob for us, and its length in bytes (None: it does not say)."""

        async def ask(endpoint: Endpoint) -> int | None:
            url = endpoint.url(repository.path, "blobs", str(digest))
            answer = await self._exchange.ask(endpoint, "HEAD", url, {})
            if _head_refused(answer):
                await drain(answer.response)
                return await self._size_by_range(endpoint, url)
            await self._exchange.judge(answer)
            await drain(answer.response)
            if answer.status != 200:
                raise self._exchange.invalid(answer)
            return _length(answer)

        return await self._run(ask)

    # --- manifests ----------------------------------------------------------------------------------------

    async def head(self, reference: Reference) -> Descriptor | None:
        """What a tag or digest names, or None where this registry's HEAD does not tell."""

        async def ask(endpoint: Endpoint) -> Descriptor | None:
            answer = await self._exchange.ask(endpoint, "HEAD", _manifest_url(endpoint, reference), _ACCEPT)
            self._note_quota(answer)
            if answer.status in (400, 405, 406, 501) or (answer.hops and _head_refused(answer)):
                await drain(answer.response)
                return None
            await self._exchange.judge(answer)
            await drain(answer.response)
            return _descriptor(answer, reference) if answer.status == 200 else None

        return await self._run(ask)

    async def manifest(self, reference: Reference) -> Fetched:
        """A manifest's bytes as they come, by tag or digest."""

        async def ask(endpoint: Endpoint) -> Answer:
            url = _manifest_url(endpoint, reference)
            answer = await self._get(endpoint, url, _ACCEPT)
            self._note_quota(answer)
            return answer

        answer = await self._run(ask)
        raw = await self._read(answer, MANIFEST_LIMIT, "manifest")
        return Fetched(raw, _media_type(answer), _claimed_digest(answer))

    # --- lists --------------------------------------------------------------------------------------------

    async def tags(self, repository: Repository, page: str | None) -> TagPage:
        """One page of tag names."""
        wanted = Page.parse(page) if page is not None else None

        async def ask(endpoint: Endpoint) -> Answer:
            url = endpoint.url(repository.path, "tags", "list", _PAGE_SIZE)
            if wanted is not None:
                # The URL came back through our caller's hands: the same rules as when the registry gave it.
                url = self._exchange.follow(endpoint.base, str(wanted.url))
            return await self._get(endpoint, url, _ACCEPT_JSON)

        answer = await self._run(ask)
        raw = await self._read(answer, TAGS_LIMIT, "list of tags")
        names = await asyncio.to_thread(parse_tags, raw, self._registry)
        return TagPage(names, self._next(answer, wanted))

    async def referrers(self, repository: Repository, subject: Digest) -> Fetched | None:
        """The referrers index: the API's, else the fallback tag's, else None."""
        try:
            fetched = await self._referrers_api(repository, subject)
        except UpstreamGone:
            fetched = None
        if fetched is not None:
            return fetched
        tag = f"{subject.algorithm}-{subject.hex}"[:128]  # distribution-spec, "Referrers Tag Schema"
        try:
            return await self.manifest(Reference(repository, tag, None))
        except UpstreamGone as gone:
            if gone.refused:
                raise
            return None

    async def _referrers_api(self, repository: Repository, subject: Digest) -> Fetched | None:
        """All pages as one index; None where what is there is no referrers API."""
        merged: dict[str, Any] | None = None
        page: Page | None = None
        total = 0
        for _ in range(_REFERRERS_PAGES):
            answer = await self._run(lambda endpoint: self._ask_referrers(endpoint, repository, subject, page))  # noqa: B023 — awaited at once
            if answer.status != 200 or _media_type(answer) != OCI_INDEX:
                await drain(answer.response)
                return None
            raw = await self._read(answer, MANIFEST_LIMIT - total, "list of referrers")
            index = parse_index(raw)
            if index is None:
                return None
            total += len(raw)
            link = self._next(answer, page)
            if merged is None and link is None:
                return Fetched(raw, OCI_INDEX, None)
            if merged is None:
                merged = index
            else:
                merged["manifests"] += index["manifests"]
            if link is None:
                break
            page = Page.parse(link)
        return Fetched(json.dumps(merged, separators=(",", ":")).encode(), OCI_INDEX, None)

    async def _ask_referrers(
        self, endpoint: Endpoint, repository: Repository, subject: Digest, page: Page | None
    ) -> Answer:
        url = endpoint.url(repository.path, "referrers", str(subject)) if page is None else page.url
        return await self._exchange.judged(endpoint, "GET", url, _ACCEPT_INDEX)

    # --- how it is doing ----------------------------------------------------------------------------------

    async def ping(self) -> None:
        """`GET /v2/` at every URL until one answers (distribution-spec, "Determining Support").

        Raises `UpstreamUnreachable` where none does; other errors are answers of a kind.
        """
        failure: UpstreamUnreachable | None = None
        now = self._clock.monotonic()
        for endpoint in self._endpoints.all:
            if endpoint.limited_until > now:
                continue
            try:
                await self._attempt(endpoint, self._ping, PING_SECONDS)
            except UpstreamUnreachable as error:
                self._endpoints.failed(endpoint)
                failure = error
                continue
            except UpstreamGone:
                pass  # an anonymous token was refused: somebody is there to refuse it
            except UpstreamNoAnswer as error:
                if isinstance(error, UpstreamLimited):
                    self._endpoints.limited(endpoint, error.retry_after)
                self._troubled(error)
                return
            self._settled(endpoint)
            return
        if failure is not None:
            raise failure

    async def _ping(self, endpoint: Endpoint) -> None:
        """Any status below 500 will do, but for 429, and for what is said of our credentials."""
        answer = await self._exchange.ask(endpoint, "GET", endpoint.ping, {})
        ours = answer.sent is not None and answer.sent.credential is not None
        if answer.status == 429 or answer.status >= 500 or (ours and answer.status == 401):
            await self._exchange.judge(answer)
        await drain(answer.response)

    def state(self) -> SourceState:
        """For status and metrics."""
        breaker, limited_for = self.breaker, self._endpoints.limited_for
        opened = breaker is not None and breaker.is_open
        waits = [limited_for] if limited_for > 0 else []
        trouble = self._trouble
        if isinstance(trouble, UpstreamLimited) and limited_for <= 0:
            trouble = None  # the rest is over; what comes then is not known yet
        since, reason = (self._trouble_since, trouble.message) if trouble is not None else (None, None)
        if breaker is not None and breaker.is_open:
            since, reason = breaker.since, breaker.reason
            waits.append(breaker.retry_in or 0.0)
        return SourceState(
            registry=self._registry,
            anonymous=self._anonymous,
            up=not opened and limited_for <= 0 and trouble is None,
            since=since,
            reason=reason,
            retry_at=self._clock.wall() + max(waits) if waits else None,
            pulls_left=self._quota.left,
            pulls_limit=self._quota.limit,
            fetched_bytes=self._fetched_bytes,
            checked=self._checked,
            limited=limited_for > 0,
            refused=isinstance(trouble, UpstreamCredentialsRefused),
        )

    # --- the walk of every operation ----------------------------------------------------------------------

    async def _run(self, operation: Callable[[Endpoint], Awaitable[R]]) -> R:
        """Try `operation` at one URL after the other until there is an answer."""
        self._endpoints.check()
        if self.breaker is not None:
            await self.breaker.check()
        deadline = self._clock.monotonic() + OPERATION_SECONDS
        failure: UpstreamNoAnswer | None = None
        for endpoint in self._endpoints:
            seconds = min(self._headers_seconds, deadline - self._clock.monotonic())
            if failure is not None and seconds < 1:
                break
            try:
                result = await self._attempt(endpoint, operation, seconds)
            except UpstreamLimited as error:
                self._endpoints.limited(endpoint, error.retry_after)
                failure = error
            except UpstreamUnreachable as error:
                self._endpoints.failed(endpoint)
                failure = error
            except UpstreamGone:
                self._succeeded(endpoint)
                raise
            except UpstreamNoAnswer as error:
                self._troubled(error)
                raise
            else:
                self._succeeded(endpoint)
                return result
        assert failure is not None  # noqa: S101 — at least one URL was asked
        self._troubled(failure)
        raise failure

    async def _attempt(self, endpoint: Endpoint, operation: Callable[[Endpoint], Awaitable[R]], seconds: float) -> R:
        try:
            async with asyncio.timeout(seconds):
                return await operation(endpoint)
        except TimeoutError:
            raise self._silent(endpoint, seconds) from None

    def _succeeded(self, endpoint: Endpoint) -> None:
        self._settled(endpoint)
        if self.breaker is not None:
            self.breaker.succeeded()

    def _settled(self, endpoint: Endpoint) -> None:
        self._endpoints.answered(endpoint)
        self._checked = True
        if self._endpoints.limited_for <= 0:
            self._trouble = self._trouble_since = None

    def _troubled(self, error: UpstreamNoAnswer) -> None:
        """No answer. What is about us or the whole registry stands in `state` until something succeeds; whether a
        registry that does not answer is down, the breaker finds out."""
        if isinstance(error, UpstreamUnreachable):
            if self.breaker is not None:
                self.breaker.failed(error)
            return
        self._checked = True
        if isinstance(error, UpstreamInvalid):
            return  # about one thing of many
        if self._trouble_since is None:
            self._trouble_since = self._clock.wall()
        self._trouble = error

    def _silent(self, endpoint: Endpoint, seconds: float) -> UpstreamUnreachable:
        return UpstreamUnreachable(
            f"{self._registry}: {origin_of(endpoint.base)} did not answer within {seconds:.0f} s",
            registry=self._registry,
        )

    def _note_quota(self, answer: Answer) -> None:
        quota = parse_quota(answer.response.headers)
        if quota is not None:
            self._quota = quota

    def _count(self, count: int) -> None:
        self._fetched_bytes += count

    async def _get(self, endpoint: Endpoint, url: URL, headers: dict[str, str]) -> Answer:
        """A 200, or an error."""
        answer = await self._exchange.judged(endpoint, "GET", url, headers)
        if answer.status != 200:
            await drain(answer.response)
            raise self._exchange.invalid(answer)
        return answer

    async def _read(self, answer: Answer, limit: int, what: str) -> bytes:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                raw = await read_capped(answer.response, limit, registry=self._registry, what=what)
        except TimeoutError:
            raise self._silent(answer.endpoint, BODY_SECONDS) from None
        except UpstreamUnreachable:
            self._endpoints.failed(answer.endpoint)
            raise
        self._count(len(raw))
        return raw

    def _next(self, answer: Answer, page: Page | None) -> str | None:
        """The next page, as a text that leads there."""
        link = next_link(answer.response.headers.getall("Link", []))
        if link is None:
            return None
        here = page or Page(answer.response.url)
        following = here.after(self._exchange.follow(answer.response.url, link))
        return str(following) if following is not None and following.number <= PAGES_LIMIT else None

    # --- a blob's body ------------------------------------------------------------------------------------

    async def _begin(self, endpoint: Endpoint, url: URL, offset: int, end: int | None) -> BlobDownload:
        headers = {} if not offset and end is None else {"Range": f"bytes={offset}-{'' if end is None else end - 1}"}
        answer = await self._blob(endpoint, url, headers)
        if answer.status == 416 and headers:
            size = _unsatisfied_size(answer)
            await drain(answer.response)
            if size == 0 == offset:
                return self._download(None, endpoint, offset=0, size=0, end=0)
            if size is not None and offset >= size:
                raise UpstreamInvalid(
                    f"{self._registry}: byte {offset} was asked of a blob that has {size} there",
                    registry=self._registry,
                )
            answer = await self._blob(endpoint, url, {})  # it cannot do this range: then the whole
        try:
            return self._downloaded(answer, endpoint, offset, end)
        except BaseException:
            answer.response.close()
            raise

    async def _blob(self, endpoint: Endpoint, url: URL, headers: dict[str, str]) -> Answer:
        """The registry's answer; where a store refuses the URL we were sent to, the registry is asked for another."""
        answer = await self._exchange.ask(endpoint, "GET", url, headers)
        if answer.hops and answer.status in (400, 401, 403) and answer.sent is None:
            await drain(answer.response)
            answer = await self._exchange.ask(endpoint, "GET", url, headers)
        await self._exchange.judge(answer)
        return answer

    def _downloaded(self, answer: Answer, endpoint: Endpoint, offset: int, end: int | None) -> BlobDownload:
        response = answer.response
        if answer.status == 200:
            size = _length(answer)
            return self._download(answer, endpoint, offset=0, size=size, end=size)
        if answer.status != 206:
            raise self._exchange.invalid(answer)
        sent = parse_content_range(response.headers.get("Content-Range", ""))
        if sent is None or sent[0] != offset or (end is not None and sent[1] > end):
            raise UpstreamInvalid(
                f"{self._registry}: {origin_of(response.url)} answered with another range than was asked for",
                registry=self._registry,
            )
        _, sent_end, size = sent
        # It may send less than was asked for (RFC 9110, 15.3.7): then the rest is fetched as after a break.
        limit = sent_end if size is None else size
        wanted = limit if end is None else min(end, limit)
        return self._download(answer, endpoint, offset=offset, size=size, end=wanted)

    def _download(
        self, answer: Answer | None, endpoint: Endpoint, *, offset: int, size: int | None, end: int | None
    ) -> BlobDownload:
        return BlobDownload(
            answer.response if answer is not None else None,
            registry=self._registry,
            offset=offset,
            size=size,
            end=end,
            on_bytes=self._count,
            on_break=lambda: self._endpoints.failed(endpoint),
        )

    async def _size_by_range(self, endpoint: Endpoint, url: URL) -> int | None:
        answer = await self._blob(endpoint, url, {"Range": "bytes=0-0"})
        try:
            if answer.status == 416:
                return _unsatisfied_size(answer)
            if answer.status == 200:
                return _length(answer)
            sent = parse_content_range(answer.response.headers.get("Content-Range", ""))
            if answer.status != 206 or sent is None:
                raise self._exchange.invalid(answer)
            return sent[2]
        finally:
            await drain(answer.response)


def _manifest_url(endpoint: Endpoint, reference: Reference) -> URL:
    return endpoint.url(reference.repository.path, "manifests", str(reference.target))


def _head_refused(answer: Answer) -> bool:
    """Whether a HEAD was refused as such, so that a GET may tell more: a store refuses what it signed for GET."""
    if answer.status in (400, 403, 405, 406, 501):
        return True
    return bool(answer.hops) and answer.status in (401, 404)


def _length(answer: Answer) -> int | None:
    return answer.response.content_length


def _unsatisfied_size(answer: Answer) -> int | None:
    digits = answer.response.headers.get("Content-Range", "").removeprefix(_UNSATISFIED)
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 18 else None


def _media_type(answer: Answer) -> str | None:
    header = answer.response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return header or None


def _claimed_digest(answer: Answer) -> Digest | None:
    try:
        return Digest.parse(answer.response.headers.get("Docker-Content-Digest", ""))
    except DigestInvalid:
        return None


def _descriptor(answer: Answer, reference: Reference) -> Descriptor | None:
    """All three or nothing. What was asked for by digest has that digest, whatever a header says."""
    digest = reference.digest or _claimed_digest(answer)
    media_type, size = _media_type(answer), _length(answer)
    if digest is None or size is None or media_type not in MANIFEST_TYPES:
        return None
    return Descriptor(media_type, digest, size)

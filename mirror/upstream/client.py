"""`RegistrySource`: one registry as a flight and a tag read it (protocols.py, `Source`).

It retries what can be retried unseen: another authorization, the registry's other URLs, a CDN URL that has expired.
A body that breaks off is the flight's to resume; every `open` asks the registry anew, and the URL that broke last.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from yarl import URL

from mirror.errors import (
    DigestInvalid,
    Offline,
    UpstreamError,
    UpstreamGone,
    UpstreamInvalid,
    UpstreamUnreachable,
)
from mirror.oci.digest import Digest
from mirror.oci.manifest import MANIFEST_LIMIT, MANIFEST_TYPES, OCI_INDEX, Descriptor
from mirror.oci.names import Reference, Repository
from mirror.oci.ranges import parse_content_range
from mirror.upstream.bodies import drain, read_capped
from mirror.upstream.download import BlobDownload
from mirror.upstream.endpoints import Endpoint
from mirror.upstream.exchange import Answer, Exchange
from mirror.upstream.failover import Failover
from mirror.upstream.limits import Quota, parse_quota
from mirror.upstream.listing import TAGS_LIMIT, Page, next_link, parse_index, parse_tags
from mirror.upstream.protocols import Download, Fetched, SourceState, TagPage
from mirror.upstream.translate import origin_of

BODY_SECONDS = 60.0
"""For the body of a manifest or a list."""

_ACCEPT = {"Accept": ", ".join(sorted(MANIFEST_TYPES))}
_ACCEPT_INDEX = {"Accept": OCI_INDEX}
_ACCEPT_JSON = {"Accept": "application/json"}
_PAGE_SIZE = "n=1000"
_REFERRERS_PAGES = 100
_HUB_HOST = "registry-1.docker.io"
_HUB_PREVIEW = Reference.parse("docker.io/ratelimitpreview/test:latest")
_UNSATISFIED = "bytes */"


class RegistrySource:
    """One registry, with or without credentials. `Registries` builds it."""

    def __init__(self, registry: str, *, anonymous: bool, exchange: Exchange, failover: Failover) -> None:
        self._registry = registry
        self._anonymous = anonymous
        self._exchange = exchange
        self._failover = failover
        self._quota = Quota()
        self._fetched_bytes = 0

    @property
    def key(self) -> tuple[str, bool]:
        """(registry, anonymous?)"""
        return self._registry, self._anonymous

    @property
    def is_hub(self) -> bool:
        """Whether this is Docker Hub itself, and not something else configured under its name."""
        return self._failover.reaches(_HUB_HOST)

    def state(self) -> SourceState:
        """For status and metrics."""
        return self._failover.state(
            self._registry, anonymous=self._anonymous, quota=self._quota, fetched_bytes=self._fetched_bytes
        )

    async def probe(self) -> None:
        """Find out whether it is there; and Docker Hub's limit, from a HEAD that costs nothing."""
        if self.state().limited:
            return
        with contextlib.suppress(UpstreamError, Offline):
            await self._failover.breaker.probe()
            if self.is_hub:
                await self.head(_HUB_PREVIEW)

    def heard(self) -> None:
        """The registry has answered somebody else: it is there."""
        self._failover.heard()

    def trust_again(self) -> None:
        """Our credentials are others now."""
        self._exchange.trust_again()
        self._failover.trust_again()

    # --- blobs --------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def open(
        self, repository: Repository, digest: Digest, offset: int = 0, end: int | None = None
    ) -> AsyncIterator[Download]:
        """A blob's bytes from `offset` to `end` (exclusive); `offset` of the download is 0 where Range was ignored."""

        async def begin(endpoint: Endpoint) -> BlobDownload:
            return await self._begin(endpoint, endpoint.url(repository.path, "blobs", str(digest)), offset, end)

        download = await self._failover.run(begin)
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

        return await self._failover.run(ask)

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

        return await self._failover.run(ask)

    async def manifest(self, reference: Reference) -> Fetched:
        """A manifest's bytes as they come, by tag or digest."""

        async def ask(endpoint: Endpoint) -> Answer:
            url = _manifest_url(endpoint, reference)
            answer = await self._get(endpoint, url, _ACCEPT)
            self._note_quota(answer)
            return answer

        answer = await self._failover.run(ask)
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

        answer = await self._failover.run(ask)
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
            answer = await self._failover.run(lambda endpoint: self._ask_referrers(endpoint, repository, subject, page))  # noqa: B023 — awaited at once
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

    # --- small things -------------------------------------------------------------------------------------

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
            self._failover.broke(answer.endpoint)
            raise self._failover.silent(answer.endpoint, BODY_SECONDS) from None
        except UpstreamUnreachable:
            self._failover.broke(answer.endpoint)
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
        return str(following) if following is not None else None

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
            on_break=lambda: self._failover.broke(endpoint),
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
    if digest is None or not size or media_type not in MANIFEST_TYPES:
        return None
    return Descriptor(media_type, digest, size)

"""`RegistryDestination`: one registry as the mirror pushes to it (protocols.py, `Destination`; OCI distribution-spec,
"Push"; the names in quotes below are its sections).

All is asked at the first of the registry's URLs. What somebody wants pushed is really sent: nothing here waits behind
the breaker of the pulls, and nothing that is refused here opens it. The one rest is that of a 429.

An upload's `Location` is the registry's to choose (also on another host: then it gets the bytes, never our
authorization) and goes back byte for byte, the digest behind its query. A body is streamed and cannot be sent again:
the authorization for it is gained beforehand, and whatever goes wrong once it has begun is for the caller to resume.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable, Mapping

from yarl import URL

from mirror.errors import (
    DigestInvalid,
    UpstreamError,
    UpstreamForbidden,
    UpstreamGone,
    UpstreamInvalid,
    UpstreamRefused,
    UpstreamUnreachable,
)
from mirror.oci.digest import Digest
from mirror.oci.manifest import Descriptor, Manifest
from mirror.oci.names import Reference, Repository
from mirror.oci.ranges import parse_upload_range
from mirror.upstream.auth import repository_scope
from mirror.upstream.bodies import drain
from mirror.upstream.client import RegistrySource
from mirror.upstream.complaints import complaint
from mirror.upstream.endpoints import Endpoint
from mirror.upstream.exchange import Answer, Exchange
from mirror.upstream.failover import HEADERS_SECONDS, Failover
from mirror.upstream.protocols import Fetched, Session
from mirror.upstream.translate import origin_of
from mirror.upstream.upload import STALL_SECONDS, UploadBody

PUSH = "pull,push"
FINISH_SECONDS = 300.0
"""For a PUT: a registry may copy a large blob from one place to another before it answers."""

_DATA = {"Content-Type": "application/octet-stream"}
_GONE = (404, 410, 451)
_DONE = (200, 201, 204)  # 201 it should be; others are in use


class RegistryDestination:
    """One registry, written to with our credentials, or without where there are none. `Registries` builds it."""

    def __init__(
        self,
        registry: str,
        *,
        reads: RegistrySource,
        exchange: Exchange,
        failover: Failover,
        has_login: Callable[[], bool],
        headers_seconds: float = HEADERS_SECONDS,
    ) -> None:
        self._registry = registry
        self._reads = reads  # over the same exchange
        self._exchange = exchange
        self._failover = failover
        self._has_login = has_login
        self._headers_seconds = headers_seconds

    @property
    def registry(self) -> str:
        return self._registry

    def trust_again(self) -> None:
        """Our credentials are others now."""
        self._reads.trust_again()

    # --- what it has --------------------------------------------------------------------------------------

    async def size(self, repository: Repository, digest: Digest) -> int | None:
        """As `Source.size`."""
        return await self._reads.size(repository, digest)

    async def head(self, reference: Reference) -> Descriptor | None:
        """As `Source.head`."""
        return await self._reads.head(reference)

    async def manifest(self, reference: Reference) -> Fetched:
        """As `Source.manifest`."""
        return await self._reads.manifest(reference)

    # --- blobs --------------------------------------------------------------------------------------------

    async def begin(
        self, repository: Repository, digest: Digest, mount_from: Repository | None = None
    ) -> Session | None:
        """POST ("Pushing a blob in chunks", "Mounting a blob from another repository").

        A mount that is refused (we may not read there, or it knows no mounts) is no refusal of an upload: that is asked
        for then.
        """
        if mount_from is not None and mount_from != repository:
            with contextlib.suppress(UpstreamRefused):
                return await self._begin(repository, digest, mount_from)
        return await self._begin(repository, digest, None)

    async def resume(self, repository: Repository, location: str) -> Session | None:
        """GET of the upload ("Pushing a blob in chunks": `Range: 0-<end>`); None where it does not go on from there."""

        async def ask(endpoint: Endpoint) -> Session | None:
            try:
                url = self._exchange.follow(endpoint.base, location)
                answer = await self._ask(endpoint, "GET", url, repository, {}, what="to tell of an upload")
            except (UpstreamRefused, UpstreamForbidden, UpstreamInvalid):
                return None
            if answer.status == 501 or (400 <= answer.status < 500 and answer.status not in (408, 429)):
                await drain(answer.response)
                return None
            await self._judge(answer, "to tell of an upload")
            acknowledged = _acknowledged(answer)
            if acknowledged is None:
                return None
            return Session(self._location(answer, url), acknowledged)

        return await self._failover.run(ask)

    async def send(self, repository: Repository, session: Session, chunks: AsyncIterator[bytes], count: int) -> Session:
        """One PATCH with `count` bytes ("Pushing a blob in chunks"); `chunks` is left alone from the return on.

        The session it returns stands where the registry says, which may be before what was sent. Raises `UpstreamGone`
        where it does not know the upload any more; what `chunks` raises is raised as it is.
        """
        if count == 0:
            return session

        async def patch(endpoint: Endpoint) -> Session:
            url = self._exchange.follow(endpoint.base, session.location)
            return await self._patch(endpoint, url, repository, session.offset, chunks, count)

        return await self._failover.run(patch, seconds=math.inf)

    async def finish(self, repository: Repository, session: Session, digest: Digest) -> None:
        """PUT with the digest. Raises `UpstreamGone` where the registry does not know the upload any more."""
        what = f"a blob for {repository.path}"

        async def put(endpoint: Endpoint) -> None:
            url = _with_query(self._exchange.follow(endpoint.base, session.location), f"digest={_quoted(digest)}")
            answer = await self._ask(endpoint, "PUT", url, repository, _DATA, what=what)
            await self._judge(answer, what, forgets=True)
            await self._settle(answer, digest)

        await self._failover.run(put, seconds=FINISH_SECONDS)

    # --- manifests ----------------------------------------------------------------------------------------

    async def put(self, reference: Reference, manifest: Manifest) -> bool:
        """PUT of a manifest ("Pushing Manifests", "Pushing Manifests with Subject")."""
        headers = {"Content-Type": manifest.descriptor.media_type}
        what = f"the manifest {reference.familiar}"

        async def put(endpoint: Endpoint) -> bool:
            url = endpoint.url(reference.repository.path, "manifests", str(reference.target))
            answer = await self._ask(endpoint, "PUT", url, reference.repository, headers, what=what, body=manifest.raw)
            await self._judge(answer, what)
            await self._settle(answer, manifest.descriptor.digest)
            subject = answer.response.headers.get("OCI-Subject", "").strip()
            return manifest.subject is None or subject == str(manifest.subject.digest)

        return await self._failover.run(put, seconds=FINISH_SECONDS)

    async def delete(self, reference: Reference) -> None:
        """DELETE ("Deleting tags", "Deleting Manifests"); 405 where this registry does not do that is a refusal."""
        what = f"to delete {reference.familiar}"

        async def delete(endpoint: Endpoint) -> None:
            url = endpoint.url(reference.repository.path, "manifests", str(reference.target))
            answer = await self._ask(endpoint, "DELETE", url, reference.repository, {}, what=what, actions="delete")
            await self._judge(answer, what, forgets=True)
            await drain(answer.response)

        await self._failover.run(delete)

    # --- one request --------------------------------------------------------------------------------------

    async def _begin(self, repository: Repository, digest: Digest, mount_from: Repository | None) -> Session | None:
        what = f"an upload to {repository.path}"

        async def post(endpoint: Endpoint) -> Session | None:
            url = endpoint.url(repository.path, "blobs", "uploads/")
            further: tuple[str, ...] = ()
            if mount_from is not None:
                origin = endpoint.name(mount_from.path)
                url = _with_query(url, f"mount={_quoted(digest)}&from={_quoted(origin)}")
                further = (repository_scope(origin, "pull"),)
            answer = await self._ask(endpoint, "POST", url, repository, {}, what=what, further=further)
            await self._judge(answer, what)
            if answer.status == 201 and mount_from is not None:
                await self._settle(answer, digest)
                return None
            await drain(answer.response)
            if "Location" not in answer.response.headers:
                raise self._exchange.invalid(answer)
            return Session(self._location(answer, url))

        return await self._failover.run(post)

    async def _patch(
        self,
        endpoint: Endpoint,
        url: URL,
        repository: Repository,
        offset: int,
        chunks: AsyncIterator[bytes],
        count: int,
    ) -> Session:
        """One PATCH, as long as it gets on."""
        headers = {**_DATA, "Content-Length": str(count)}
        if offset:
            headers["Content-Range"] = f"{offset}-{offset + count - 1}"
        what = f"a blob for {repository.path}"
        limit = asyncio.timeout(self._headers_seconds)  # authorization and connection; then the body moves it along
        body = UploadBody(chunks, count, limit)
        try:
            async with limit:
                answer = await self._ask(endpoint, "PATCH", url, repository, headers, what=what, body=body)
                await self._judge(answer, what, forgets=True)
                await drain(answer.response)
        except TimeoutError:
            raise self._stalled(endpoint, url, body) from None
        except UpstreamError:
            if body.failure is not None:
                raise body.failure from None
            raise
        finally:
            await body.stop()
        acknowledged = _acknowledged(answer, offset + count if body.sent_all else None)
        if acknowledged is None:
            raise self._exchange.invalid(answer)
        return Session(self._location(answer, url), acknowledged)

    async def _ask(
        self,
        endpoint: Endpoint,
        method: str,
        url: URL,
        repository: Repository,
        headers: Mapping[str, str],
        *,
        what: str,
        actions: str = PUSH,
        further: tuple[str, ...] = (),
        body: bytes | UploadBody | None = None,
    ) -> Answer:
        """Send it. A token service that grants nothing for it says no as well as the registry itself."""
        scopes = (repository_scope(endpoint.name(repository.path), actions), *further)
        try:
            return await self._exchange.ask(endpoint, method, url, headers, scopes=scopes, body=body)
        except UpstreamGone:
            raise self._refused(what, "its token service does not let us", 403) from None

    async def _judge(self, answer: Answer, what: str, *, forgets: bool = False) -> None:
        """Raises what an answer other than a success means; `forgets`: a 404 is about what the URL names.

        Of what is raised `UpstreamRefused` says what the registry said, in its words.
        """
        status = answer.status
        if 200 <= status < 300:
            return
        said = await complaint(answer.response, answer.sent, registry=self._registry)
        try:
            await self._exchange.judge(answer)
        except UpstreamGone:
            if forgets and status in _GONE:
                raise
        if status == 416:
            raise self._exchange.invalid(answer)
        raise self._refused(what, f"{said} ({status})" if said else f"it answered {status}", status)

    async def _settle(self, answer: Answer, digest: Digest) -> None:
        """Be done with the answer to what should be kept now; `UpstreamInvalid` where it is not, or as another."""
        await drain(answer.response)
        if answer.status not in _DONE:
            raise self._exchange.invalid(answer)
        try:
            claimed = Digest.parse(answer.response.headers.get("Docker-Content-Digest", ""))
        except DigestInvalid:
            return
        if claimed.algorithm == digest.algorithm and claimed != digest:
            raise UpstreamInvalid(
                f"{self._registry}: {origin_of(answer.response.url)} has kept another digest than it was sent",
                registry=self._registry,
            )

    def _location(self, answer: Answer, before: URL) -> str:
        """Where the upload goes on; without a word, where it was."""
        location = answer.response.headers.get("Location")
        return str(before if location is None else self._exchange.follow(answer.response.url, location))

    def _refused(self, what: str, reason: str, status: int) -> UpstreamRefused:
        lonely = status in (401, 403) and not self._has_login()
        hint = "; this mirror has no login for it" if lonely else ""
        return UpstreamRefused(f"{self._registry} refused {what}: {reason}{hint}", registry=self._registry)

    def _stalled(self, endpoint: Endpoint, url: URL, body: UploadBody) -> UpstreamUnreachable:
        if not body.begun:
            return self._failover.silent(endpoint, self._headers_seconds)
        did = "did not answer to an upload" if body.sent_all else f"took no more of an upload for {STALL_SECONDS:.3g} s"
        return UpstreamUnreachable(f"{self._registry}: {origin_of(url)} {did}", registry=self._registry)


def _acknowledged(answer: Answer, sent: int | None = None) -> int | None:
    """How many bytes the registry has by its `Range: 0-<last>`; never more than were `sent` where that is known.

    Without the header, all that was sent. "0-0" is what registries say of none as of one: it is one where one was sent.
    """
    header = answer.response.headers.get("Range")
    span = parse_upload_range(header.strip().removeprefix("bytes=")) if header is not None else None
    if span is None or span[0] != 0:
        return sent
    if span[1] == 1 and sent != 1:
        return 0
    return span[1] if sent is None else min(span[1], sent)


def _with_query(url: URL, query: str) -> URL:
    """`url` with this behind the query it has, not a byte of which is changed."""
    text = str(url.with_fragment(None))
    return URL(f"{text}{'&' if '?' in text else '?'}{query}", encoded=True)


def _quoted(value: object) -> str:
    """A digest or a repository's name in a query; nothing else in them needs it."""
    return str(value).replace(":", "%3A").replace("/", "%2F")

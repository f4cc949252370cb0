"""The scripted registry: honest by default, wrong where the script says so."""

from __future__ import annotations

import fnmatch
import json
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

from multidict import CIMultiDict

from tests.support.fake_registry.content import OCI_INDEX, Content, FakeManifest
from tests.support.fake_registry.tokens import Access, Verdict
from tests.support.fake_registry.wire import Answer, Behaviour, FakeServer, Match, Request


@dataclass(slots=True)
class Scripted:
    """One line of the script; `left` times still, None for ever."""

    match: Match
    behaviour: Behaviour
    left: int | None
    used: int = 0

    def applies(self, request: Request) -> bool:
        return self.left != 0 and matches(self.match, request)


def matches(match: Match, request: Request) -> bool:
    """Whether a pattern over "METHOD path" (as a shell's) or a function fits the request."""
    return fnmatch.fnmatchcase(request.line, match) if isinstance(match, str) else match(request)


class ScriptedServer(FakeServer):
    """A server whose honest answers a script may change.

    Of several lines that apply, the oldest wins until it is used up, so that a test writes down what happens in turn.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__(tls=tls, host=host, port=port)
        self.lines: list[Scripted] = []

    def script(self, match: Match, behaviour: Behaviour, *, times: int | None = 1) -> Scripted:
        """Let the next `times` requests that match (None: all of them) be answered by `behaviour`.

        `match` is a shell pattern over "METHOD path", such as "GET */blobs/*", or a function of the request.
        """
        line = Scripted(match, behaviour, times)
        self.lines.append(line)
        return line

    def unscript(self) -> None:
        """Be honest again."""
        self.lines.clear()

    def count(self, match: Match = "*") -> int:
        """How many requests matched."""
        return sum(matches(match, request) for request in self.requests)

    def seen(self, match: Match = "*") -> list[Request]:
        """The requests that matched, in order."""
        return [request for request in self.requests if matches(match, request)]

    def sent(self, pattern: str = "*") -> int:
        """Body bytes sent for paths that match a shell pattern."""
        return sum(count for path, count in self.body_bytes.items() if fnmatch.fnmatchcase(path, pattern))

    def forget(self) -> None:
        """Counters back to nothing."""
        self.requests.clear()
        self.body_bytes.clear()

    async def answer(self, request: Request) -> Answer:
        honest = self.honest(request)
        line = next((line for line in self.lines if line.applies(request)), None)
        if line is None:
            return honest
        line.used += 1
        if line.left is not None:
            line.left -= 1
        return line.behaviour(request, honest)

    def honest(self, request: Request) -> Answer:
        """What is said when no script applies."""
        raise NotImplementedError


class FakeRegistry(ScriptedServer):
    """A registry on a real socket (OCI distribution specification 1.1, pull, discovery and token service).

    Knobs, to be set at any time:

    - `content`: what it holds; `access`: who may read it (challenges, tokens, users)
    - `locate`: where a blob is redirected to (`FakeCdn.serve` sets it)
    - `head_blobs`: answers HEAD for blobs (else 405); `ranges`: honours Range
    - `referrers_api`: has one; `page_size`: of tags; `relative_links`: Link is "/v2/…"
    - `limits`: headers on every manifest answer, as Docker Hub's `ratelimit-limit`
    - `searches`: has docker's old search; `described`: what it says of a repository beside its name
    - `catalog`: lists its repositories, `page_size` at a time
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__(tls=tls, host=host, port=port)
        self.content = Content()
        self.access = Access()
        self.locate: Callable[[Request], str | None] | None = None
        self.head_blobs = True
        self.ranges = True
        self.referrers_api = True
        self.page_size = 100
        self.relative_links = True
        self.limits: dict[str, str] = {}
        self.searches = False
        self.described: dict[str, dict[str, object]] = {}
        self.catalog = False
        self.add_image = self.content.add_image
        self.add_index = self.content.add_index
        self.add_blob = self.content.add_blob
        self.add_manifest = self.content.add_manifest
        self.add_layout_image = self.content.add_layout_image
        self.repository = self.content.repository

    def honest(self, request: Request) -> Answer:
        if request.path == self.access.token_path:
            return self.access.token(request)
        parts = request.path.strip("/").split("/")
        if request.path == "/v1/search" and self.searches:
            return self._search(request)
        if parts[0] != "v2":
            return failure(404, "UNSUPPORTED")
        name, kind, rest = _parse(parts[1:])
        listed = self.catalog and parts[1:] == ["_catalog"]
        if name is None and len(parts) > 1 and not listed:
            return failure(404, "UNSUPPORTED")
        known = name in self.content.repositories
        verdict = self.access.judge(request, name, known=known, realm=f"{self.url}{self.access.token_path}")
        if verdict is not Verdict.ALLOWED:
            return verdict if isinstance(verdict, Answer) else failure(404, "NAME_UNKNOWN")
        if listed:
            return self._catalog(request)
        if name is None:
            return Answer(200, CIMultiDict({"Docker-Distribution-Api-Version": "registry/2.0"}), b"{}")
        handler = {"manifests": self._manifest, "blobs": self._blob, "tags": self._tags, "referrers": self._referrers}
        if not known or kind not in handler:
            return failure(404, "NAME_UNKNOWN")
        return handler[kind](request, name, rest)

    def _manifest(self, request: Request, name: str, reference: str) -> Answer:
        manifest = self.content.repository(name).find(reference)
        if manifest is None:
            return failure(404, "MANIFEST_UNKNOWN")
        return Answer(200, self._manifest_headers(manifest), manifest.raw)

    def _manifest_headers(self, manifest: FakeManifest) -> CIMultiDict[str]:
        described = {"Content-Type": manifest.media_type, "Docker-Content-Digest": manifest.digest}
        return CIMultiDict({**described, **self.limits})

    def _blob(self, request: Request, name: str, digest: str) -> Answer:
        blob = self.content.repository(name).blobs.get(digest)
        if blob is None:
            return failure(404, "BLOB_UNKNOWN")
        location = self.locate(request) if self.locate else None
        if location is not None:
            return Answer(307, CIMultiDict({"Location": location}))
        if request.method == "HEAD" and not self.head_blobs:
            return failure(405, "UNSUPPORTED")
        headers = {"Content-Type": "application/octet-stream", "Docker-Content-Digest": digest}
        return ranged(request, Answer(200, CIMultiDict(headers), blob), honoured=self.ranges)

    def _tags(self, request: Request, name: str, _: str) -> Answer:
        names = sorted(self.content.repository(name).tags)
        last = request.query.get("last", [""])[0]
        count = min(int(request.query.get("n", [str(self.page_size)])[0]), self.page_size)
        left = [tag for tag in names if tag > last]
        headers = {"Content-Type": "application/json"}
        if len(left) > count:
            origin = "" if self.relative_links else self.url
            headers["Link"] = f'<{origin}/v2/{name}/tags/list?n={count}&last={left[count - 1]}>; rel="next"'
        return Answer(200, CIMultiDict(headers), json.dumps({"name": name, "tags": left[:count]}).encode())

    def _search(self, request: Request) -> Answer:
        term = request.query.get("q", [""])[0].lower()
        count = int(request.query.get("n", ["25"])[0])
        names = [name.removeprefix("library/") for name in self.content.repositories]
        results: list[dict[str, object]] = [
            {
                "name": name,
                "description": "",
                "star_count": 0,
                "is_official": "/" not in name,
                "is_automated": False,
                **self.described.get(name, {}),
            }
            for name in names
            if term in name
        ]
        results.sort(key=lambda each: -int(str(each["star_count"])))
        body = {"query": term, "num_results": len(results), "results": results[:count]}
        return Answer(200, CIMultiDict({"Content-Type": "application/json"}), json.dumps(body).encode())

    def _catalog(self, request: Request) -> Answer:
        last = request.query.get("last", [""])[0]
        count = min(int(request.query.get("n", [str(self.page_size)])[0]), self.page_size)
        left = [name for name in sorted(self.content.repositories) if name > last]
        headers = {"Content-Type": "application/json"}
        if len(left) > count:
            origin = "" if self.relative_links else self.url
            headers["Link"] = f'<{origin}/v2/_catalog?n={count}&last={left[count - 1]}>; rel="next"'
        return Answer(200, CIMultiDict(headers), json.dumps({"repositories": left[:count]}).encode())

    def _referrers(self, request: Request, name: str, subject: str) -> Answer:
        if not self.referrers_api:
            return failure(404, "UNSUPPORTED")
        wanted = request.query.get("artifactType", [None])[0]
        index = {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": self.content.repository(name).referrers(subject, wanted),
        }
        headers = {"Content-Type": OCI_INDEX} | ({"OCI-Filters-Applied": "artifactType"} if wanted else {})
        return Answer(200, CIMultiDict(headers), json.dumps(index).encode())


class FakeCdn(ScriptedServer):
    """The store that blobs are redirected to: signed URLs, and the ways of S3.

    `FakeCdn.serve(registry)` makes the registry redirect its blobs here. It answers 400 to an `Authorization`
    header, 403 to a URL that is not byte for byte the one it signed or that has expired (`seconds`), 403 to HEAD
    unless `head`.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__(tls=tls, host=host, port=port)
        self.head = False
        self.ranges = True
        self.seconds = 300.0
        self.single_use = False
        self._signed: dict[str, tuple[Content, str, str, float]] = {}

    def serve(self, registry: FakeRegistry) -> None:
        """Let `registry` redirect every blob to here."""

        def locate(request: Request) -> str:
            name, _, digest = _parse(request.path.strip("/").split("/")[1:])
            number = len(self._signed)
            # What a client that parses and re-quotes would change: %2F, %3D, '+', upper and lower hex, an empty value.
            target = f"/store/{digest.replace(':', '%3A')}?sig=a%2Fb%2bc%3D+{number}==&empty=&X-Amz-Expires=1&q=~!*'()"
            self._signed[target] = (registry.content, name or "", digest, time.monotonic() + self.seconds)
            return f"{self.url}{target}"

        registry.locate = locate

    def honest(self, request: Request) -> Answer:
        if "Authorization" in request.headers:
            return s3_error(400, "InvalidArgument", "Only one auth mechanism allowed")
        content, name, digest, expires = self._signed.get(request.target, (None, "", "", 0.0))
        if content is None:
            return s3_error(403, "SignatureDoesNotMatch")
        if self.single_use:
            del self._signed[request.target]
        if time.monotonic() > expires:
            return s3_error(403, "AccessDenied", "Request has expired")
        if request.method == "HEAD" and not self.head:
            return s3_error(403, "SignatureDoesNotMatch")
        blob = content.repository(name).blobs.get(digest)
        if blob is None:
            return s3_error(404, "NoSuchKey")
        return ranged(
            request, Answer(200, CIMultiDict({"Content-Type": "binary/octet-stream"}), blob), honoured=self.ranges
        )


def ranged(request: Request, whole: Answer, *, honoured: bool) -> Answer:
    """206, 416 or the whole, as the request's Range says (RFC 9110, 14)."""
    if not honoured:
        return whole
    whole.headers["Accept-Ranges"] = "bytes"
    try:
        span = request.range(whole.size)
    except ValueError:
        return Answer(416, CIMultiDict({"Content-Range": f"bytes */{whole.size}"}))
    if span is None:
        return whole
    part = whole.with_range(*span)
    part.status = 206
    part.headers = whole.headers.copy()
    part.headers["Content-Range"] = f"bytes {span[0]}-{span[1] - 1}/{whole.size}"
    part.whole = whole
    return part


def failure(status: int, code: str, message: str = "") -> Answer:
    """An error as registries write it (distribution-spec, "Error Codes")."""
    body = json.dumps({"errors": [{"code": code, "message": message or code.lower()}]}).encode()
    return Answer(status, CIMultiDict({"Content-Type": "application/json"}), body)


def s3_error(status: int, code: str, message: str = "") -> Answer:
    """An error as S3 writes it."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    return Answer(status, CIMultiDict({"Content-Type": "application/xml"}), body)


def _parse(parts: list[str]) -> tuple[str | None, str, str]:
    """Repository, kind, reference of a path below /v2/."""
    if len(parts) >= 3 and parts[-2] in ("manifests", "blobs", "tags", "referrers"):
        return "/".join(parts[:-2]), parts[-2], parts[-1]
    return None, "", ""

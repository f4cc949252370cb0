"""The scripted registry."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable

from multidict import CIMultiDict

from tests.support.fake_registry.answers import failure, ranged, split_path
from tests.support.fake_registry.content import OCI_INDEX, Content, FakeManifest
from tests.support.fake_registry.pushes import Pushes
from tests.support.fake_registry.scripted import ScriptedServer
from tests.support.fake_registry.tokens import Access, Verdict
from tests.support.fake_registry.wire import Answer, Request


class FakeRegistry(ScriptedServer):
    """A registry on a real socket (OCI distribution specification 1.1, all categories, and token service).

    Knobs, to be set at any time:

    - `content`: what it holds; `access`: who may read it (challenges, tokens, users) and push to it
    - `pushes`: how it takes uploads and manifests (see there)
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
        self.pushes = Pushes(self.content, self.access)
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
        name, kind, rest = split_path(parts[1:])
        listed = self.catalog and parts[1:] == ["_catalog"]
        if name is None and len(parts) > 1 and not listed:
            return failure(404, "UNSUPPORTED")
        known = name in self.content.repositories or self.pushes.begun(name)
        verdict = self.access.judge(request, name, known=known, realm=f"{self.url}{self.access.token_path}")
        if verdict is not Verdict.ALLOWED:
            return verdict if isinstance(verdict, Answer) else failure(404, "NAME_UNKNOWN")
        if listed:
            return self._catalog(request)
        if name is None:
            return Answer(200, CIMultiDict({"Docker-Distribution-Api-Version": "registry/2.0"}), b"{}")
        if kind == "uploads" or request.method not in ("GET", "HEAD"):
            return self.pushes.answer(request, name, kind, rest)
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

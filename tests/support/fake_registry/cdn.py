"""`FakeCdn`: where a fake registry's blobs may really lie."""

from __future__ import annotations

import ssl
import time

from multidict import CIMultiDict

from tests.support.fake_registry.answers import ranged, s3_error, split_path
from tests.support.fake_registry.content import Content
from tests.support.fake_registry.registry import FakeRegistry
from tests.support.fake_registry.scripted import ScriptedServer
from tests.support.fake_registry.wire import Answer, Request


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
            name, _, digest = split_path(request.path.strip("/").split("/")[1:])
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

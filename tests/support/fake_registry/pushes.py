"""What a fake registry does when it is pushed to (distribution-spec, "Push", "Content Management").

Nothing is changed while an answer is made: it carries what becomes of it in `effect`, so that a scripted refusal
refuses and a scripted loss loses the answer alone.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field

from multidict import CIMultiDict

from tests.support.fake_registry.answers import failure
from tests.support.fake_registry.content import Content
from tests.support.fake_registry.tokens import Access
from tests.support.fake_registry.wire import Answer, Request


@dataclass(slots=True)
class Upload:
    """One that is under way; `targets` are the locations given out for it, as they have to come back."""

    name: str
    data: bytearray = field(default_factory=bytearray)
    targets: list[str] = field(default_factory=list)


class Pushes:
    """Uploads, manifests by PUT, deletes. Knobs, to be set at any time:

    - `locate`: makes a `Location` of "/v2/…?_state=…" (default: as it is, relative)
    - `mounts`, `deletes`: whether it does that (else 202 for an upload, and 405)
    - `subjects`: answers `OCI-Subject`; `acknowledges`: says `Range` in its answers
    - `forgetful`: only the last location given out is good, as with docker's registry: no upload is resumed there
    """

    def __init__(self, content: Content, access: Access) -> None:
        self._content = content
        self._access = access
        self._numbers = itertools.count()
        self.uploads: dict[str, Upload] = {}
        self.locate: Callable[[str], str] = lambda target: target
        self.mounts = True
        self.deletes = True
        self.subjects = True
        self.acknowledges = True
        self.forgetful = False

    def begun(self, name: str | None) -> bool:
        """Whether there is an upload to that repository."""
        return any(upload.name == name for upload in self.uploads.values())

    def answer(self, request: Request, name: str, kind: str, rest: str) -> Answer:
        """The honest answer."""
        if kind == "uploads" and not rest:
            return self._post(request, name) if request.method == "POST" else failure(405, "UNSUPPORTED")
        if kind == "uploads":
            return self._upload(request, name, rest)
        if request.method == "PUT" and kind == "manifests":
            return self._put_manifest(request, name, rest)
        if request.method == "DELETE" and kind in ("manifests", "blobs") and self.deletes:
            return self._delete(name, kind, rest)
        return failure(405, "UNSUPPORTED")

    # --- blobs --------------------------------------------------------------------------------------------

    def _post(self, request: Request, name: str) -> Answer:
        mounted = self._mount(request, name)
        if mounted is not None:
            return mounted
        number, upload = str(next(self._numbers)), Upload(name)

        def begin() -> None:
            self.uploads[number] = upload

        return Answer(202, self._headers(number, upload, 0), effect=begin)

    def _mount(self, request: Request, name: str) -> Answer | None:
        digest, origin = (request.query.get(key, [""])[0] for key in ("mount", "from"))
        held = self._content.repositories.get(origin)
        if held is None or digest not in held.blobs or not self.mounts or not self._access.reads(request, origin):
            return None
        data = held.blobs[digest]
        return self._created(name, digest, lambda: self._content.add_blob(name, data, digest=digest))

    def _upload(self, request: Request, name: str, number: str) -> Answer:
        upload = self.uploads.get(number)
        if upload is None or upload.name != name:
            return failure(404, "BLOB_UPLOAD_UNKNOWN")
        good = upload.targets[-1:] if self.forgetful else upload.targets
        if not any(request.target == target or request.target.startswith(f"{target}&") for target in good):
            return failure(400, "BLOB_UPLOAD_INVALID", "this is not where the upload goes on")
        if request.method == "GET":
            return Answer(204, self._headers(number, upload, len(upload.data)))
        if request.method == "PATCH":
            return self._patch(request, number, upload)
        if request.method == "PUT":
            return self._put_blob(request, number, upload)
        if request.method == "DELETE":
            return Answer(204, effect=lambda: self.uploads.pop(number))
        return failure(405, "UNSUPPORTED")

    def _patch(self, request: Request, number: str, upload: Upload) -> Answer:
        start = request.headers.get("Content-Range", "0-").partition("-")[0]
        if "Content-Range" in request.headers and int(start) != len(upload.data):
            return failure(416, "BLOB_UPLOAD_INVALID", "not the next part")

        def keep() -> None:
            upload.data.extend(request.body)

        length = len(upload.data) + len(request.body)
        return Answer(202, self._headers(number, upload, length), effect=keep)

    def _put_blob(self, request: Request, number: str, upload: Upload) -> Answer:
        data, digest = bytes(upload.data) + request.body, request.query.get("digest", [""])[0]
        algorithm = digest.partition(":")[0]
        if algorithm not in ("sha256", "sha512") or digest != f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}":
            return failure(400, "DIGEST_INVALID", "provided digest did not match uploaded content")

        def finish() -> None:
            del self.uploads[number]
            self._content.add_blob(upload.name, data, digest=digest)

        return self._created(upload.name, digest, finish)

    def _created(self, name: str, digest: str, effect: Callable[[], object]) -> Answer:
        headers = {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest}
        return Answer(201, CIMultiDict(headers), effect=effect)

    def _headers(self, number: str, upload: Upload, length: int) -> CIMultiDict[str]:
        # What a client that parses and re-quotes would change.
        target = f"/v2/{upload.name}/blobs/uploads/{number}?_state=st%2Fate%2b{length}=="
        upload.targets.append(target)
        headers: CIMultiDict[str] = CIMultiDict({"Location": self.locate(target), "Docker-Upload-UUID": number})
        if self.acknowledges:
            headers["Range"] = f"0-{max(length - 1, 0)}"
        return headers

    # --- manifests ----------------------------------------------------------------------------------------

    def _put_manifest(self, request: Request, name: str, reference: str) -> Answer:
        raw, repository = request.body, self._content.repository(name)
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        if ":" in reference and reference != digest:
            return failure(400, "DIGEST_INVALID")
        try:
            value = json.loads(raw)
        except ValueError:
            return failure(400, "MANIFEST_INVALID")
        blobs = [*value.get("layers", []), *filter(None, [value.get("config")])]
        missing = [child["digest"] for child in blobs if child["digest"] not in repository.blobs]
        missing += [child["digest"] for child in value.get("manifests", []) if not repository.find(child["digest"])]
        if missing:
            return failure(404, "MANIFEST_BLOB_UNKNOWN", f"blob unknown to registry: {missing[0]}")
        tag = None if ":" in reference else reference
        kind = request.headers.get("Content-Type", "")
        headers = CIMultiDict({"Location": f"/v2/{name}/manifests/{digest}", "Docker-Content-Digest": digest})
        if self.subjects and "subject" in value:
            headers["OCI-Subject"] = value["subject"]["digest"]
        return Answer(201, headers, effect=lambda: self._content.add_manifest(name, raw, tag=tag, media_type=kind))

    def _delete(self, name: str, kind: str, reference: str) -> Answer:
        repository = self._content.repository(name)
        if kind == "blobs":
            if reference not in repository.blobs:
                return failure(404, "BLOB_UNKNOWN")
            return Answer(202, effect=lambda: repository.blobs.pop(reference))
        if repository.find(reference) is None:
            return failure(404, "MANIFEST_UNKNOWN")

        def delete() -> None:
            if repository.tags.pop(reference, None) is None:
                del repository.manifests[reference]
                for tag in [tag for tag, digest in repository.tags.items() if digest == reference]:
                    del repository.tags[tag]

        return Answer(202, effect=delete)

"""`/v2/`: is this a registry? Never a redirect, never a challenge."""

import pytest

from tests.server.calls import ABSENT, ALWAYS, Call, Wire

BASE = {**ALWAYS, "Content-Type": "application/json", "Content-Length": "2", "WWW-Authenticate": ABSENT}
ERROR = {"Content-Type": "application/json", "WWW-Authenticate": ABSENT}

CALLS = [
    Call("GET /v2/", 200, BASE, b"{}"),
    Call("GET /v2", 200, BASE, b"{}"),
    Call("HEAD /v2/", 200, BASE, b""),
    Call("GET /docker.io/v2/", 200, BASE, b"{}"),
    Call("GET /v2/?ns=docker.io", 200, BASE, b"{}"),
    Call("GET /v2/", 200, BASE, b"{}", sent={"Authorization": "Basic dXNlcjpwYXNz"}),
    Call("GET /v2/", 200, BASE, b"{}", sent={"X-Forwarded-For": "192.0.2.1"}),
    Call("GET /v2/", 200, BASE, b"{}", sent={"Host": "evil.example"}),
    # what is no route, or not here
    Call("GET /", 404, ERROR, "UNSUPPORTED"),
    Call("GET /v2/alpine", 404, ERROR, "UNSUPPORTED"),
    Call("GET /v2/library/alpine/manifests/", 404, ERROR, "MANIFEST_UNKNOWN"),
    Call("POST /v2/", 405, {**ERROR, "Allow": "GET, HEAD"}, "UNSUPPORTED"),
    Call("GET /v2/library/UPPER/manifests/3", 400, ERROR, "NAME_INVALID"),
    Call("GET /v2/library%2falpine/manifests/3", 400, ERROR, "NAME_INVALID"),
    Call("GET /v2/../../etc/passwd/manifests/3", 400, ERROR, "NAME_INVALID"),
    Call("GET /v2/library/alpine/blobs/sha256:abc", 400, ERROR, "DIGEST_INVALID"),
    Call("GET /v2/library/alpine/blobs/md5:abc", 400, ERROR, "DIGEST_INVALID"),
    Call("GET /v2/quay.io/a/b/manifests/3", 404, ERROR, "NAME_UNKNOWN"),
    Call("GET /v2/a/b/manifests/3?ns=quay.io", 404, ERROR, "NAME_UNKNOWN"),
    Call("GET /v2/a/b/manifests/3?ns=local", 404, ERROR),
    # what each route can do; what is pushed and deleted is in `test_uploads` and `test_writing`
    *(Call(f"{method} /v2/library/alpine/manifests/3", 405, {**ERROR, "Allow": "GET, HEAD, PUT, DELETE"}, "UNSUPPORTED")
      for method in ("POST", "PATCH", "OPTIONS")),
    *(Call(f"{method} /v2/library/alpine/blobs/{{small}}", 405, {**ERROR, "Allow": "GET, HEAD, DELETE"}, "UNSUPPORTED")
      for method in ("POST", "PUT", "PATCH")),
    *(Call(f"{method} /v2/team/app/blobs/uploads/", 405, {**ERROR, "Allow": "POST"}, "UNSUPPORTED")
      for method in ("GET", "PUT", "PATCH", "DELETE")),
    *(Call(f"{method} /v2/team/app/blobs/uploads/x", 405, {**ERROR, "Allow": "GET, PATCH, PUT, DELETE"}, "UNSUPPORTED")
      for method in ("POST", "OPTIONS")),
    *(Call(f"{method} /v2/library/alpine/{what}", 405, {**ERROR, "Allow": "GET, HEAD"}, "UNSUPPORTED")
      for what in ("tags/list", "referrers/{image}") for method in ("POST", "PUT", "DELETE")),
    # this machine may push (an own name only), and not delete
    Call("PUT /v2/library/alpine/manifests/3", 403, ERROR, "DENIED"),
    Call("POST /v2/library/alpine/blobs/uploads/", 403, ERROR, "DENIED"),
    Call("DELETE /v2/library/alpine/manifests/3", 403, ERROR, "DENIED"),
    Call("DELETE /v2/library/alpine/blobs/{small}", 403, ERROR, "DENIED"),
    Call("PUT /v2/library/alpine/blobs/uploads/x?digest={small}", 404, ERROR, "BLOB_UPLOAD_UNKNOWN"),
    # the other pages
    Call("GET /healthz", 200, {"Content-Length": "3"}, b"ok\n"),
    Call("HEAD /healthz", 200, {}, b""),
    Call("GET /metrics", 200, {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}),
    Call("GET /healthz?x=/v2/", 200, {}, b"ok\n"),
]  # fmt: skip


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("call", CALLS, ids=str)
async def test_calls(shared_wire: Wire, call: Call) -> None:
    await shared_wire.check(call)

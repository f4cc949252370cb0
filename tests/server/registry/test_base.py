"""`/v2/`: is this a registry? Never a redirect, never a challenge."""

import pytest

from tests.server.calls import ABSENT, ALWAYS, ANY, Call, Wire

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
    # pushes are for a later day
    *(Call(f"{method} /v2/library/alpine/manifests/3", 405, {"Allow": ANY}, "UNSUPPORTED")
      for method in ("PUT", "DELETE", "POST", "PATCH", "OPTIONS")),
    Call("POST /v2/library/alpine/blobs/uploads/", 405, {**ERROR, "Allow": ""}, "UNSUPPORTED"),
    Call("PUT /v2/library/alpine/blobs/uploads/x?digest={small}", 405, ERROR, "UNSUPPORTED"),
    Call("DELETE /v2/library/alpine/blobs/{small}", 405, ERROR, "UNSUPPORTED"),
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

"""The one place that renders errors (OCI distribution-spec, "Error Codes")."""

import json
import logging

from aiohttp import web
from multidict import CIMultiDict

from mirror.errors import (
    MirrorError,
    Offline,
    RangeNotSatisfiable,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    Unsupported,
    UploadOutOfOrder,
    UpstreamLimited,
    UpstreamNoAnswer,
)
from mirror.oci import routes

log = logging.getLogger(__name__)

_MESSAGE_LIMIT = 600
CHALLENGE = 'Basic realm="mirror"'  # RFC 7617; without a word about charsets, which some clients stumble over
WRITE = object()
"""In place of a route: a request that writes. It is told honestly what happened: there is nobody else to turn to."""
API = object()
"""In place of a route: a request to `/api/v1/`. It is told honestly what happened, and the command line's exit code."""


class Failures:
    """`honest`: an upstream that gives no answer is a 503; else a 404, so that clients move to their next endpoint."""

    def __init__(self, *, honest: bool) -> None:
        self._honest = honest

    def render(self, error: MirrorError, route: object | None) -> web.Response:
        """The answer to a client. `route` is what it asked for, where that is known."""
        code, status = error.code, error.status
        headers: CIMultiDict[str] = CIMultiDict({"Docker-Distribution-Api-Version": "registry/2.0"})
        if isinstance(error, Unauthorized):
            headers["WWW-Authenticate"] = CHALLENGE
        elif isinstance(error, TooManyRequests):
            headers["Retry-After"] = str(int(error.retry_after) + 1)
        elif route not in (API, WRITE) and (
            isinstance(error, Offline) or (isinstance(error, UpstreamNoAnswer) and not self._honest)
        ):
            code, status = _unknown(route), 404
        elif route is WRITE and isinstance(error, Offline):  # what is to be sent cannot be now
            code, status = Unavailable.code, Unavailable.status
        elif isinstance(error, UpstreamLimited):
            headers["Retry-After"] = str(int(error.retry_after) + 1)
        elif isinstance(error, RangeNotSatisfiable):
            headers["Content-Range"] = f"bytes */{error.size}"
        elif isinstance(error, UploadOutOfOrder):
            headers["Range"] = f"0-{max(0, error.offset - 1)}"
        elif isinstance(error, Unsupported):
            headers["Allow"] = str((error.detail or {}).get("allow", "GET, HEAD"))
        detail = error.detail if route is not API else {**(error.detail or {}), "exit_code": error.exit_code}
        return self._answer(status, code, error.message, detail, headers)

    def unexpected(self, error: Exception) -> web.Response:
        """A mistake of ours: logged whole, told in one sentence."""
        log.error("unexpected: %r", error, exc_info=error)
        return self._answer(500, "UNKNOWN", "internal error; the mirror's log says more", None, CIMultiDict())

    def _answer(self, status: int, code: str, message: str, detail: object, headers: CIMultiDict[str]) -> web.Response:
        entry = {"code": code, "message": message[:_MESSAGE_LIMIT], "detail": detail}
        body = json.dumps({"errors": [entry]}).encode()
        headers["Content-Type"] = "application/json"
        return web.Response(status=status, body=body, headers=headers)


def _unknown(route: object | None) -> str:
    return "BLOB_UNKNOWN" if isinstance(route, routes.BlobRoute) else "MANIFEST_UNKNOWN"

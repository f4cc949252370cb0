"""One error tree, one table of codes.

The registry codes and their HTTP statuses follow the OCI distribution specification, "Error Codes"
(code-1 … code-14); `UNAVAILABLE` follows distribution's `registry/api/errcode`. The exit codes of the
command line stand on the classes (README, "Exit codes").

Everything the mirror raises on purpose is a `MirrorError`. A message is written for the person who reads
it: what was wrong, where, what to do. It never carries a secret, nor anything the asker may not see.
"""

from collections.abc import Mapping
from typing import ClassVar


class MirrorError(Exception):
    """The root of the tree. `code` and `status` are what a registry client gets, `exit_code` a shell."""

    code: ClassVar[str] = "UNKNOWN"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, detail: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.detail = dict(detail) if detail else None


# --- the registry's answers -------------------------------------------------------------------------------


class BlobUnknown(MirrorError):
    code, status, exit_code = "BLOB_UNKNOWN", 404, 4


class ManifestUnknown(MirrorError):
    code, status, exit_code = "MANIFEST_UNKNOWN", 404, 4


class ManifestBlobUnknown(MirrorError):
    code, status, exit_code = "MANIFEST_BLOB_UNKNOWN", 404, 4


class NameUnknown(MirrorError):
    code, status, exit_code = "NAME_UNKNOWN", 404, 4


class PathUnknown(MirrorError):
    """A path that is no route of the specification."""

    code, status, exit_code = "UNSUPPORTED", 404, 4


class NoSearch(MirrorError):
    """A registry that offers neither a search nor a catalog."""

    code, status, exit_code = "UNSUPPORTED", 404, 4


class NameInvalid(MirrorError):
    code, status, exit_code = "NAME_INVALID", 400, 2


class DigestInvalid(MirrorError):
    code, status, exit_code = "DIGEST_INVALID", 400, 7


class ManifestInvalid(MirrorError):
    code, status = "MANIFEST_INVALID", 400


class SizeInvalid(MirrorError):
    code, status = "SIZE_INVALID", 400


class ManifestTooLarge(MirrorError):
    code, status = "SIZE_INVALID", 413


class BlobUploadUnknown(MirrorError):
    code, status = "BLOB_UPLOAD_UNKNOWN", 404


class BlobUploadInvalid(MirrorError):
    code, status = "BLOB_UPLOAD_INVALID", 400


class UploadOutOfOrder(MirrorError):
    """An upload goes on elsewhere: `offset` bytes were accepted (distribution-spec, "Pushing a blob in chunks")."""

    code, status = "BLOB_UPLOAD_INVALID", 416

    def __init__(self, message: str, *, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


class RequestInvalid(MirrorError):
    """A header or a query that cannot be understood: several ranges in thousands, a count that is no number."""

    code, status, exit_code = "UNSUPPORTED", 400, 2


class RangeNotSatisfiable(MirrorError):
    """The range begins beyond the content (RFC 9110, 15.5.17); `size` is the whole length in bytes."""

    code, status = "SIZE_INVALID", 416

    def __init__(self, message: str, *, size: int) -> None:
        super().__init__(message)
        self.size = size


class Unauthorized(MirrorError):
    code, status, exit_code = "UNAUTHORIZED", 401, 5


class Denied(MirrorError):
    code, status, exit_code = "DENIED", 403, 5


class Conflict(Denied):
    """Something else stands against it, which he may overrule (docker: 409, "must be forced")."""

    exit_code = 1


class Unsupported(MirrorError):
    code, status = "UNSUPPORTED", 405


class TooManyRequests(MirrorError):
    """Nothing more is taken from this client for `retry_after` seconds."""

    code, status, exit_code = "TOOMANYREQUESTS", 429, 6

    def __init__(self, message: str, *, detail: Mapping[str, object] | None = None, retry_after: float = 1.0) -> None:
        super().__init__(message, detail=detail)
        self.retry_after = retry_after


class Unavailable(MirrorError):
    code, status = "UNAVAILABLE", 503


class Offline(MirrorError):
    """The mirror is offline by choice and does not hold what was asked for."""

    code, status, exit_code = "MANIFEST_UNKNOWN", 404, 9


# --- upstream ---------------------------------------------------------------------------------------------


class UpstreamError(MirrorError):
    """What another registry did or said. `registry` is its canonical name.

    `code` and `status` are those of `on_upstream_failure = "error"`; by default the asker gets a 404, so
    that its client moves to the next endpoint.
    """

    code, status = "UNAVAILABLE", 503

    def __init__(self, message: str, *, registry: str) -> None:
        super().__init__(message)
        self.registry = registry


class UpstreamNoAnswer(UpstreamError):
    """An outage, not an answer: nothing about the content is known. Stale copies are served."""


class UpstreamUnreachable(UpstreamNoAnswer):
    """No connection, a timeout, TLS that failed, a 5xx."""


class UpstreamLimited(UpstreamNoAnswer):
    """429: nothing more is sent there for `retry_after` seconds."""

    exit_code = 6

    def __init__(self, message: str, *, registry: str, retry_after: float) -> None:
        super().__init__(message, registry=registry)
        self.retry_after = retry_after


class UpstreamCredentialsRefused(UpstreamNoAnswer):
    """Our credentials were not accepted: an outage of ours, never a statement about the content."""

    exit_code = 5


class UpstreamLoop(UpstreamNoAnswer):
    """The registry behind this URL is this mirror itself."""


class UpstreamForbidden(UpstreamNoAnswer):
    """A redirect, realm or link leads where it may not lead (design.md §4 and `faults.md`, SSRF)."""


class UpstreamInvalid(UpstreamNoAnswer):
    """An answer against the specification: no size, a manifest that is none, a body over its cap."""


class UpstreamDigestMismatch(UpstreamInvalid):
    """The bytes are not those the digest names. Nothing of them was kept."""

    exit_code = 7


class UpstreamGone(UpstreamError):
    """The registry's own answer that this is not there for the asker: 404, or 401 and 403 that are not
    about our credentials. `refused` tells a 401 or 403 from a 404."""

    code, status, exit_code = "MANIFEST_UNKNOWN", 404, 4

    def __init__(self, message: str, *, registry: str, refused: bool = False) -> None:
        super().__init__(message, registry=registry)
        self.refused = refused


class UpstreamRefused(UpstreamError):
    """The registry's own answer that it does not take what we send: our login may not, or it is not as it wants it."""

    code, status, exit_code = "DENIED", 403, 5


# --- the machine ------------------------------------------------------------------------------------------


class ConfigInvalid(MirrorError):
    """A setting that cannot be used: file, key, what was found, what is allowed."""

    exit_code = 2


class DataBusy(MirrorError):
    """Another process owns the data directory."""

    exit_code = 8


class DataInvalid(MirrorError):
    """The data directory or its catalog cannot be used as it is. Nothing in it was changed."""

    exit_code = 2


class StoreFailed(MirrorError):
    """The disk refused: EIO, read-only, a failed fsync. The ingest is dropped."""

    code, status = "UNAVAILABLE", 503


class NoRoom(StoreFailed):
    """The disk is full, or nearer to it than the reserve allows."""

    code, status = "UNAVAILABLE", 507


class ServerUnreachable(MirrorError):
    """The command line found no mirror to talk to."""


#: Every code that may stand in an answer, with the statuses it is used with.
CODES: Mapping[str, frozenset[int]]


def _subclasses(root: type[MirrorError]) -> list[type[MirrorError]]:
    return [root, *(leaf for branch in root.__subclasses__() for leaf in _subclasses(branch))]


CODES = {
    code: frozenset(error.status for error in _subclasses(MirrorError) if error.code == code)
    for code in sorted({error.code for error in _subclasses(MirrorError)})
}

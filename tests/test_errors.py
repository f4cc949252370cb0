"""The table of errors is total: whatever the mirror raises has a code that clients know, and a fitting status.

Breaks when a class is added with a code of its own invention, a swapped status, or an exit code that no
script expects.
"""

import pytest

from mirror import errors
from mirror.errors import CODES, MirrorError

# distribution-spec, "Error Codes", code-1 … code-14
SPECIFICATION = {
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "SIZE_INVALID",
    "UNAUTHORIZED",
    "DENIED",
    "UNSUPPORTED",
    "TOOMANYREQUESTS",
}
# distribution, registry/api/errcode/register.go
DISTRIBUTION = {"UNKNOWN", "UNAVAILABLE"}

# Statuses that a client may meet under each code. "UNKNOWN" is a fault of ours, and nothing else.
STATUSES = {
    "BLOB_UNKNOWN": {404},
    "BLOB_UPLOAD_INVALID": {400, 416},
    "BLOB_UPLOAD_UNKNOWN": {404},
    "DIGEST_INVALID": {400},
    "MANIFEST_BLOB_UNKNOWN": {404},
    "MANIFEST_INVALID": {400},
    "MANIFEST_UNKNOWN": {404},
    "NAME_INVALID": {400},
    "NAME_UNKNOWN": {404},
    "SIZE_INVALID": {400, 413, 416},
    "UNAUTHORIZED": {401},
    "DENIED": {403},
    "UNSUPPORTED": {400, 404, 405},
    "TOOMANYREQUESTS": {429},
    "UNKNOWN": {500},
    "UNAVAILABLE": {503, 507},
}
# The command line's: 3 and 130 belong to it alone, 0 to nobody who raises.
EXIT_CODES = {1, 2, 4, 5, 6, 7, 8, 9}

CLASSES = sorted(
    (item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, MirrorError)),
    key=lambda item: item.__name__,
)


@pytest.mark.parametrize("error", CLASSES)
def test_every_class_has_a_known_code_and_a_fitting_status(error: type[MirrorError]) -> None:
    assert error.code in SPECIFICATION | DISTRIBUTION
    assert error.status in STATUSES[error.code]
    assert error.exit_code in EXIT_CODES


@pytest.mark.parametrize("error", CLASSES)
def test_every_class_says_what_it_is(error: type[MirrorError]) -> None:
    parameters = {"size": 7, "registry": "docker.io", "retry_after": 1.5, "offset": 7}
    wanted = error.__init__.__annotations__
    instance = error("what was wrong", **{key: value for key, value in parameters.items() if key in wanted})  # type: ignore[arg-type]
    assert instance.message == str(instance) == "what was wrong"
    assert all(getattr(instance, key) == value for key, value in parameters.items() if key in wanted)


def test_the_table_has_every_class() -> None:
    assert set(CODES) == {error.code for error in CLASSES}
    assert all(error.status in CODES[error.code] for error in CLASSES)
    assert set(CODES) >= SPECIFICATION, "a code of the specification that nothing here raises"


def test_the_mirror_never_answers_429_for_an_upstream() -> None:
    """containerd resends a 429 five times without a pause, containers/image sleeps a minute four times."""
    upstream = [error for error in CLASSES if issubclass(error, errors.UpstreamError)]
    assert upstream
    assert {error.status for error in upstream} <= {403, 404, 503}


def test_detail_is_a_copy() -> None:
    detail: dict[str, object] = {"name": "library/alpine"}
    error = MirrorError("wrong", detail=detail)
    detail.clear()
    assert error.detail == {"name": "library/alpine"}
    assert MirrorError("wrong").detail is None

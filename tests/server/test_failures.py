"""Every error becomes the specified shape; an upstream that gives no answer sends clients to their next endpoint."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from mirror.errors import (
    CODES,
    BlobUnknown,
    Denied,
    DigestInvalid,
    ManifestUnknown,
    MirrorError,
    NameUnknown,
    NoRoom,
    Offline,
    RangeNotSatisfiable,
    StoreFailed,
    TooManyRequests,
    Unauthorized,
    Unsupported,
    UploadOutOfOrder,
    UpstreamCredentialsRefused,
    UpstreamError,
    UpstreamGone,
    UpstreamInvalid,
    UpstreamLimited,
    UpstreamLoop,
    UpstreamNoAnswer,
    UpstreamUnreachable,
)
from mirror.oci.digest import Digest
from mirror.oci.names import Name
from mirror.oci.routes import BlobRoute, ManifestRoute, TagsRoute
from mirror.server.failures import API, WRITE, Failures
from tests.server.calls import ANY, Call
from tests.server.calls import wire as wired
from tests.support.fake_registry import behaviours

NAME = Name("docker.io", "library/alpine")
BLOB, MANIFEST, TAGS = BlobRoute(NAME, Digest.of(b"")), ManifestRoute(NAME, "3"), TagsRoute(NAME)

HUB: dict[str, Any] = {"registry": "docker.io"}
NO_ANSWERS: list[UpstreamError] = [
    UpstreamUnreachable("no connection", **HUB),
    UpstreamLimited("429", **HUB, retry_after=59.2),
    UpstreamCredentialsRefused("ours are wrong", **HUB),
    UpstreamLoop("it is this mirror", **HUB),
    UpstreamInvalid("nonsense", **HUB),
]


def rendered(error: MirrorError, route: object = MANIFEST, *, honest: bool = False) -> tuple[int, str, dict[str, str]]:
    response = Failures(honest=honest).render(error, route)
    assert isinstance(response.body, bytes)
    [entry] = json.loads(response.body)["errors"]
    assert set(entry) == {"code", "message", "detail"}
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
    return response.status, entry["code"], dict(response.headers)


@pytest.mark.parametrize(("error", "status", "code"), [
    (BlobUnknown("x"), 404, "BLOB_UNKNOWN"),
    (ManifestUnknown("x"), 404, "MANIFEST_UNKNOWN"),
    (NameUnknown("x"), 404, "NAME_UNKNOWN"),
    (DigestInvalid("x"), 400, "DIGEST_INVALID"),
    (Denied("x"), 403, "DENIED"),
    (UpstreamGone("x", **HUB), 404, "MANIFEST_UNKNOWN"),
    (StoreFailed("x"), 503, "UNAVAILABLE"),
    (NoRoom("x"), 507, "UNAVAILABLE"),
])  # fmt: skip
@pytest.mark.parametrize("honest", [False, True])
def test_an_answer_is_what_its_class_says(error: MirrorError, status: int, code: str, honest: bool) -> None:
    assert rendered(error, honest=honest)[:2] == (status, code)


@pytest.mark.parametrize("route", [MANIFEST, None, API])
def test_who_has_to_log_in_is_told_how(route: object) -> None:
    status, code, headers = rendered(Unauthorized("x"), route)
    assert (status, code, headers["WWW-Authenticate"]) == (401, "UNAUTHORIZED", 'Basic realm="mirror"')
    assert "WWW-Authenticate" not in rendered(Denied("x"), route)[2]


def test_who_has_to_wait_is_told_how_long() -> None:
    status, code, headers = rendered(TooManyRequests("x", retry_after=41.2))
    assert (status, code, headers["Retry-After"]) == (429, "TOOMANYREQUESTS", "42")


@pytest.mark.parametrize("error", NO_ANSWERS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(("route", "code"), [
    (BLOB, "BLOB_UNKNOWN"), (MANIFEST, "MANIFEST_UNKNOWN"), (TAGS, "MANIFEST_UNKNOWN"), (None, "MANIFEST_UNKNOWN"),
])  # fmt: skip
def test_no_answer_is_a_404_by_default(error: UpstreamError, route: object, code: str) -> None:
    status, said, headers = rendered(error, route)
    assert (status, said) == (404, code)
    assert "Retry-After" not in headers


@pytest.mark.parametrize("error", NO_ANSWERS, ids=lambda error: type(error).__name__)
def test_or_a_503_where_the_operator_wants_the_truth(error: UpstreamError) -> None:
    status, code, headers = rendered(error, honest=True)
    assert (status, code) == (503, "UNAVAILABLE")
    assert headers.get("Retry-After") == ("60" if isinstance(error, UpstreamLimited) else None)


@pytest.mark.parametrize("error", NO_ANSWERS, ids=lambda error: type(error).__name__)
def test_who_writes_is_told_the_truth_always(error: UpstreamError) -> None:
    """He has no next endpoint; and never a 429, which some clients resend without a pause."""
    status, code, headers = rendered(error, WRITE)
    assert (status, code) == (503, "UNAVAILABLE")
    assert headers.get("Retry-After") == ("60" if isinstance(error, UpstreamLimited) else None)


@pytest.mark.parametrize("honest", [False, True])
@pytest.mark.parametrize(("route", "code"), [(BLOB, "BLOB_UNKNOWN"), (MANIFEST, "MANIFEST_UNKNOWN")])
def test_offline_by_choice_is_a_404_always(route: object, code: str, honest: bool) -> None:
    assert rendered(Offline("x"), route, honest=honest)[:2] == (404, code)


def leaves(root: type[MirrorError]) -> list[type[MirrorError]]:
    return [root, *(leaf for each in root.__subclasses__() for leaf in leaves(each))]


@pytest.mark.parametrize("kind", leaves(MirrorError))
@pytest.mark.parametrize("honest", [False, True])
def test_every_error_is_rendered_with_a_pair_of_the_table_and_none_is_a_429_from_upstream(
    kind: type[MirrorError], honest: bool
) -> None:
    more: dict[str, Any] = {}
    if issubclass(kind, UpstreamError):
        more["registry"] = "docker.io"
    if kind is UpstreamLimited:
        more["retry_after"] = 1.0
    if kind is RangeNotSatisfiable:
        more["size"] = 5
    if kind is UploadOutOfOrder:
        more["offset"] = 5
    status, code, _ = rendered(kind("a message", **more), honest=honest)
    assert status in CODES[code]
    assert not (issubclass(kind, UpstreamNoAnswer) and status == 429)


def test_offline_is_no_answer_about_content_to_who_writes() -> None:
    """Breaks if docker is told "not found" of what it is just about to put there."""
    assert rendered(Offline("this mirror is offline"), WRITE)[:2] == (503, "UNAVAILABLE")
    assert rendered(Offline("this mirror is offline"))[:2] == (404, "MANIFEST_UNKNOWN")


def test_headers_that_belong_to_a_status() -> None:
    status, _, headers = rendered(RangeNotSatisfiable("x", size=123))
    assert (status, headers["Content-Range"]) == (416, "bytes */123")
    status, _, headers = rendered(Unsupported("x"))
    assert (status, headers["Allow"]) == (405, "GET, HEAD")
    for offset, said in ((0, "0-0"), (1, "0-0"), (123, "0-122")):
        status, code, headers = rendered(UploadOutOfOrder("x", offset=offset), WRITE)
        assert (status, code, headers["Range"]) == (416, "BLOB_UPLOAD_INVALID", said)


def test_message_and_detail() -> None:
    response = Failures(honest=False).render(NameUnknown("m" * 1000, detail={"name": "x"}), None)
    assert isinstance(response.body, bytes)
    [entry] = json.loads(response.body)["errors"]
    assert (entry["message"], entry["detail"]) == ("m" * 600, {"name": "x"})


def test_a_mistake_of_ours_is_logged_whole_and_told_in_one_sentence(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise ValueError("secret inside")
    except ValueError as error:
        with caplog.at_level(logging.ERROR):
            response = Failures(honest=True).unexpected(error)
    assert isinstance(response.body, bytes)
    assert response.status == 500
    assert json.loads(response.body)["errors"][0]["code"] == "UNKNOWN"
    assert b"secret" not in response.body
    assert "ValueError: secret inside" in caplog.text
    assert "test_failures.py" in caplog.text  # with where it happened


async def test_the_setting(tmp_path: Path) -> None:
    async with wired(tmp_path / "d", on_upstream_failure="error") as wire:
        wire.content.hub.script("*", behaviours.limited("30"), times=None)
        headers: dict[str, Any] = {"Content-Type": "application/json", "Retry-After": ANY}
        for request in ("GET /v2/library/alpine/manifests/3", "GET /v2/library/alpine/blobs/{small}"):
            await wire.check(Call(request, 503, headers, "UNAVAILABLE"))

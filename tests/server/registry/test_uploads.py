"""Uploads on the wire, in the order of the OCI distribution-spec: "Pushing blobs", "Pushing a blob monolithically",
"Pushing a blob in chunks", "Cancel a blob upload", "Mounting a blob from another repository".

After each answer the same connection must answer another request (`calls.exchange`).
"""

import asyncio
import json
from pathlib import Path
from urllib.parse import quote

import pytest

from mirror.server.registry.uploads import SMALL
from tests.faults.support import staged, stored
from tests.server.calls import ALWAYS, NOWHERE, Answer, head
from tests.server.pushing import NAME, RULES, STRANGER, Scene, chunked, digest_of, htpasswd, image, scene, user
from tests.support.fake_registry.content import random_bytes

UPLOADS = f"/v2/{NAME}/blobs/uploads/"
HELLO = b"hello, registry"
DIGEST = digest_of(HELLO)
BLOB = f"{NAME}/blobs/{DIGEST}"
LARGE = random_bytes("large", SMALL + 100_000)


def created(answer: Answer, location: str, digest: str = DIGEST) -> None:
    """Hold a 201 against the specification: a pullable URL, and the digest."""
    assert (answer.status, answer.body) == (201, b""), answer
    wanted = {**ALWAYS, "Location": location, "Docker-Content-Digest": digest, "Content-Length": "0"}
    assert {name: answer.headers.get(name) for name in wanted} == wanted


def under_way(answer: Answer, location: str | None, reached: int, status: int = 202) -> None:
    """Hold an answer about an upload under way against the specification."""
    assert (answer.status, answer.body) == (status, b""), answer
    assert answer.headers["Range"] == f"0-{max(0, reached - 1)}"
    assert location in (None, answer.headers["Location"])
    assert answer.headers["Docker-Upload-UUID"] in answer.headers["Location"]
    assert {name: answer.headers.get(name) for name in ALWAYS} == ALWAYS


def refused(answer: Answer, status: int, code: str) -> str:
    """Hold a refusal against this, and return what it says."""
    assert (answer.status, answer.code, answer.headers["Content-Type"]) == (status, code, "application/json"), answer
    return str(answer.error["message"])


# --- "Pushing blobs": a digest that is invalid, or of an unsupported algorithm -------------------------------


@pytest.mark.parametrize("digest", ["sha256:abc", "md5:" + "a" * 32, "sha256:" + "A" * 64, "blake3:" + "a" * 64, "x"])
async def test_a_digest_that_is_none_is_400(scene: Scene, digest: str) -> None:
    location = await scene.begin()
    for answer in (
        await scene.put(location, digest, HELLO),
        await scene.ask(f"POST {UPLOADS}?digest={digest}", HELLO),
        await scene.ask(f"POST {UPLOADS}?mount={digest}&from=team/other", b""),
    ):
        refused(answer, 400, "DIGEST_INVALID")
    assert await scene.offset(location) == "0-0"
    assert stored(scene.data) == {}


@pytest.mark.parametrize("algorithm", ["md5", "sha1024", "SHA256", "blake3"])
async def test_an_unsupported_algorithm_is_400(scene: Scene, algorithm: str) -> None:
    message = refused(await scene.ask(f"POST {UPLOADS}?digest-algorithm={algorithm}", b""), 400, "DIGEST_INVALID")
    assert "sha256" in message
    assert "sha512" in message
    assert staged(scene.data) == []


# --- "POST then PUT" (end-4a, end-6) -------------------------------------------------------------------------


@pytest.mark.parametrize("data", [HELLO, b"", LARGE], ids=["small", "empty", "large"])
async def test_post_then_put(scene: Scene, data: bytes) -> None:
    answer = await scene.ask(f"POST {UPLOADS}", b"")
    under_way(answer, None, 0)
    location, digest = answer.headers["Location"], digest_of(data)
    assert location == f"{UPLOADS}{answer.headers['Docker-Upload-UUID']}"
    created(await scene.put(location, digest, data), f"/v2/{NAME}/blobs/{digest}", digest)
    assert await scene.got(f"{NAME}/blobs/{digest}") == data
    assert staged(scene.data) == []
    refused(await scene.ask(f"GET {location}"), 404, "BLOB_UPLOAD_UNKNOWN")


@pytest.mark.parametrize("path", [f"/v2/{NAME}/blobs/uploads", UPLOADS])
async def test_an_upload_begins_without_a_body_and_without_its_length(scene: Scene, path: str) -> None:
    under_way(await scene.ask(f"POST {path}"), None, 0)


async def test_a_put_without_a_digest_is_400_and_the_upload_goes_on(scene: Scene) -> None:
    location = await scene.begin()
    refused(await scene.ask(f"PUT {location}", HELLO), 400, "BLOB_UPLOAD_INVALID")
    created(await scene.put(location, DIGEST, HELLO), f"/v2/{BLOB}")


async def test_a_wrong_digest_is_400_and_nothing_is_kept(scene: Scene) -> None:
    location = await scene.begin()
    await scene.patch(location, HELLO[:5])
    refused(await scene.put(location, NOWHERE, HELLO[5:]), 400, "DIGEST_INVALID")
    assert (staged(scene.data), stored(scene.data)) == ([], {})
    refused(await scene.put(location, DIGEST), 404, "BLOB_UPLOAD_UNKNOWN")
    assert await scene.got(f"{NAME}/blobs/{NOWHERE}") == await scene.got(BLOB) == 404
    assert await scene.blob(HELLO) == DIGEST


# --- "Single POST" (end-4b) ----------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [HELLO, b"", LARGE[:SMALL], LARGE], ids=["small", "empty", "just small", "large"])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_a_single_post(scene: Scene, data: bytes, algorithm: str) -> None:
    digest = digest_of(data, algorithm)
    answer = await scene.ask(f"POST {UPLOADS}?digest={digest}", data, Content_Type="application/octet-stream")
    created(answer, f"/v2/{NAME}/blobs/{digest}", digest)
    assert await scene.got(f"{NAME}/blobs/{digest}") == data
    assert staged(scene.data) == []


async def test_a_single_post_in_chunks(scene: Scene) -> None:
    for data in (HELLO, LARGE):
        body = chunked(data[:7], data[7:])
        answer = await scene.ask(f"POST {UPLOADS}?digest={digest_of(data)}", body, Transfer_Encoding="chunked")
        created(answer, f"/v2/{NAME}/blobs/{digest_of(data)}", digest_of(data))
        assert await scene.got(f"{NAME}/blobs/{digest_of(data)}") == data


@pytest.mark.parametrize("data", [HELLO, LARGE], ids=["small", "large"])
async def test_a_single_post_of_other_bytes_leaves_nothing(scene: Scene, data: bytes) -> None:
    refused(await scene.ask(f"POST {UPLOADS}?digest={NOWHERE}", data), 400, "DIGEST_INVALID")
    assert (staged(scene.data), stored(scene.data)) == ([], {})
    assert await scene.wire.mirror.app.status.report()


# --- "Pushing a blob in chunks" (end-4c, end-5, end-6, end-13) -----------------------------------------------


async def test_chunks_in_order(scene: Scene) -> None:
    location = await scene.begin()
    for start in range(0, len(HELLO), 6):
        chunk = HELLO[start : start + 6]
        answer = await scene.patch(location, chunk, start)
        under_way(answer, location, start + len(chunk))
        location = answer.headers["Location"]
    created(await scene.put(location, DIGEST), f"/v2/{BLOB}")
    assert await scene.got(BLOB) == HELLO


async def test_the_last_chunk_in_the_closing_put(scene: Scene) -> None:
    location = await scene.begin()
    await scene.patch(location, HELLO[:6], 0)
    answer = await scene.put(location, DIGEST, HELLO[6:], Content_Range=f"6-{len(HELLO) - 1}")
    created(answer, f"/v2/{BLOB}")
    assert await scene.got(BLOB) == HELLO


async def test_no_least_length_of_a_chunk_is_asked_for(scene: Scene) -> None:
    """`OCI-Chunk-Min-Length` is for registries that cannot take less; here every length is welcome."""
    answer = await scene.ask(f"POST {UPLOADS}", b"")
    assert "OCI-Chunk-Min-Length" not in answer.headers
    under_way(await scene.patch(answer.headers["Location"], b"h", 0), None, 1)


@pytest.mark.parametrize("start", [0, 3, 7, 100])
async def test_out_of_order_is_416_and_says_where_it_goes_on(scene: Scene, start: int) -> None:
    location = await scene.begin()
    await scene.patch(location, HELLO[:6], 0)
    for answer in (
        await scene.patch(location, HELLO[6:], start),
        await scene.put(location, DIGEST, HELLO[6:], Content_Range=f"{start}-{start + len(HELLO) - 7}"),
    ):
        assert "6" in refused(answer, 416, "BLOB_UPLOAD_INVALID")
        assert answer.headers["Range"] == "0-5"
    assert await scene.offset(location) == "0-5"
    await scene.patch(location, HELLO[6:], 6)
    created(await scene.put(location, DIGEST), f"/v2/{BLOB}")


async def test_the_first_chunk_begins_with_zero(scene: Scene) -> None:
    location = await scene.begin()
    answer = await scene.patch(location, HELLO, 1)
    refused(answer, 416, "BLOB_UPLOAD_INVALID")
    assert answer.headers["Range"] == "0-0"


@pytest.mark.parametrize(
    "said", ["bytes", "0-", "-5", "5-0", "0-4", "0-99", "0-x", "0 - 14", "bytes 0-14/15", "0-14, 0-14"]
)
async def test_a_content_range_that_is_none_is_400_or_read_as_meant(scene: Scene, said: str) -> None:
    """FIRST-LAST; docker's own `bytes FIRST-LAST/SIZE` may be understood. None of them spoils the upload."""
    location = await scene.begin()
    answer = await scene.ask(f"PATCH {location}", HELLO, Content_Range=said)
    if answer.status == 202:
        assert said == "bytes 0-14/15"
        return
    refused(answer, 400, "BLOB_UPLOAD_INVALID")
    assert await scene.offset(location) == "0-0"
    created(await scene.put(location, DIGEST, HELLO), f"/v2/{BLOB}")


async def test_streamed_without_a_content_range(scene: Scene) -> None:
    """As docker does: one PATCH with the body in chunks, then an empty PUT."""
    location = await scene.begin()
    answer = await scene.ask(f"PATCH {location}", chunked(LARGE[:70_000], LARGE[70_000:]), Transfer_Encoding="chunked")
    under_way(answer, location, len(LARGE))
    created(await scene.put(location, digest_of(LARGE)), f"/v2/{NAME}/blobs/{digest_of(LARGE)}", digest_of(LARGE))
    assert await scene.got(f"{NAME}/blobs/{digest_of(LARGE)}") == LARGE


async def test_streams_without_a_content_range_follow_each_other(scene: Scene) -> None:
    location = await scene.begin()
    for part in (HELLO[:4], b"", HELLO[4:9]):
        assert (await scene.patch(location, part)).status == 202
    assert await scene.offset(location) == "0-8"
    created(await scene.put(location, DIGEST, HELLO[9:]), f"/v2/{BLOB}")
    assert await scene.got(BLOB) == HELLO


async def test_sha512_from_the_beginning(scene: Scene) -> None:
    digest = await scene.blob(LARGE, algorithm="sha512")
    assert digest.startswith("sha512:")
    assert await scene.got(f"{NAME}/blobs/{digest}") == LARGE


@pytest.mark.parametrize(("begun", "ended"), [("sha256", "sha512"), ("sha512", "sha256")])
async def test_another_algorithm_at_the_end_is_hashed_again(scene: Scene, begun: str, ended: str) -> None:
    location = await scene.begin(query=f"?digest-algorithm={begun}")
    await scene.patch(location, LARGE)
    digest = digest_of(LARGE, ended)
    created(await scene.put(location, digest), f"/v2/{NAME}/blobs/{digest}", digest)
    assert await scene.got(f"{NAME}/blobs/{digest}") == LARGE
    refused(await scene.put(await scene.begin(), digest_of(LARGE, "sha512"), HELLO), 400, "DIGEST_INVALID")


async def test_status_is_204_with_location_and_range(scene: Scene) -> None:
    location = await scene.begin()
    under_way(await scene.ask(f"GET {location}"), location, 0, 204)
    await scene.patch(location, HELLO)
    answer = await scene.ask(f"GET {location}")
    under_way(answer, location, len(HELLO), 204)
    assert "Content-Length" not in answer.headers  # RFC 9110, 8.6


async def test_a_location_keeps_the_namespace(scene: Scene) -> None:
    """containerd says `ns` on every request, and takes it from the `Location`, where it re-encodes the query."""
    scene.sections["ghcr.io"]["push"] = "local"
    await scene.restart()
    answer = await scene.ask(f"POST {UPLOADS}?ns=ghcr.io", b"")
    location = answer.headers["Location"]
    assert location == f"{UPLOADS}{answer.headers['Docker-Upload-UUID']}?ns=ghcr.io"
    assert answer.headers["OCI-Namespace"] == "ghcr.io"
    path = location.partition("?")[0]
    answer = await scene.patch(f"{path}?ns=ghcr%2Eio", HELLO)
    under_way(answer, location, len(HELLO))
    answer = await scene.ask(f"PUT {path}?digest={quote(DIGEST, safe='')}&ns=ghcr.io", b"")
    created(answer, f"/v2/{BLOB}?ns=ghcr.io")
    assert await scene.got(f"{BLOB}?ns=ghcr.io") == HELLO
    assert await scene.got(f"ghcr.io/{BLOB}") == HELLO
    assert await scene.got(BLOB) == 404


@pytest.mark.parametrize("name", ["ghcr.io/team/app", "docker.io/team/app", "GHCR.IO/team/app", "ghcr.io:443/team/app"])
async def test_a_location_says_the_name_as_it_was_said(scene: Scene, name: str) -> None:
    for section in scene.sections.values():
        section["push"] = "local"
    await scene.restart()
    location = await scene.begin(name)
    assert location.startswith(f"/v2/{name}/blobs/uploads/")
    created(await scene.put(location, DIGEST, HELLO), f"/v2/{name}/blobs/{DIGEST}")


async def test_a_location_is_understood_however_it_is_encoded(scene: Scene) -> None:
    answer = await scene.ask("POST /v2/team%2dmate/%61pp/blobs/uploads/", b"")
    location = answer.headers["Location"]
    assert location.startswith("/v2/team-mate/app/blobs/uploads/")
    encoded = location.replace("/v2/", "/v2/").replace("app", "%61%70%70").replace("-mate", "%2Dmate")
    under_way(await scene.patch(encoded, HELLO), location, len(HELLO))
    created(await scene.put(encoded, quote(DIGEST, safe="")), f"/v2/team-mate/app/blobs/{DIGEST}")
    assert await scene.got(f"team-mate/app/blobs/{DIGEST}") == HELLO


async def test_a_path_that_holds_the_words_of_the_protocol(scene: Scene) -> None:
    name = "blobs/uploads/manifests"
    await scene.image("1", HELLO, name=name)
    assert await scene.got(f"{name}/blobs/{DIGEST}") == HELLO
    assert await scene.tags(name) == ["1"]


async def test_an_upload_goes_on_after_a_restart(scene: Scene) -> None:
    for algorithm in ("sha256", "sha512"):
        location = await scene.begin(query=f"?digest-algorithm={algorithm}")
        await scene.patch(location, LARGE[:1000], 0)
        await scene.restart()
        assert await scene.offset(location) == "0-999"
        under_way(await scene.patch(location, LARGE[1000:2000], 1000), location, 2000)
        await scene.restart()
        digest = digest_of(LARGE, algorithm)
        answer = await scene.put(location, digest, LARGE[2000:], Content_Range=f"2000-{len(LARGE) - 1}")
        created(answer, f"/v2/{NAME}/blobs/{digest}", digest)
        await scene.restart()
        assert await scene.got(f"{NAME}/blobs/{digest}") == LARGE
        refused(await scene.ask(f"GET {location}"), 404, "BLOB_UPLOAD_UNKNOWN")


# --- "Cancel a blob upload" (end-14) -------------------------------------------------------------------------


async def test_cancelled(scene: Scene) -> None:
    location = await scene.begin()
    await scene.patch(location, HELLO)
    answer = await scene.ask(f"DELETE {location}", b"")
    assert (answer.status, answer.body) == (204, b"")
    assert staged(scene.data) == []
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        query = f"?digest={DIGEST}" if method == "PUT" else ""
        refused(await scene.ask(f"{method} {location}{query}", b""), 404, "BLOB_UPLOAD_UNKNOWN")
    await scene.restart()
    refused(await scene.ask(f"GET {location}"), 404, "BLOB_UPLOAD_UNKNOWN")


# --- whose an upload is --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "PATCH", "PUT", "DELETE"])
async def test_unknown_ids(scene: Scene, method: str) -> None:
    for upload in ("x", "0" * 32, "f" * 128, "..", "%2e%2e", "a" * 200, "0" * 31 + "%00"):
        answer = await scene.ask(f"{method} {UPLOADS}{upload}?digest={DIGEST}", HELLO)
        refused(answer, 404, "BLOB_UPLOAD_UNKNOWN")


@pytest.mark.parametrize("begun_here", [True, False], ids=["before", "after a restart"])
async def test_an_upload_is_its_repositorys_and_its_principals_alone(tmp_path: Path, begun_here: bool) -> None:
    """Quay CVE-2026-32589: who knows another's upload finds nothing, and changes nothing."""
    access = {"htpasswd": htpasswd(tmp_path), "rules": RULES, "loopback": "all"}
    async with scene(tmp_path / "data", access=access) as running:
        writer, other = (user(name) for name in ("writer", "other"))
        location = await running.begin(**writer)
        assert (await running.patch(location, HELLO[:5], **writer)).status == 202
        if not begun_here:
            await running.restart()
        elsewhere = location.replace(NAME, "team/other")
        for method in ("GET", "PATCH", "PUT", "DELETE"):
            query = f"?digest={DIGEST}" if method == "PUT" else ""
            for path, sent in ((elsewhere, writer), (location, other), (location, {}), (elsewhere, other)):
                refused(await running.ask(f"{method} {path}{query}", HELLO[5:], **sent), 404, "BLOB_UPLOAD_UNKNOWN")
            by_socket = await running.on_socket(f"{method} {location}{query}", HELLO[5:])
            refused(by_socket, 404, "BLOB_UPLOAD_UNKNOWN")
        answer = await running.ask(
            f"PUT {location}?digest={DIGEST}", HELLO[5:], Content_Range=f"5-{len(HELLO) - 1}", **writer
        )
        created(answer, f"/v2/{BLOB}")


# --- "Mounting a blob from another repository" (end-11) ------------------------------------------------------


async def test_mounted_from_an_own_repository(scene: Scene) -> None:
    for algorithm in ("sha256", "sha512"):
        digest = await scene.blob(HELLO, "team/source", algorithm)
        answer = await scene.ask(f"POST {UPLOADS}?mount={digest}&from=team/source", b"")
        created(answer, f"/v2/{NAME}/blobs/{digest}", digest)
        assert await scene.got(f"{NAME}/blobs/{digest}") == HELLO
    assert staged(scene.data) == []
    await scene.restart()
    assert await scene.got(BLOB) == HELLO


@pytest.mark.parametrize("source", ["library/alpine", "docker.io/library/alpine", "alpine", ""])
async def test_mounted_from_what_was_pulled(scene: Scene, source: str) -> None:
    small = scene.content.small[0]
    layer = await scene.got(f"library/alpine/blobs/{small}")
    assert isinstance(layer, bytes)
    await scene.wire.mirror.idle()
    query = f"?mount={small}" + (f"&from={source}" if source else "")
    created(await scene.ask(f"POST {UPLOADS}{query}", b""), f"/v2/{NAME}/blobs/{small}", small)
    assert await scene.got(f"{NAME}/blobs/{small}") == layer
    assert scene.hub.count("GET */blobs/*") == 1


@pytest.mark.parametrize("query", [
    f"?mount={DIGEST}", f"?mount={DIGEST}&from=", f"?mount={DIGEST}&from=team/nobody",
    f"?mount={DIGEST}&from=quay.io/a/b", f"?mount={DIGEST}&from=docker.io/team/source",
    f"?mount={DIGEST}&from=ghcr.io/team/source", f"?mount={NOWHERE}&from=team/source",
])  # fmt: skip
async def test_what_is_not_there_is_a_plain_202(scene: Scene, query: str) -> None:
    """The client then uploads. Nothing is downloaded for a mount, nor asked for."""
    if "source" in query:
        await scene.blob(HELLO, "team/source")
    scene.hub.forget()
    answer = await scene.ask(f"POST {UPLOADS}{query}", b"")
    under_way(answer, None, 0)
    assert scene.hub.count("*/blobs/*") == scene.other.count() == 0
    created(await scene.put(answer.headers["Location"], DIGEST, HELLO), f"/v2/{BLOB}")


async def test_a_mount_of_sha512_that_is_not_there_begins_an_upload_of_sha512(scene: Scene) -> None:
    digest = digest_of(LARGE, "sha512")
    location = await scene.begin(query=f"?mount={digest}&from=team/source")
    created(await scene.put(location, digest, LARGE), f"/v2/{NAME}/blobs/{digest}", digest)


async def test_what_nobody_downloaded_is_not_mounted(scene: Scene) -> None:
    assert isinstance(await scene.got("library/alpine/manifests/3"), bytes)  # so its layers are known
    small = scene.content.small[0]
    under_way(await scene.ask(f"POST {UPLOADS}?mount={small}&from=library/alpine", b""), None, 0)


async def test_a_manifest_is_not_mounted_as_a_blob(scene: Scene) -> None:
    digest = digest_of(await scene.image("1", HELLO, name="team/source"))
    under_way(await scene.ask(f"POST {UPLOADS}?mount={digest}&from=team/source", b""), None, 0)


async def test_what_one_may_not_read_is_not_mounted(tmp_path: Path) -> None:
    """From a private repository, upstream's or own, a mount is answered as one of an unknown digest (zot
    CVE-2024-39897), with `from` and without. Who may read it mounts it."""
    private = {"docker.io": {"username": "me", "password": "pw"}}
    access = {"htpasswd": htpasswd(tmp_path), "rules": RULES, "private": ["team/secret-*"]}
    async with scene(tmp_path / "data", private, access=access) as running:
        hidden = running.hub.add_image("team/hidden", "1", layers=[b"hidden layer"])
        running.hub.access.scheme, running.hub.access.users = "bearer", {"me": "pw"}
        running.hub.access.private = ["team/hidden"]
        layer = hidden.layers[0][0]
        assert await running.got(f"team/hidden/blobs/{layer}") == b"hidden layer"  # by this machine
        own = await running.blob(b"own layer", "team/secret-app")
        writer = user("writer")
        reader = user("reader")
        for digest, source in ((layer, "team/hidden"), (own, "team/secret-app")):
            for query in (f"?mount={digest}&from={source}", f"?mount={digest}"):
                answer = await running.ask(f"POST {UPLOADS}{query}", b"", **writer)
                unknown = await running.ask(f"POST {UPLOADS}{query.replace(digest, NOWHERE)}", b"", **writer)
                assert (answer.status, set(answer.headers)) == (unknown.status, set(unknown.headers))
                under_way(answer, None, 0)
                assert await running.got(f"{NAME}/blobs/{digest}") == 404
        for number, (digest, source) in enumerate(((layer, "team/hidden"), (own, "team/secret-app"))):
            path = f"/v2/team/free{number}/blobs/uploads/?mount={digest}&from={source}"
            created(await running.ask(f"POST {path}", b"", **reader), f"/v2/team/free{number}/blobs/{digest}", digest)


# --- the connection ------------------------------------------------------------------------------------------


async def test_a_client_that_waits_to_be_told_is_told_to_go_on(scene: Scene) -> None:
    """`Expect: 100-continue` (RFC 9110, 10.1.1), on one connection for a whole push."""
    location = await scene.begin()
    async with scene.wire.connection() as raw:
        for request, body, status in (
            (f"PATCH {location}", HELLO[:5], 202),
            (f"PUT {location}?digest={DIGEST}", HELLO[5:], 201),
            (f"POST {UPLOADS}?digest={digest_of(b'x')}", b"x", 201),
            (f"PUT /v2/{NAME}/manifests/1", image(HELLO, config=b"x"), 201),
        ):
            raw.write(request, Host="localhost", Expect="100-continue", Content_Length=str(len(body)))
            assert await raw.until_head() == b"HTTP/1.1 100 Continue\r\n\r\n"
            raw.write_bytes(body)
            assert (await raw.answer(request.partition(" ")[0])).status == status
    assert await scene.got(f"{NAME}/manifests/1") == image(HELLO, config=b"x")


@pytest.mark.parametrize("request_", [
    f"PATCH {UPLOADS}{'0' * 32}", f"POST /v2/library/alpine/blobs/uploads/?digest={DIGEST}",
    "PUT /v2/ghcr.io/team/app/manifests/1", "POST /v2/",
])  # fmt: skip
async def test_a_client_that_is_refused_before_its_body_is_told_that_the_connection_ends(
    scene: Scene, request_: str
) -> None:
    """It may send its body or not: what comes next cannot be told apart (RFC 9110, 10.1.1)."""
    async with scene.wire.connection() as raw:
        raw.write(request_, Host="localhost", Expect="100-continue", Content_Length="100000")
        answer = await raw.answer(request_.partition(" ")[0])
        assert answer.status in (403, 404, 405)
        assert answer.closed


async def test_a_body_that_ends_early_is_no_blob(scene: Scene) -> None:
    location = await scene.begin()
    async with scene.wire.connection() as raw:
        raw.write(f"PUT {location}?digest={DIGEST}", Host="localhost", Content_Length=str(len(HELLO) + 1))
        raw.write_bytes(HELLO)
    async with asyncio.timeout(20):  # what came is kept
        while await scene.offset(location) != f"0-{len(HELLO) - 1}":
            await asyncio.sleep(0.005)
    created(await scene.put(location, DIGEST), f"/v2/{BLOB}")


async def test_a_body_whose_chunks_are_none_is_no_blob(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """aiohttp tells nobody: it is given up as what falls silent is."""
    monkeypatch.setattr("mirror.server.bodies.SILENCE", 0.1)
    location = await scene.begin()
    async with scene.wire.connection() as raw:
        raw.write_bytes(head("PATCH", location, {"Host": "localhost", "Transfer-Encoding": "chunked"}))
        raw.write_bytes(b"5\r\nhello\r\n")
        await asyncio.sleep(0.05)
        raw.write_bytes(b"zz\r\nnonsense\r\n")
        refused(await raw.answer("PATCH"), 400, "BLOB_UPLOAD_INVALID")
    answer = await scene.ask(f"GET {location}")
    assert answer.headers["Range"] in ("0-0", "0-4")


async def test_uploads_side_by_side(scene: Scene) -> None:
    """As docker does: several layers at once, each to its own upload."""
    layers = [random_bytes(f"layer{number}", 300_000) for number in range(8)]
    digests = await asyncio.gather(*(scene.blob(layer) for layer in layers))
    for digest, layer in zip(digests, layers, strict=True):
        assert await scene.got(f"{NAME}/blobs/{digest}") == layer


async def test_a_push_by_the_login_address(tmp_path: Path) -> None:
    """containerd does not ping: who sends no credentials where one logs in is asked for them, also by a POST."""
    access = {"htpasswd": htpasswd(tmp_path), "rules": RULES}
    async with scene(tmp_path / "data", access=access, listen_login=["127.0.0.1:0"]) as running:
        answer = await running.log_in(f"POST {UPLOADS}", b"", **STRANGER)
        assert (answer.status, answer.code) == (401, "UNAUTHORIZED")
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="mirror"'
        writer = user("writer")
        answer = await running.log_in(f"POST {UPLOADS}", b"", **writer)
        under_way(answer, None, 0)
        path = answer.headers["Location"]
        created(await running.log_in(f"PUT {path}?digest={DIGEST}", HELLO, **writer), f"/v2/{BLOB}")


async def test_an_upload_alone_makes_no_name(scene: Scene) -> None:
    """A name becomes own when something lies there, and not when somebody begins to put something there."""
    location = await scene.begin("team/new")
    assert "team/new" not in json.loads((await scene.ask("GET /v2/_catalog")).body)["repositories"]
    scene.hub.add_image("team/new", "1", layers=[10])
    assert isinstance(await scene.got("team/new/manifests/1"), bytes)  # it still leads to the default registry
    await scene.ask(f"DELETE {location}", b"")


async def test_too_many_uploads_are_429_with_retry_after(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mirror.cache.uploads.MOST_EACH", 2)
    first, _ = await scene.begin(), await scene.begin()
    answer = await scene.ask(f"POST {UPLOADS}", b"")
    refused(answer, 429, "TOOMANYREQUESTS")
    assert int(answer.headers["Retry-After"]) > 0
    await scene.ask(f"DELETE {first}", b"")
    await scene.begin()

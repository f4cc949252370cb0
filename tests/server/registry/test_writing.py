"""Manifests and deletions on the wire, in the order of the OCI distribution-spec ("Pushing Manifests", "Pushing
Manifests with Subject", "Content Discovery", "Content Management"); then who may write, and who owns a name."""

import json
from pathlib import Path
from typing import Any

import pytest

from mirror.oci import routes
from mirror.oci.manifest import DOCKER_FOREIGN_LAYER, MANIFEST_LIMIT, OCI_CONFIG
from mirror.oci.names import LOCAL, Name, Repository
from mirror.server.registry.writing import writes
from tests.faults.support import stored
from tests.server.calls import ALWAYS, NOWHERE, OCI_INDEX, OCI_MANIFEST, Answer
from tests.server.pushing import (
    CONFIG,
    NAME,
    RULES,
    STRANGER,
    Scene,
    descriptor,
    digest_of,
    htpasswd,
    image,
    index,
    scene,
    user,
)
from tests.server.test_authentication import basic
from tests.support.fake_registry.behaviours import status

LAYER, OTHER = b"a layer", b"another layer"
CACHE_CONFIG = "application/vnd.buildkit.cacheconfig.v0"


def created(answer: Answer, raw: bytes, name: str = NAME, algorithm: str = "sha256") -> None:
    """Hold a 201 against the specification."""
    digest = digest_of(raw, algorithm)
    assert (answer.status, answer.body) == (201, b""), answer
    wanted = {
        **ALWAYS,
        "Location": f"/v2/{name}/manifests/{digest}",
        "Docker-Content-Digest": digest,
        "Content-Length": "0",
    }
    assert {key: answer.headers.get(key) for key in wanted} == wanted


def refused(answer: Answer, status: int, code: str) -> str:
    """Hold a refusal against this, and return what it says."""
    assert (answer.status, answer.code, answer.headers["Content-Type"]) == (status, code, "application/json"), answer
    return str(answer.error["message"])


@pytest.fixture
async def filled(scene: Scene) -> Scene:
    """With the blobs of an image pushed, and not its manifest."""
    for data in (CONFIG, LAYER):
        await scene.blob(data)
    return scene


def test_what_writes() -> None:
    name = Name(None, "x")
    assert writes(routes.ManifestRoute(name, "1"), "PUT")
    assert writes(routes.UploadRoute(name, "1"), "GET")
    assert not writes(routes.ManifestRoute(name, "1"), "HEAD")


# --- "Pushing Manifests" (end-7a, end-7b) --------------------------------------------------------------------


async def test_by_tag(filled: Scene) -> None:
    raw = image(LAYER)
    created(await filled.manifest(raw, "1"), raw)
    for reference in ("1", digest_of(raw)):
        answer = await filled.ask(f"GET /v2/{NAME}/manifests/{reference}")
        assert (answer.body, answer.headers["Content-Type"]) == (raw, OCI_MANIFEST)
        assert answer.headers["Docker-Content-Digest"] == digest_of(raw)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_by_digest(filled: Scene, algorithm: str) -> None:
    raw = image(LAYER)
    digest = digest_of(raw, algorithm)
    answer = await filled.manifest(raw, digest)
    created(answer, raw, algorithm=algorithm)
    assert "OCI-Tag" not in answer.headers
    assert await filled.got(f"{NAME}/manifests/{digest}") == raw
    assert await filled.tags() == []
    await filled.restart()
    assert await filled.got(f"{NAME}/manifests/{digest}") == raw


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_by_digest_with_tags(filled: Scene, algorithm: str) -> None:
    raw = image(LAYER)
    tags = [f"v{number}" for number in range(12)]
    query = "&".join(f"tag={tag}" for tag in [*tags, "v0"])
    answer = await filled.manifest(raw, f"{digest_of(raw, algorithm)}?{query}")
    created(answer, raw, algorithm=algorithm)
    accepted = [tag.strip() for line in answer.headers.getall("OCI-Tag") for tag in line.split(",")]
    assert accepted == tags
    assert await filled.tags() == sorted(tags)
    for tag in tags:
        assert await filled.got(f"{NAME}/manifests/{tag}") == raw


async def test_tags_that_cannot_be(filled: Scene) -> None:
    raw = image(LAYER)
    for tag in ("", ".x", "a%2fb", "x" * 129):
        refused(await filled.manifest(raw, f"{digest_of(raw)}?tag=fine&tag={tag}"), 400, "MANIFEST_INVALID")
    many = "&".join(f"tag=v{number}" for number in range(101))
    refused(await filled.manifest(raw, f"{digest_of(raw)}?{many}"), 400, "MANIFEST_INVALID")
    assert await filled.got(f"{NAME}/manifests/{digest_of(raw)}") == 404


async def test_a_wrong_digest(filled: Scene) -> None:
    for digest in (NOWHERE, digest_of(image(LAYER, note=1), "sha512")):
        refused(await filled.manifest(image(LAYER), digest), 400, "DIGEST_INVALID")
    refused(await filled.manifest(image(LAYER), "sha256:x"), 400, "DIGEST_INVALID")
    assert await filled.got(f"{NAME}/manifests/{NOWHERE}") == 404


async def test_its_bytes_are_kept_as_they_came(filled: Scene) -> None:
    raw = (
        b" \n" + json.dumps(json.loads(image(LAYER, annotations={"k\u00e4se": "\u00fc"})), indent=5).encode() + b"\n\n"
    )
    created(await filled.manifest(raw, "1"), raw)
    assert await filled.got(f"{NAME}/manifests/1") == raw


async def test_the_type_is_the_bodys(filled: Scene) -> None:
    raw = image(LAYER)
    message = refused(await filled.manifest(raw, "1", media_type=OCI_INDEX), 400, "MANIFEST_INVALID")
    assert "Content-Type" in message
    assert await filled.got(f"{NAME}/manifests/1") == 404


@pytest.mark.parametrize("said", [
    f"{OCI_MANIFEST}; charset=utf-8", f"{OCI_MANIFEST};x=y", OCI_MANIFEST.upper(), "application/json", "", "text/plain",
])  # fmt: skip
async def test_parameters_of_the_content_type_are_ignored(filled: Scene, said: str) -> None:
    raw = image(LAYER)
    created(await filled.ask(f"PUT /v2/{NAME}/manifests/1", raw, Content_Type=said), raw)
    answer = await filled.ask(f"GET /v2/{NAME}/manifests/1")
    assert answer.headers["Content-Type"] == OCI_MANIFEST


async def test_a_body_without_a_type_has_the_declared_one(filled: Scene) -> None:
    body = json.loads(image(LAYER))
    del body["mediaType"]
    raw = json.dumps(body).encode()
    created(await filled.manifest(raw, "1", media_type=OCI_MANIFEST), raw)
    assert (await filled.ask(f"GET /v2/{NAME}/manifests/1")).headers["Content-Type"] == OCI_MANIFEST


@pytest.mark.parametrize("raw", [
    b"", b"{}", b"[]", b"null", b"not json", b'{"schemaVersion":1}', b"\xff\xfe",
    b'{"schemaVersion":2,"manifests":[],"layers":[],"config":{}}',
], ids=repr)  # fmt: skip
async def test_what_is_no_manifest(scene: Scene, raw: bytes) -> None:
    for reference in ("1", digest_of(raw)):
        answer = await scene.manifest(raw, reference, media_type=OCI_MANIFEST)
        refused(answer, 400, "MANIFEST_INVALID")


async def test_too_large_is_413(scene: Scene) -> None:
    """At once where the length is said, and where it is not, as soon as it is known."""
    await scene.blob(CONFIG)
    raw = image(annotations={"x": "y" * (MANIFEST_LIMIT - 1000)})
    raw += b" " * (MANIFEST_LIMIT - len(raw))
    created(await scene.manifest(raw, "1"), raw)
    assert await scene.got(f"{NAME}/manifests/1") == raw
    refused(await scene.manifest(raw + b" ", "2"), 413, "SIZE_INVALID")
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(raw) + 1, raw + b" ")
    answer = await scene.ask(
        f"PUT /v2/{NAME}/manifests/2", body, Content_Type=OCI_MANIFEST, Transfer_Encoding="chunked"
    )
    refused(answer, 413, "SIZE_INVALID")
    assert await scene.got(f"{NAME}/manifests/2") == 404


async def test_a_child_that_is_not_there_is_named(filled: Scene) -> None:
    for raw, missing in (
        (image(LAYER, OTHER), digest_of(OTHER)),
        (image(LAYER, config=b"{}"), digest_of(b"{}")),
        (index(image(LAYER)), digest_of(image(LAYER))),
    ):
        answer = await filled.manifest(raw, "1")
        assert missing in refused(answer, 404, "MANIFEST_BLOB_UNKNOWN")
        assert answer.error["detail"]["digest"] == missing
    assert await filled.got(f"{NAME}/manifests/1") == 404
    assert digest_of(image(LAYER, OTHER)).partition(":")[2] not in stored(filled.data)


async def test_what_lies_in_another_repository_only_is_not_there(scene: Scene) -> None:
    """Else who knows a digest would get its bytes by naming them."""
    raw = await scene.image("1", LAYER, name="team/source")
    refused(await scene.manifest(raw, "1"), 404, "MANIFEST_BLOB_UNKNOWN")
    await scene.blob(CONFIG)
    await scene.blob(LAYER)
    refused(await scene.manifest(index(raw), "1"), 404, "MANIFEST_BLOB_UNKNOWN")
    created(await scene.manifest(raw, "1"), raw)


async def test_a_blob_is_no_manifest(filled: Scene) -> None:
    """An image that was uploaded as a blob is none that an index may name; nor is a manifest a layer."""
    await filled.blob(image(LAYER))
    refused(await filled.manifest(index(image(LAYER)), "1"), 404, "MANIFEST_BLOB_UNKNOWN")
    await filled.image("2", LAYER)
    refused(await filled.manifest(image(image(LAYER, note="other")), "1"), 404, "MANIFEST_BLOB_UNKNOWN")


async def test_foreign_layers_are_exempt(filled: Scene) -> None:
    urls = {**descriptor(b"elsewhere"), "urls": ["http://foreign.example/layer"]}
    raw = image(LAYER, descriptor(b"windows", DOCKER_FOREIGN_LAYER), urls)
    created(await filled.manifest(raw, "1"), raw)
    assert await filled.got(f"{NAME}/manifests/1") == raw


async def test_an_index_of_manifests(filled: Scene) -> None:
    first, second = image(LAYER), image(LAYER, annotations={"number": "2"})
    await filled.manifest(first)
    refused(await filled.manifest(index(first, second), "1"), 404, "MANIFEST_BLOB_UNKNOWN")
    await filled.manifest(second)
    raw = index(first, second)
    created(await filled.manifest(raw, "1"), raw)
    nested = index(descriptor(raw, OCI_INDEX))
    created(await filled.manifest(nested, "2"), nested)
    for each in (raw, nested, first, second):
        assert await filled.got(f"{NAME}/manifests/{digest_of(each)}") == each


async def test_an_index_whose_children_are_blobs(filled: Scene) -> None:
    """BuildKit's cache (`image-manifest=false`): layers and a config as "manifests" of an index."""
    await filled.blob(b'{"layers":[]}')
    raw = index(descriptor(LAYER), descriptor(b'{"layers":[]}', CACHE_CONFIG))
    created(await filled.manifest(raw, "buildcache"), raw)
    missing = index(descriptor(OTHER), descriptor(b'{"layers":[]}', CACHE_CONFIG))
    assert digest_of(OTHER) in refused(await filled.manifest(missing, "x"), 404, "MANIFEST_BLOB_UNKNOWN")
    assert await filled.got(f"{NAME}/manifests/buildcache") == raw
    assert await filled.got(f"{NAME}/blobs/{digest_of(LAYER)}") == LAYER


async def test_an_image_without_layers_and_an_artifact(scene: Scene) -> None:
    await scene.blob(b"{}")
    empty = descriptor(b"{}", "application/vnd.oci.empty.v1+json")
    raw = json.dumps({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "application/vnd.example.sbom",
        "config": empty, "layers": [empty],
    }).encode()  # fmt: skip
    created(await scene.manifest(raw, "sbom"), raw)


async def test_what_was_pulled_is_adopted(scene: Scene) -> None:
    """A HEAD under a name that is not own yet says that a public layer is there: docker then does not upload it."""
    small, data = scene.content.small
    assert isinstance(await scene.got(f"library/alpine/blobs/{small}"), bytes)
    await scene.wire.mirror.idle()
    await scene.blob(CONFIG)
    raw = image(data)
    created(await scene.manifest(raw, "1"), raw)
    scene.hub.forget()
    await scene.restart()
    assert await scene.got(f"{NAME}/blobs/{small}") == data
    assert scene.hub.count() == 0


async def test_a_tag_moves(filled: Scene) -> None:
    first, second = image(LAYER), image(LAYER, annotations={"number": "2"})
    for raw in (first, second, first, first):
        created(await filled.manifest(raw, "1"), raw)
        for _ in range(2):  # the second from memory
            assert await filled.got(f"{NAME}/manifests/1") == raw
    assert await filled.got(f"{NAME}/manifests/{digest_of(second)}") == second


# --- "Pushing Manifests with Subject", "Listing Referrers" (end-12a, end-12b) --------------------------------


async def test_a_subject_that_is_not_there_yet(filled: Scene) -> None:
    subject = image(LAYER)
    said: dict[str, Any] = {"subject": descriptor(subject, OCI_MANIFEST)}
    signature = image(LAYER, artifactType="application/vnd.example.signature", **said)
    sbom = image(LAYER, artifactType="application/vnd.example.sbom", annotations={"key": "value"}, **said)
    plain = image(LAYER, **said)
    listed = index(artifactType="application/vnd.example.index", **said)
    for raw in (signature, sbom, plain, listed):
        answer = await filled.manifest(raw)
        created(answer, raw)
        assert answer.headers["OCI-Subject"] == digest_of(subject)
    answer = await filled.manifest(subject, "1")
    created(answer, subject)
    assert "OCI-Subject" not in answer.headers
    await filled.restart()
    found = {each["digest"]: each for each in await filled.referrers(digest_of(subject))}
    assert set(found) == {digest_of(raw) for raw in (signature, sbom, plain, listed)}
    assert found[digest_of(sbom)] == {
        **descriptor(sbom, OCI_MANIFEST),
        "artifactType": "application/vnd.example.sbom",
        "annotations": {"key": "value"},
    }
    assert found[digest_of(plain)]["artifactType"] == OCI_CONFIG
    assert found[digest_of(listed)]["mediaType"] == OCI_INDEX


async def test_referrers_by_their_type(filled: Scene) -> None:
    subject = image(LAYER)
    kinds = [f"application/vnd.example.{name}" for name in ("a", "b")]
    raws = [image(artifactType=kind, subject=descriptor(subject, OCI_MANIFEST)) for kind in kinds]
    for raw in raws:
        await filled.manifest(raw)
    for kind, raw in zip(kinds, raws, strict=True):
        found = await filled.referrers(digest_of(subject), f"?artifactType={kind}")
        assert [each["digest"] for each in found] == [digest_of(raw)]
    answer = await filled.ask(f"GET /v2/{NAME}/referrers/{digest_of(subject)}?artifactType=none")
    assert answer.headers["OCI-Filters-Applied"] == "artifactType"
    assert json.loads(answer.body)["manifests"] == []


async def test_referrers_of_what_nobody_refers_to(filled: Scene) -> None:
    await filled.manifest(image(LAYER), "1")
    assert await filled.referrers(NOWHERE) == []
    answer = await filled.ask(f"GET /v2/{NAME}/referrers/sha256:x")
    refused(answer, 400, "DIGEST_INVALID")


async def test_a_referrer_that_is_deleted(filled: Scene) -> None:
    subject = await filled.image("1", LAYER)
    raw = image(artifactType="application/vnd.example.a", subject=descriptor(subject, OCI_MANIFEST))
    await filled.manifest(raw)
    assert len(await filled.referrers(digest_of(subject))) == 1
    assert (await filled.ask(f"DELETE /v2/{NAME}/manifests/{digest_of(raw)}")).status == 202
    assert await filled.referrers(digest_of(subject)) == []


# --- "Listing Tags" (end-8a, end-8b), and the catalog --------------------------------------------------------


async def test_tags_while_pushes_go_on(filled: Scene) -> None:
    refused(await filled.ask("GET /v2/team/none/tags/list"), 404, "NAME_UNKNOWN")
    assert await filled.tags() == []
    for tag in ("b", "a", "B", "_x", "10", "2"):
        await filled.manifest(image(LAYER), tag)
    names = ["10", "2", "B", "_x", "a", "b"]
    assert await filled.tags() == names
    assert await filled.tags(query="?n=0") == []
    assert await filled.tags(query="?last=B") == names[3:]
    assert await filled.tags(query="?last=C") == names[3:]
    first = await filled.ask(f"GET /v2/{NAME}/tags/list?n=4")
    assert json.loads(first.body) == {"name": NAME, "tags": names[:4]}
    await filled.manifest(image(LAYER), "Z")  # before where the next page begins
    await filled.manifest(image(LAYER), "aa")
    path = first.headers["Link"].partition(">")[0].removeprefix("<")
    assert json.loads((await filled.ask(f"GET {path}")).body)["tags"] == ["a", "aa", "b"]
    answer = await filled.ask(f"GET /v2/{NAME}/tags/list?n=0")
    assert "Link" not in answer.headers


async def test_the_catalog_afterwards(scene: Scene) -> None:
    for name in ("team/b", "team/a", "app"):
        await scene.image("1", LAYER, name=name)

    async def catalog(query: str = "") -> list[str]:
        listed: list[str] = json.loads((await scene.ask(f"GET /v2/_catalog{query}")).body)["repositories"]
        return listed

    assert await catalog() == ["app", "team/a", "team/b"]
    assert await catalog("?n=0") == []
    assert await catalog("?last=app") == ["team/a", "team/b"]
    assert await catalog("?n=1&last=team/a") == ["team/b"]


# --- "Content Management" (end-9, end-10) --------------------------------------------------------------------


async def test_a_tag_is_deleted_alone(filled: Scene) -> None:
    raw = image(LAYER)
    for tag in ("1", "2", "latest"):
        await filled.manifest(raw, tag)
    assert await filled.got(f"{NAME}/manifests/1") == raw  # in memory
    answer = await filled.ask(f"DELETE /v2/{NAME}/manifests/1")
    assert (answer.status, answer.body) == (202, b"")
    for _ in range(2):
        assert await filled.got(f"{NAME}/manifests/1") == 404
        assert await filled.tags() == ["2", "latest"]
        for reference in ("2", "latest", digest_of(raw)):
            assert await filled.got(f"{NAME}/manifests/{reference}") == raw
        await filled.restart()
    refused(await filled.ask(f"DELETE /v2/{NAME}/manifests/1"), 404, "MANIFEST_UNKNOWN")
    for tag in ("2", "latest"):
        assert (await filled.ask(f"DELETE /v2/{NAME}/manifests/{tag}")).status == 202
    assert await filled.tags() == []  # the repository is there all the same
    assert await filled.got(f"{NAME}/manifests/{digest_of(raw)}") == raw
    created(await filled.manifest(raw, "1"), raw)


async def test_a_manifest_is_deleted_with_its_tags(filled: Scene) -> None:
    raw, other = image(LAYER), image(LAYER, annotations={"number": "2"})
    for tag in ("1", "2"):
        await filled.manifest(raw, tag)
    await filled.manifest(other, "3")
    for reference in ("1", "2", digest_of(raw)):
        assert await filled.got(f"{NAME}/manifests/{reference}") == raw  # in memory
    assert (await filled.ask(f"DELETE /v2/{NAME}/manifests/{digest_of(raw)}")).status == 202
    for _ in range(2):
        for reference in ("1", "2", digest_of(raw)):
            for method in ("GET", "HEAD"):
                assert (await filled.ask(f"{method} /v2/{NAME}/manifests/{reference}")).status == 404
        assert await filled.tags() == ["3"]
        assert await filled.got(f"{NAME}/manifests/3") == other
        assert await filled.got(f"{NAME}/blobs/{digest_of(LAYER)}") == LAYER
        await filled.restart()
    refused(await filled.ask(f"DELETE /v2/{NAME}/manifests/{digest_of(raw)}"), 404, "MANIFEST_UNKNOWN")
    created(await filled.manifest(raw, "1"), raw)  # and comes back
    assert await filled.got(f"{NAME}/manifests/1") == raw


async def test_a_manifest_deleted_in_one_repository_stays_in_the_others(scene: Scene) -> None:
    raw = await scene.image("1", LAYER)
    await scene.image("1", LAYER, name="team/other")
    assert (await scene.ask(f"DELETE /v2/{NAME}/manifests/{digest_of(raw)}")).status == 202
    assert await scene.got("team/other/manifests/1") == raw
    assert await scene.got(f"team/other/blobs/{digest_of(LAYER)}") == LAYER


async def test_a_blob_is_deleted(filled: Scene) -> None:
    digest = digest_of(LAYER)
    assert await filled.got(f"{NAME}/blobs/{digest}") == LAYER
    await filled.blob(LAYER, "team/other")
    assert (await filled.ask(f"DELETE /v2/{NAME}/blobs/{digest}")).status == 202
    for _ in range(2):
        assert await filled.got(f"{NAME}/blobs/{digest}") == 404
        assert await filled.got(f"team/other/blobs/{digest}") == LAYER
        assert digest in refused(await filled.manifest(image(LAYER), "1"), 404, "MANIFEST_BLOB_UNKNOWN")
        await filled.restart()
    refused(await filled.ask(f"DELETE /v2/{NAME}/blobs/{digest}"), 404, "BLOB_UNKNOWN")
    await filled.blob(LAYER)
    assert await filled.got(f"{NAME}/blobs/{digest}") == LAYER


async def test_what_is_not_there_cannot_be_deleted(filled: Scene) -> None:
    for path, code in (
        (f"{NAME}/manifests/none", "MANIFEST_UNKNOWN"),
        (f"{NAME}/manifests/{NOWHERE}", "MANIFEST_UNKNOWN"),
        (f"{NAME}/blobs/{NOWHERE}", "BLOB_UNKNOWN"),
        (f"{NAME}/manifests/{digest_of(LAYER)}", "MANIFEST_UNKNOWN"),
        ("team/none/manifests/1", "NAME_UNKNOWN"),
        (f"team/none/blobs/{digest_of(LAYER)}", "NAME_UNKNOWN"),
        ("library/alpine/manifests/3", "NAME_UNKNOWN"),  # the default registry's is not meant
        ("quay.io/a/b/manifests/1", "NAME_UNKNOWN"),
    ):
        refused(await filled.ask(f"DELETE /v2/{path}"), 404, code)
    assert filled.hub.count("DELETE *") == 0


async def test_everything_is_there_after_a_restart(scene: Scene) -> None:
    raw = await scene.image("1", LAYER, OTHER)
    await scene.restart()
    assert await scene.got(f"{NAME}/manifests/1") == raw
    for data in (LAYER, OTHER, CONFIG):
        assert await scene.got(f"{NAME}/blobs/{digest_of(data)}") == data
    assert await scene.tags() == ["1"]


# --- who may write (design.md §4) ----------------------------------------------------------------------------

WRITING = [
    f"POST /v2/{NAME}/blobs/uploads/",
    f"POST /v2/{NAME}/blobs/uploads/?digest={digest_of(b'')}",
    f"PUT /v2/{NAME}/manifests/1",
    f"DELETE /v2/{NAME}/manifests/1",
    f"DELETE /v2/{NAME}/blobs/{digest_of(LAYER)}",
    "PUT /v2/ghcr.io/team/app/manifests/1",
]


@pytest.mark.parametrize("request_", WRITING)
async def test_a_web_page_writes_nothing(scene: Scene, request_: str) -> None:
    """Nor does a page that a browser of this machine shows, with whatever credentials the browser adds."""
    before = await scene.image("1", LAYER)
    scene.sections["ghcr.io"]["push"] = "local"
    for sent in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-origin"},
    ):
        refused(await scene.ask(request_, b"", **sent), 403, "DENIED")
    assert await scene.got(f"{NAME}/manifests/1") == before
    assert (await scene.ask(f"POST /v2/{NAME}/blobs/uploads/", b"", Sec_Fetch_Site="none")).status in (202, 403)


async def test_a_web_page_with_a_users_credentials_writes_nothing(tmp_path: Path) -> None:
    async with scene(tmp_path / "data", access={"htpasswd": htpasswd(tmp_path), "rules": RULES}) as running:
        keeper = user("keeper")
        location = await running.begin(**keeper)
        for request in (*WRITING, f"PATCH {location}", f"PUT {location}?digest={NOWHERE}", f"DELETE {location}"):
            answer = await running.ask(request, b"", **keeper, Origin="http://evil.example")
            refused(answer, 403, "DENIED")
        assert (await running.ask(f"GET {location}", **keeper)).status == 204


@pytest.mark.parametrize("request_", WRITING)
async def test_strangers_write_nothing(scene: Scene, request_: str) -> None:
    answer = await scene.ask(request_, b"", **STRANGER)
    refused(answer, 403, "DENIED")
    assert "WWW-Authenticate" not in answer.headers


@pytest.mark.parametrize("request_", WRITING)
async def test_where_there_are_users_strangers_are_asked_for_one(tmp_path: Path, request_: str) -> None:
    async with scene(tmp_path / "data", access={"htpasswd": htpasswd(tmp_path), "rules": RULES}) as running:
        answer = await running.ask(request_, b"", **STRANGER)
        refused(answer, 401, "UNAUTHORIZED")
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="mirror"'
        wrong = {**STRANGER, "Authorization": basic("keeper:wrong")}
        refused(await running.ask(request_, b"", **wrong), 401, "UNAUTHORIZED")
        plain = user("plain")
        refused(await running.ask(request_, b"", **plain), 403, "DENIED")


async def test_a_user_writes_where_his_rule_says(tmp_path: Path) -> None:
    async with scene(tmp_path / "data", access={"htpasswd": htpasswd(tmp_path), "rules": RULES}) as running:
        writer, keeper = (user(name) for name in ("writer", "keeper"))
        raw = await running.image("1", LAYER, **writer)
        refused(await running.ask("POST /v2/else/app/blobs/uploads/", b"", **writer), 403, "DENIED")
        refused(await running.ask("PUT /v2/else/app/manifests/1", raw, **writer), 403, "DENIED")
        refused(await running.ask("POST /v2/ghcr.io/team/app/blobs/uploads/", b"", **writer), 403, "DENIED")
        refused(await running.ask(f"DELETE /v2/{NAME}/manifests/1", **writer), 403, "DENIED")
        assert (await running.ask(f"DELETE /v2/{NAME}/manifests/1", **keeper)).status == 202
        catalog = running.wire.mirror.app.status._catalog
        moves = await catalog.history(Repository(LOCAL, NAME), "1", 10)  # type: ignore[attr-defined]
        assert [each.actor for each in moves] == ["keeper", "writer"]


async def test_what_may_not_be_known_of_is_unknown(tmp_path: Path) -> None:
    """`[access] private`: who has no rule there learns nothing of it by writing either."""
    access = {"htpasswd": htpasswd(tmp_path), "rules": RULES, "private": ["team/secret-*"], "loopback": "push"}
    async with scene(tmp_path / "data", access=access) as running:
        await running.image("1", LAYER, name="team/secret-app")
        writer = user("writer")
        for name in ("team/secret-app", "team/secret-none"):
            refused(await running.ask(f"POST /v2/{name}/blobs/uploads/", b"", **writer), 404, "NAME_UNKNOWN")
            refused(await running.ask(f"PUT /v2/{name}/manifests/1", image(LAYER), **writer), 404, "NAME_UNKNOWN")


@pytest.mark.parametrize(("loopback", "push", "delete"), [
    ("all", 202, 202), ("push", 202, 403), ("pull", 403, 403), ("none", 403, 403),
])  # fmt: skip
async def test_this_machine(tmp_path: Path, loopback: str, push: int, delete: int) -> None:
    async with scene(tmp_path / "data", access={"loopback": loopback}) as running:
        for data in (CONFIG, LAYER):
            path = f"/v2/{NAME}/blobs/uploads/?digest={digest_of(data)}"
            assert (await running.on_socket(f"POST {path}", data)).status == 201
        assert (await running.on_socket(f"PUT /v2/{NAME}/manifests/1", image(LAYER))).status == 201
        assert (await running.ask(f"POST /v2/{NAME}/blobs/uploads/", b"")).status == push
        assert (await running.ask(f"DELETE /v2/{NAME}/manifests/1")).status == delete
        if delete != 202:
            assert (await running.on_socket(f"DELETE /v2/{NAME}/manifests/1", Origin="http://x")).status == 202
        assert await running.tags() == []


# --- who owns a name (design.md §5) --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["library/app", "library/alpine"])
async def test_library_is_never_own(scene: Scene, name: str) -> None:
    scene.settings["own"] = ["**"]
    await scene.restart()
    for answer in (
        await scene.ask(f"POST /v2/{name}/blobs/uploads/", b""),
        await scene.ask(f"PUT /v2/{name}/manifests/1", image()),
    ):
        assert "library/" in refused(answer, 403, "DENIED")
    scene.hub.add_blob(name, LAYER)
    assert (await scene.ask(f"HEAD /v2/{name}/blobs/{digest_of(LAYER)}")).status == 200  # nor asked about as such


@pytest.mark.parametrize("name", ["alpine", "team/many"])
async def test_a_name_that_the_default_registry_knows_is_denied(scene: Scene, name: str) -> None:
    message = refused(await scene.ask(f"POST /v2/{name}/blobs/uploads/", b""), 403, "DENIED")
    assert f'own = ["{name}"]' in message  # what to write
    refused(await scene.ask(f"PUT /v2/{name}/manifests/1", image()), 403, "DENIED")
    assert name not in json.loads((await scene.ask("GET /v2/_catalog")).body)["repositories"]


async def test_an_unseen_name_is_own_from_then_on(scene: Scene) -> None:
    """And never answers who names a registry, not even once that has it; nor is what is missing asked for there."""
    raw = await scene.image("1", LAYER)
    scene.hub.add_image(NAME, "public", layers=[100], seed="public")
    for _ in range(2):
        for path, query in ((NAME, "?ns=docker.io"), (f"docker.io/{NAME}", ""), (f"docker.io/{NAME}", "?ns=docker.io")):
            assert await scene.got(f"{path}/manifests/1{query}") == 404
            assert await scene.got(f"{path}/blobs/{digest_of(LAYER)}{query}") == 404
            assert await scene.got(f"{path}/manifests/{digest_of(raw)}{query}") == 404
            assert isinstance(await scene.got(f"{path}/manifests/public{query}"), bytes)
        assert await scene.got(f"{NAME}/manifests/1", Host="docker.io") == 404
        assert await scene.got(f"{NAME}/manifests/1") == raw
        assert await scene.got(f"{NAME}/manifests/public") == 404
        assert await scene.tags() == ["1"]
        assert await scene.blob(OTHER)  # once own, always own
        await scene.restart()
    await scene.ask(f"DELETE /v2/{NAME}/manifests/{digest_of(raw)}")
    assert await scene.got(f"{NAME}/manifests/public") == 404
    await scene.image("2", LAYER)


async def test_nobody_can_be_asked(scene: Scene) -> None:
    scene.hub.script("*", status(503), times=None)
    message = refused(await scene.ask(f"POST /v2/{NAME}/blobs/uploads/", b""), 403, "DENIED")
    assert f'own = ["{NAME}"]' in message
    refused(await scene.ask(f"PUT /v2/{NAME}/manifests/1", image()), 403, "DENIED")
    scene.settings["own"] = ["team/*"]
    await scene.restart()
    scene.hub.forget()
    raw = await scene.image("1", LAYER)
    assert await scene.got(f"{NAME}/manifests/1") == raw
    assert scene.hub.count("*/tags/*") == 0
    refused(await scene.ask("POST /v2/else/app/blobs/uploads/", b""), 403, "DENIED")


async def test_what_the_default_registry_has_is_no_reason_to_send_nothing(scene: Scene) -> None:
    """A push asks for each blob by HEAD first, before its name is own. Breaks where the default registry answers that:
    nothing is sent then, and the manifest is refused for what it names."""
    scene.settings["own"] = ["team/*"]
    await scene.restart()
    scene.hub.add_blob(NAME, LAYER)
    digest = digest_of(LAYER)
    assert (await scene.ask(f"HEAD /v2/{NAME}/blobs/{digest}")).status == 404
    assert (await scene.ask(f"HEAD /v2/{NAME}/blobs/{digest}", None, **STRANGER)).status == 200  # he may not push
    assert (await scene.ask(f"HEAD /v2/{NAME}/blobs/{digest}?ns=docker.io")).status == 200
    assert await scene.got(f"{NAME}/blobs/{digest}") == LAYER
    await scene.image("1", LAYER)
    assert (await scene.ask(f"HEAD /v2/{NAME}/blobs/{digest}")).status == 200


async def test_a_name_that_is_listed_hides_a_public_one(scene: Scene) -> None:
    scene.settings["own"] = ["team/many"]
    await scene.restart()
    assert isinstance(await scene.got("team/many/manifests/v0"), bytes)
    raw = await scene.image("v0", LAYER, name="team/many")
    assert await scene.got("team/many/manifests/v0") == raw
    assert await scene.got("team/many/manifests/v1") == 404
    assert await scene.got("team/many/manifests/v0?ns=docker.io") not in (raw, 404)


async def test_offline_by_choice_anything_may_be_own(scene: Scene) -> None:
    scene.settings["offline"] = True
    await scene.restart()
    raw = await scene.image("1", LAYER)
    assert await scene.got(f"{NAME}/manifests/1") == raw
    answer = await scene.manifest(image(LAYER, OTHER), "2")
    assert digest_of(OTHER) in refused(answer, 404, "MANIFEST_BLOB_UNKNOWN")


# --- under a registry's name ---------------------------------------------------------------------------------

THERE = "ghcr.io/team/tool"


@pytest.mark.parametrize("request_", [
    f"POST /v2/{THERE}/blobs/uploads/", "POST /v2/team/tool/blobs/uploads/?ns=ghcr.io", f"PUT /v2/{THERE}/manifests/1",
    f"DELETE /v2/{THERE}/manifests/1", f"DELETE /v2/{THERE}/blobs/{NOWHERE}",
])  # fmt: skip
async def test_denied_where_nothing_is_said(scene: Scene, request_: str) -> None:
    answer = await scene.ask(request_, image())
    message = refused(answer, 405, "UNSUPPORTED")
    assert answer.error["detail"] == {"registry": "ghcr.io", "push": "deny"}
    assert '[registries."ghcr.io"]' in message
    assert answer.headers["Allow"] == "GET, HEAD"
    assert scene.other.count() == 0


async def test_a_host_that_is_a_registry_is_that_registry(scene: Scene) -> None:
    answer = await scene.ask("POST /v2/team/tool/blobs/uploads/", b"", Host="ghcr.io")
    refused(answer, 405, "UNSUPPORTED")


async def test_a_session_ends_where_pushes_are_denied_by_now(scene: Scene) -> None:
    scene.sections["ghcr.io"]["push"] = "local"
    await scene.restart()
    location = await scene.begin(THERE)
    await scene.patch(location, LAYER)
    scene.sections["ghcr.io"]["push"] = "deny"
    await scene.restart()
    refused(await scene.put(location, digest_of(LAYER)), 405, "UNSUPPORTED")
    assert await scene.got(f"{THERE}/blobs/{digest_of(LAYER)}") == 404


@pytest.fixture
async def local(scene: Scene) -> Scene:
    """Where pushes under ghcr.io are kept here."""
    scene.sections["ghcr.io"]["push"] = "local"
    await scene.restart()
    return scene


async def test_local_wins_over_upstream_until_it_is_removed(local: Scene) -> None:
    theirs = await local.got(f"{THERE}/manifests/1")
    raw = await local.image("1", LAYER, name=THERE)
    assert theirs != raw
    for _ in range(2):
        assert await local.got(f"{THERE}/manifests/1") == raw
        assert await local.got(f"{THERE}/blobs/{digest_of(LAYER)}") == LAYER
        assert await local.tags(THERE) == ["1"]
        local.wire.mirror.clock.shift += 3600
        local.wire.mirror.clock.wall_shift += 3600
        assert await local.got(f"{THERE}/manifests/1") == raw
        await local.restart()
    assert (await local.ask(f"DELETE /v2/{THERE}/manifests/1")).status == 202
    assert await local.got(f"{THERE}/manifests/1") == theirs
    assert local.other.count("PUT *") == local.other.count("POST *") == local.other.count("DELETE *") == 0


async def test_what_is_deleted_there_is_deleted_here_alone(local: Scene) -> None:
    raw = await local.image("1", LAYER, name=THERE)
    await local.manifest(raw, "mine", THERE)
    assert (await local.ask(f"DELETE /v2/{THERE}/manifests/{digest_of(raw)}")).status == 202
    for reference in ("mine", digest_of(raw)):
        assert await local.got(f"{THERE}/manifests/{reference}") == 404
    assert isinstance(await local.got(f"{THERE}/manifests/1"), bytes)
    refused(await local.ask(f"DELETE /v2/{THERE}/blobs/{digest_of(LAYER)}"), 405, "UNSUPPORTED")


async def test_a_child_that_upstream_confirms(local: Scene) -> None:
    """It need not be uploaded: the registry has it in that repository."""
    digest, data = local.content.tool.layers[0]
    await local.blob(CONFIG, THERE)
    raw = image(data)
    created(await local.manifest(raw, "2", THERE), raw, THERE)
    assert local.other.count("GET */blobs/*") == 0
    assert await local.got(f"{THERE}/blobs/{digest}") == data
    answer = await local.manifest(raw, "2", "ghcr.io/team/else")
    refused(answer, 404, "MANIFEST_BLOB_UNKNOWN")
    child = index(descriptor(local.content.tool.manifest.raw, OCI_MANIFEST))
    created(await local.manifest(child, "3", THERE), child, THERE)


async def test_a_child_that_upstream_cannot_confirm_just_now(local: Scene) -> None:
    """503 and `UNAVAILABLE`: it may be there, and the client tries again."""
    await local.blob(CONFIG, THERE)
    local.other.script("*", status(503), times=None)
    answer = await local.manifest(image(LAYER), "2", THERE)
    assert (answer.status, answer.code) == (503, "UNAVAILABLE")
    await local.blob(LAYER, THERE)
    created(await local.manifest(image(LAYER), "2", THERE), image(LAYER), THERE)


async def test_a_public_child_stays_with_what_names_it(local: Scene) -> None:
    """A layer that is public elsewhere is there under every upstream name: what was accepted is whole, also when
    the image that it came with is removed, and its registry has none any more."""
    small, data = local.content.small
    for path in ("manifests/3", f"blobs/{small}"):
        assert isinstance(await local.got(f"library/alpine/{path}"), bytes)
    await local.wire.mirror.idle()
    await local.blob(CONFIG, THERE)
    raw = image(data)
    created(await local.manifest(raw, "2", THERE), raw, THERE)
    mirror = local.wire.mirror
    for verb, body in (("remove", {"references": ["alpine:3"], "force": True}), ("prune", {"all": True})):
        async with mirror.session.post(f"{mirror.url}/api/v1/{verb}", json=body) as response:
            assert response.status == 200, await response.text()
            await response.read()
    local.hub.script("*", status(404), times=None)
    assert await local.got("library/alpine/manifests/3") == 404
    assert await local.got(f"{THERE}/blobs/{small}") == data

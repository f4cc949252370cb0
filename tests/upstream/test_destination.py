"""Pushing to a registry, over real sockets. What breaks a test is said in its docstring."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from mirror.errors import (
    Offline,
    UpstreamGone,
    UpstreamInvalid,
    UpstreamLimited,
    UpstreamRefused,
    UpstreamUnreachable,
)
from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest
from mirror.oci.names import Reference
from mirror.upstream.destination import RegistryDestination
from mirror.upstream.protocols import Session
from tests.support.fake_registry import FakeRegistry
from tests.support.fake_registry import behaviours as b
from tests.upstream.pushing import DATA, DIGEST, OTHER, UPLOADS, begun, chunks, push
from tests.upstream.support import NAME, REPOSITORY, TAG, USER, destination, no_secret_in, upstreams

# --- blobs ------------------------------------------------------------------------------------------------


async def test_a_blob(registry: FakeRegistry, target: RegistryDestination) -> None:
    """Fails if `Location` comes back re-quoted, the length is not said, or a range is where none is needed."""
    assert target.registry == NAME
    with pytest.raises(UpstreamGone):
        await target.size(REPOSITORY, DIGEST)
    session = await begun(target)
    assert session.offset == 0
    assert "uploads" not in repr(session)
    session = await target.send(REPOSITORY, session, chunks(DATA), len(DATA))
    assert session.offset == len(DATA)
    await target.finish(REPOSITORY, session, DIGEST)
    assert registry.repository(REPOSITORY.path).blobs == {str(DIGEST): DATA}
    assert await target.size(REPOSITORY, DIGEST) == len(DATA)
    assert registry.received(UPLOADS) == len(DATA)
    (patch,) = registry.seen("PATCH *")
    assert patch.headers["Content-Length"] == str(len(DATA))
    assert patch.headers["Content-Type"] == "application/octet-stream"
    assert "Content-Range" not in patch.headers
    (put,) = registry.seen("PUT *")
    assert put.query["digest"] == [str(DIGEST)]
    assert put.headers["Content-Length"] == "0"


async def test_an_empty_blob_needs_no_patch(registry: FakeRegistry, target: RegistryDestination) -> None:
    await push(target, b"")
    assert registry.repository(REPOSITORY.path).blobs == {str(Digest.of(b"")): b""}
    assert registry.count("PATCH *") == 0


@pytest.mark.parametrize("locate", ["{url}{target}", "{target}"], ids=["absolute", "relative"])
async def test_any_location(registry: FakeRegistry, target: RegistryDestination, locate: str) -> None:
    registry.pushes.locate = lambda place: locate.format(url=registry.url, target=place)
    await push(target)


async def test_a_location_without_a_query(registry: FakeRegistry, target: RegistryDestination) -> None:
    """Fails if the digest is put behind an `&` that follows nothing."""
    registry.script("POST *", b.header("Location", "/elsewhere/1#part"))
    registry.script("PUT *", b.status(201))
    session = await begun(target)
    await target.finish(REPOSITORY, session, DIGEST)
    assert registry.seen("PUT *")[0].target == f"/elsewhere/1?digest=sha256%3A{DIGEST.hex}"


async def test_below_a_prefix(registry: FakeRegistry) -> None:
    """Fails if a mount or a scope names the repository as we call it, and not as that registry does."""
    registry.access.scheme = "bearer"
    registry.add_blob("hosted/team/base", DATA)
    async with destination(f"{registry.url}/v2/hosted") as target:
        assert await target.begin(REPOSITORY, DIGEST, OTHER) is None
    assert registry.repository("hosted/team/app").blobs == {str(DIGEST): DATA}


@pytest.mark.parametrize(
    ("header", "offset"),
    [
        ("0-0", 0),
        ("bytes=0-99", 100),
        ("0-99999999", 5_000_000),
        (None, 5_000_000),
        ("nonsense", 5_000_000),
        ("5-9", 5_000_000),
    ],
)
async def test_what_the_registry_acknowledges_counts(
    registry: FakeRegistry, target: RegistryDestination, header: str | None, offset: int
) -> None:
    registry.script("PATCH *", b.header("Range", header))
    session = await begun(target)
    assert (await target.send(REPOSITORY, session, chunks(DATA), len(DATA))).offset == offset


async def test_one_byte_is_acknowledged_as_none_would_be(registry: FakeRegistry, target: RegistryDestination) -> None:
    session = await target.send(REPOSITORY, await begun(target), chunks(b"x"), 1)
    assert session.offset == 1


# --- mounts -----------------------------------------------------------------------------------------------


async def test_a_mount(registry: FakeRegistry, target: RegistryDestination) -> None:
    registry.add_blob(OTHER.path, DATA)
    assert await target.begin(REPOSITORY, DIGEST, OTHER) is None
    assert registry.repository(REPOSITORY.path).blobs == {str(DIGEST): DATA}
    assert registry.received(UPLOADS) == 0


async def test_no_mount_but_an_upload(registry: FakeRegistry, target: RegistryDestination) -> None:
    registry.add_blob(OTHER.path, DATA)
    registry.pushes.mounts = False
    assert await target.begin(REPOSITORY, DIGEST, OTHER) is not None
    assert registry.count("POST *") == 1
    assert await target.begin(REPOSITORY, DIGEST, REPOSITORY) is not None
    assert "mount" not in registry.seen("POST *")[-1].query


@pytest.mark.parametrize("code", [400, 401, 403, 404, 405])
async def test_a_mount_that_is_refused_is_no_refusal(
    registry: FakeRegistry, target: RegistryDestination, code: int
) -> None:
    registry.script("POST *", b.status(code))
    assert await target.begin(REPOSITORY, DIGEST, OTHER) is not None


# --- manifests --------------------------------------------------------------------------------------------


async def test_a_manifest(registry: FakeRegistry, target: RegistryDestination) -> None:
    image = registry.add_image("elsewhere", "1", layers=[10])
    manifest = Manifest.parse(image.manifest.raw)
    with pytest.raises(UpstreamRefused, match="MANIFEST_BLOB_UNKNOWN: blob unknown"):
        await target.put(TAG, manifest)
    registry.repository(REPOSITORY.path).blobs = registry.repository("elsewhere").blobs
    assert await target.put(TAG, manifest)
    assert await target.put(Reference(REPOSITORY, None, manifest.descriptor.digest), manifest)
    assert await target.head(TAG) == manifest.descriptor
    assert (await target.manifest(TAG)).raw == manifest.raw
    await target.delete(TAG)
    with pytest.raises(UpstreamGone):
        await target.delete(TAG)
    await target.delete(Reference(REPOSITORY, None, manifest.descriptor.digest))
    assert registry.repository(REPOSITORY.path).manifests == {}
    registry.pushes.deletes = False
    with pytest.raises(UpstreamRefused, match=r"refused to delete .*UNSUPPORTED"):
        await target.delete(TAG)


async def test_whether_the_subject_was_seen_to(registry: FakeRegistry, target: RegistryDestination) -> None:
    """Fails if a registry without referrers is taken for one with: nobody would write the fallback tag."""
    subject = registry.add_image(REPOSITORY.path, "1")
    signed = registry.add_image(REPOSITORY.path, None, extra={"subject": subject.manifest.descriptor})
    manifest = Manifest.parse(signed.manifest.raw)
    reference = Reference(REPOSITORY, None, manifest.descriptor.digest)
    assert await target.put(reference, manifest)
    registry.pushes.subjects = False
    assert not await target.put(reference, manifest)


async def test_a_registry_that_keeps_something_else(registry: FakeRegistry, target: RegistryDestination) -> None:
    registry.script("PUT *", b.header("Docker-Content-Digest", str(Digest.of(b"other"))))
    session = await target.send(REPOSITORY, await begun(target), chunks(DATA), len(DATA))
    with pytest.raises(UpstreamInvalid, match="another digest"):
        await target.finish(REPOSITORY, session, DIGEST)


# --- what answers mean ------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 409, 413, 422])
async def test_a_refusal_says_why(registry: FakeRegistry, target: RegistryDestination, code: int) -> None:
    body = b'{"errors":[{"code":"DENIED","message":"not on a Sunday, see https://u:p@x.test/help?sig=a."}]}'
    registry.script("POST *", b.status(code, body=body), times=None)
    with pytest.raises(UpstreamRefused) as caught:
        await begun(target)
    said = caught.value.message
    assert f"{NAME} refused an upload to team/app: DENIED: not on a Sunday, see https://x.test/help ({code})" in said
    assert ("no login" in said) == (code in (401, 403))
    no_secret_in(said)
    registry.unscript()
    registry.script("POST *", b.status(code, body=b"<html>"))
    with pytest.raises(UpstreamRefused, match=f"it answered {code}"):
        await begun(target)


async def test_wrong_bytes_are_refused_by_the_registry(registry: FakeRegistry, target: RegistryDestination) -> None:
    session = await target.send(REPOSITORY, await begun(target), chunks(b"abc"), 3)
    with pytest.raises(UpstreamRefused, match="DIGEST_INVALID"):
        await target.finish(REPOSITORY, session, DIGEST)


async def test_no_answers(registry: FakeRegistry, target: RegistryDestination) -> None:
    session = await begun(target)
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "POST *": lambda: target.begin(REPOSITORY, DIGEST),
        "PATCH *": lambda: target.send(REPOSITORY, session, chunks(b"abc"), 3),
    }
    for fault in (b.status(500), b.status(503), b.status(408), b.close(), b.reset(), b.garbage()):
        for match, call in calls.items():
            registry.unscript()
            registry.script(match, fault)
            with pytest.raises(UpstreamUnreachable):
                await call()
    registry.unscript()
    registry.script("POST *", b.header("Location", None))
    with pytest.raises(UpstreamInvalid):
        await begun(target)
    registry.script("POST *", b.status(201))
    with pytest.raises(UpstreamInvalid):
        await begun(target)


async def test_a_limit_is_kept(registry: FakeRegistry, target: RegistryDestination) -> None:
    registry.script("POST *", b.limited("30"))
    for _ in range(2):
        with pytest.raises(UpstreamLimited) as caught:
            await begun(target)
        assert 29 <= caught.value.retry_after <= 30
    assert registry.count("POST *") == 1


async def test_offline(registry: FakeRegistry) -> None:
    async with destination(registry.url, offline=lambda: True) as target:
        with pytest.raises(Offline):
            await begun(target)
        with pytest.raises(Offline):
            await target.send(REPOSITORY, Session(f"{registry.url}/x"), chunks(b"abc"), 3)
    assert registry.requests == []


async def test_a_refused_push_says_nothing_about_pulls(registry: FakeRegistry) -> None:
    """Nor does one that breaks; and while pulls rest, a push is sent. Fails if they share a breaker or a limit."""
    registry.add_image(REPOSITORY.path, "1")
    async with upstreams(url=registry.url, username=USER, password="x") as made:
        target, source = made.destination(NAME), made.source(NAME, anonymous=False)
        registry.script("POST *", b.limited())
        with pytest.raises(UpstreamLimited):
            await target.begin(REPOSITORY, DIGEST)
        await source.head(TAG)
        registry.script("GET */manifests/*", b.limited())
        with pytest.raises(UpstreamLimited):
            await source.manifest(TAG)
        assert registry.count("GET /v2/") == 0
    async with upstreams(url=registry.url) as made:
        target, source = made.destination(NAME), made.source(NAME, anonymous=True)
        registry.script("*", b.reset(), times=None)
        for _ in range(3):
            with pytest.raises(UpstreamUnreachable):
                await target.begin(REPOSITORY, DIGEST)
        await asyncio.sleep(0.1)
        assert registry.count("GET /v2/") == 0
        assert made.states()[0].up


# --- redirects --------------------------------------------------------------------------------------------


async def test_redirects(registry: FakeRegistry, target: RegistryDestination) -> None:
    """A POST and a PUT go on as what they are with 307 and 308; a body that has begun goes nowhere else."""
    async with FakeRegistry() as other:
        registry.script("POST *", b.redirect(f"{other.url}{{target}}"))
        session = await begun(target)
        assert session.location.startswith(other.url)
        session = await target.send(REPOSITORY, session, chunks(DATA), len(DATA))
        await target.finish(REPOSITORY, session, DIGEST)
        assert other.repository(REPOSITORY.path).blobs == {str(DIGEST): DATA}
        for code in (301, 302, 303):
            registry.script("POST *", b.redirect(f"{other.url}{{target}}", code))
            with pytest.raises(UpstreamInvalid, match=rf"redirected a POST \({code}\)"):
                await begun(target)
        registry.script("PATCH *", b.redirect(f"{other.url}{{target}}"))
        with pytest.raises(UpstreamInvalid, match="redirected a PATCH"):
            await target.send(REPOSITORY, await begun(target), chunks(DATA), len(DATA))
        assert other.count("PATCH *") == 1

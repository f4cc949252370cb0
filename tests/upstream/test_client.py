"""A source against the scripted registry. What breaks a test is said in its docstring."""

import asyncio

import pytest

from mirror.errors import (
    UpstreamError,
    UpstreamGone,
    UpstreamInvalid,
    UpstreamLimited,
    UpstreamUnreachable,
)
from mirror.oci.digest import Digest
from mirror.oci.manifest import MANIFEST_LIMIT, MANIFEST_TYPES
from mirror.oci.names import Reference
from mirror.upstream.client import RegistrySource
from tests.support.fake_registry import FakeCdn, FakeRegistry, Gate
from tests.support.fake_registry import behaviours as b
from tests.support.fake_registry.content import FakeImage
from tests.upstream.support import BLOB, REPOSITORY, TAG, layer, no_secret_in, read, read_until_broken, source

# --- blobs, at a store that the registry redirects to -----------------------------------------------------


async def test_a_store_gets_the_signed_url_byte_for_byte_and_no_authorization(
    registry: FakeRegistry, image: FakeImage, cdn: FakeCdn, upstream: RegistrySource
) -> None:
    """Fails if the URL is quoted again (aiohttp's default does) or our token goes on to another host."""
    registry.access.scheme = "bearer"
    digest, data = layer(image)
    assert await read(upstream, digest) == data
    assert await read(upstream, digest, 10, 20) == data[10:20]
    assert cdn.count("GET *") == 2
    assert not any("Authorization" in request.headers for request in cdn.requests)


async def test_every_open_asks_the_registry_for_a_new_url(
    registry: FakeRegistry, image: FakeImage, cdn: FakeCdn, upstream: RegistrySource
) -> None:
    """Fails if a store's URL is kept: it has expired by the time a download is resumed."""
    cdn.single_use = True
    digest, data = layer(image)
    cdn.script("GET *", b.close_after(BLOB // 2))
    arrived, _ = await read_until_broken(upstream, digest)
    assert await read(upstream, digest, len(arrived)) == data[len(arrived) :]
    assert registry.count("GET */blobs/*") == cdn.count("GET *") == 2


async def test_an_expired_url_is_asked_for_again_once(
    registry: FakeRegistry, image: FakeImage, cdn: FakeCdn, upstream: RegistrySource
) -> None:
    """Fails if a store's 403 passes for the registry's word that the blob is not there."""
    digest, data = layer(image)
    cdn.script("GET *", b.status(403))
    assert await read(upstream, digest) == data
    cdn.script("GET *", b.status(403), times=None)
    with pytest.raises(UpstreamUnreachable) as caught:
        await read(upstream, digest)
    no_secret_in(caught.value)
    assert registry.count("GET */blobs/*") == 4


async def test_a_store_that_no_longer_has_it(image: FakeImage, cdn: FakeCdn, upstream: RegistrySource) -> None:
    cdn.script("GET *", b.status(404))
    with pytest.raises(UpstreamGone):
        await read(upstream, layer(image)[0])


# --- sizes ------------------------------------------------------------------------------------------------


async def size(upstream: RegistrySource, digest: str) -> int | None:
    return await upstream.size(REPOSITORY, Digest.parse(digest))


async def test_the_size_by_head(registry: FakeRegistry, image: FakeImage, upstream: RegistrySource) -> None:
    assert await size(upstream, layer(image)[0]) == BLOB
    assert [request.method for request in registry.requests] == ["HEAD"]
    assert registry.sent() == 0


async def test_the_size_where_head_is_refused(
    registry: FakeRegistry, image: FakeImage, upstream: RegistrySource
) -> None:
    """Fails if a refused HEAD counts as an answer: public.ecr.aws refuses it for every blob."""
    registry.head_blobs = False
    assert await size(upstream, layer(image)[0]) == BLOB
    assert registry.sent("*/blobs/*") <= 1
    assert await size(upstream, image.layers[1][0]) == 0
    registry.ranges = False
    assert await size(upstream, layer(image)[0]) == BLOB


async def test_the_size_where_the_store_refuses_head(image: FakeImage, cdn: FakeCdn, upstream: RegistrySource) -> None:
    assert await size(upstream, layer(image)[0]) == BLOB
    assert cdn.sent() == 1


async def test_a_size_that_is_not_told(registry: FakeRegistry, image: FakeImage, upstream: RegistrySource) -> None:
    registry.script("HEAD */blobs/*", b.both(b.no_length(), b.header("Content-Length", None)))
    assert await size(upstream, layer(image)[0]) is None


async def test_no_such_blob(image: FakeImage, upstream: RegistrySource) -> None:
    missing = str(Digest.of(b"nowhere"))
    for ask in (size(upstream, missing), read(upstream, missing)):
        with pytest.raises(UpstreamGone) as caught:
            await ask
        assert not caught.value.refused


# --- manifests --------------------------------------------------------------------------------------------


async def test_a_manifest_by_tag_and_by_digest(
    registry: FakeRegistry, image: FakeImage, upstream: RegistrySource
) -> None:
    by_digest = Reference(REPOSITORY, None, Digest.parse(image.digest))
    for reference in (TAG, by_digest):
        fetched = await upstream.manifest(reference)
        assert fetched.raw == image.manifest.raw
        assert fetched.media_type == image.manifest.media_type
        assert fetched.digest == Digest.parse(image.digest)
    accepted = {kind.strip() for kind in registry.requests[0].headers["Accept"].split(",")}
    assert accepted == MANIFEST_TYPES


async def test_what_a_tag_names(registry: FakeRegistry, image: FakeImage, upstream: RegistrySource) -> None:
    descriptor = await upstream.head(TAG)
    assert descriptor is not None
    assert str(descriptor.digest) == image.digest
    assert descriptor.size == len(image.manifest.raw)
    assert [request.method for request in registry.requests] == ["HEAD"]


@pytest.mark.parametrize("name", ["Docker-Content-Digest", "Content-Type"])
async def test_a_head_that_does_not_tell_all_tells_nothing(
    registry: FakeRegistry, image: FakeImage, upstream: RegistrySource, name: str
) -> None:
    registry.script("HEAD *", b.header(name, None))
    assert await upstream.head(TAG) is None


@pytest.mark.parametrize("code", [405, 400, 501])
async def test_a_head_that_is_refused_tells_nothing(
    registry: FakeRegistry, image: FakeImage, upstream: RegistrySource, code: int
) -> None:
    registry.script("HEAD *", b.status(code))
    assert await upstream.head(TAG) is None


async def test_a_lying_digest_is_only_reported(
    registry: FakeRegistry, image: FakeImage, upstream: RegistrySource
) -> None:
    """By digest the header counts for nothing. Fails if it replaces what was asked for."""
    asked, lie = Digest.parse(image.digest), Digest.of(b"a lie")
    registry.script("*", b.header("Docker-Content-Digest", str(lie)), times=None)
    descriptor = await upstream.head(Reference(REPOSITORY, None, asked))
    assert descriptor is not None
    assert descriptor.digest == asked
    assert (await upstream.manifest(TAG)).digest == lie
    registry.unscript()
    registry.script("*", b.header("Docker-Content-Digest", "md5:zz"), times=None)
    assert (await upstream.manifest(TAG)).digest is None
    assert await upstream.head(TAG) is None


async def test_no_such_manifest(image: FakeImage, upstream: RegistrySource) -> None:
    missing = Reference(REPOSITORY, "none", None)
    for ask in (upstream.head(missing), upstream.manifest(missing)):
        with pytest.raises(UpstreamGone):
            await ask


async def test_a_manifest_that_is_too_large(registry: FakeRegistry, image: FakeImage, upstream: RegistrySource) -> None:
    """Fails if the body is read without a cap, or the cap believes Content-Length."""
    for fault in (b.wrong_bytes(lambda _: b" " * (MANIFEST_LIMIT + 1)), b.chunked()):
        registry.script("*", b.both(b.wrong_bytes(lambda _: b" " * (MANIFEST_LIMIT + 1)), fault))
        with pytest.raises(UpstreamInvalid, match="larger"):
            await upstream.manifest(TAG)


async def test_a_manifest_that_breaks_off(registry: FakeRegistry, image: FakeImage, upstream: RegistrySource) -> None:
    registry.script("*", b.close_after(10))
    with pytest.raises(UpstreamUnreachable):
        await upstream.manifest(TAG)


async def test_other_statuses(registry: FakeRegistry, image: FakeImage, upstream: RegistrySource) -> None:
    """Each status has one meaning. Fails if an outage passes for the registry's word, or the other way round."""
    meanings: dict[int, type[UpstreamError]] = {
        400: UpstreamInvalid, 401: UpstreamGone, 403: UpstreamGone, 404: UpstreamGone, 408: UpstreamUnreachable,
        410: UpstreamGone, 429: UpstreamLimited, 451: UpstreamGone, 500: UpstreamUnreachable, 502: UpstreamUnreachable,
        503: UpstreamUnreachable, 599: UpstreamUnreachable, 204: UpstreamInvalid, 304: UpstreamInvalid,
    }  # fmt: skip
    for code, meaning in meanings.items():
        async with source(registry.url) as fresh:
            registry.script("* */manifests/*", b.status(code))
            with pytest.raises(UpstreamError) as caught:
                await fresh.manifest(TAG)
            assert type(caught.value) is meaning, code


async def test_docker_hubs_pull_limit_is_noted(
    registry: FakeRegistry, image: FakeImage, upstream: RegistrySource
) -> None:
    registry.limits = {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "76;w=21600"}
    await upstream.head(TAG)
    state = upstream.state()
    assert (state.pulls_left, state.pulls_limit) == (76, 100)


async def test_fetched_bytes_are_counted(image: FakeImage, upstream: RegistrySource) -> None:
    await read(upstream, layer(image)[0], 0, 1000)
    await upstream.manifest(TAG)
    assert upstream.state().fetched_bytes == 1000 + len(image.manifest.raw)


async def test_a_gate_holds_an_answer_until_it_is_released(
    registry: FakeRegistry, image: FakeImage, upstream: RegistrySource
) -> None:
    gate = Gate()
    registry.script("GET */manifests/*", b.hang(gate))
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(upstream.manifest(TAG))
        while not gate.reached.is_set():
            await asyncio.sleep(0.01)
        assert not waiting.done()
        gate.release()
    assert waiting.result().raw == image.manifest.raw

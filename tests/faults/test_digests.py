"""faults.md, "wrong digest (and a lying `Docker-Content-Digest`)" and "corrupt gzip with the right digest"."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.faults.support import HUB, KIB, MIB, cached, client, hub, staged, stored
from tests.support.fake_registry import FakeRegistry, Gate
from tests.support.fake_registry.behaviours import both, declared_length, hang, hang_after, header, status, wrong_bytes
from tests.support.fake_registry.content import OCI_MANIFEST, digest_of, random_bytes
from tests.support.mirror import mirror_in_process

OTHER = "sha256:" + "5" * 64
SIZES = {"tiny": 1, "small": 200 * KIB, "just small": 256 * KIB, "just large": 256 * KIB + 1, "large": 3 * MIB}


@pytest.mark.parametrize("name", SIZES)
async def test_wrong_bytes_reach_nobody_whole(name: str, tmp_path: Path) -> None:
    """Breaks if the tail is sent before the digest is verified, or a mismatch ends the body cleanly: then a reader
    holds a whole blob of wrong bytes, which containerd and podman do not fall back from."""
    size = SIZES[name]
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes(name, size)
        digest = registry.add_blob("library/x", layer)
        path = f"/v2/library/x/blobs/{digest}"
        registry.script("GET */blobs/*", wrong_bytes(), times=None)

        async def read() -> bytes:
            async with client(mirror, path) as reader:
                return b"" if reader.status == 404 else await reader.rest()  # a small one may be known to be wrong

        bodies = await asyncio.gather(*(read() for _ in range(8)))
        assert all(len(body) < size for body in bodies)
        assert all(layer.startswith(body) for body in bodies)
        await mirror.idle()
        assert digest.partition(":")[2] not in stored(tmp_path / "data")
        assert staged(tmp_path / "data") == []
        registry.unscript()
        honest = await mirror.get(path)
        assert (honest.status, honest.body == layer) == (200, True)


async def test_a_reader_who_comes_late_is_told_too(tmp_path: Path) -> None:
    """Breaks if failure is an event and not a state (design.md §7, pitfall 3): a reader that begins to wait after the
    flight failed would wait for ever."""
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("late", MIB)
        digest = registry.add_blob("library/x", layer)
        gate = Gate()
        registry.script("GET */blobs/*", both(wrong_bytes(), hang_after(700 * KIB, gate)))
        registry.script("GET */blobs/*", wrong_bytes())
        async with client(mirror, f"/v2/library/x/blobs/{digest}") as slow:
            await slow.read(600 * KIB)
            gate.release()
            await mirror.idle()  # failed by now
            left = MIB - 600 * KIB
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await slow.read(left)


async def test_more_bytes_than_announced_are_wrong_bytes(tmp_path: Path) -> None:
    """Breaks if a body is cut where it should have ended and then believed."""
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("more", MIB)
        digest = registry.add_blob("library/x", layer)
        registry.script("GET */blobs/*", both(wrong_bytes(lambda body: body + b"more"), declared_length(MIB)))
        reply = await mirror.get(f"/v2/library/x/blobs/{digest}")  # the first MiB is right: HTTP ends there
        assert reply.body == layer


async def test_a_lying_header_on_a_blob_is_not_believed(tmp_path: Path) -> None:
    """Breaks if the mirror names content by upstream's `Docker-Content-Digest` rather than by what was asked for."""
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("header", MIB)
        digest = registry.add_blob("library/x", layer)
        registry.script("*/blobs/*", header("Docker-Content-Digest", OTHER), times=None)
        reply = await mirror.get(f"/v2/library/x/blobs/{digest}")
        assert reply.body == layer
        assert reply.headers["Docker-Content-Digest"] == digest
        assert (await mirror.get(f"/v2/library/x/blobs/{OTHER}")).status == 404


async def test_a_manifest_by_digest_never_trusts_the_header(tmp_path: Path) -> None:
    """Breaks if `Manifests.fetch` compares the header, or nothing, instead of hashing the body: another image would
    be served and kept under this digest."""
    async with hub(tmp_path) as (registry, mirror):
        image = registry.add_image("library/x", "1")
        evil = registry.add_image("library/x", "evil", seed="evil")
        registry.script(
            f"GET */manifests/{image.digest}",
            both(
                wrong_bytes(lambda _: evil.manifest.raw),
                header("Docker-Content-Digest", image.digest),
            ),
        )
        refused = await mirror.get(f"/v2/library/x/manifests/{image.digest}")
        assert refused.status == 404
        assert not (stored(tmp_path / "data"))
        honest = await mirror.get(f"/v2/library/x/manifests/{image.digest}")
        assert (honest.status, honest.body) == (200, image.manifest.raw)
        assert honest.headers["Docker-Content-Digest"] == image.digest


async def test_a_tag_whose_head_lies_names_what_can_be_delivered(tmp_path: Path) -> None:
    """Breaks if a HEAD for a tag is answered from upstream's header alone: its digest is then 404, a retry loop for
    containerd (spegel#1378)."""
    async with hub(tmp_path) as (registry, mirror):
        registry.add_image("library/x", "1")
        registry.script("HEAD */manifests/1", header("Docker-Content-Digest", OTHER), times=None)
        head = await mirror.get("/v2/library/x/manifests/1", "HEAD")
        assert head.status == 404
        registry.unscript()
        mirror.clock.shift += 3600
        head = await mirror.get("/v2/library/x/manifests/1", "HEAD")
        assert head.status == 200
        got = await mirror.get(f"/v2/library/x/manifests/{head.headers['Docker-Content-Digest']}")
        assert digest_of(got.body) == head.headers["Docker-Content-Digest"]


async def test_a_header_that_lies_on_a_get_by_tag(tmp_path: Path) -> None:
    """Breaks if a tag is moved to the digest in the header of the GET that fetched it."""
    async with hub(tmp_path) as (registry, mirror):
        image = registry.add_image("library/x", "1")
        registry.script("HEAD */manifests/1", status(405), times=None)
        registry.script("GET */manifests/1", header("Docker-Content-Digest", OTHER), times=None)
        reply = await mirror.get("/v2/library/x/manifests/1")
        assert reply.headers["Docker-Content-Digest"] == image.digest
        assert reply.body == image.manifest.raw


async def test_a_type_that_lies_is_not_served(tmp_path: Path) -> None:
    """Breaks if the stored type is the header's and not the body's (CVE-2021-41190): an index would be run as an
    image."""
    async with hub(tmp_path) as (registry, mirror):
        child = registry.add_image("library/x", None)
        index = registry.add_index("library/x", "1", [child])
        registry.script("*/manifests/*", header("Content-Type", OCI_MANIFEST), times=None)
        assert (await mirror.get(f"/v2/library/x/manifests/{index.digest}")).status == 404
        assert not stored(tmp_path / "data")


async def test_layers_beside_manifests_are_refused(tmp_path: Path) -> None:
    """Breaks if `Manifest.parse` takes a body that is two things at once."""
    async with hub(tmp_path) as (registry, mirror):
        image = registry.add_image("library/x", "1")
        both_kinds = json.loads(image.manifest.raw) | {"manifests": []}
        evil = registry.add_manifest("library/x", both_kinds, tag="evil")
        assert (await mirror.get("/v2/library/x/manifests/evil")).status == 404
        assert (await mirror.get(f"/v2/library/x/manifests/{evil.digest}")).status == 404


async def test_corrupt_gzip_with_the_right_digest_is_served_as_it_is(tmp_path: Path) -> None:
    """Breaks if the mirror decompresses anything, here or on the way in (`auto_decompress`)."""
    async with hub(tmp_path) as (registry, mirror):
        layer = b"\x1f\x8b\x08\x00" + random_bytes("gzip", MIB)
        digest = registry.add_blob("library/x", layer)
        registry.script("*/blobs/*", header("Content-Encoding", "gzip"), times=None)
        for cache in ("miss", "hit"):
            reply = await mirror.get(f"/v2/library/x/blobs/{digest}", Accept_Encoding="gzip, zstd")
            assert (cached(reply), reply.body == layer) == (cache, True)
            assert "Content-Encoding" not in reply.headers
            await mirror.idle()


async def test_a_size_that_changes_in_mid_download_is_not_followed(tmp_path: Path) -> None:
    """Breaks if the size promised to a client is overwritten by that of the resumed answer."""
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("grows", 2 * MIB)
        digest = registry.add_blob("library/x", layer)
        gate = Gate()
        registry.script("GET */blobs/*", hang_after(MIB, gate))
        registry.script("GET */blobs/*", both(header("Content-Range", f"bytes {MIB}-{3 * MIB - 1}/{3 * MIB}"), hang()))
        async with client(mirror, f"/v2/library/x/blobs/{digest}") as reader:
            await reader.read(MIB - 64 * KIB)
            registry.lines[-1].behaviour = header("Content-Range", f"bytes {MIB}-{3 * MIB - 1}/{3 * MIB}")
            gate.release()
            assert await reader.read(MIB + 64 * KIB) == layer[MIB - 64 * KIB :]


async def test_wrong_bytes_for_one_registry_do_not_stop_another(tmp_path: Path) -> None:
    """Breaks if a failed digest is remembered by digest alone: one hostile registry would block it everywhere."""
    async with FakeRegistry() as honest, FakeRegistry() as liar:
        layer = random_bytes("two", MIB)
        digest = honest.add_blob("library/x", layer)
        liar.add_blob("x/x", layer[:-1] + b"!", digest=digest)
        registries = {HUB: honest.url, "liar.example": liar.url}
        async with mirror_in_process(tmp_path / "data", registries) as mirror:
            async with client(mirror, f"/v2/x/x/blobs/{digest}?ns=liar.example") as reader:
                assert len(await reader.rest()) < MIB
            assert (await mirror.get(f"/v2/library/x/blobs/{digest}")).body == layer
            await mirror.idle()
            # what the honest one gave does not vouch for the liar's repository, but is public
            assert (await mirror.get(f"/v2/x/x/blobs/{digest}?ns=liar.example")).body == layer

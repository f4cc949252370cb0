"""Clients newer than Debian's, replayed by a script: what they send, in their order, and what they insist on.

The sequences are those of clients.md, "What they send": docker 29 with the containerd store, containerd 2.3 with
parallel ranges, BuildKit, the stargz snapshotter, regclient.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.fake_registry import FakeRegistry, Gate
from tests.support.fake_registry.behaviours import hang_after, pace
from tests.support.fake_registry.content import OCI_INDEX, FakeImage, FakeManifest, digest_of
from tests.support.mirror import Reply, Running, mirror_in_process

MB = 1_000_000
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, */*"
)
CONTAINERD = {"User_Agent": "containerd/2.3.0", "Accept_Encoding": "zstd;q=1.0, gzip;q=0.8, deflate;q=0.5"}


class Replay:
    """One client's requests to a mirror; every answer must be what all of them rely on."""

    def __init__(self, mirror: Running, *, ns: str | None, headers: Mapping[str, str], prefix: str = "") -> None:
        self.mirror = mirror
        self.ns = ns
        self.headers = dict(headers)
        self.prefix = prefix

    async def ask(self, method: str, path: str, **headers: str) -> Reply:
        """Any answer."""
        target = f"/v2/{self.prefix}{path}" + (f"?ns={self.ns}" if self.ns else "")
        reply = await self.mirror.get(target, method, **{**self.headers, **headers})
        assert "Content-Encoding" not in reply.headers
        assert reply.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
        return reply

    async def head(self, path: str, wanted: FakeManifest) -> None:
        """HEAD of a manifest: digest, length and type are there."""
        reply = await self.ask("HEAD", path, Accept=MANIFESTS)
        assert (reply.status, reply.body) == (200, b"")
        self._describes(reply, wanted.digest, len(wanted.raw), wanted.media_type)

    async def manifest(self, path: str, wanted: FakeManifest) -> None:
        """GET of a manifest, by tag or digest."""
        reply = await self.ask("GET", path, Accept=f"{wanted.media_type}, */*")
        assert (reply.status, reply.body) == (200, wanted.raw)
        self._describes(reply, wanted.digest, len(wanted.raw), wanted.media_type)

    async def blob(self, repository: str, digest: str, data: bytes) -> None:
        """GET of a whole blob."""
        reply = await self.ask("GET", f"{repository}/blobs/{digest}", Accept="*/*")
        assert (reply.status, reply.body) == (200, data)
        self._describes(reply, digest, len(data), "application/octet-stream")

    async def image(self, repository: str, image: FakeImage) -> None:
        """A manifest by digest and all that it names, at once."""
        await self.manifest(f"{repository}/manifests/{image.digest}", image.manifest)
        await asyncio.gather(*(self.blob(repository, *each) for each in (image.config, *image.layers)))

    async def part(self, repository: str, digest: str, start: int, end: int | None, size: int) -> bytes:
        """A single range, `end` exclusive or open; what it must be answered with."""
        spec = f"bytes={start}-{'' if end is None else end - 1}"
        reply = await self.ask("GET", f"{repository}/blobs/{digest}", Range=spec)
        last = (size if end is None else end) - 1
        assert reply.status == 206
        assert reply.headers["Content-Range"] == f"bytes {start}-{last}/{size}"
        self._describes(reply, digest, last + 1 - start, "application/octet-stream")
        assert len(reply.body) == last + 1 - start
        return reply.body

    def _describes(self, reply: Reply, digest: str, size: int, media_type: str) -> None:
        headers = reply.headers
        assert headers["Content-Length"] == str(size)
        assert headers["Content-Type"] == media_type
        assert headers["Docker-Content-Digest"] == digest
        assert headers["ETag"] == f'"{digest}"'
        assert ("OCI-Namespace" in headers) == (self.ns is not None)


class Signed:
    """library/signed:1, as BuildKit pushes it and cosign signs it: two platforms, an attestation for each, a sigstore
    bundle that refers to the first attestation."""

    def __init__(self, registry: FakeRegistry) -> None:
        name = self.name = "library/signed"
        self.amd64 = registry.add_image(name, None, layers=[300_000, 5_000], seed="amd64")
        self.arm64 = registry.add_image(name, None, layers=[400_000], seed="arm64")
        self.attestation = registry.add_image(name, None, layers=[b'{"_type":"statement"}'], seed="attestation")
        other = registry.add_image(name, None, layers=[b'{"_type":"other"}'], seed="other attestation")
        self.bundle = registry.add_image(
            name,
            None,
            layers=[b'{"mediaType":"bundle"}'],
            extra={"subject": self.attestation.manifest.descriptor, "artifactType": BUNDLE},
        )
        platforms = [("linux", "amd64"), ("linux", "arm64"), ("unknown", "unknown"), ("unknown", "unknown")]
        children = [self.amd64, self.arm64, self.attestation, other]
        subjects = [None, None, self.amd64, self.arm64]
        entries = [
            child.manifest.descriptor
            | {"platform": {"os": system, "architecture": machine}}
            | ({} if subject is None else {"annotations": _attested(subject)})
            for child, (system, machine), subject in zip(children, platforms, subjects, strict=True)
        ]
        value = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
        self.index = registry.add_manifest(name, value, tag="1", media_type=OCI_INDEX)
        self.unwanted = [blob[0] for child in (self.arm64, other) for blob in (child.config, *child.layers)]
        self.unwanted += [self.arm64.digest, other.digest]


def _attested(image: FakeImage) -> dict[str, str]:
    return {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": image.digest,
    }


async def _docker29_pulls(client: Replay, image: Signed) -> None:
    """moby 29 with the containerd store: the platform, its attestation, the bundles that refer to that."""
    name = image.name
    await client.head(f"{name}/manifests/1", image.index)
    await client.manifest(f"{name}/manifests/{image.index.digest}", image.index)
    await client.image(name, image.amd64)
    await client.image(name, image.attestation)
    reply = await client.ask("GET", f"{name}/referrers/{image.attestation.digest}", Accept=OCI_INDEX)
    assert (reply.status, reply.headers["Content-Type"]) == (200, OCI_INDEX)
    assert image.bundle.digest in reply.body.decode()
    await client.image(name, image.bundle)


async def test_docker_29_pulls_the_attestation_and_what_refers_to_it(tmp_path: Path) -> None:
    async with FakeRegistry() as registry:
        image = Signed(registry)
        registries = {"docker.io": {"url": registry.url, "tag_ttl": "0s"}}
        async with mirror_in_process(tmp_path / "data", registries) as mirror:
            client = Replay(mirror, ns="docker.io", headers=CONTAINERD)
            await _docker29_pulls(client, image)
            await mirror.idle()
            assert [digest for digest in image.unwanted if registry.count(f"* */{digest}")] == []
            registry.forget()
            await _docker29_pulls(client, image)
            assert registry.count("GET */blobs/*") == registry.count("GET */manifests/*") == 0
            await registry.stop()
            await _docker29_pulls(client, image)
        async with mirror_in_process(tmp_path / "data", registries) as mirror:  # it starts, and there is no upstream
            await _docker29_pulls(Replay(mirror, ns="docker.io", headers=CONTAINERD), image)


async def test_a_digest_is_asked_for_as_a_blob_first(tmp_path: Path) -> None:
    """The blob's 404 says nothing about the manifest."""
    async with FakeRegistry() as registry:
        image = registry.add_image("library/app", "1")
        async with mirror_in_process(tmp_path / "data", {"docker.io": registry.url}) as mirror:
            client = Replay(mirror, ns="docker.io", headers=CONTAINERD)
            assert (await client.ask("HEAD", f"library/app/blobs/{image.digest}")).status == 404
            await client.head(f"library/app/manifests/{image.digest}", image.manifest)
            await client.image("library/app", image)


async def test_a_manifest_that_is_held_is_no_blob(tmp_path: Path) -> None:
    """Else containerd, which asks for a blob first, takes an image for a nameless stream of bytes."""
    async with FakeRegistry() as registry:
        image = registry.add_image("library/app", "1")
        async with mirror_in_process(tmp_path / "data", {"docker.io": registry.url}) as mirror:
            client = Replay(mirror, ns="docker.io", headers=CONTAINERD)
            await client.manifest("library/app/manifests/1", image.manifest)
            for method in ("HEAD", "GET"):
                for repository in ("library/app", "library/other"):
                    assert (await client.ask(method, f"{repository}/blobs/{image.digest}")).status == 404


async def test_containerd_fetches_a_layer_in_parallel_parts_and_cuts_them_short(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each part is opened to the end of the blob and left when its share has come."""
    async with FakeRegistry() as registry:
        image = registry.add_image("library/app", "1", layers=[24 * MB])
        digest, data = image.layers[0]
        registry.script(f"GET */blobs/{digest}", pace(200 * MB), times=None)
        share = 6 * MB

        async with mirror_in_process(tmp_path / "data", {"docker.io": registry.url}) as mirror:

            async def part(start: int) -> bytes:
                url = f"{mirror.url}/v2/library/app/blobs/{digest}?ns=docker.io"
                async with mirror.session.get(url, headers={"Range": f"bytes={start}-"}) as response:
                    assert response.status == 206
                    assert response.headers["Content-Range"] == f"bytes {start}-{len(data) - 1}/{len(data)}"
                    got = await response.content.readexactly(share)
                    response.close()
                return got

            for _ in ("cold", "warm"):
                parts = await asyncio.gather(*(part(start) for start in range(0, len(data), share)))
                assert b"".join(parts) == data
                await mirror.idle()
            assert registry.sent(f"*/{digest}") < 2.5 * len(data)  # the flight, and what was ahead of it
            registry.forget()
            client = Replay(mirror, ns="docker.io", headers=CONTAINERD)
            assert await client.part("library/app", digest, 0, None, len(data)) == data
            await client.blob("library/app", digest, data)
            assert registry.requests == []
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


@pytest.mark.parametrize("registry_name", ["docker.io", "quay.test"])
async def test_buildkit_sends_path_and_ns(tmp_path: Path, registry_name: str) -> None:
    async with FakeRegistry() as registry, FakeRegistry() as other:
        upstream = registry if registry_name == "docker.io" else other
        image = upstream.add_image("library/app", "1", seed=registry_name)
        registries = {"docker.io": registry.url, "quay.test": other.url}
        async with mirror_in_process(tmp_path / "data", registries) as mirror:
            headers = {"User_Agent": "buildkit/v0.30"}
            client = Replay(mirror, ns=registry_name, headers=headers, prefix=f"{registry_name}/")
            await client.head("library/app/manifests/1", image.manifest)
            await client.image("library/app", image)
            hit = await client.ask("GET", f"library/app/manifests/{image.digest}")
            assert hit.headers["OCI-Namespace"] == registry_name


async def test_buildkits_cache_image_is_an_index_of_blobs(tmp_path: Path) -> None:
    """`image-manifest=false`: what stands in `manifests` are layers and a config."""
    async with FakeRegistry() as registry:
        layers = [registry.add_blob("team/cache", data) for data in (b"one" * 50_000, b"two" * 50_000)]
        config = registry.add_blob("team/cache", b'{"layers":[],"records":[]}')
        sizes = {digest: len(data) for digest, data in registry.repository("team/cache").blobs.items()}  # type: ignore[arg-type]
        entries = [
            {"mediaType": kind, "digest": digest, "size": sizes[digest]}
            for kind, digest in [
                *(("application/vnd.oci.image.layer.v1.tar+gzip", digest) for digest in layers),
                ("application/vnd.buildkit.cacheconfig.v0", config),
            ]
        ]
        value = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
        index = registry.add_manifest("team/cache", value, tag="latest", media_type=OCI_INDEX)
        async with mirror_in_process(tmp_path / "data", {"docker.io": registry.url}) as mirror:
            client = Replay(mirror, ns="docker.io", headers={"User_Agent": "buildkit/v0.30"}, prefix="docker.io/")
            for _ in ("cold", "from disk"):
                await client.head("team/cache/manifests/latest", index)
                await client.manifest(f"team/cache/manifests/{index.digest}", index)
                for digest, data in registry.repository("team/cache").blobs.items():
                    assert isinstance(data, bytes)
                    await client.blob("team/cache", digest, data)
                await mirror.idle()
                await registry.stop()


async def test_stargz_reads_two_bytes_and_then_the_end(tmp_path: Path) -> None:
    """Before the layer is there: nobody waits for what lies before. Then many ranges at once, refused so that it
    asks for them one by one."""
    async with FakeRegistry() as registry:
        image = registry.add_image("library/lazy", "1", layers=[8 * MB])
        digest, data = image.layers[0]
        gate = Gate()
        registry.script(f"GET */blobs/{digest}", hang_after(MB, gate))
        async with mirror_in_process(tmp_path / "data", {"docker.io": registry.url}) as mirror:
            client = Replay(mirror, ns="docker.io", headers={"User_Agent": "stargz-snapshotter/v0.18"})
            async with asyncio.timeout(10):
                assert await client.part("library/lazy", digest, 0, 2, len(data)) == data[:2]
                await asyncio.to_thread(gate.reached.wait)
                for start, end in ((len(data) - 51, len(data)), (len(data) - 70_000, len(data) - 51), (5 * MB, 6 * MB)):
                    assert await client.part("library/lazy", digest, start, end, len(data)) == data[start:end]
            assert registry.sent(f"*/{digest}") < 3 * MB
            several = await client.ask("GET", f"library/lazy/blobs/{digest}", Range="bytes=0-99,2000000-2000099")
            assert several.status == 400
            gate.release()
            await mirror.idle()
            registry.forget()
            await client.blob("library/lazy", digest, data)
            assert await client.part("library/lazy", digest, len(data) - 51, len(data), len(data)) == data[-51:]
            assert registry.requests == []


async def test_regclient_says_ns_with_hubs_other_name(tmp_path: Path) -> None:
    async with FakeRegistry() as registry:
        image = registry.add_image("library/app", "1")
        async with mirror_in_process(tmp_path / "data", {"docker.io": registry.url}) as mirror:
            client = Replay(mirror, ns="registry-1.docker.io", headers={"User_Agent": "regclient/regctl"})
            await client.head("library/app/manifests/1", image.manifest)
            await client.manifest("library/app/manifests/1", image.manifest)
            await client.image("library/app", image)
            await mirror.idle()
            registry.forget()
            await Replay(mirror, ns="docker.io", headers=CONTAINERD).image("library/app", image)  # the same repository
            await Replay(mirror, ns="index.docker.io", headers={}).image("app", image)
            assert registry.requests == []


async def test_oras_asks_for_referrers_of_nothing(tmp_path: Path) -> None:
    """Its probe names a digest of zeros; an empty index says that there is an API."""
    async with FakeRegistry() as registry:
        registry.add_image("library/app", "1")
        async with mirror_in_process(tmp_path / "data", {"docker.io": registry.url}) as mirror:
            client = Replay(mirror, ns=None, headers={"User_Agent": "oras/1.3"})
            probe = f"library/app/referrers/sha256:{'0' * 64}"
            reply = await client.ask("GET", probe)
            assert (reply.status, reply.headers["Content-Type"]) == (200, OCI_INDEX)
            assert b'"manifests": []' in reply.body
            await registry.stop()
        async with mirror_in_process(tmp_path / "data", {"docker.io": registry.url}) as mirror:
            reply = await Replay(mirror, ns=None, headers={}).ask("GET", probe)
            assert reply.status == 404  # it cannot be known: an empty list would end containerd's search


async def test_a_client_that_leaves_in_the_middle_stops_nobody(tmp_path: Path) -> None:
    """docker's `Ctrl-C`, a cancelled build: the others get the layer, and it is fetched once."""
    async with FakeRegistry() as registry:
        image = registry.add_image("library/app", "1", layers=[8 * MB])
        digest, data = image.layers[0]
        gate = Gate()
        registry.script(f"GET */blobs/{digest}", hang_after(4 * MB, gate))
        async with mirror_in_process(tmp_path / "data", {"docker.io": registry.url}) as mirror:
            url = f"{mirror.url}/v2/library/app/blobs/{digest}?ns=docker.io"
            async with mirror.session.get(url) as leaving:
                await leaving.content.readexactly(MB)
                staying = asyncio.gather(*(mirror.get(url.removeprefix(mirror.url)) for _ in range(5)))
                await asyncio.to_thread(gate.reached.wait, 10)
                leaving.close()
            gate.release()
            assert {hashlib.sha256(reply.body).hexdigest() for reply in await staying} == {digest_of(data)[7:]}
            assert registry.sent(f"*/{digest}") <= len(data)


async def test_whoever_joins_a_download_pays_nothing_for_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The log's line for each image adds up: ten clients at once, one layer from upstream."""
    async with FakeRegistry() as registry:
        image = registry.add_image("library/app", "1", layers=[4 * MB])
        digest, data = image.layers[0]
        gate = Gate()
        registry.script(f"GET */blobs/{digest}", hang_after(2 * MB, gate))
        with caplog.at_level(logging.INFO, "mirror.pulls"):
            async with mirror_in_process(tmp_path / "data", {"docker.io": registry.url}) as mirror:
                replies = asyncio.gather(*(mirror.get(f"/v2/library/app/blobs/{digest}") for _ in range(10)))
                await asyncio.to_thread(gate.reached.wait, 10)
                while mirror.app.upstreams.states()[0].fetched_bytes < 2 * MB:
                    await asyncio.sleep(0.01)
                gate.release()
                assert all(reply.body == data for reply in await replies)
        fields = [getattr(record, "fields") for record in caplog.records if record.name == "mirror.pulls"]  # noqa: B009
        assert sum(each["served_bytes"] for each in fields) == 10 * len(data)
        assert sum(each["fetched_bytes"] for each in fields) == len(data)

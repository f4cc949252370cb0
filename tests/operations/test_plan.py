"""What belongs to an image."""

import json
from typing import Any

import pytest

from mirror.errors import ManifestUnknown, MirrorError
from mirror.oci.digest import Digest
from mirror.oci.manifest import DOCKER_FOREIGN_LAYER, OCI_INDEX, OCI_LAYER_GZIP, Descriptor, Manifest
from mirror.operations.plan import Plan, only, plan
from mirror.operations.platforms import Platform
from tests.store.samples import digest_of, image

AMD, ARM = Platform("linux", "amd64"), Platform("linux", "arm64")
SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"


def entry(manifest: Manifest, platform: str | None = None, **more: Any) -> dict[str, Any]:
    parts = platform.split("/") if platform else []
    said = dict(zip(("os", "architecture", "variant"), parts, strict=False))
    found = manifest.descriptor
    made = {"mediaType": found.media_type, "digest": str(found.digest), "size": found.size}
    return {**made, **({"platform": said} if said else {}), **more}


def attests(subject: Manifest) -> dict[str, str]:
    return {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": str(subject.descriptor.digest),
    }


def index(*entries: dict[str, Any]) -> Manifest:
    return Manifest.parse(json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode())


class Shelf:
    """Manifests by digest; what was asked for stands in `read`."""

    def __init__(self, *manifests: Manifest) -> None:
        self.manifests = {each.descriptor.digest: each for each in manifests}
        self.read: list[Digest] = []

    async def __call__(self, descriptor: Descriptor) -> Manifest:
        self.read.append(descriptor.digest)
        if descriptor.digest not in self.manifests:
            raise ManifestUnknown("not on the shelf")
        return self.manifests[descriptor.digest]


def layers(made: Plan) -> set[Digest]:
    return {digest for digest, part in made.parts.items() if part.shown}


ONE, TWO, SAID = image("one", "base"), image("two", "base"), image("said of one")


async def test_a_single_image_is_taken_as_it_is() -> None:
    shelf = Shelf()
    made = await plan(ONE, [ARM], shelf)
    assert layers(made) == {digest_of("one"), digest_of("base")}
    assert set(made.parts) == layers(made) | {Digest.of(b"{}")}
    assert (list(made.manifests.values()), made.config, made.platforms, shelf.read) == ([ONE], ONE.config, [], [])


async def test_a_platform_and_what_is_said_of_it() -> None:
    other = image("said of two")
    top = index(
        entry(ONE, "linux/amd64"),
        entry(TWO, "linux/arm64/v8"),
        entry(SAID, "unknown/unknown", annotations=attests(ONE)),
        entry(other, "unknown/unknown", annotations=attests(TWO)),
    )
    shelf = Shelf(ONE, TWO, SAID, other)
    made = await plan(top, [AMD], shelf)
    assert set(made.manifests.values()) == {top, ONE, SAID}
    assert layers(made) == {digest_of("one"), digest_of("base")}
    assert digest_of("said of one") in made.parts
    assert made.platforms == ["linux/amd64"]
    assert set(shelf.read) == {ONE.descriptor.digest, SAID.descriptor.digest}
    assert set((await plan(top, [AMD, ARM], shelf)).manifests.values()) == {top, ONE, TWO, SAID, other}
    everything = await plan(top, None, shelf)
    assert set(everything.manifests.values()) == {top, ONE, TWO, SAID, other}
    assert everything.platforms == ["linux/amd64", "linux/arm64/v8"]


async def test_two_wishes_for_one_image() -> None:
    made = await plan(index(entry(ONE, "linux/386")), [AMD, Platform("linux", "386")], Shelf(ONE))
    assert made.platforms == ["linux/386"]


async def test_what_is_missing_and_what_there_is() -> None:
    top = index(entry(ONE, "linux/amd64"), entry(TWO, "linux/arm64/v8"), entry(SAID, "unknown/unknown"))
    with pytest.raises(ManifestUnknown) as refused:
        await plan(top, [AMD, Platform("linux", "s390x"), Platform("windows", "amd64")], Shelf(ONE, TWO, SAID))
    assert refused.value.message == (
        "no matching manifest for linux/s390x, windows/amd64 in the manifest list entries:"
        " there are linux/amd64, linux/arm64/v8"
    )


async def test_an_index_without_platforms_is_taken_whole() -> None:
    made = await plan(index(entry(ONE), entry(TWO, "unknown/unknown")), [AMD], Shelf(ONE, TWO))
    assert set(made.manifests.values()) >= {ONE, TWO}


async def test_without_a_platform_beside_others_with_one() -> None:
    made = await plan(index(entry(ONE), entry(TWO, "linux/amd64")), [AMD], Shelf(ONE, TWO))
    assert ONE not in made.manifests.values()


async def test_what_is_no_manifest_is_a_blob() -> None:
    blob = {"mediaType": OCI_LAYER_GZIP, "digest": str(digest_of("cache")), "size": 5}
    made = await plan(index(blob, blob), [AMD], Shelf())
    assert layers(made) == set(made.parts) == {digest_of("cache")}


async def test_an_index_in_an_index() -> None:
    inner = index(entry(ONE, "linux/amd64"), entry(TWO, "linux/arm64"))
    shelf = Shelf(inner, ONE, TWO)
    for top in (index(entry(inner)), index(entry(inner, "linux/amd64"), entry(TWO, "linux/arm64"))):
        made = await plan(top, [AMD], shelf)
        assert {top, inner, ONE} <= set(made.manifests.values())
    assert TWO not in (await plan(index(entry(inner)), [AMD], shelf)).manifests.values()


async def test_foreign_layers_are_apart() -> None:
    body = json.loads(ONE.raw)
    foreign = digest_of("far away")
    body["layers"][0] = {"mediaType": DOCKER_FOREIGN_LAYER, "digest": str(foreign), "size": 9, "urls": ["http://x/"]}
    made = await plan(Manifest.parse(json.dumps(body).encode()), [AMD], Shelf())
    assert set(made.foreign) == {foreign}
    assert foreign not in made.parts


async def test_docker_schema_1_is_left_out() -> None:
    old = {"mediaType": SCHEMA1, "digest": str(digest_of("old")), "size": 5, "platform": {"os": "linux",
           "architecture": "s390x"}}  # fmt: skip
    top = index(old, entry(ONE, "linux/amd64"))
    assert set((await plan(top, None, Shelf(ONE))).manifests.values()) == {top, ONE}


async def test_what_cannot_be_read_is_told() -> None:
    with pytest.raises(MirrorError, match="not on the shelf"):
        await plan(index(entry(ONE, "linux/amd64")), [AMD], Shelf())


async def test_an_artifact_has_no_platform() -> None:
    body = json.loads(ONE.raw)
    body["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json"
    assert (await plan(Manifest.parse(json.dumps(body).encode()), [ARM], Shelf())).config is None


async def test_the_one_image_of_a_platform() -> None:
    """Its attestation is another manifest, and an index in the index stands for what is in it."""
    inner = index(entry(TWO, "linux/arm64"))
    top = index(entry(ONE, "linux/amd64"), entry(inner), entry(SAID, "unknown/unknown", annotations=attests(ONE)))
    shelf = Shelf(ONE, TWO, SAID, inner)
    assert await only(top, AMD, shelf) == ONE
    assert await only(top, ARM, shelf) == TWO
    with pytest.raises(ManifestUnknown, match="no matching manifest for linux/s390x"):
        await only(top, Platform("linux", "s390x"), shelf)
    with pytest.raises(ManifestUnknown, match="they name no platform"):
        await only(index(entry(ONE), entry(TWO)), AMD, shelf)

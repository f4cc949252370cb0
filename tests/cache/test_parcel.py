"""What is packed, and that nobody sends what he does not see."""

import json
import random

import pytest

from mirror.cache import parcel as module
from mirror.cache.parcel import Packing, Parcel
from mirror.errors import ManifestInvalid
from mirror.oci.digest import Digest
from mirror.oci.manifest import DOCKER_FOREIGN_LAYER, OCI_CONFIG, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST, Manifest
from mirror.oci.names import Repository
from mirror.store.inventory import View
from mirror.store.protocols import Proof
from tests.cache.receiving import keep, keep_image, keep_manifest
from tests.cache.support import World
from tests.store.samples import ALPINE, CONFIG, OWN, TOOL, digest_of, image, index

CONFIG_DIGEST = Digest.of(CONFIG)


async def pack(world: World, root: Manifest, home: Repository = OWN, trusted: bool = False) -> Parcel:
    packing = Packing(store=world.store, catalog=world.catalog, leases=world.leases)
    return await packing.pack(root, View(home, trusted))


def held(parcel: Parcel) -> dict[Digest, bool]:
    return {blob.descriptor.digest: blob.held for blob in parcel.blobs}


async def test_an_image_has_a_config_and_layers(world: World) -> None:
    root = image("a", "bb", "a")
    await keep_image(world, OWN, root, "a", "bb")
    parcel = await pack(world, root)
    assert (parcel.root, parcel.manifests, parcel.missing, parcel.foreign) == (root, (), (), ())
    assert held(parcel) == {CONFIG_DIGEST: True, digest_of("a"): True, digest_of("bb"): True}
    assert [blob.is_config for blob in parcel.blobs] == [True, False, False]
    assert (parcel.layers, parcel.bytes) == (2, len(CONFIG) + 3)


async def test_the_root_need_not_be_stored(world: World) -> None:
    await keep(world, OWN, b"a")
    assert held(await pack(world, image("a"))) == {CONFIG_DIGEST: False, digest_of("a"): True}


async def test_children_come_before_their_parents(world: World) -> None:
    children = [image("a"), image("a", "b")]
    middle, top = index(children), index([*children[:1], index(children)])
    for child in children:
        await keep_image(world, OWN, child, "a", "b")
    await keep_manifest(world, OWN, middle)
    parcel = await pack(world, top)
    assert [each.digest for each in parcel.manifests] == [each.descriptor.digest for each in [*children, middle]]
    assert held(parcel) == {CONFIG_DIGEST: True, digest_of("a"): True, digest_of("b"): True}


async def test_what_is_not_held_is_missing(world: World) -> None:
    children = [image("a"), image("b")]
    await keep_image(world, OWN, children[0], "a")
    parcel = await pack(world, index(children))
    assert [each.digest for each in parcel.manifests] == [children[0].descriptor.digest]
    assert [each.digest for each in parcel.missing] == [children[1].descriptor.digest]


async def test_a_manifest_that_has_gone_bad_is_missing(world: World) -> None:
    child = image("a")
    digest = await keep_image(world, OWN, child, "a")
    world.store.blobs[f"memory/{digest}"] = b"rot"
    assert [each.digest for each in (await pack(world, index([child]))).missing] == [digest]
    assert await world.catalog.states([digest]) == {digest: "quarantined"}


async def test_nobody_sends_what_his_repository_does_not_show(world: World) -> None:
    """Breaks where it is enough that the bytes lie in the store: a manifest may name anybody's private layer."""
    secret = image("secret")
    digest = await keep_image(world, TOOL, secret, "secret", proof=Proof.CREDENTIALS)
    for home, trusted in ((OWN, True), (ALPINE, True), (TOOL, False)):
        parcel = await pack(world, image("secret", note="mine"), home, trusted)
        assert not held(parcel)[digest_of("secret")]
        parcel = await pack(world, index([secret]), home, trusted)
        assert (parcel.manifests, [each.digest for each in parcel.missing]) == ((), [digest])
    parcel = await pack(world, index([secret]), TOOL, trusted=True)
    assert all(held(parcel).values())
    assert not parcel.missing


async def test_public_blobs_are_everybodys_but_no_manifests(world: World) -> None:
    digest = await keep_image(world, ALPINE, image("a"), "a", proof=Proof.ANONYMOUS)
    assert all(held(await pack(world, image("a"))).values())
    assert [each.digest for each in (await pack(world, index([image("a")]))).missing] == [digest]


async def test_what_may_not_be_distributed_is_left_out(world: World) -> None:
    layers = [
        {"mediaType": DOCKER_FOREIGN_LAYER, "digest": str(digest_of("windows")), "size": 7},
        {"mediaType": OCI_LAYER_GZIP, "digest": str(digest_of("b")), "size": 1, "urls": ["https://there"]},
        {"mediaType": OCI_LAYER_GZIP, "digest": str(digest_of("c")), "size": 1},
    ]
    config = {"mediaType": OCI_CONFIG, "digest": str(CONFIG_DIGEST), "size": 2}
    body = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers}
    parcel = await pack(world, Manifest.parse(json.dumps(body).encode()))
    assert set(held(parcel)) == {CONFIG_DIGEST, digest_of("c")}
    assert [each.digest for each in parcel.foreign] == [digest_of("windows"), digest_of("b")]


async def test_an_indexs_other_children_are_blobs(world: World) -> None:
    """BuildKit's cache: an index of layers and a config of its own type."""
    entries = [
        {"mediaType": OCI_LAYER_GZIP, "digest": str(digest_of("a")), "size": 1},
        {"mediaType": "application/vnd.buildkit.cacheconfig.v0", "digest": str(digest_of("cache")), "size": 5},
    ]
    await keep(world, OWN, b"cache")
    body = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    parcel = await pack(world, Manifest.parse(json.dumps(body).encode()))
    assert held(parcel) == {digest_of("a"): False, digest_of("cache"): True}


@pytest.mark.parametrize(("limit", "value"), [("_DEEPEST", 3), ("_MOST_PARTS", 4)])
async def test_there_are_limits(world: World, monkeypatch: pytest.MonkeyPatch, limit: str, value: int) -> None:
    top = image("a")
    for _ in range(4):
        await keep_manifest(world, OWN, top)
        top = index([top])
    await pack(world, top)
    monkeypatch.setattr(module, limit, value)
    with pytest.raises(ManifestInvalid):
        await pack(world, top)


async def test_a_large_manifest_is_read_beside_the_loop(world: World) -> None:
    texts = [str(random.random()) for _ in range(1000)]
    child = image(*texts)
    assert len(child.raw) > module._INLINE
    await keep_manifest(world, OWN, child)
    parcel = await pack(world, index([child]))
    assert parcel.layers == 1000

"""What is held of an image."""

from mirror.cache.rights import LOOPBACK, STRANGER, Principal
from mirror.oci.names import Reference
from mirror.operations.here import Here
from mirror.operations.platforms import Platform
from mirror.store.protocols import Origin, Proof
from tests.cache.support import World
from tests.store.samples import ALPINE, NGINX, digest_of, hold_image, image, index

A0, A1 = Platform("linux", "a0"), Platform("linux", "a1")


def here(world: World, who: Principal = LOOPBACK) -> Here:
    return Here(world.catalog, world.manifests, world.content, world.proofs, who)


async def hold(world: World, manifest: object, proof: Proof = Proof.ANONYMOUS) -> None:
    """Held with its bytes, as after a pull."""
    from mirror.oci.manifest import Manifest

    assert isinstance(manifest, Manifest)
    location = await world.store.put(manifest.raw, manifest.descriptor.digest)
    await hold_image(world.catalog, ALPINE, manifest, proof)
    await world.catalog.hold_manifest(ALPINE, manifest, location, proof, 1)


async def test_what_a_name_stands_for() -> None:
    world, one = World(), image("one")
    digest = one.descriptor.digest
    look = here(world)
    by_tag, by_digest = Reference(ALPINE, "3", None), Reference(ALPINE, None, digest)
    assert await look.root(by_tag) is None
    assert await look.root(by_digest) is None
    await hold(world, one)
    assert await look.root(by_tag) is None
    await world.catalog.move_tag(ALPINE, "3", None, digest, Origin.UPSTREAM, 1, "upstream")
    for reference in (by_tag, by_digest, Reference(ALPINE, "other", digest)):
        assert await look.root(reference) == one
    assert await look.root(Reference(NGINX, None, digest)) is None
    assert not world.hub.anonymous.asked


async def test_what_one_may_not_see_is_not_here() -> None:
    world, one = World(credentials=["docker.io"]), image("one")
    await hold(world, one, Proof.CREDENTIALS)
    world.clock.wall_shift = 10 - 1_700_000_000.0
    reference = Reference(ALPINE, None, one.descriptor.digest)
    assert await here(world).root(reference) == one
    assert await here(world, STRANGER).root(reference) is None
    assert await here(world, STRANGER).whole(ALPINE, one, None) is None
    assert await here(world).whole(ALPINE, one, None) is not None


async def test_whole_is_what_lacks_nothing_of_the_platforms() -> None:
    world, one, two = World(), image("one"), image("two")
    top = index([one, two])
    await hold(world, top)
    look = here(world)
    assert await look.whole(ALPINE, None, None) is None
    assert await look.whole(ALPINE, top, [A0]) is None
    await hold(world, one)
    made = await look.whole(ALPINE, top, [A0])
    assert made is not None
    assert set(made.manifests.values()) == {top, one}
    assert await look.whole(ALPINE, top, [A1]) is None
    assert await look.whole(ALPINE, top, None) is None
    assert await look.whole(ALPINE, top, [Platform("linux", "s390x")]) is None
    await world.catalog.quarantine(digest_of("one"))
    assert await look.whole(ALPINE, top, [A0]) is None
    assert not world.hub.anonymous.asked

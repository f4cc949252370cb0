"""What is damaged: who needs it, how it is had again."""

from mirror.cache.rights import SOCKET, STRANGER
from mirror.cache.sight import Sight
from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest
from mirror.operations.repair import Repair
from mirror.store.protocols import Proof
from tests.cache.scripted import unreachable
from tests.cache.support import World
from tests.store.samples import ALPINE, CONFIG, NGINX, OWN, digest_of, hold_image, image, tag


def repair_of(world: World) -> Repair:
    sight = Sight(rights=world.rights, proofs=world.proofs)
    return Repair(catalog=world.catalog, content=world.content, manifests=world.manifests, sight=sight)


async def held(world: World, manifest: Manifest) -> Digest:
    """An image of alpine, tagged, whose registry has it all."""
    digest = world.hub.push(ALPINE, manifest, "3")
    world.hub.add(ALPINE, CONFIG)
    await hold_image(world.catalog, ALPINE, manifest)
    await tag(world.catalog, ALPINE, "3", digest)
    return digest


async def test_a_layer_comes_back_and_nobody_is_asked_twice() -> None:
    world = World()
    await held(world, image("one"))
    world.hub.add(ALPINE, b"one")
    await world.catalog.quarantine(digest_of("one"))
    repair = repair_of(world)
    assert await repair.holding(digest_of("one")) is None
    assert await repair.heal(digest_of("one")) is None
    assert await repair.holding(digest_of("one")) is not None
    assert world.hub.anonymous.count("open") == 1
    await world.idle()


async def test_a_manifest_comes_back_although_memory_has_it() -> None:
    """Broken by taking it from memory: nothing would be on the disk."""
    world = World()
    digest = await held(world, image("one"))
    await world.manifests.by_digest(SOCKET, ALPINE, digest)
    await world.catalog.quarantine(digest)
    assert await repair_of(world).heal(digest) is None
    found = await repair_of(world).holding(digest)
    assert found is not None
    assert await world.store.read(digest, found.location, found.size) == image("one").raw


async def test_under_another_repository_that_needs_it() -> None:
    world = World()
    one = image("one")
    for repository in (ALPINE, NGINX):
        await hold_image(world.catalog, repository, one)
    world.hub.add(NGINX, b"one")  # alpine's registry has lost it
    await world.catalog.quarantine(digest_of("one"))
    assert await repair_of(world).heal(digest_of("one")) is None


async def test_why_it_is_lost() -> None:
    world = World()
    await held(world, image("one"))
    await world.catalog.quarantine(digest_of("one"))
    assert "not known in docker.io/library/alpine" in (await repair_of(world).heal(digest_of("one")) or "")
    world.hub.anonymous.down(unreachable())
    world.clock.advance(60)
    assert await repair_of(world).heal(digest_of("one")) not in (None, "")
    await hold_image(world.catalog, OWN, image("own"), Proof.PUSHED)
    await world.catalog.quarantine(digest_of("own"))
    assert await repair_of(world).heal(digest_of("own")) == "no registry is known to have it"


async def test_who_needs_it_as_far_as_one_may_know() -> None:
    world = World(credentials=["docker.io"])
    digest = await held(world, image("one", "base"))
    await hold_image(world.catalog, NGINX, image("two", "base"), Proof.CREDENTIALS)
    nginx = f"docker.io/library/nginx@{image('two', 'base').descriptor.digest}"
    repair = repair_of(world)
    assert await repair.names(SOCKET, digest_of("base")) == ("docker.io/library/alpine:3", nginx)
    assert await repair.names(STRANGER, digest_of("base")) == ("docker.io/library/alpine:3",)
    assert await repair.names(SOCKET, digest) == ("docker.io/library/alpine:3",)
    await world.catalog.quarantine(digest)
    assert await repair.names(SOCKET, digest) == ("docker.io/library/alpine:3",)
    assert await repair.names(SOCKET, digest_of("unknown")) == ()

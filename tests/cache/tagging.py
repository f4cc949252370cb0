"""What tests of tags share."""

from mirror.cache.content import Cache
from mirror.cache.manifests import Answer
from mirror.cache.rights import LOOPBACK, Principal
from mirror.oci.manifest import Manifest
from mirror.oci.names import Repository
from mirror.store.protocols import Tag
from tests.cache.scripted import ScriptedSource
from tests.cache.support import World
from tests.store.samples import ALPINE, image

ONE, TWO, THREE = image("one"), image("two"), image("three")
TTL = 60.0


async def by_tag(world: World, who: Principal = LOOPBACK, tag: str = "3", repository: Repository = ALPINE) -> Answer:
    return await world.tags.by_tag(who, repository, tag)


async def seen(world: World, who: Principal = LOOPBACK) -> tuple[Manifest, Cache]:
    answer = await by_tag(world, who)
    return answer.kept.manifest, answer.cache


async def row(world: World) -> Tag:
    found = await world.catalog.tag(ALPINE, "3")
    assert found is not None
    return found


def asked(source: ScriptedSource) -> list[str]:
    return [line.split()[0] for line in source.asked]

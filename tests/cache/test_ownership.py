"""Which names are own. Who may make one is tested where names are made (`tests/operations/test_tag.py`)."""

import pytest

from mirror.cache.ownership import Ownership, OwnNames
from mirror.cache.rights import naming
from mirror.errors import Denied
from mirror.oci.names import Repository
from mirror.store.inventory import View
from tests.cache.scripted import unreachable
from tests.cache.support import World
from tests.store.samples import ALPINE, OWN, TOOL, hold_image, image


def made(world: World, own: OwnNames, *declared: str, default: str = "docker.io") -> Ownership:
    return Ownership(
        names=own,
        catalog=world.catalog,
        proofs=world.proofs,
        policy=world.policy,
        default_registry=default,
        declared=naming(declared),
    )


@pytest.fixture
def own() -> OwnNames:
    return OwnNames(["first"])


def test_whoever_watches_is_told_once() -> None:
    names = OwnNames(["a"])
    told: list[bool] = []
    names.watch(lambda: told.append("team/app" in names))
    names.add("a")
    assert told == []
    for _ in range(2):
        names.add("team/app")
    assert told == [True]  # it is there already when they are told


async def test_names_are_read_at_a_start(world: World, own: OwnNames) -> None:
    digest = await hold_image(world.catalog, ALPINE, image("1"))
    await world.catalog.set_tag(OWN, "1", digest, 1, "me", View(ALPINE, trusted=False))
    await world.catalog.remove_tag(OWN, "1", 2, "me")
    await made(world, own).load()
    assert [path in own for path in ("first", "team/app", "library/alpine")] == [True, True, False]


async def test_a_permit_makes_nothing(world: World, own: OwnNames) -> None:
    ownership = made(world, own)
    assert await ownership.permit("team/app") == OWN
    assert not ownership.is_own("team/app")
    ownership.made(OWN)
    assert ownership.is_own("team/app")
    world.hub.anonymous.down(unreachable())
    assert await ownership.permit("team/app") == OWN


async def test_an_earlier_no_does_not_count(world: World, own: OwnNames) -> None:
    """Somebody may have made the public name a moment ago. Breaks where a negative answer is remembered."""
    ownership = made(world, own)
    await ownership.permit("team/app")
    world.hub.push(Repository("docker.io", "team/app"), image("1"), "1")
    with pytest.raises(Denied):
        await ownership.permit("team/app")


async def test_the_default_registry_is_asked_and_no_other(world: World, own: OwnNames) -> None:
    ownership = made(world, own, default="ghcr.io")
    world.other.push(TOOL, image("1"), "1")
    world.hub.push(Repository("docker.io", "team/app"), image("1"), "1")
    assert await ownership.permit("team/app") == OWN
    with pytest.raises(Denied):
        await ownership.permit("team/tool")
    assert world.other.anonymous.asked == ["tags team/app ", "tags team/tool "]
    assert world.hub.anonymous.asked == []
    assert ownership.hidden("app") == Repository("ghcr.io", "app")
    assert made(world, own).hidden("app") == Repository("docker.io", "library/app")


@pytest.mark.parametrize(("glob", "path", "declared"), [
    ("team/*", "team/app", True), ("team/*", "team/a/b", False), ("team/**", "team/a/b", True), ("*", "app", True),
    ("*", "team/app", False), ("docker.io/team/*", "team/app", False),
])  # fmt: skip
def test_what_the_operator_lists(world: World, own: OwnNames, glob: str, path: str, declared: bool) -> None:
    assert made(world, own, glob).declares(path) is declared

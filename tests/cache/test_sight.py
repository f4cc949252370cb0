"""What may be named to whom."""

import pytest

from mirror.cache.rights import LOOPBACK, SOCKET, STRANGER, Principal, Rights
from mirror.cache.sight import Sight
from mirror.oci.names import LOCAL, Repository
from mirror.store.protocols import Link, Visibility
from tests.cache.support import World
from tests.store.samples import ALPINE

SECRET = Repository(LOCAL, "team/secret")


def sight(world: World) -> Sight:
    rights = Rights(shared=lambda _: False, private=["team/*"])
    return Sight(rights=rights, proofs=world.proofs)


@pytest.mark.parametrize(("who", "repository", "link", "seen"), [
    (STRANGER, ALPINE, Link(anonymous_at=1.0), True),
    (STRANGER, ALPINE, Link(credentials_at=1.0), False),
    (LOOPBACK, ALPINE, Link(credentials_at=1.0), True),
    (STRANGER, SECRET, Link(pushed_at=1.0), False),  # `[access] private`
    (LOOPBACK, SECRET, Link(pushed_at=1.0), True),
    (LOOPBACK, ALPINE, Link(), False),
    (SOCKET, ALPINE, Link(), True),
])  # fmt: skip
def test_rows(private_world: World, who: Principal, repository: Repository, link: Link, seen: bool) -> None:
    at = private_world.clock.wall() if link.credentials_at is not None else None
    link = Link(link.anonymous_at, at, link.pushed_at)
    assert sight(private_world).sees_link(who, repository, link) is seen


async def test_what_was_private_stays_unnamed_once_the_credentials_are_gone() -> None:
    """Breaks if a registry without credentials is taken for one whose repositories were always public."""
    world = World()
    assert await sight(world).knows(STRANGER, ALPINE)
    await world.catalog.set_visibility(ALPINE, Visibility.PRIVATE, world.clock.wall())
    assert not await sight(world).knows(STRANGER, ALPINE)
    assert await sight(world).knows(LOOPBACK, ALPINE)
    assert not sight(world).trusts(STRANGER, ALPINE)
    assert sight(world).trusts(SOCKET, ALPINE)


async def test_repositories(private_world: World) -> None:
    world = private_world
    knows = sight(world).knows
    assert not await knows(STRANGER, ALPINE)  # nobody knows yet whether it is public
    assert await knows(LOOPBACK, ALPINE)
    assert await knows(SOCKET, SECRET)
    assert not await knows(STRANGER, SECRET)
    await world.catalog.set_visibility(ALPINE, Visibility.PUBLIC, world.clock.wall())
    assert await knows(STRANGER, ALPINE)

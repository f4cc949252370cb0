"""`pin` and `unpin`: what is meant, whose it is, who may."""

from collections.abc import AsyncIterator

import pytest

from mirror.cache.rights import LOOPBACK, SOCKET, Action, Principal, Rights, Role, Rule
from mirror.errors import Denied, ManifestUnknown, NameUnknown
from mirror.oci.names import Reference
from mirror.operations.pins import Pins
from mirror.operations.resolve import Resolver
from mirror.store.catalog import Catalog
from tests.cache.support import nobody
from tests.operations.living import Life
from tests.store.samples import ALPINE, NGINX

CI = Principal(Role.USER, "ci")


@pytest.fixture
async def life(catalog: Catalog) -> AsyncIterator[Life]:
    made = Life(catalog)
    yield made
    await made.tasks.drain(0)


def pins(life: Life) -> Pins:
    return Pins(
        catalog=life.catalog,
        resolver=Resolver(catalog=life.catalog, rights=life.rights, sight=life.sight, names=life.names),
        rights=life.rights,
        sight=life.sight,
        names=life.names,
        clock=life.clock,
    )


async def listed(life: Life, who: Principal = SOCKET) -> list[tuple[str, str]]:
    return [(pin.name, pin.owner) for pin in await pins(life).listed(who)]


async def test_a_tag_is_pinned_and_stays_pinned_where_it_moves(life: Life) -> None:
    await life.hold(ALPINE, "3", "a")
    (pin,) = await pins(life).add(SOCKET, ["alpine:3"], None)
    assert (pin.name, pin.owner, pin.pinned_at) == ("docker.io/library/alpine:3", "user", life.clock.wall())
    assert await pins(life).listed(SOCKET) == [pin]
    assert await life.catalog.candidates(10) == []
    assert await pins(life).remove(SOCKET, "alpine:3", None) == 1
    assert len(await life.catalog.candidates(10)) == 1


async def test_a_digest_is_pinned(life: Life) -> None:
    manifest = await life.hold(ALPINE, "3", "a")
    name = f"docker.io/library/alpine@{manifest.descriptor.digest}"
    await pins(life).add(SOCKET, [f"alpine:3@{manifest.descriptor.digest}"], None)
    assert await listed(life) == [(name, "user")]
    assert await pins(life).remove(SOCKET, name, None) == 1


async def test_several_owners(life: Life) -> None:
    await life.hold(ALPINE, "3", "a")
    for owner in ("me", "you", None):
        await pins(life).add(SOCKET, ["alpine:3"], owner)
    assert [owner for _, owner in await listed(life)] == ["me", "user", "you"]
    assert await pins(life).remove(SOCKET, "alpine:3", "me") == 1
    with pytest.raises(ManifestUnknown, match="alpine:3 is not pinned by me"):
        await pins(life).remove(SOCKET, "alpine:3", "me")
    assert await pins(life).remove(SOCKET, "alpine:3", None) == 2
    with pytest.raises(ManifestUnknown, match=r"^alpine:3 is not pinned$"):
        await pins(life).remove(SOCKET, "alpine:3", None)


async def test_what_is_not_there_is_not_pinned_but_let_go(life: Life) -> None:
    for text in ("alpine:3", "not a name!", "abc123"):
        with pytest.raises(ManifestUnknown):
            await pins(life).add(SOCKET, [text], None)
        with pytest.raises(ManifestUnknown):
            await pins(life).remove(SOCKET, text, None)
    await life.catalog.pin(Reference(ALPINE, "old", None), "me", 1)
    assert await pins(life).remove(SOCKET, "alpine:old", None) == 1


async def test_an_id_means_its_manifest_everywhere(life: Life) -> None:
    manifest = await life.hold(ALPINE, "3", "a")
    await life.hold(NGINX, "1", "a")
    digest = manifest.descriptor.digest
    made = await pins(life).add(SOCKET, [digest.hex[:12]], "me")
    assert [pin.name for pin in made] == [f"docker.io/library/alpine@{digest}", f"docker.io/library/nginx@{digest}"]
    assert await pins(life).remove(SOCKET, digest.hex[:12], "me") == 2


async def test_who_may(catalog: Catalog) -> None:
    rule = Rule(frozenset({"ci"}), ("docker.io/library/alpine",), frozenset({Action.ADMIN, Action.PULL}))
    life = Life(catalog, rights=Rights(shared=nobody, users=True, rules=[rule]))
    await life.hold(ALPINE, "3", "a")
    await life.hold(NGINX, "1", "b")
    (pin,) = await pins(life).add(CI, ["alpine:3"], None)
    assert pin.owner == "ci"
    with pytest.raises((Denied, NameUnknown)):
        await pins(life).add(CI, ["alpine:3", "nginx:1"], None)
    await pins(life).add(SOCKET, ["nginx:1"], None)
    with pytest.raises((Denied, NameUnknown)):
        await pins(life).remove(CI, "nginx:1", None)
    assert len(await listed(life)) == 2
    await life.tasks.drain(0)


async def test_pins_name_only_what_he_may_know_of(catalog: Catalog) -> None:
    life = Life(catalog, credentials=["docker.io"])
    life.hub.private.add(NGINX)
    await life.hold(ALPINE, "3", "a")
    await life.hold(NGINX, "1", "b")
    await pins(life).add(SOCKET, ["alpine:3", "nginx:1"], None)
    assert len(await listed(life, LOOPBACK)) == 2
    assert await listed(life, Principal(Role.USER, "somebody")) == [("docker.io/library/alpine:3", "user")]
    await life.tasks.drain(0)

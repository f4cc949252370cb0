"""What was asked for in vain, for whoever may know of it."""

import pytest

from mirror.cache.rights import LOOPBACK, SOCKET, STRANGER
from mirror.cache.sight import Sight
from mirror.oci.names import LOCAL, Repository
from mirror.operations.misses import MissList, repository_of
from mirror.store.protocols import Origin, Proof, Visibility
from tests.cache.support import World
from tests.store.samples import ALPINE, NGINX, digest_of, image

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("docker.io/library/alpine:3", Repository("docker.io", "library/alpine")),
        (f"docker.io/library/alpine@{DIGEST}", Repository("docker.io", "library/alpine")),
        ("host.test:5000/a/b:1", Repository("host.test:5000", "a/b")),
        (f"[::1]:5000/a@{DIGEST}", Repository("[::1]:5000", "a")),
        ("local/team/app:1", Repository(LOCAL, "team/app")),
        ("", None),
        ("alpine", None),
        ("a b/c:1", None),
    ],
)
def test_whose_they_are(name: str, repository: Repository | None) -> None:
    assert repository_of(name) == repository


async def test_only_what_he_may_know_of() -> None:
    """Fails if the list tells a stranger of a private repository that somebody asked for."""
    world = World(credentials=["docker.io"])
    misses = MissList(catalog=world.catalog, sight=Sight(rights=world.rights, proofs=world.proofs))
    for at, name in enumerate(("ghcr.io/open/x:1", "docker.io/me/secret:1", "docker.io/me/known:1", "odd")):
        for _ in range(at + 1):
            await world.catalog.missed(name, float(at))
    await world.catalog.set_visibility(Repository("docker.io", "me/known"), Visibility.PUBLIC, 1.0)
    strangers = await misses.list(STRANGER, 10)
    assert [(miss.name, miss.count, miss.last_at) for miss in strangers] == [
        ("docker.io/me/known:1", 3, 2.0),
        ("ghcr.io/open/x:1", 1, 0.0),
    ]
    for who in (LOOPBACK, SOCKET):
        assert [miss.name for miss in await misses.list(who, 2)] == ["docker.io/me/known:1", "docker.io/me/secret:1"]
    await misses.clear()
    assert await misses.list(SOCKET, 10) == []


async def test_what_has_come_since_is_missed_no_more() -> None:
    """Breaks where the list is all that was ever asked for in vain."""
    world = World()
    misses = MissList(catalog=world.catalog, sight=Sight(rights=world.rights, proofs=world.proofs))
    manifest = image("layer")
    digest = manifest.descriptor.digest
    here = [f"{ALPINE}:3", f"{ALPINE}@{digest}", f"{ALPINE}@{digest_of('layer')}"]
    away = [f"{ALPINE}:4", f"{NGINX}@{digest}", f"{ALPINE}@{digest_of('other')}", f"{ALPINE}@sha256:short"]
    for name in (*here, *away):
        await world.catalog.missed(name, 1.0)
    assert len(await misses.list(SOCKET, 10)) == 7
    await world.catalog.hold(digest_of("layer"), 5, "there", [(ALPINE, Proof.ANONYMOUS)], 2.0)
    await world.catalog.hold_manifest(ALPINE, manifest, "there", Proof.ANONYMOUS, 2.0)
    await world.catalog.move_tag(ALPINE, "3", None, digest, Origin.UPSTREAM, 2.0, "upstream")
    assert {miss.name for miss in await misses.list(SOCKET, 10)} == set(away)

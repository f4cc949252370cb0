"""The blobs of one image."""

from typing import Any

import pytest

from mirror.cache.rights import LOOPBACK
from mirror.errors import BlobUnknown, ManifestInvalid
from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest
from mirror.oci.names import Reference
from mirror.operations import fetching
from mirror.operations.fetching import Fetching, Layers
from mirror.operations.plan import Plan
from mirror.operations.stream import Feed
from tests.cache.support import World
from tests.store.samples import ALPINE, CONFIG, NGINX, digest_of, image

SIZE = len(CONFIG) + len("one") + len("base")


def fetch_of(world: World, manifest: Manifest, layers: Layers, feed: Feed[Any], repository: Any = ALPINE) -> Fetching:
    made = Plan(manifest)
    made.add(manifest)
    reference = Reference(repository, "3", None)
    return Fetching(world.content, LOOPBACK, reference, made, layers, feed, world.clock)


def offer(world: World, *texts: str) -> Manifest:
    for repository in (ALPINE, NGINX):
        for text in texts:
            world.hub.add(repository, text.encode())
        world.hub.add(repository, CONFIG)
    return image(*texts)


async def told(feed: Feed[Any]) -> list[tuple[str, str]]:
    feed.end()
    return [(event.digest, event.state) async for event in feed.listen()]


async def test_everything_comes_and_is_counted() -> None:
    world, feed = World(), Feed[Any]()
    one = fetch_of(world, offer(world, "one", "base"), Layers(2), feed)
    assert await one.foresee() == (SIZE, 0)
    assert world.hub.anonymous.count("open") == 0


async def test_a_layer_of_two_images_counts_once() -> None:
    world, feed, layers = World(), Feed[Any](), Layers(2)
    first = fetch_of(world, offer(world, "one", "base"), layers, feed)
    second = fetch_of(world, offer(world, "two", "base"), layers, feed, NGINX)
    assert await first.fetch() == (SIZE, 0)
    assert await second.fetch() == (3, SIZE - 3)
    assert (first.downloaded, second.downloaded) == (True, True)
    states = await told(feed)
    assert (str(digest_of("one")), "complete") in states
    assert (str(digest_of("base")), "exists") in states
    assert str(Digest.of(CONFIG)) not in {digest for digest, _ in states}
    await world.idle()
    again = fetch_of(world, image("one", "base"), Layers(2), Feed[Any]())
    assert await again.fetch() == (0, SIZE)
    assert not again.downloaded


async def test_a_dry_run_counts_it_once_as_well() -> None:
    world, layers = World(), Layers(2)
    first = fetch_of(world, offer(world, "one", "base"), layers, Feed[Any]())
    second = fetch_of(world, offer(world, "two", "base"), layers, Feed[Any](), NGINX)
    assert [await first.foresee(), await second.foresee()] == [(SIZE, 0), (3, SIZE - 3)]


async def test_the_config_is_fetched_and_counted() -> None:
    world = World()
    one = fetch_of(world, offer(world, "one", "base"), Layers(2), Feed[Any]())
    assert await one.config(Digest.of(CONFIG)) == CONFIG
    assert await one.fetch() == (SIZE, 0)


async def test_a_config_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    monkeypatch.setattr(fetching, "CONFIG_LIMIT", 1)
    one = fetch_of(world, offer(world, "one", "base"), Layers(2), Feed[Any]())
    with pytest.raises(ManifestInvalid):
        await one.config(Digest.of(CONFIG))
    assert world.hub.anonymous.count("open") == 0


async def test_what_is_missing_upstream() -> None:
    world = World()
    manifest = offer(world, "one")
    body = manifest.raw.replace(str(digest_of("one")).encode(), str(digest_of("none")).encode())
    one = fetch_of(world, Manifest.parse(body), Layers(2), Feed[Any]())
    with pytest.raises(BlobUnknown):
        await one.fetch()
    await world.idle()

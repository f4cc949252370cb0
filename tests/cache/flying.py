"""What tests of flights share."""

from mirror.cache.flight import Flight
from mirror.oci.digest import Digest
from tests.cache.support import CLIENT, World, read
from tests.store.samples import ALPINE
from tests.support.fake_registry.content import random_bytes

BIG = random_bytes("big", 700_000)
TINY = random_bytes("tiny", 20_000)


async def launch(world: World, digest: Digest) -> Flight:
    found = await world.flights.join(digest, world.hub.anonymous, ALPINE, CLIENT)
    assert found is not None
    return found


async def whole(flight: Flight) -> bytes:
    async with flight.follow(ALPINE) as reader:
        return await read(reader, 0, reader.size)


async def nothing_staged(world: World) -> None:
    """No staging, open or left, and no record of any."""
    assert not world.store.active()
    assert not await world.store.staged()
    assert not await world.catalog.partials()


def opens(world: World) -> list[str]:
    """The offsets that blobs were asked for at."""
    return [line.split()[-1] for line in world.hub.anonymous.asked if line.startswith("open")]

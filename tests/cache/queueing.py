"""The queue at work, for its tests: pushes put into it, and time that passes."""

import asyncio
from collections.abc import Sequence

from mirror.oci.manifest import Manifest
from mirror.oci.names import Repository
from mirror.store.forwarding import Queued
from tests.cache.receiving import Office, keep_image
from tests.cache.support import settled
from tests.store.samples import image

APP = Repository("ghcr.io", "me/app")
OTHER = Repository("ghcr.io", "me/other")


async def push(office: Office, tag: str, *layers: str, home: Repository = APP, target: str = "ghcr.io") -> Manifest:
    """As a client that pushes into the mirror."""
    root = image(*layers, note=tag)
    await keep_image(office.world, home, root, *layers)
    now = office.world.clock.wall()
    assert await office.world.catalog.enqueue(home, tag, root.descriptor.digest, target, now)
    office.outbox.wake()
    return root


async def queued(office: Office) -> Sequence[Queued]:
    return await office.world.catalog.queued(1000)


async def until_empty(office: Office) -> None:
    for _ in range(2000):
        if not await queued(office):
            return
        await asyncio.sleep(0)
    raise AssertionError("something still waits")


async def quiet(office: Office) -> None:
    """Everything that is due has been tried."""
    for _ in range(300):
        await asyncio.sleep(0)
    await settled(lambda: not office.outbox._lanes)


async def later(office: Office, seconds: float) -> None:
    office.world.clock.advance(seconds)
    office.outbox.wake()
    await quiet(office)

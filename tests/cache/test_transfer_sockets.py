"""Images sent over real sockets, from a real disk and catalog, to a registry that breaks off."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mirror.cache.leases import Leases
from mirror.cache.policy import Policy
from mirror.cache.transfer import Transfers
from mirror.clock import Clock
from mirror.errors import UpstreamUnreachable
from mirror.oci.digest import Digest
from mirror.oci.names import Reference, Repository
from mirror.store.disk import DiskStore
from mirror.store.inventory import View
from mirror.store.protocols import Proof
from mirror.store.sqlite import SqliteCatalog
from mirror.tasks import Tasks
from tests.store.samples import CONFIG, OWN, digest_of, image
from tests.support.fake_registry import FakeRegistry, Intake
from tests.support.fake_registry import behaviours as b
from tests.upstream.support import NAME, REPOSITORY, upstreams

UPLOADS = "*/blobs/uploads/*"
LARGE = "0123456789" * 400_000
ROOT = image("a", LARGE)
TARGET = Reference(REPOSITORY, "2", None)
SIZE = len(CONFIG) + 1 + len(LARGE)


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry() as fake:
        yield fake


@asynccontextmanager
async def process(folder: Path, registry: FakeRegistry) -> AsyncIterator[Transfers]:
    """A mirror's part that sends; what it leaves is on disk."""
    tasks = Tasks()
    store = await DiskStore.start(folder, reserve=0)
    catalog = await SqliteCatalog.start(folder / "mirror.db")
    try:
        for data in (CONFIG, b"a", LARGE.encode()):
            location = await store.put(data, Digest.of(data))
            await catalog.hold(Digest.of(data), len(data), location, [(OWN, Proof.PUSHED)], 1)
        async with upstreams(url=registry.url, idle_timeout=0.5) as registries:
            try:
                yield Transfers(
                    store=store,
                    catalog=catalog,
                    upstreams=registries,
                    leases=Leases(),
                    policy=Policy(),
                    tasks=tasks,
                    clock=Clock(),
                )
            finally:
                await tasks.drain(0)  # before what it uses is closed
    finally:
        await catalog.close()
        await store.close()


async def send(transfers: Transfers, target: Reference = TARGET) -> str:
    return str(await transfers.send(await transfers.pack(ROOT, View(OWN, trusted=True)), target))


async def test_only_what_is_missing_crosses_the_wire(tmp_path: Path, registry: FakeRegistry) -> None:
    async with process(tmp_path, registry) as transfers:
        assert await send(transfers) == "sent 2 of 2 layers, 4MB of 4MB"
        assert registry.received(UPLOADS) == SIZE
        assert await send(transfers) == "sent 0 of 2 layers, 0B of 4MB"
        other = Repository(NAME, "team/other")
        assert await send(transfers, Reference(other, "1", None)) == "sent 0 of 2 layers, 0B of 4MB"
        assert registry.received(UPLOADS) == SIZE
        assert transfers.sent[NAME].mounted == 3
        assert registry.repository(other.path).blobs[str(digest_of(LARGE))] == LARGE.encode()


async def test_a_break_costs_nothing_twice(tmp_path: Path, registry: FakeRegistry) -> None:
    """Breaks where an upload begins anew, or goes on from what was sent rather than from what arrived."""
    async with process(tmp_path, registry) as transfers:
        await transfers.send(await transfers.pack(image("a"), View(OWN, trusted=True)), TARGET)
        before = registry.received(UPLOADS)
        for count in (1_234_567, 0, 1_000_000):
            registry.script_intake("PATCH *", Intake(count))
        await send(transfers)
        assert registry.received(UPLOADS) - before == len(LARGE)


async def test_another_process_goes_on(tmp_path: Path, registry: FakeRegistry) -> None:
    """Breaks where the upload is known to the first process only."""
    async with process(tmp_path, registry) as transfers:
        await transfers.send(await transfers.pack(image("a"), View(OWN, trusted=True)), TARGET)
        before = registry.received(UPLOADS)
        registry.script_intake("PATCH *", Intake(3_000_000, "hang"))
        sending = transfers._deliveries._tasks.spawn("sending", send(transfers))  # which the end cuts off
        while registry.received(UPLOADS) - before < 3_000_000:
            await asyncio.sleep(0.01)
    assert sending.cancelled()
    async with process(tmp_path, registry) as transfers:
        assert await send(transfers) == "sent 1 of 2 layers, 1MB of 4MB"
        assert registry.received(UPLOADS) - before == len(LARGE)


async def test_a_registry_that_forgets_gets_it_whole(tmp_path: Path, registry: FakeRegistry) -> None:
    """As docker's registry does after a break: its last location is no good any more."""
    registry.pushes.forgetful = True
    async with process(tmp_path, registry) as transfers:
        registry.script_intake("PATCH *", Intake(1))
        await send(transfers)
        assert registry.repository(REPOSITORY.path).blobs[str(digest_of(LARGE))] == LARGE.encode()


async def test_a_registry_that_is_not_there(tmp_path: Path, registry: FakeRegistry) -> None:
    async with process(tmp_path, registry) as transfers:
        for _ in range(9):
            registry.script("HEAD *", b.status(503))
        with pytest.raises(UpstreamUnreachable):
            await send(transfers)
        assert registry.received(UPLOADS) == 0

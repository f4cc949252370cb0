"""The parts that make it a mirror, built once from settings: store, catalog, upstreams, cache."""

import asyncio
import logging
import shutil
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from mirror.application import settled
from mirror.cache.content import Content
from mirror.cache.eviction import Eviction
from mirror.cache.flights import Flights
from mirror.cache.forward import Forward
from mirror.cache.leases import Leases
from mirror.cache.listings import Listings
from mirror.cache.manifests import Manifests
from mirror.cache.names import Names
from mirror.cache.outbox import Outbox
from mirror.cache.ownership import Ownership, OwnNames
from mirror.cache.policy import Policy
from mirror.cache.proofs import Proofs
from mirror.cache.pushes import Pushes
from mirror.cache.rights import Rights, naming
from mirror.cache.room import Room, RoomyStore
from mirror.cache.sight import Sight
from mirror.cache.sweep import Sweep
from mirror.cache.tags import Tags
from mirror.cache.targets import Targets
from mirror.cache.transfer import Transfers
from mirror.cache.uploads import Uploads
from mirror.cache.users import Users
from mirror.cache.uses import Uses
from mirror.clock import Clock
from mirror.config.model import Settings
from mirror.errors import StoreFailed
from mirror.store.disk import DiskStore
from mirror.store.files import DEFAULT_RESERVE
from mirror.store.protocols import BlobStore
from mirror.store.sqlite import SqliteCatalog
from mirror.tasks import Tasks
from mirror.upstream.guard import Listening
from mirror.upstream.registries import Registries

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Core:
    """What the server and the verbs are made of."""

    settings: Settings
    instance: str
    clock: Clock
    tasks: Tasks
    store: BlobStore
    catalog: SqliteCatalog
    room: Room
    uses: Uses
    leases: Leases
    upstreams: Registries
    policy: Policy
    rights: Rights
    users: Users | None
    own: OwnNames
    names: Names
    ownership: Ownership
    proofs: Proofs
    sight: Sight
    sweep: Sweep
    eviction: Eviction
    flights: Flights
    content: Content
    manifests: Manifests
    tags: Tags
    listings: Listings
    targets: Targets
    uploads: Uploads
    pushes: Pushes
    transfers: Transfers
    outbox: Outbox


async def built(
    settings: Settings, stack: AsyncExitStack, *, clock: Clock, listening: Listening, drain: Callable[[], float]
) -> Core:
    """Open the store and the catalog and build all that stands on them; `stack` takes it down again.

    `listening` gives the addresses that the mirror listens on, `drain` the seconds that tasks may still take at the
    end. Raises `DataInvalid`.
    """
    policy = settled.policy_of(settings)
    reserve = max(DEFAULT_RESERVE, settings.min_free.of(await asyncio.to_thread(_disk_size, settings.data)))
    disk = await DiskStore.start(settings.data, reserve=reserve)
    stack.push_async_callback(disk.close)
    catalog = await SqliteCatalog.start(settings.data / "mirror.db")
    stack.push_async_callback(catalog.close)
    room = Room(disk, max_size=settings.max_size, slack=reserve // 4, clock=clock, offline=lambda: policy.offline)
    store = RoomyStore(disk, room)
    await _finish_deletions(store, catalog)
    await room.count(catalog)
    uses = Uses(catalog=catalog, clock=clock)
    stack.push_async_callback(uses.flush)
    instance = await catalog.instance()
    tasks = Tasks()
    upstreams = Registries(
        settings, clock=clock, instance=instance, listening=listening, offline=lambda: policy.offline
    )
    stack.push_async_callback(upstreams.close)
    await upstreams.start()
    stack.push_async_callback(lambda: tasks.drain(drain()))

    rights = settled.rights_of(settings)
    own = OwnNames()
    names = Names(settings.default_registry, settled.enabled(settings), own)
    proofs = Proofs(catalog=catalog, upstreams=upstreams, rights=rights, policy=policy, clock=clock)
    ownership = Ownership(
        names=own,
        catalog=catalog,
        proofs=proofs,
        policy=policy,
        default_registry=settings.default_registry,
        declared=naming(settings.own),
    )
    await ownership.load()
    leases = Leases()
    sweep = Sweep(store=store, room=room, catalog=catalog, leases=leases, tasks=tasks, clock=clock)
    flights = Flights(store=store, room=room, catalog=catalog, leases=leases, tasks=tasks, clock=clock)
    await flights.recall()
    content = Content(
        store=store, catalog=catalog, leases=leases, uses=uses, flights=flights, proofs=proofs, clock=clock
    )
    manifests = Manifests(
        store=store,
        catalog=catalog,
        leases=leases,
        uses=uses,
        proofs=proofs,
        policy=policy,
        tasks=tasks,
        clock=clock,
    )
    tags = Tags(
        catalog=catalog,
        uses=uses,
        manifests=manifests,
        proofs=proofs,
        policy=policy,
        tasks=tasks,
        clock=clock,
    )
    eviction = Eviction(
        catalog=catalog,
        sweep=sweep,
        uses=uses,
        tags=tags,
        manifests=manifests,
        flying=flights.digests,
        clock=clock,
    )
    room.made_by(eviction)
    listings = Listings(catalog=catalog, manifests=manifests, proofs=proofs, policy=policy, clock=clock)
    targets = Targets(names=names, ownership=ownership, rights=rights, policy=policy)
    uploads = Uploads(store=store, catalog=catalog, leases=leases, made=targets.made, tasks=tasks, clock=clock)
    await uploads.recall()
    transfers = Transfers(
        store=store, catalog=catalog, upstreams=upstreams, leases=leases, policy=policy, tasks=tasks, clock=clock
    )
    outbox = Outbox(catalog=catalog, transfers=transfers, policy=policy, tasks=tasks, clock=clock)
    pushes = Pushes(
        store=store,
        catalog=catalog,
        leases=leases,
        content=content,
        manifests=manifests,
        tags=tags,
        proofs=proofs,
        rights=rights,
        targets=targets,
        forward=Forward(transfers=transfers, outbox=outbox, upstreams=upstreams, policy=policy),
        sweep=sweep,
        tasks=tasks,
        clock=clock,
    )
    return Core(
        settings=settings,
        instance=instance,
        clock=clock,
        tasks=tasks,
        store=store,
        catalog=catalog,
        room=room,
        uses=uses,
        leases=leases,
        upstreams=upstreams,
        policy=policy,
        rights=rights,
        users=await settled.users_of(settings, stack, clock),
        own=own,
        names=names,
        ownership=ownership,
        proofs=proofs,
        sight=Sight(rights=rights, proofs=proofs),
        sweep=sweep,
        eviction=eviction,
        flights=flights,
        content=content,
        manifests=manifests,
        tags=tags,
        listings=listings,
        targets=targets,
        uploads=uploads,
        pushes=pushes,
        transfers=transfers,
        outbox=outbox,
    )


def _disk_size(data: Path) -> int:
    """Bytes of the file system that the data lies on. The folder is there by now."""
    return shutil.disk_usage(data).total


async def _finish_deletions(store: BlobStore, catalog: SqliteCatalog) -> None:
    """A deletion that a crash interrupted is completed before anybody is served."""
    for digest, location in await catalog.deleting():
        try:
            await store.delete(location)
        except StoreFailed as error:  # it is served to nobody all the same
            log.warning("%s could not be deleted, the sweep tries again: %s", digest, error.message)
        else:
            await catalog.deleted(digest)

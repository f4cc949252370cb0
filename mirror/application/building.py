"""A whole mirror: built, started, and taken down again."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from math import inf

from mirror.application import core as parts
from mirror.application import settled, verbs
from mirror.application.core import Core
from mirror.cache.eviction import Eviction
from mirror.cache.flights import Flights
from mirror.cache.policy import Policy
from mirror.cache.rights import Role
from mirror.cache.room import Room
from mirror.cache.spelling import Spelling
from mirror.cache.sweep import Sweep
from mirror.cache.traffic import Traffic
from mirror.cache.users import Users
from mirror.clock import Clock
from mirror.config.model import Settings
from mirror.config.paths import socket_path
from mirror.errors import StoreFailed
from mirror.operations.announcement import Doors, lines, upstream_lines
from mirror.operations.catalog import Held
from mirror.operations.search import Search
from mirror.operations.status import Status
from mirror.server import tls
from mirror.server.api.router import Router
from mirror.server.attempts import Attempts
from mirror.server.authentication import Authentication
from mirror.server.dispatch import Dispatch, Services
from mirror.server.failures import Failures
from mirror.server.host_names import HostNames, own_names
from mirror.server.listeners import Listeners
from mirror.server.metrics import Disk, Metrics
from mirror.server.pull_log import PullLog
from mirror.server.registry.blobs import BlobHandler
from mirror.server.registry.manifests import ManifestHandler
from mirror.server.registry.uploads import UploadHandler
from mirror.server.registry.writing import Writing
from mirror.server.tls import Certificate
from mirror.store.cleaning import clean_staging
from mirror.store.lock import DataDirectory
from mirror.store.protocols import BlobStore
from mirror.store.sqlite import SqliteCatalog
from mirror.tasks import Tasks
from mirror.upstream.registries import Registries

log = logging.getLogger(__name__)

DRAIN_SECONDS = 10.0  # how long requests and downloads may go on after SIGTERM, all together
CLEAN_EVERY = 30.0  # seconds between looks at stale staging


class Ending:
    """What is left of the time that an ending has; it begins with the first question."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._deadline: float | None = None

    def hurry(self, seconds: float) -> None:
        """From now on there are no more than so many seconds."""
        self._deadline = min(self._deadline or inf, self._clock.monotonic() + seconds)

    def left(self) -> float:
        """Seconds, never negative."""
        now = self._clock.monotonic()
        if self._deadline is None:
            self._deadline = now + DRAIN_SECONDS
        return max(0.0, self._deadline - now)


@dataclass(frozen=True, slots=True)
class Application:
    """A mirror that runs."""

    settings: Settings
    listeners: Listeners
    status: Status
    upstreams: Registries
    tasks: Tasks
    policy: Policy
    users: Users | None
    login_addresses: list[tuple[str, int]]  # those of `listen_login`, which stand among the listeners' too
    flights: Flights
    ending: Ending

    async def announce(self) -> None:
        """Say what there is to know, and what to write into `daemon.json`. What upstreams say follows later."""
        report = await self.status.report()
        socket_path = str(self.listeners.socket or "")
        default = self.settings.default_registry
        plain = [each for each in self.listeners.addresses if each not in self.login_addresses]
        for line in await asyncio.to_thread(lines, report, plain, socket_path, default, await self._doors()):
            log.info("%s", line, extra={"fields": {"event": "start"}})
        if not self.policy.offline:
            self.tasks.background("first look at the upstreams", self._look())

    async def _doors(self) -> Doors:
        access = self.settings.access
        return Doors(
            login=self.login_addresses,
            https=self.settings.tls_cert is not None,
            users=len(await self.users.names()) if self.users is not None else None,
            anonymous=access.anonymous,
            loopback=access.loopback,
        )

    async def _look(self) -> None:
        await self.upstreams.probe()
        for line in upstream_lines(await self.status.report(), self.settings.default_registry):
            log.info("%s", line)


@asynccontextmanager
async def running(
    settings: Settings, *, clock: Clock | None = None, listening: bool = True
) -> AsyncIterator[Application]:
    """Build the mirror, start it, and take it down again: last started, first stopped.

    Without `listening` it is reached by its own socket alone. Raises `DataBusy`, `DataInvalid`, `ConfigInvalid` (an
    address that cannot be listened on).
    """
    clock = clock or Clock()
    ending = Ending(clock)
    async with AsyncExitStack() as stack:
        own_socket = socket_path(settings.socket, settings.data, os.environ)
        directory = await asyncio.to_thread(DataDirectory.acquire, settings.data, own_socket)
        stack.push_async_callback(asyncio.to_thread, directory.release)
        certificate = settled.certificate_of(settings) if listening else None
        listeners = Listeners(await asyncio.to_thread(certificate.load) if certificate is not None else None)
        core = await parts.built(settings, stack, clock=clock, listening=listeners.bound, drain=ending.left)
        traffic = Traffic()
        status = Status(
            place=settled.place_of(settings, core.instance),
            catalog=core.catalog,
            upstreams=core.upstreams,
            traffic=traffic,
            outbox=core.outbox,
            sent=core.transfers.sent,
            policy=core.policy,
            clock=clock,
        )
        services = await _services(core, status, traffic, stack)
        _watch(core)
        stack.push_async_callback(lambda: listeners.close(ending.left()))
        login_addresses: list[tuple[str, int]] = []
        if listening:
            await listeners.listen(settings.listen, Dispatch(services, None))
            login = Dispatch(services, None, login=True)
            login_addresses = await listeners.listen(settings.listen_login, login, setting="listen_login")
        if certificate is not None:
            stack.callback(tls.quietly(asyncio.get_running_loop()))
            core.tasks.background("watch certificate", _renew(certificate, listeners), endless=True)
        await listeners.listen_on_socket(own_socket, settings.socket_group, Dispatch(services, Role.SOCKET))
        yield Application(
            settings=settings,
            listeners=listeners,
            status=status,
            upstreams=core.upstreams,
            tasks=core.tasks,
            policy=core.policy,
            users=core.users,
            login_addresses=login_addresses,
            flights=core.flights,
            ending=ending,
        )


async def _services(core: Core, status: Status, traffic: Traffic, stack: AsyncExitStack) -> Services:
    """What answers need."""
    settings = core.settings
    pulls = PullLog(core.clock)
    stack.callback(pulls.close)
    spelling = Spelling(settings.default_registry, core.own, core.rights.private)
    held = Held(images=core.catalog, sight=core.sight, spelling=spelling, registries=settled.enabled(settings))
    search = Search(
        searches=core.upstreams,
        upstreams=core.upstreams,
        held=held,
        spelling=spelling,
        rights=core.rights,
        policy=core.policy,
    )
    host_names = HostNames({*settings.access.hosts, *await asyncio.to_thread(own_names)})
    resources = verbs.endpoints(core, status=status, held=held, search=search)
    return Services(
        names=core.names,
        rights=core.rights,
        authentication=Authentication(core.names.is_registry, core.users, Attempts(core.clock)),
        manifests=ManifestHandler(core.manifests, core.tags),
        blobs=BlobHandler(core.content, pulls, traffic),
        writing=Writing(
            rights=core.rights,
            targets=core.targets,
            pushes=core.pushes,
            uploads=UploadHandler(core.uploads, core.pushes, core.targets, core.names),
        ),
        targets=core.targets,
        listings=core.listings,
        held=held,
        search=search,
        api=Router(resources, rights=core.rights, names=host_names),
        failures=Failures(honest=settings.on_upstream_failure == "error"),
        metrics=Metrics(
            traffic=traffic,
            states=core.upstreams.states,
            shared=lambda: core.flights.shared,
            disk=lambda: _disk(core.room, core.eviction, core.sweep),
            sent=core.transfers.sent,
        ),
        traffic=traffic,
        pulls=pulls,
        access_log=await asyncio.to_thread(settled.access_log_of, settings, stack),
        instance=core.instance,
    )


def _watch(core: Core) -> None:
    """What goes on in the background."""
    tasks = core.tasks
    tasks.background("clean staging", _clean_staging(core.store, core.catalog, core.clock), endless=True)
    tasks.background("watch flights", core.flights.watch(), endless=True)
    tasks.background("watch room", core.room.watch(core.catalog), endless=True)
    tasks.background("watch uses", core.uses.keep_flushing(), endless=True)
    tasks.background("sweep", core.sweep.watch(), endless=True)
    tasks.background("watch uploads", core.uploads.watch(), endless=True)
    tasks.background("send what waits", core.outbox.watch(), endless=True)


async def _renew(certificate: Certificate, listeners: Listeners) -> None:
    while True:
        await asyncio.sleep(tls.LOOK_EVERY)
        context = await asyncio.to_thread(certificate.changed)
        if context is not None:
            await listeners.renew(context)


def _disk(room: Room, eviction: Eviction, sweep: Sweep) -> Disk:
    return Disk(
        used=room.used,
        max_size=room.max_size,
        evicted_images=eviction.evicted.images,
        evicted_bytes=eviction.evicted.bytes,
        deleted_blobs=sweep.deleted.blobs,
        deleted_bytes=sweep.deleted.bytes,
    )


async def _clean_staging(store: BlobStore, catalog: SqliteCatalog, clock: Clock) -> None:
    while True:
        try:
            removed = await clean_staging(store, catalog, now=clock.wall())
            if removed:
                log.info("staging cleaned: %d leftovers", removed)
        except StoreFailed as error:
            log.warning("staging could not be cleaned: %s", error.message)
        await asyncio.sleep(CLEAN_EVERY)

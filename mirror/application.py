"""The one module that names concrete classes: builds, starts, stops, wires."""

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import re
import resource
import signal
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiofastnet
import uvloop

import mirror
from mirror import logs
from mirror.cache.content import Content
from mirror.cache.flights import Flights
from mirror.cache.listings import Listings
from mirror.cache.manifests import Manifests
from mirror.cache.names import Names
from mirror.cache.policy import Policy, RegistryPolicy
from mirror.cache.proofs import Proofs
from mirror.cache.rights import Rights, Role, sharing
from mirror.cache.tags import Tags
from mirror.cache.traffic import Traffic
from mirror.clock import Clock
from mirror.config.load import load
from mirror.config.model import Settings
from mirror.config.paths import socket_path
from mirror.config.show import describe
from mirror.errors import ConfigInvalid, StoreFailed
from mirror.operations.announcement import lines, upstream_lines
from mirror.operations.status import Place, Status
from mirror.server.access_log import AccessLog
from mirror.server.authentication import Authentication
from mirror.server.dispatch import Dispatch, Services
from mirror.server.failures import Failures
from mirror.server.listeners import Listeners
from mirror.server.metrics import Metrics
from mirror.server.pull_log import PullLog
from mirror.server.registry.blobs import BlobHandler
from mirror.server.registry.manifests import ManifestHandler
from mirror.store.disk import DiskStore
from mirror.store.lock import DataDirectory
from mirror.store.sqlite import SqliteCatalog
from mirror.store.staging import clean_staging
from mirror.tasks import Tasks
from mirror.upstream.registries import Registries

log = logging.getLogger(__name__)

DRAIN_SECONDS = 10.0  # how long requests and downloads may go on after SIGTERM, all together
CLEAN_EVERY = 30.0  # seconds between looks at stale staging
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # mallopt(3)


def load_settings(config: Path | None, flags: Mapping[str, object]) -> Settings:
    """The settings of this process: flags, environment, file, defaults. Raises `ConfigInvalid`."""
    return load(config, os.environ, flags)


def describe_settings(settings: Settings) -> str:
    """The settings in effect as TOML, secrets masked."""
    return describe(settings)


def serve(settings: Settings) -> int:
    """Run the mirror until it is told to end; the exit code. Raises a `MirrorError` where it cannot start."""
    logs.set_up(as_json=settings.log_format == "json")
    os.umask(0o077)
    _raise_open_files()
    _steady_allocator()
    with asyncio.Runner(loop_factory=aiofastnet.loop_factory(uvloop.new_event_loop)) as runner:
        return runner.run(_serve(settings))


def _raise_open_files() -> None:
    """As many open files as this process may have: thousands of clients, each with a connection and a blob."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _steady_allocator() -> None:
    """Let glibc keep what a download frees. By default it gives each buffer of some 100 KiB back to the kernel, to
    have the next one faulted in page by page: 6 % of a download's CPU."""
    with contextlib.suppress(AttributeError, OSError):  # another C library: as it likes
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 4 << 20)
        mallopt(_M_TRIM_THRESHOLD, 16 << 20)


async def _serve(settings: Settings) -> int:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def end() -> None:
        if ended.is_set():
            log.warning("stopped at once")
            os._exit(1)
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    async with running(settings) as app:
        await app.announce()
        gc.freeze()  # what is there now stays: the collector need not walk through it again and again
        await ended.wait()
        log.info("ending: requests under way have %.0f s", DRAIN_SECONDS)
    return 0


@dataclass(frozen=True, slots=True)
class Application:
    """A mirror that runs."""

    settings: Settings
    listeners: Listeners
    status: Status
    upstreams: Registries
    tasks: Tasks
    policy: Policy
    flights: Flights

    async def announce(self) -> None:
        """Say what there is to know, and what to write into `daemon.json`. What upstreams say follows later."""
        report = await self.status.report()
        socket_path = str(self.listeners.socket or "")
        default = self.settings.default_registry
        for line in await asyncio.to_thread(lines, report, self.listeners.addresses, socket_path, default):
            log.info("%s", line, extra={"fields": {"event": "start"}})
        if not self.policy.offline:
            self.tasks.background("first look at the upstreams", self._look())

    async def _look(self) -> None:
        await self.upstreams.probe()
        for line in upstream_lines(await self.status.report(), self.settings.default_registry):
            log.info("%s", line)


@asynccontextmanager
async def running(settings: Settings, *, clock: Clock | None = None) -> AsyncIterator[Application]:
    """Build the mirror, start it, and take it down again: last started, first stopped.

    Raises `DataBusy`, `DataInvalid`, `ConfigInvalid` (an address that cannot be listened on).
    """
    clock = clock or Clock()
    async with AsyncExitStack() as stack:
        own_socket = socket_path(settings.socket, settings.data, os.environ)
        directory = await asyncio.to_thread(DataDirectory.acquire, settings.data, own_socket)
        stack.push_async_callback(asyncio.to_thread, directory.release)
        store = await DiskStore.start(settings.data)
        stack.push_async_callback(store.close)
        catalog = await SqliteCatalog.start(settings.data / "mirror.db")
        stack.push_async_callback(catalog.close)
        await _finish_deletions(store, catalog)
        instance = await catalog.instance()
        tasks = Tasks()
        listeners = Listeners()
        upstreams = Registries(settings, clock=clock, instance=instance, listening=listeners.bound)
        stack.push_async_callback(upstreams.close)
        await upstreams.start()
        ending = _Ending(clock)
        stack.push_async_callback(lambda: tasks.drain(ending.left()))

        enabled = {name: registry for name, registry in settings.registries.items() if registry.enabled}
        policy = _policy(settings)
        rights = Rights(
            loopback=settings.access.loopback != "none",
            shared=sharing({name: registry.private for name, registry in enabled.items()}),
        )
        names = Names(settings.default_registry, enabled)
        proofs = Proofs(catalog=catalog, upstreams=upstreams, rights=rights, policy=policy, clock=clock)
        flights = Flights(store=store, catalog=catalog, tasks=tasks, clock=clock)
        await flights.recall()
        content = Content(store=store, catalog=catalog, flights=flights, proofs=proofs, clock=clock)
        manifests = Manifests(store=store, catalog=catalog, proofs=proofs, policy=policy, tasks=tasks, clock=clock)
        tags = Tags(catalog=catalog, manifests=manifests, proofs=proofs, policy=policy, tasks=tasks, clock=clock)
        listings = Listings(catalog=catalog, manifests=manifests, proofs=proofs, policy=policy, clock=clock)
        traffic = Traffic()
        status = Status(
            place=_place(settings, instance),
            catalog=catalog,
            upstreams=upstreams,
            traffic=traffic,
            policy=policy,
            clock=clock,
        )
        pulls = PullLog(clock)
        stack.callback(pulls.close)
        services = Services(
            names=names,
            rights=rights,
            authentication=Authentication(names.is_registry),
            manifests=ManifestHandler(manifests, tags),
            blobs=BlobHandler(content, pulls, traffic),
            listings=listings,
            status=status,
            failures=Failures(honest=settings.on_upstream_failure == "error"),
            metrics=Metrics(traffic=traffic, states=upstreams.states, shared=lambda: flights.shared),
            traffic=traffic,
            pulls=pulls,
            access_log=await asyncio.to_thread(_access_log, settings, stack),
            instance=instance,
        )
        tasks.background("clean staging", _clean_staging(store, catalog, clock), endless=True)
        tasks.background("watch flights", flights.watch(), endless=True)
        stack.push_async_callback(lambda: listeners.close(ending.left()))
        await listeners.listen(settings.listen, Dispatch(services, None))
        await listeners.listen_on_socket(own_socket, settings.socket_group, Dispatch(services, Role.SOCKET))
        yield Application(settings, listeners, status, upstreams, tasks, policy, flights)


class _Ending:
    """What is left of the time that an ending has; it begins with the first question."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._deadline: float | None = None

    def left(self) -> float:
        """Seconds, never negative."""
        now = self._clock.monotonic()
        if self._deadline is None:
            self._deadline = now + DRAIN_SECONDS
        return max(0.0, self._deadline - now)


def _policy(settings: Settings) -> Policy:
    return Policy(
        offline=settings.offline,
        keep_gone=settings.on_upstream_gone == "keep",
        private_stale=settings.private_stale,
        registries={
            name: RegistryPolicy(registry.tag_ttl, tuple(re.compile(each) for each in registry.immutable_tags))
            for name, registry in settings.registries.items()
        },
    )


def _place(settings: Settings, instance: str) -> Place:
    return Place(
        version=mirror.__version__,
        instance=instance,
        listen=settings.listen,
        data=settings.data,
        urls={name: registry.urls for name, registry in settings.registries.items() if registry.enabled},
        disabled=tuple(name for name, registry in settings.registries.items() if not registry.enabled),
    )


def _access_log(settings: Settings, stack: AsyncExitStack) -> AccessLog | None:
    if settings.access_log is None:
        return None
    _check_writable(settings.access_log)
    executor = ThreadPoolExecutor(1, thread_name_prefix="access-log")
    stack.push_async_callback(asyncio.to_thread, executor.shutdown)
    access_log = AccessLog(settings.access_log, as_json=settings.log_format == "json", executor=executor)
    stack.push_async_callback(access_log.close)
    return access_log


def _check_writable(path: Path) -> None:
    """At the start, not at the first request."""
    try:
        if str(path) != "-":
            path.open("a").close()
    except OSError as error:
        raise ConfigInvalid(f"access_log: {path} cannot be written: {error.strerror}") from error


async def _finish_deletions(store: DiskStore, catalog: SqliteCatalog) -> None:
    """A deletion that a crash interrupted is completed before anybody is served."""
    for digest, location in await catalog.deleting():
        await store.delete(location)
        await catalog.deleted(digest)


async def _clean_staging(store: DiskStore, catalog: SqliteCatalog, clock: Clock) -> None:
    while True:
        try:
            removed = await clean_staging(store, catalog, now=clock.wall())
            if removed:
                log.info("staging cleaned: %d leftovers", removed)
        except StoreFailed as error:
            log.warning("staging could not be cleaned: %s", error.message)
        await asyncio.sleep(CLEAN_EVERY)

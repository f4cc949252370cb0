"""`Registries`: every configured registry, each with its sources (protocols.py, `Upstreams`).

A registry has one anonymous source, and one with credentials where there are some. The two share connections, and
nothing else: limits, breakers and tokens are their own.
"""

import asyncio
import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass

from mirror.clock import Clock
from mirror.config.model import RegistrySettings, Settings
from mirror.errors import ConfigInvalid, NameUnknown
from mirror.tasks import Tasks
from mirror.upstream.auth import Authenticator
from mirror.upstream.breaker import INTERVAL
from mirror.upstream.client import RegistrySource
from mirror.upstream.credentials import Credentials, DockerCredentials, SettingsCredentials
from mirror.upstream.docker_config import DockerConfig
from mirror.upstream.endpoints import Endpoints
from mirror.upstream.exchange import Exchange
from mirror.upstream.failover import HEADERS_SECONDS, Failover
from mirror.upstream.guard import Guard, Listening
from mirror.upstream.protocols import Source, SourceState
from mirror.upstream.proxies import Proxies
from mirror.upstream.realms import RealmPolicy
from mirror.upstream.tokens import Tokens
from mirror.upstream.transport import Transport

PROBE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Registry:
    settings: RegistrySettings
    transport: Transport
    credentials: Credentials
    sources: dict[bool, RegistrySource]  # anonymous? → source


class Registries:
    """All upstreams of one mirror. `start` before use; sessions are opened at first use, in the running loop.

    `instance` is this mirror's id, `listening` gives the addresses it listens on. Raises `ConfigInvalid` for a URL,
    proxy or network that cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock,
        instance: str,
        listening: Listening,
        environment: Mapping[str, str] | None = None,
        probe_interval: float = INTERVAL,
        headers_seconds: float = HEADERS_SECONDS,
    ) -> None:
        self._clock = clock
        self._instance = instance
        self._listening = listening
        self._environment = os.environ if environment is None else environment
        self._probe_interval = probe_interval
        self._headers_seconds = headers_seconds
        self._tasks = Tasks()
        self._docker_config = DockerConfig(self._environment, clock)
        self._registries = {
            name: self._build(name, registry) for name, registry in settings.registries.items() if registry.enabled
        }

    async def start(self) -> None:
        """Read docker's configuration, so that `has_credentials` knows."""
        await self._docker_config.load()

    async def close(self) -> None:
        """Stop probes and close every connection."""
        await self._tasks.drain(0)
        for registry in self._registries.values():
            await registry.transport.close()

    def source(self, registry: str, *, anonymous: bool) -> Source:
        """Raises `NameUnknown` where the registry is not configured or not enabled."""
        return self._find(registry).sources[anonymous]

    def has_credentials(self, registry: str) -> bool:
        """Whether credentials are configured for it. Raises `NameUnknown`.

        What `docker login` did meanwhile is known a moment later: the file is read in the background.
        """
        found = self._find(registry)
        if self._docker_config.due:
            self._tasks.background("docker's configuration", self._docker_config.load())
        return found.credentials.configured

    def states(self) -> list[SourceState]:
        """One per source in use: the anonymous one always, the other where there are credentials."""
        return [source.state() for source in self._sources()]

    async def probe(self) -> None:
        """Ask each registry once whether it is there, and Docker Hub for its limit, within 5 s."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PROBE_SECONDS), asyncio.TaskGroup() as group:
                for source in self._sources():
                    group.create_task(source.probe())

    def _find(self, name: str) -> _Registry:
        try:
            return self._registries[name]
        except KeyError:
            raise NameUnknown(f"registry {name} is not configured here, or not enabled") from None

    def _sources(self) -> list[RegistrySource]:
        return [
            source
            for registry in self._registries.values()
            for anonymous, source in registry.sources.items()
            if anonymous or registry.credentials.configured
        ]

    def _build(self, name: str, settings: RegistrySettings) -> _Registry:
        try:
            guard = Guard(listening=self._listening, networks=settings.addresses)
        except ValueError:
            raise ConfigInvalid(f"registries.{name}.addresses: not a network such as 10.0.0.0/8") from None
        transport = Transport(
            name,
            settings,
            clock=self._clock,
            instance=self._instance,
            guard=guard,
            proxies=Proxies(settings.proxy, self._environment),
        )
        credentials = self._credentials(name, settings)
        policy = RealmPolicy(name, settings)
        sources = {
            anonymous: self._source(name, settings, transport, policy, None if anonymous else credentials)
            for anonymous in (True, False)
        }
        return _Registry(settings, transport, credentials, sources)

    def _credentials(self, name: str, settings: RegistrySettings) -> Credentials:
        if settings.username or settings.password or settings.password_file:
            return SettingsCredentials(name, settings, self._clock)
        hosts = (
            endpoint.origin.host_port_subcomponent or "" for endpoint in Endpoints(name, settings.urls, self._clock).all
        )
        return DockerCredentials(name, frozenset(hosts), self._docker_config)

    def _source(
        self,
        name: str,
        settings: RegistrySettings,
        transport: Transport,
        policy: RealmPolicy,
        credentials: Credentials | None,
    ) -> RegistrySource:
        endpoints = Endpoints(name, settings.urls, self._clock)
        auth = Authenticator(
            name,
            transport=transport,
            tokens=Tokens(name, transport=transport, policy=policy, clock=self._clock),
            policy=policy,
            credentials=credentials,
            clock=self._clock,
        )
        exchange = Exchange(name, transport=transport, auth=auth, endpoints=endpoints, clock=self._clock)
        failover = Failover(
            name,
            endpoints=endpoints,
            exchange=exchange,
            clock=self._clock,
            tasks=self._tasks,
            probe_interval=self._probe_interval,
            headers_seconds=self._headers_seconds,
        )
        return RegistrySource(name, anonymous=credentials is None, exchange=exchange, failover=failover)

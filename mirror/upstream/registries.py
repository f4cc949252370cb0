"""`Registries`: every configured registry, each with its sources (protocols.py, `Upstreams`).

A registry has one anonymous source, and one with credentials where there are some; and a destination. They share
connections, and nothing else: limits, breakers and tokens are their own.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from mirror.clock import Clock
from mirror.config.model import RegistrySettings, Settings
from mirror.errors import ConfigInvalid, NameUnknown, UpstreamUnreachable
from mirror.tasks import Tasks
from mirror.upstream.auth import Authenticator
from mirror.upstream.breaker import INTERVAL
from mirror.upstream.client import RegistrySource
from mirror.upstream.credentials import Credential, Credentials, DockerCredentials, SettingsCredentials
from mirror.upstream.destination import PUSH, RegistryDestination
from mirror.upstream.endpoints import Endpoints
from mirror.upstream.exchange import Exchange
from mirror.upstream.failover import HEADERS_SECONDS, Failover
from mirror.upstream.guard import Guard, Listening
from mirror.upstream.logins import Logins
from mirror.upstream.protocols import Destination, Found, Source, SourceState
from mirror.upstream.proxies import Proxies
from mirror.upstream.realms import RealmPolicy
from mirror.upstream.search import RegistrySearch
from mirror.upstream.tokens import Tokens
from mirror.upstream.transport import Transport
from mirror.upstream.trial import OneLogin, Trial

PROBE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Registry:
    settings: RegistrySettings
    transport: Transport
    policy: RealmPolicy
    credentials: Credentials
    sources: dict[bool, RegistrySource]  # anonymous? → source
    searches: dict[bool, RegistrySearch]
    destination: RegistryDestination


class Registries:
    """All upstreams of one mirror. `start` before use; sessions are opened at first use, in the running loop.

    `instance` is this mirror's id, `listening` gives the addresses it listens on; while `offline` says so, nothing is
    sent anywhere. Raises `ConfigInvalid` for a URL, proxy or network that cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock,
        instance: str,
        listening: Listening,
        offline: Callable[[], bool] = lambda: False,
        environment: Mapping[str, str] | None = None,
        probe_interval: float = INTERVAL,
        headers_seconds: float = HEADERS_SECONDS,
    ) -> None:
        self._clock = clock
        self._instance = instance
        self._listening = listening
        self._offline = offline
        self._environment = os.environ if environment is None else environment
        self._probe_interval = probe_interval
        self._headers_seconds = headers_seconds
        self._tasks = Tasks()
        self._logins = Logins(self._environment, settings.data, clock)
        self._registries = {
            name: self._build(name, registry) for name, registry in settings.registries.items() if registry.enabled
        }

    async def start(self) -> None:
        """Read docker's configuration, so that `has_credentials` knows."""
        await self._logins.load()

    async def close(self) -> None:
        """Stop probes and close every connection."""
        await self._tasks.drain(0)
        for registry in self._registries.values():
            await registry.transport.close()

    def source(self, registry: str, *, anonymous: bool) -> Source:
        """Raises `NameUnknown` where the registry is not configured or not enabled."""
        return self._find(registry).sources[anonymous]

    def destination(self, registry: str) -> Destination:
        """`Upstreams.destination`; with credentials where there are some when it is used."""
        return self._find(registry).destination

    def has_credentials(self, registry: str) -> bool:
        """Whether credentials are configured for it. Raises `NameUnknown`.

        What `docker login` did meanwhile is known a moment later: the file is read in the background.
        """
        found = self._find(registry)
        if self._logins.due:
            self._tasks.background("docker's configuration", self._logins.load())
        return found.credentials.configured

    def states(self) -> list[SourceState]:
        """One per source in use: the anonymous one always, the other where there are credentials."""
        return [source.state() for source in self._sources()]

    async def probe(self) -> None:
        """Ask each registry once whether it is there, and Docker Hub for its limit, within 5 s; none while offline."""
        if self._offline():
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PROBE_SECONDS), asyncio.TaskGroup() as group:
                for source in self._sources():
                    group.create_task(source.probe())

    async def search(self, registry: str, term: str, limit: int, *, anonymous: bool) -> list[Found]:
        """`Searches.search`."""
        return await self._find(registry).searches[anonymous].find(term, limit)

    # --- logins ---------------------------------------------------------------------------------------------

    def set_by_settings(self, registry: str) -> bool:
        """`LoginStore.set_by_settings`."""
        return isinstance(self._find(registry).credentials, SettingsCredentials)

    async def log_in(self, registry: str, username: str, password: str) -> str:
        """`LoginStore.log_in`: tried at every URL of the registry, kept for the hosts that accept it."""
        found = self._find(registry)
        credential = Credential(username, password, source="this login")
        accepted, failure = [], None
        for url in found.settings.urls:
            try:
                accepted.append(await self._try(registry, found, url, credential))
            except UpstreamUnreachable as error:
                failure = error
        if failure is not None and not accepted:
            raise failure
        _heard(found.sources.values())
        where = [await self._logins.store(host, username, password) for host in dict.fromkeys(accepted)]
        self._trust_again(found)
        return where[0]

    async def log_out(self, registry: str) -> bool:
        """`LoginStore.log_out`."""
        found = self._find(registry)
        hosts = dict.fromkeys(_hosts(registry, found.settings, self._clock))
        removed = [await self._logins.erase(host) for host in hosts]
        self._trust_again(found)
        return any(removed)

    async def _try(self, name: str, registry: _Registry, url: str, credential: Credential) -> str:
        """The host at `url`, which accepts this login. Raises what `Trial.run` does."""
        endpoints = Endpoints(name, [url], self._clock)
        auth = self._authenticator(name, registry.transport, registry.policy, OneLogin(credential))
        exchange = self._exchange(name, registry.transport, auth, endpoints)
        trial = Trial(name, credential, registry.transport, registry.policy, self._clock)
        endpoint = endpoints.all[0]
        try:
            async with asyncio.timeout(self._headers_seconds):
                await trial.run(endpoint, exchange)
        except TimeoutError:
            raise UpstreamUnreachable(
                f"{name}: {endpoint.origin} did not answer within {self._headers_seconds:.3g} s", registry=name
            ) from None
        return endpoint.origin.host_port_subcomponent or ""

    def _trust_again(self, registry: _Registry) -> None:
        for source in registry.sources.values():
            source.trust_again()
        registry.destination.trust_again()

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
        sources, searches = {}, {}
        for anonymous in (True, False):
            auth = self._authenticator(name, transport, policy, None if anonymous else credentials)
            sources[anonymous], searches[anonymous] = self._source(name, settings, transport, auth, anonymous=anonymous)
        auth = self._authenticator(name, transport, policy, credentials, actions=PUSH)
        destination = self._destination(
            name, settings, transport, auth, credentials, answered=lambda: _heard(sources.values())
        )
        return _Registry(settings, transport, policy, credentials, sources, searches, destination)

    def _credentials(self, name: str, settings: RegistrySettings) -> Credentials:
        if settings.username or settings.password or settings.password_file:
            return SettingsCredentials(name, settings, self._clock)
        return DockerCredentials(name, frozenset(_hosts(name, settings, self._clock)), self._logins)

    def _authenticator(
        self,
        name: str,
        transport: Transport,
        policy: RealmPolicy,
        credentials: Credentials | None,
        *,
        actions: str = "pull",
    ) -> Authenticator:
        return Authenticator(
            name,
            transport=transport,
            tokens=Tokens(name, transport=transport, policy=policy, clock=self._clock),
            policy=policy,
            credentials=credentials,
            clock=self._clock,
            actions=actions,
        )

    def _exchange(self, name: str, transport: Transport, auth: Authenticator, endpoints: Endpoints) -> Exchange:
        return Exchange(
            name, transport=transport, auth=auth, endpoints=endpoints, clock=self._clock, offline=self._offline
        )

    def _source(
        self,
        name: str,
        settings: RegistrySettings,
        transport: Transport,
        auth: Authenticator,
        *,
        anonymous: bool,
    ) -> tuple[RegistrySource, RegistrySearch]:
        endpoints = Endpoints(name, settings.urls, self._clock)
        exchange = self._exchange(name, transport, auth, endpoints)
        failover = self._failover(name, exchange, endpoints)
        return (
            RegistrySource(name, anonymous=anonymous, exchange=exchange, failover=failover),
            RegistrySearch(name, exchange=exchange, failover=failover, clock=self._clock),
        )

    def _destination(
        self,
        name: str,
        settings: RegistrySettings,
        transport: Transport,
        auth: Authenticator,
        credentials: Credentials,
        *,
        answered: Callable[[], None],
    ) -> RegistryDestination:
        exchange = self._exchange(name, transport, auth, Endpoints(name, settings.urls, self._clock))
        endpoints = Endpoints(name, settings.urls[:1], self._clock)
        failover = self._failover(name, exchange, endpoints, breaks=False, answered=answered)
        return RegistryDestination(
            name,
            reads=RegistrySource(name, anonymous=False, exchange=exchange, failover=failover),
            exchange=exchange,
            failover=failover,
            has_login=lambda: credentials.configured,
            headers_seconds=self._headers_seconds,
        )

    def _failover(
        self,
        name: str,
        exchange: Exchange,
        endpoints: Endpoints,
        *,
        breaks: bool = True,
        answered: Callable[[], None] = lambda: None,
    ) -> Failover:
        return Failover(
            name,
            endpoints=endpoints,
            exchange=exchange,
            clock=self._clock,
            tasks=self._tasks,
            probe_interval=self._probe_interval,
            headers_seconds=self._headers_seconds,
            breaks=breaks,
            answered=answered,
        )


def _heard(sources: Iterable[RegistrySource]) -> None:
    """It has taken a push, or a login: nobody who pulls need wait for the next probe."""
    for source in sources:
        source.heard()


def _hosts(name: str, settings: RegistrySettings, clock: Clock) -> list[str]:
    """The hosts of its URLs, which its logins are kept for."""
    return [endpoint.origin.host_port_subcomponent or "" for endpoint in Endpoints(name, settings.urls, clock).all]

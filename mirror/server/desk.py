"""The front desk: manifests that memory holds are answered while the request is being read.

A warm manifest is what a mirror is asked for most, and every answer that waits for nothing can do without what aiohttp
makes for each request (a task, a request, a writer, three turns of the loop), which is more than the answer itself.

The desk knows nothing by itself: `Dispatch` shows it each manifest request that went through its checks of names, and
the desk repeats those that depend on who asks and on when. Whatever is out of the ordinary is left to `Dispatch`.
"""

from dataclasses import dataclass
from time import monotonic, time

from aiohttp.http_parser import RawRequestMessage
from multidict import istr

from mirror.cache.rights import Action, Rights, Role
from mirror.cache.traffic import Traffic
from mirror.errors import MirrorError
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.oci.routes import ManifestRoute
from mirror.server.access_log import AccessLog
from mirror.server.authentication import AUTHORIZATION, Authentication
from mirror.server.http import Connection
from mirror.server.metrics import Metrics
from mirror.server.pull_log import PullLog
from mirror.server.registry.manifests import ManifestHandler
from mirror.upstream.loops import VIA

_REMEMBERED = 20_000
_LONGEST_REMEMBERED = 1024
_HOST = istr("Host")
_CONDITION = istr("If-None-Match")
_READING = ("GET", "HEAD")
_VIA = istr(VIA)
_PULL = Action.PULL  # before Python 3.12, an enum's member takes long to reach through its class


@dataclass(frozen=True, slots=True)
class _Manifest:
    """What a path and a `Host` ask for."""

    repository: Repository
    reference: str | Digest
    name: str  # the reference as text
    ns: bool


class FrontDesk:
    """One listener's. `role`: what every request of it is, or None to look at each."""

    def __init__(
        self,
        *,
        role: Role | None,
        rights: Rights,
        authentication: Authentication,
        manifests: ManifestHandler,
        metrics: Metrics,
        traffic: Traffic,
        pulls: PullLog,
        access_log: AccessLog | None,
    ) -> None:
        self._role = role
        self._rights = rights
        self._authentication = authentication
        self._manifests = manifests
        self._metrics = metrics
        self._traffic = traffic
        self._pulls = pulls
        self._access_log = access_log
        self._known: dict[tuple[str, str], _Manifest] = {}

    def learn(self, path: str, host: str, repository: Repository, route: ManifestRoute, *, ns: bool) -> None:
        """Requests for this path with this `Host` mean that manifest."""
        if len(path) > _LONGEST_REMEMBERED or (path, host) in self._known:
            return
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[path, host] = _Manifest(repository, route.reference, str(route.reference), ns)

    def forget(self) -> None:
        """Names may mean something else now."""
        self._known.clear()

    def answer(self, connection: Connection, message: RawRequestMessage) -> bytes | None:
        """The whole answer to this request, counted and logged, or None if it is not for the desk."""
        began = monotonic()
        headers = message.headers
        wanted = self._known.get((message.path, headers.get(_HOST, "")))
        if wanted is None or _CONDITION in headers or _VIA in headers or AUTHORIZATION in headers:
            return None
        role = self._role if self._role is not None else self._authentication.role(headers, local=connection.local)
        principal = self._rights.principal(role)
        method, repository = message.method, wanted.repository
        if method not in _READING:
            return None
        try:
            self._rights.check(principal, ManifestRoute, method)
        except MirrorError:
            return None
        if repository.is_own and not self._rights.allows(principal, _PULL, repository):
            return None
        found = self._manifests.remembered(principal, repository, wanted.reference)
        prepared = None if found is None else self._manifests.prepared(found, method, repository, ns=wanted.ns)
        if found is None or prepared is None:
            return None
        size = len(prepared.body)
        self._pulls.manifest(connection.client, repository, wanted.name, found.cache, size)
        self._traffic.served[repository.registry] += size
        self._traffic.hits += 1
        self._metrics.count("manifest", found.cache)
        if self._access_log is not None:
            took = monotonic() - began
            self._access_log.add(time(), connection.client, method, message.path, 200, size, took, found.cache)
        return prepared.now()

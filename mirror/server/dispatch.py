"""One catch-all handler: who asks, what for, which file answers, and what is told about it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic, time
from typing import cast

from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from mirror.cache.content import Cache
from mirror.cache.listings import Listings
from mirror.cache.names import Names
from mirror.cache.rights import Rights, Role, StatusRoute
from mirror.cache.traffic import Traffic
from mirror.errors import MirrorError, PathUnknown, Unsupported, UpstreamLoop
from mirror.oci import routes
from mirror.operations.status import Status
from mirror.server.access_log import AccessLog
from mirror.server.api import status as status_resource
from mirror.server.authentication import Authentication
from mirror.server.call import Call
from mirror.server.desk import FrontDesk
from mirror.server.failures import Failures
from mirror.server.http import Connection
from mirror.server.metrics import CONTENT_TYPE, Metrics
from mirror.server.pull_log import PullLog
from mirror.server.registry import base, referrers, tags
from mirror.server.registry.blobs import BlobHandler
from mirror.server.registry.manifests import ManifestHandler
from mirror.upstream.loops import LOOP, LOOP_DETECTED, VIA, parse_via, via

_REMEMBERED = 20_000
_LONGEST_REMEMBERED = 1024

_KINDS: dict[type, str] = {
    routes.ManifestRoute: "manifest",
    routes.BlobRoute: "blob",
    routes.TagsRoute: "tags",
    routes.ReferrersRoute: "referrers",
}


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that an answer may need."""

    names: Names
    rights: Rights
    authentication: Authentication
    manifests: ManifestHandler
    blobs: BlobHandler
    listings: Listings
    status: Status
    failures: Failures
    metrics: Metrics
    traffic: Traffic
    pulls: PullLog
    access_log: AccessLog | None
    instance: str


def _origin_form(request: web.BaseRequest) -> web.BaseRequest:
    """A request in absolute form, as it is sent to a proxy, in origin form: what it names counts, not `Host` (RFC 9112,
    3.2.2). Anything else (`*`, an authority) is left for the routes to refuse."""
    scheme, separator, rest = request.raw_path.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        return request
    end = min((rest.find(mark) for mark in "/?#" if mark in rest), default=len(rest))
    headers = CIMultiDict(request.headers)
    headers["Host"] = rest[:end].rpartition("@")[2]
    path = rest[end:]
    return request.clone(rel_url=URL(path if path.startswith("/") else "/" + path, encoded=True), headers=headers)


@dataclass(slots=True)
class Outcome:
    """A response, how it came to be, and its body's size in bytes."""

    response: web.StreamResponse
    cache: Cache | None = None
    size: int = 0


class Dispatch:
    """The handler of one listener. `role`: what every request of it is, or None to look at each."""

    def __init__(self, services: Services, role: Role | None) -> None:
        self._services = services
        self._role = role
        self._routes: dict[str, routes.Route] = {}
        self._desk = FrontDesk(
            role=role,
            rights=services.rights,
            authentication=services.authentication,
            manifests=services.manifests,
            metrics=services.metrics,
            traffic=services.traffic,
            pulls=services.pulls,
            access_log=services.access_log,
        )
        self.at_once = self._desk.answer
        self._pages: dict[str, Callable[[Call], Awaitable[web.Response]]] = {
            "/healthz": self._health,
            "/metrics": self._metrics,
            "/api/v1/status": self._status,
        }

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request. Whatever goes wrong becomes an answer too, or an aborted connection."""
        began = monotonic()
        services = self._services
        if not request.raw_path.startswith("/"):
            request = _origin_form(request)
        route: routes.Route | None = None
        try:
            loop = self._loop(request)
            if loop is not None:
                return loop
            page = self._pages.get(request.raw_path.partition("?")[0])
            if page is not None:
                outcome = Outcome(await page(self._call(request)))
            else:
                route = self._route(request.raw_path)
                outcome = await self._answer(self._call(request), route)
        except UpstreamLoop as error:
            outcome = Outcome(self._looping() if VIA in request.headers else services.failures.render(error, route))
        except MirrorError as error:
            outcome = Outcome(services.failures.render(error, route))
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as error:  # noqa: BLE001 - the last resort: logged whole, and the client gets the specified shape
            outcome = Outcome(services.failures.unexpected(error))
        self._tell(request, route, outcome, monotonic() - began)
        return outcome.response

    # --- the registry ----------------------------------------------------------------------------------------

    async def _answer(self, call: Call, route: routes.Route) -> Outcome:
        services = self._services
        if isinstance(route, routes.CatalogRoute):
            raise PathUnknown("this mirror gives no list of its repositories")
        services.rights.check(call.principal, type(route), call.request.method)
        match route:
            case routes.ManifestRoute():
                return await self._manifest(call, route)
            case routes.BlobRoute():
                repository = services.names.repository(route.name, call.host)
                if call.head:
                    return Outcome(*await services.blobs.head(call, repository, route.digest))
                return Outcome(*await services.blobs.get(call, repository, route.digest))
            case routes.TagsRoute():
                repository = services.names.repository(route.name, call.host)
                return Outcome(await tags.answer(call, services.listings, repository, route))
            case routes.ReferrersRoute():
                repository = services.names.repository(route.name, call.host)
                return Outcome(await referrers.answer(call, services.listings, repository, route))
            case routes.Base():
                return Outcome(base.answer(call))
            case _:
                raise Unsupported("this is not supported here: this mirror is read-only")

    async def _manifest(self, call: Call, route: routes.ManifestRoute) -> Outcome:
        services = self._services
        repository = services.names.repository(route.name, call.host)
        self._desk.learn(call.request.raw_path, call.host, repository, route, ns=call.ns)
        found = await services.manifests.find(call.principal, repository, route.reference)
        size = 0 if call.head else found.kept.manifest.descriptor.size
        response = services.manifests.answer(call, repository, found)
        services.pulls.manifest(call.client, repository, str(route.reference), found.cache, size)
        services.traffic.served[repository.registry] += size
        return Outcome(response, found.cache, size)

    def _route(self, raw: str) -> routes.Route:
        route = self._routes.get(raw)
        if route is None:
            path, _, query = raw.partition("?")
            route = routes.parse(path, query)
            if len(self._routes) >= _REMEMBERED:
                self._routes.clear()
            if len(raw) <= _LONGEST_REMEMBERED:
                self._routes[raw] = route
        return route

    def _call(self, request: web.BaseRequest) -> Call:
        services = self._services
        connection = cast("Connection", request.protocol)
        role = self._role
        if role is None:
            role = services.authentication.role(request.headers, local=connection.local)
        raw = request.raw_path
        ns = "?ns=" in raw or "&ns=" in raw
        return Call(request, services.rights.principal(role), connection.client, request.headers.get("Host", ""), ns)

    def _loop(self, request: web.BaseRequest) -> web.Response | None:
        """508 for what this mirror itself has caused; else what it causes carries on the ids it came with."""
        header = request.headers.get(VIA)
        if header is None:
            return None
        ids = parse_via(header)
        if self._services.instance not in ids:
            via.set(ids)
            return None
        return self._looping()

    def _looping(self) -> web.Response:
        """What a mirror is told whose request leads back to where it began: no answer about the content."""
        return web.Response(status=LOOP_DETECTED, headers={LOOP: self._services.instance})

    # --- the rest --------------------------------------------------------------------------------------------

    async def _health(self, call: Call) -> web.Response:
        return web.Response(text="ok\n" if not call.head else None)

    async def _metrics(self, call: Call) -> web.Response:
        del call
        return web.Response(headers={"Content-Type": CONTENT_TYPE}, body=self._services.metrics.render())

    async def _status(self, call: Call) -> web.Response:
        self._services.rights.check(call.principal, StatusRoute, call.request.method)
        return await status_resource.answer(self._services.status)

    def _tell(self, request: web.BaseRequest, route: routes.Route | None, outcome: Outcome, took: float) -> None:
        """Count it and log it."""
        services = self._services
        cache, status = outcome.cache, outcome.response.status
        kind = _KINDS.get(type(route), "other")
        services.metrics.count(kind, str(cache) if cache is not None else "ok" if status < 400 else "error")
        if cache is Cache.MISS:
            services.traffic.misses += 1
        elif cache is not None:
            services.traffic.hits += 1
        if services.access_log is not None:
            client = cast("Connection", request.protocol).client
            services.access_log.add(
                time(), client, request.method, request.raw_path, status, outcome.size, took, cache or ""
            )

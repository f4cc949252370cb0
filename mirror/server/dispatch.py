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
from mirror.cache.rights import Action, Rights, Role
from mirror.cache.targets import Targets
from mirror.cache.traffic import Traffic
from mirror.errors import (
    BlobUnknown,
    ManifestUnknown,
    MirrorError,
    NameUnknown,
    Unauthorized,
    Unsupported,
    UpstreamLoop,
)
from mirror.oci import routes
from mirror.oci.names import LOCAL, Name, Repository
from mirror.operations.catalog import Held
from mirror.operations.search import Search
from mirror.server import bodies
from mirror.server.access_log import AccessLog
from mirror.server.api.router import PREFIX, Router
from mirror.server.authentication import AUTHORIZATION, Authentication
from mirror.server.call import Call
from mirror.server.desk import FrontDesk
from mirror.server.failures import API, WRITE, Failures
from mirror.server.http import Connection
from mirror.server.metrics import CONTENT_TYPE, Metrics
from mirror.server.pull_log import PullLog
from mirror.server.registry import base, catalog, referrers, search, tags
from mirror.server.registry.blobs import BlobHandler
from mirror.server.registry.manifests import ManifestHandler
from mirror.server.registry.writing import Writing, writes
from mirror.upstream.loops import LOOP, LOOP_DETECTED, VIA, parse_via, via

_REMEMBERED = 20_000
_LONGEST_REMEMBERED = 1024
_API = PREFIX + "/"
Reading = routes.ManifestRoute | routes.BlobRoute | routes.TagsRoute | routes.ReferrersRoute

_KINDS: dict[type, str] = {
    routes.ManifestRoute: "manifest",
    routes.BlobRoute: "blob",
    routes.TagsRoute: "tags",
    routes.ReferrersRoute: "referrers",
    routes.UploadsRoute: "upload",
    routes.UploadRoute: "upload",
}


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that an answer may need."""

    names: Names
    rights: Rights
    authentication: Authentication
    manifests: ManifestHandler
    blobs: BlobHandler
    writing: Writing
    targets: Targets
    listings: Listings
    held: Held
    search: Search
    api: Router
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
    """The handler of one listener. `role`: what every request of it is, or None to look at each.

    `login`: an address to log in at. It asks for credentials at once, where a client looks for a challenge, and again
    wherever they might help; other addresses only where a stranger may not do what a user could.
    """

    def __init__(self, services: Services, role: Role | None, *, login: bool = False) -> None:
        self._services = services
        self._role = role
        self._login = login
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
        services.names.watch(self._desk.forget)
        self.at_once = self._desk.answer
        self._pages: dict[str, Callable[[Call], Awaitable[web.Response]]] = {
            "/healthz": self._health,
            "/metrics": self._metrics,
        }

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request. Whatever goes wrong becomes an answer too, or an aborted connection."""
        began = monotonic()
        services = self._services
        if not request.raw_path.startswith("/"):
            request = _origin_form(request)
        route: routes.Route | None = None
        wanted: object = API if request.raw_path.startswith(_API) else None
        try:
            loop = self._loop(request)
            if loop is not None:
                return loop
            page = self._pages.get(request.raw_path.partition("?")[0])
            if page is not None:
                outcome = Outcome(await page(self._call(request)))
            elif wanted is API:
                outcome = Outcome(await services.api.answer(self._call(request, await self._user(request))))
            else:
                route = self._route(request.raw_path)
                wanted = WRITE if writes(route, request.method) else route
                outcome = await self._answer(self._call(request, await self._user(request)), route)
        except UpstreamLoop as error:
            outcome = Outcome(self._looping() if VIA in request.headers else services.failures.render(error, wanted))
        except MirrorError as error:
            outcome = Outcome(self._refusal(request, error, wanted))
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as error:  # noqa: BLE001 - the last resort: logged whole, and the client gets the specified shape
            outcome = Outcome(services.failures.unexpected(error))
        self._tell(request, route, outcome, monotonic() - began)
        if bodies.in_doubt(request):
            outcome.response.force_close()
        return outcome.response

    # --- the registry ----------------------------------------------------------------------------------------

    async def _answer(self, call: Call, route: routes.Route) -> Outcome:
        services = self._services
        services.rights.check(call.principal, type(route), call.request.method)
        if writes(route, call.request.method):
            return Outcome(await services.writing.answer(call, route))
        match route:
            case routes.ManifestRoute():
                return await self._manifest(call, route)
            case routes.BlobRoute():
                repository = self._readable(call, route)
                if call.head:
                    own = services.targets.asks_before_pushing(call.principal, route.name, call.host)
                    return Outcome(*await services.blobs.head(call, own or repository, route.digest))
                return Outcome(*await services.blobs.get(call, repository, route.digest))
            case routes.TagsRoute():
                repository = self._readable(call, route)
                return Outcome(await tags.answer(call, services.listings, repository, route))
            case routes.ReferrersRoute():
                repository = self._readable(call, route)
                return Outcome(await referrers.answer(call, services.listings, repository, route))
            case routes.Base():
                if self._login and call.principal.user is None:
                    raise Unauthorized("log in with a user of this mirror")
                return Outcome(base.answer(call))
            case routes.CatalogRoute() | routes.OldPing() | routes.SearchRoute():
                return Outcome(await self._overview(call, route))
            case _:
                raise Unsupported("this is not supported here")

    async def _overview(
        self, call: Call, route: routes.CatalogRoute | routes.OldPing | routes.SearchRoute
    ) -> web.Response:
        """What is asked of no repository in particular."""
        match route:
            case routes.CatalogRoute():
                return await catalog.answer(call, self._services.held, route)
            case routes.OldPing():
                return search.ping(call)
            case routes.SearchRoute():
                return await search.answer(call, self._services.search, route)

    async def _manifest(self, call: Call, route: routes.ManifestRoute) -> Outcome:
        services = self._services
        repository = self._readable(call, route)
        if not services.rights.private(_own(route.name)):
            self._desk.learn(call.request.raw_path, call.host, repository, route, ns=call.ns)
        found = await services.manifests.find(call.principal, repository, route.reference)
        size = 0 if call.head else found.kept.manifest.descriptor.size
        response = services.manifests.answer(call, repository, found)
        services.pulls.manifest(call.client, repository, str(route.reference), found.cache, size)
        services.traffic.served[repository.registry] += size
        return Outcome(response, found.cache, size)

    def _readable(self, call: Call, route: Reading) -> Repository:
        """The repository meant, if he may read it; else it is unknown to him.

        What `[access] private` names is unknown whether it exists or not: a name that would lead to the default
        registry, were it not the mirror's own, is answered alike.
        """
        services, principal = self._services, call.principal
        repository = services.names.repository(route.name, call.host)
        if not services.rights.allows(principal, Action.PULL, repository):
            raise _unknown(route)
        if route.name.registry is None and not repository.is_own and not services.names.is_registry(call.host):
            own = _own(route.name)
            if services.rights.private(own) and not services.rights.allows(principal, Action.PULL, own):
                raise _unknown(route)
        return repository

    def _refusal(self, request: web.BaseRequest, error: MirrorError, wanted: object) -> web.Response:
        """The answer to what cannot be done. Where one logs in, what strangers do not find is asked for with a user:
        clients that do not ping (containerd) send what they have only after a challenge."""
        render = self._services.failures.render
        response = render(error, wanted)
        if not self._login or response.status != 404 or wanted in (None, API) or AUTHORIZATION in request.headers:
            return response
        if self._call(request).principal.role is not Role.STRANGER:
            return response
        return render(Unauthorized("not known to strangers; log in with a user of this mirror"), wanted)

    def _route(self, raw: str) -> routes.Route:
        route = self._routes.get(raw)
        if route is None:
            path, _, query = raw.partition("?")
            route = routes.parse(path, query)
            if len(self._routes) >= _REMEMBERED:
                self._routes.clear()
            if len(raw) <= _LONGEST_REMEMBERED and not isinstance(route, routes.UploadRoute):
                self._routes[raw] = route
        return route

    async def _user(self, request: web.BaseRequest) -> str | None:
        """Whose credentials came along. Raises `Unauthorized` where they are wrong. The socket needs none."""
        if self._role is not None or AUTHORIZATION not in request.headers:
            return None
        client = cast("Connection", request.protocol).client
        return await self._services.authentication.user(request.headers, client)

    def _call(self, request: web.BaseRequest, user: str | None = None) -> Call:
        services = self._services
        connection = cast("Connection", request.protocol)
        role = self._role
        if role is None:
            role = services.authentication.role(request.headers, local=connection.local)
        raw = request.raw_path
        ns = "?ns=" in raw or "&ns=" in raw
        principal = services.rights.principal(role, user)
        return Call(request, principal, connection.client, request.headers.get("Host", ""), ns)

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


def _own(name: Name) -> Repository:
    """The mirror's own repository that this would be."""
    return Repository(LOCAL, name.path)


def _unknown(route: Reading) -> MirrorError:
    """What is said of a name that he may not know of, in the words of the request."""
    name = route.name.path if route.name.registry is None else f"{route.name.registry}/{route.name.path}"
    match route:
        case routes.ManifestRoute():
            return ManifestUnknown(f"{name}: {route.reference} is not known here")
        case routes.BlobRoute():
            return BlobUnknown(f"blob {route.digest} is not known in {name}")
        case routes.ReferrersRoute():
            return ManifestUnknown(f"{name}: {route.digest} is not known here")
        case _:
            return NameUnknown(f"{name} is not known", detail={"name": name})

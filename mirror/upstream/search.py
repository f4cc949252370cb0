"""Finding repositories in a registry.

Two ways are in use, and neither is in the OCI distribution specification: the search of docker's first protocol
(`GET /v1/search?q=&n=`, moby `registry/search_session.go`; Docker Hub, Quay, Red Hat, other mirrors), and the list of
all repositories (`GET /v2/_catalog`, distribution `spec/api.md`, "Listing Repositories"), in which the term is looked
for here. Many registries offer neither. Docker Hub has its search at a host of its own, which is asked without
credentials, and whose limits are not those of pulls.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from yarl import URL

from mirror.clock import Clock
from mirror.errors import NoSearch, UpstreamGone, UpstreamInvalid, UpstreamLimited, UpstreamUnreachable
from mirror.oci.names import valid_path
from mirror.upstream.bodies import drain, read_capped
from mirror.upstream.endpoints import Endpoint
from mirror.upstream.exchange import Answer, Exchange
from mirror.upstream.failover import Failover
from mirror.upstream.listing import Page, next_link
from mirror.upstream.protocols import Found

SECONDS = 25.0
"""For a whole search, all pages together."""
BODY_LIMIT = 4 << 20
CATALOG_PAGES = 50
"""Pages of a catalog that are looked through at the most."""

_PAGE_SIZE = "n=1000"
_DESCRIPTION = 1000
_ACCEPT = {"Accept": "application/json"}
_HUB_HOST = "registry-1.docker.io"
_HUB_SEARCH = Endpoint.parse("https://index.docker.io")
_OURS_TO_JUDGE = (429, 508)  # limits and loops are the same on every route


class RegistrySearch:
    """The search of one source. `Registries` builds it."""

    def __init__(self, registry: str, *, exchange: Exchange, failover: Failover, clock: Clock) -> None:
        self._registry = registry
        self._exchange = exchange
        self._failover = failover
        self._clock = clock
        self._limited_until = 0.0  # of Docker Hub's search: its pulls have limits of their own

    @property
    def at_hub(self) -> bool:
        """Whether this is Docker Hub itself, and not something else configured under its name."""
        return self._failover.reaches(_HUB_HOST)

    async def find(self, term: str, limit: int) -> list[Found]:
        """Repositories that match `term`, at most `limit`, in the registry's order.

        Raises `NoSearch` where it offers no way to find any, `Offline`, or an `UpstreamNoAnswer`.
        """
        try:
            async with asyncio.timeout(SECONDS):
                return await (self._at_hub(term, limit) if self.at_hub else self._here(term, limit))
        except TimeoutError:
            raise UpstreamUnreachable(
                f"{self._registry}: its search gave no answer within {SECONDS:.0f} s", registry=self._registry
            ) from None

    # --- /v1/search -----------------------------------------------------------------------------------------

    async def _at_hub(self, term: str, limit: int) -> list[Found]:
        left = self._limited_until - self._clock.monotonic()
        if left > 0:
            raise UpstreamLimited(
                f"{self._registry} limits our searches; none is sent for another {left:.0f} s",
                registry=self._registry,
                retry_after=left,
            )
        url = _search_url(_HUB_SEARCH, term.removeprefix("library/"), limit)
        try:
            answer = await self._exchange.judged(_HUB_SEARCH, "GET", url, _ACCEPT)
        except UpstreamLimited as error:
            self._limited_until = self._clock.monotonic() + error.retry_after
            raise
        except UpstreamGone:
            raise UpstreamInvalid(f"{self._registry}: its search is not there", registry=self._registry) from None
        if answer.status != 200:
            await drain(answer.response)
            raise self._exchange.invalid(answer)
        results = _results(await self._read(answer))
        if results is None:
            raise UpstreamInvalid(f"{self._registry}: its search cannot be read", registry=self._registry)
        return _found(results, "")[:limit]

    async def _here(self, term: str, limit: int) -> list[Found]:
        found = await self._failover.run(lambda endpoint: self._search(endpoint, term, limit)) if term else None
        if found is None:
            found = await self._catalog(term, limit)
        if found is None:
            raise NoSearch(
                f"{self._registry} offers no search: neither /v1/search nor /v2/_catalog",
                detail={"registry": self._registry},
            )
        return found[:limit]

    async def _search(self, endpoint: Endpoint, term: str, limit: int) -> list[Found] | None:
        """What `/v1/search` finds; None where there is none."""
        answer = await self._exchange.ask(endpoint, "GET", _search_url(endpoint, term, limit), _ACCEPT)
        if answer.status in _OURS_TO_JUDGE:
            await self._exchange.judge(answer)
        if answer.status != 200:  # also 5xx: some say 501 or 503 to what they do not know
            await drain(answer.response)
            return None
        results = _results(await self._read(answer))
        return None if results is None else _found(results, _prefix(endpoint))

    # --- /v2/_catalog ---------------------------------------------------------------------------------------

    async def _catalog(self, term: str, limit: int) -> list[Found] | None:
        """The names in the catalog that contain `term`, up to `limit` of them; None where there is none."""
        wanted, page = term.lower(), None
        names: list[str] = []
        for _ in range(CATALOG_PAGES):
            try:
                listed, page = await self._failover.run(lambda endpoint: self._page(endpoint, page))  # noqa: B023 - awaited at once
            except UpstreamGone:
                return None
            if listed is None:
                return None
            names += [name for name in listed if wanted in name]
            if page is None or len(names) >= limit:
                break
        return [Found(name) for name in names]

    async def _page(self, endpoint: Endpoint, page: Page | None) -> tuple[list[str] | None, Page | None]:
        """One page's names and the next page; no names where this is no catalog."""
        url = page.url if page is not None else URL(f"{endpoint.ping}_catalog?{_PAGE_SIZE}", encoded=True)
        answer = await self._exchange.judged(endpoint, "GET", url, _ACCEPT)
        if answer.status != 200:
            await drain(answer.response)
            return None, None
        value = await self._read(answer)
        names = value.get("repositories") if isinstance(value, dict) else None
        if not isinstance(value, dict) or not (names is None or isinstance(names, list)) or "repositories" not in value:
            return None, None
        prefix = _prefix(endpoint)
        mine = [name for each in names or () if (name := _path(each, prefix)) is not None]
        link = next_link(answer.response.headers.getall("Link", []))
        if link is None:
            return mine, None
        here = page or Page(answer.response.url)
        return mine, here.after(self._exchange.follow(answer.response.url, link))

    async def _read(self, answer: Answer) -> Any:
        """The JSON that came, None where it is none."""
        raw = await read_capped(answer.response, BODY_LIMIT, registry=self._registry, what="search")
        return await asyncio.to_thread(_decoded, raw)


def _search_url(endpoint: Endpoint, term: str, limit: int) -> URL:
    """`/v1/search` beside that endpoint's `/v2/`."""
    ping = endpoint.ping
    path = ping.raw_path.removesuffix("v2/") + "v1/search"
    return ping.with_path(path, encoded=True).with_query({"q": term, "n": str(limit)})


def _prefix(endpoint: Endpoint) -> str:
    """What an endpoint with a path puts before the names of its repositories."""
    return endpoint.base.path.removeprefix(endpoint.ping.path.rstrip("/")).lstrip("/")


def _path(name: object, prefix: str) -> str | None:
    """A repository's path below `prefix`; None for one elsewhere, and for what is none."""
    if not isinstance(name, str):
        return None
    if prefix:
        outer, path = name[: len(prefix) + 1], name[len(prefix) + 1 :]
        if outer != f"{prefix}/":
            return None
    else:
        path = name
    return path if valid_path(path) else None


def _results(value: Any) -> list[Any] | None:
    """The entries of a search; None for anything else."""
    if not isinstance(value, dict) or "results" not in value:
        return None
    results = value["results"]
    if results is None:
        return []  # a nil slice of Go's
    return results if isinstance(results, list) else None


def _found(results: list[Any], prefix: str) -> list[Found]:
    found = []
    for each in results:
        if isinstance(each, Mapping) and (path := _path(each.get("name"), prefix)) is not None:
            description, stars = each.get("description"), each.get("star_count")
            found.append(
                Found(
                    path,
                    description[:_DESCRIPTION] if isinstance(description, str) else "",
                    stars if isinstance(stars, int) and not isinstance(stars, bool) and stars > 0 else 0,
                    each.get("is_official") is True,
                    each.get("is_automated") is True,
                )
            )
    return found


def _decoded(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None

"""`GET /v2/<name>/tags/list` (OCI distribution-spec, end-8a and end-8b)."""

import json
from bisect import bisect_right
from urllib.parse import urlencode

from aiohttp import web

from mirror.cache.listings import Listings
from mirror.oci import routes
from mirror.oci.names import Repository
from mirror.server.call import Call, warning

MOST = 10_000  # names on one page, whatever the client asks for


async def answer(call: Call, listings: Listings, repository: Repository, route: routes.TagsRoute) -> web.Response:
    """Names in ASCII order, at most `n` of those after `last`, and a `Link` to the rest that keeps `ns`."""
    names, remark = await listings.tags(call.principal, repository)
    start = bisect_right(names, route.last) if route.last else 0
    count = MOST if route.n is None else min(route.n, MOST)
    page = names[start : start + count]
    headers = call.headers(repository)
    headers["Content-Type"] = "application/json"
    if remark is not None:
        headers["Warning"] = warning(remark)
    if page and start + count < len(names):
        headers["Link"] = f'<{_next(call, route, count, page[-1])}>; rel="next"'
    name = route.name.path
    return web.Response(headers=headers, body=json.dumps({"name": name, "tags": page}).encode())


def _next(call: Call, route: routes.TagsRoute, count: int, last: str) -> str:
    path = call.request.raw_path.partition("?")[0]
    query = {"n": str(count), "last": last}
    if call.ns and route.name.registry is not None:
        query["ns"] = route.name.registry
    return f"{path}?{urlencode(query)}"

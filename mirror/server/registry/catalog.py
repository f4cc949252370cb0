"""`GET /v2/_catalog` (distribution `spec/api.md`, "Listing Repositories"; OCI's specification has no such route)."""

import json
from urllib.parse import urlencode

from aiohttp import web

from mirror.oci import routes
from mirror.operations.catalog import Held
from mirror.server.call import Call

MOST = 1000  # names on one page, whatever the client asks for


async def answer(call: Call, held: Held, route: routes.CatalogRoute) -> web.Response:
    """The repositories held that the asker may know of, in the order of their names, at most `n` behind `last`."""
    count = MOST if route.n is None else min(route.n, MOST)
    names, more = await held.page(call.principal, route.last or "", count) if count else ([], False)
    headers = call.headers()
    headers["Content-Type"] = "application/json"
    if more:
        path = call.request.raw_path.partition("?")[0]
        headers["Link"] = f'<{path}?{urlencode({"n": count, "last": names[-1]})}>; rel="next"'
    return web.Response(headers=headers, body=json.dumps({"repositories": names}).encode())

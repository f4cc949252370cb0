"""`GET /v1/_ping` and `/v1/search`, what is left of docker's first protocol: `docker search`, `podman search`.

dockerd pings before it searches, and takes from the answer whether to show its user's password at once (moby
`registry/search_endpoint_v1.go`); podman only searches (containers/image `docker/docker_client.go`, SearchRegistry).
"""

import json
from dataclasses import asdict

from aiohttp import web

import mirror
from mirror.oci import routes
from mirror.operations.search import DEFAULT, MOST, Result, Search
from mirror.server.call import Call

_PAGES = 100  # further on there is nothing


def ping(call: Call) -> web.Response:
    """Yes, and this registry knows its own users."""
    headers = call.headers()
    headers["Content-Type"] = "application/json"
    headers["X-Docker-Registry-Version"] = mirror.__version__
    headers["X-Docker-Registry-Standalone"] = "true"
    return web.Response(body=b"true", headers=headers)


async def answer(call: Call, search: Search, route: routes.SearchRoute) -> web.Response:
    """What is found, `n` results on a page, under the names that are pulled from here."""
    count = min(route.n or DEFAULT, MOST)
    page = min(max(route.page or 1, 1), _PAGES)
    found = await search.for_clients(call.principal, route.term, min(count * page, MOST))
    results = found[count * (page - 1) : count * page]
    body = {
        "query": route.term,
        "num_results": len(found),
        "num_pages": -(-len(found) // count),
        "page": page,
        "page_size": count,
        "results": [_written(result) for result in results],
    }
    headers = call.headers()
    headers["Content-Type"] = "application/json"
    return web.Response(body=json.dumps(body).encode(), headers=headers)


def _written(result: Result) -> dict[str, object]:
    said = asdict(result)
    return {
        "name": said["name"],
        "description": said["description"],
        "star_count": said["stars"],
        "is_official": said["official"],
        "is_automated": said["automated"],
        "is_trusted": said["automated"],
    }

"""`GET /v2/<name>/referrers/<digest>` (OCI distribution-spec, end-12a and end-12b)."""

import json
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

from aiohttp import web

from mirror.cache.listings import Listings
from mirror.oci import routes
from mirror.oci.manifest import MANIFEST_LIMIT, OCI_INDEX
from mirror.oci.names import Repository
from mirror.server.call import Call

PAGE_BYTES = MANIFEST_LIMIT - 1024
"""Of descriptors on one page: an index that is larger than a manifest may be is read by nobody."""

_Descriptor = Mapping[str, object]


async def answer(call: Call, listings: Listings, repository: Repository, route: routes.ReferrersRoute) -> web.Response:
    """An OCI index, even an empty one; a `Link` to the rest where they are too many for one, which keeps `ns`."""
    found: Sequence[_Descriptor] = await listings.referrers(call.principal, repository, route.digest)
    headers = call.headers(repository)
    if route.artifact_type is not None:
        found = [each for each in found if each.get("artifactType") == route.artifact_type]
        headers["OCI-Filters-Applied"] = "artifactType"
    page, more = _page(found, str(route.last) if route.last is not None else None)
    if more:
        headers["Link"] = f'<{_next(call, route, page[-1])}>; rel="next"'
    headers["Content-Type"] = OCI_INDEX
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": page}
    return web.Response(headers=headers, body=json.dumps(index).encode())


def _page(found: Sequence[_Descriptor], last: str | None) -> tuple[list[_Descriptor], bool]:
    """Those after the digest `last`, as many as fit, and whether there are more."""
    if last is not None:
        place = next((number for number, each in enumerate(found) if each.get("digest") == last), len(found))
        found = found[place + 1 :]
    size = 0
    for number, each in enumerate(found):
        size += len(json.dumps(each)) + 2
        if size > PAGE_BYTES and number:
            return list(found[:number]), True
    return list(found), False


def _next(call: Call, route: routes.ReferrersRoute, last: _Descriptor) -> str:
    path = call.request.raw_path.partition("?")[0]
    query = {"artifactType": route.artifact_type} if route.artifact_type is not None else {}
    query["last"] = str(last["digest"])
    if call.ns and route.name.registry is not None:
        query["ns"] = route.name.registry
    return f"{path}?{urlencode(query)}"

"""`GET /v2/<name>/referrers/<digest>` (OCI distribution-spec, end-12a and end-12b)."""

import json

from aiohttp import web

from mirror.cache.listings import Listings
from mirror.oci import routes
from mirror.oci.manifest import OCI_INDEX
from mirror.oci.names import Repository
from mirror.server.call import Call


async def answer(call: Call, listings: Listings, repository: Repository, route: routes.ReferrersRoute) -> web.Response:
    """An OCI index, even an empty one."""
    found = await listings.referrers(call.principal, repository, route.digest)
    headers = call.headers(repository)
    if route.artifact_type is not None:
        found = [each for each in found if each.get("artifactType") == route.artifact_type]
        headers["OCI-Filters-Applied"] = "artifactType"
    headers["Content-Type"] = OCI_INDEX
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found}
    return web.Response(headers=headers, body=json.dumps(index).encode())

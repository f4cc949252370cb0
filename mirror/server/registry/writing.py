"""Every request of the registry API that writes: who may, where it goes, which file does it.

Manifests by PUT and DELETE stand here (OCI distribution-spec, "Pushing Manifests", "Content Management"; end-7, end-9,
end-10), uploads in `uploads`.
"""

import logging

from aiohttp import web

from mirror.cache.pushes import Pushes
from mirror.cache.rights import Action, Rights, Role
from mirror.cache.targets import Targets
from mirror.errors import BlobUploadUnknown, Denied, ManifestInvalid, Unsupported
from mirror.logs import human
from mirror.oci import routes
from mirror.oci.digest import Digest
from mirror.oci.manifest import MANIFEST_LIMIT, Manifest
from mirror.oci.names import Repository
from mirror.server import bodies
from mirror.server.call import Call
from mirror.server.registry.uploads import UploadHandler

log = logging.getLogger(__name__)

READING = frozenset({"GET", "HEAD"})
_TAGS_AT_ONCE = 100


def writes(route: routes.Route, method: str) -> bool:
    """Whether a request is answered here."""
    return method not in READING or isinstance(route, routes.UploadsRoute | routes.UploadRoute)


class Writing:
    """The writing half of the registry."""

    def __init__(self, *, rights: Rights, targets: Targets, pushes: Pushes, uploads: UploadHandler) -> None:
        self._rights = rights
        self._targets = targets
        self._pushes = pushes
        self._uploads = uploads

    async def answer(self, call: Call, route: routes.Route) -> web.Response:
        """Raises what `failures` renders. The right to the method was checked, the repository's was not."""
        _check_page(call)
        match route:
            case routes.UploadsRoute():
                return await self._uploads.begin(call, self._targets.meant(route.name, call.host), route)
            case routes.UploadRoute():
                repository = self._targets.meant(route.name, call.host)
                if not self._rights.allows(call.principal, Action.PUSH, repository):
                    raise BlobUploadUnknown("there is no such upload here")
                self._targets.check_mode(repository)  # it may have been begun before a restart, with other settings
                return await self._uploads.go_on(call, repository, route)
            case routes.ManifestRoute() if call.request.method == "PUT":
                return await self._put(call, self._targets.meant(route.name, call.host), route)
            case routes.ManifestRoute() | routes.BlobRoute():
                return await self._delete(call, self._targets.meant(route.name, call.host), route)
            case _:
                raise Unsupported(f"{call.request.method} is not supported here")

    async def _put(self, call: Call, repository: Repository, route: routes.ManifestRoute) -> web.Response:
        if len(route.tags) > _TAGS_AT_ONCE:
            raise ManifestInvalid(f"more than {_TAGS_AT_ONCE} tags in one request")
        await self._targets.permit(call.principal, repository)
        manifest = await self._pushes.put(
            call.principal,
            repository,
            await bodies.whole(call.request, MANIFEST_LIMIT),
            declared=call.request.headers.get("Content-Type"),
            reference=route.reference,
            tags=route.tags,
        )
        _tell(call, repository, route, manifest)
        digest = manifest.descriptor.digest
        headers = call.headers(repository)
        headers["Location"] = call.beside("/manifests/", f"/manifests/{digest}")
        headers["Docker-Content-Digest"] = str(digest)
        headers["Content-Length"] = "0"
        if manifest.subject is not None:
            headers["OCI-Subject"] = str(manifest.subject.digest)
        if route.tags and isinstance(route.reference, Digest):
            headers["OCI-Tag"] = ", ".join(route.tags)
        return web.Response(status=201, headers=headers)

    async def _delete(
        self, call: Call, repository: Repository, route: routes.ManifestRoute | routes.BlobRoute
    ) -> web.Response:
        self._targets.permit_removal(call.principal, repository)
        if isinstance(route, routes.BlobRoute):
            await self._pushes.drop_blob(repository, route.digest)
        elif isinstance(route.reference, Digest):
            await self._pushes.drop_manifest(call.principal, repository, route.reference)
        else:
            await self._pushes.untag(call.principal, repository, route.reference)
        headers = call.headers(repository)
        headers["Content-Length"] = "0"
        return web.Response(status=202, headers=headers)


def _check_page(call: Call) -> None:
    """Raises `Denied` for a web page: it may make a browser upload, but not without these."""
    headers = call.request.headers
    if call.principal.role is Role.SOCKET:
        return
    if "Origin" in headers or headers.get("Sec-Fetch-Site", "none") != "none":
        raise Denied("web pages cannot push or delete: the request carries Origin or Sec-Fetch-Site")


def _tell(call: Call, repository: Repository, route: routes.ManifestRoute, manifest: Manifest) -> None:
    """A line for each image that is put here by a tag."""
    names = route.tags if isinstance(route.reference, Digest) else (route.reference,)
    size = sum(child.descriptor.size for child in manifest.children())
    for name in names:
        image = f"{repository}:{name}"
        log.info(
            "%s  pushed  %s, %s, by %s",
            image,
            manifest.descriptor.digest.short,
            human(size),
            call.client,
            extra={
                "fields": {
                    "image": image,
                    "digest": str(manifest.descriptor.digest),
                    "pushed_bytes": size,
                    "client": call.client,
                    "actor": call.principal.actor,
                }
            },
        )

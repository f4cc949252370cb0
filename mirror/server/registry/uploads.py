"""Uploads of blobs (OCI distribution-spec, "Pushing Blobs", "Mounting a blob", "Cancel a blob upload"; end-4 to end-6,
end-11, end-13, end-14).

`Location` says the path of the request and the id, and nothing in a query but `ns`: clients re-encode queries.
"""

from aiohttp import web
from multidict import CIMultiDict

from mirror.cache.names import Names
from mirror.cache.pushes import Pushes
from mirror.cache.targets import Targets
from mirror.cache.uploads import Session, Uploads
from mirror.errors import BlobUploadInvalid, NameUnknown
from mirror.oci import routes
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.oci.ranges import parse_upload_range
from mirror.server import bodies
from mirror.server.call import Call

SMALL = 256 * 1024  # bytes of a blob that is taken whole, where it comes with its digest
_UPLOADS = "/blobs/uploads"


class UploadHandler:
    """Uploads over HTTP."""

    def __init__(self, uploads: Uploads, pushes: Pushes, targets: Targets, names: Names) -> None:
        self._uploads = uploads
        self._pushes = pushes
        self._targets = targets
        self._names = names

    async def begin(self, call: Call, repository: Repository, route: routes.UploadsRoute) -> web.Response:
        """POST: mounted or sent with the request, 201; else 202 and where the upload goes on."""
        await self._targets.permit(call.principal, repository)
        if route.mount is not None and await self._mount(call, repository, route, route.mount):
            return self._created(call, repository, route.mount)
        if route.digest is not None and route.mount is None:
            await self._at_once(call, repository, route.digest)
            return self._created(call, repository, route.digest)
        algorithm = route.algorithm or (route.mount.algorithm if route.mount is not None else "sha256")
        session = await self._uploads.begin(call.principal, repository, algorithm)
        return self._under_way(call, session, 0, 202)

    async def go_on(self, call: Call, repository: Repository, route: routes.UploadRoute) -> web.Response:
        """What is asked of an upload that is under way."""
        session = await self._uploads.find(call.principal, repository, route.id)
        match call.request.method:
            case "PATCH":
                offset = await self._uploads.write(session, bodies.chunks(call.request), _start(call))
                return self._under_way(call, session, offset, 202)
            case "PUT":
                return await self._finish(call, session, route)
            case "DELETE":
                await self._uploads.cancel(session)
                return web.Response(status=204, headers=call.headers(repository))
            case _:
                return self._under_way(call, session, await self._uploads.offset(session), 204)

    async def _finish(self, call: Call, session: Session, route: routes.UploadRoute) -> web.Response:
        if route.digest is None:
            raise BlobUploadInvalid("the digest is missing: it belongs into the query of the closing PUT")
        await self._uploads.finish(session, route.digest, bodies.chunks(call.request), _start(call))
        return self._created(call, session.repository, route.digest)

    async def _at_once(self, call: Call, repository: Repository, digest: Digest) -> None:
        """The whole blob is the body of the POST."""
        size = bodies.length(call.request)
        if size is not None and size <= SMALL:
            await self._uploads.put(repository, digest, await bodies.whole(call.request, SMALL))
        else:
            session = await self._uploads.begin(call.principal, repository, digest.algorithm)
            try:
                await self._uploads.finish(session, digest, bodies.chunks(call.request), None)
            except BaseException:
                await self._uploads.abandon(session)  # nobody was told of it
                raise

    async def _mount(self, call: Call, repository: Repository, route: routes.UploadsRoute, digest: Digest) -> bool:
        source = None
        if route.source is not None:
            try:
                source = self._names.repository(route.source, call.host)
            except NameUnknown:
                return False
        return await self._pushes.mount(call.principal, repository, digest, source)

    # --- answers ---------------------------------------------------------------------------------------------

    def _under_way(self, call: Call, session: Session, offset: int, status: int) -> web.Response:
        headers = call.headers(session.repository)
        headers["Location"] = call.beside(_UPLOADS, f"{_UPLOADS}/{session.id}")
        headers["Docker-Upload-UUID"] = session.id
        headers["Range"] = f"0-{max(0, offset - 1)}"
        headers["Content-Length"] = "0"
        return web.Response(status=status, headers=headers)

    def _created(self, call: Call, repository: Repository, digest: Digest) -> web.Response:
        headers: CIMultiDict[str] = call.headers(repository)
        headers["Location"] = call.beside(_UPLOADS, f"/blobs/{digest}")
        headers["Docker-Content-Digest"] = str(digest)
        headers["Content-Length"] = "0"
        return web.Response(status=201, headers=headers)


def _start(call: Call) -> int | None:
    """Where the body belongs, as `Content-Range` says it. Raises `BlobUploadInvalid` where it cannot be read, or is not
    as long as it says."""
    text = call.request.headers.get("Content-Range")
    if text is None:
        return None
    found = parse_upload_range(text)
    if found is None:
        raise BlobUploadInvalid("Content-Range cannot be read: FIRST-LAST is wanted, both of them positions of bytes")
    start, end = found
    size = bodies.length(call.request)
    if size is not None and end - start != size:
        raise BlobUploadInvalid(f"Content-Range {text} does not fit a body of {size} bytes")
    return start

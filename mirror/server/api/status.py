"""`GET /api/v1/status`: how the mirror is doing."""

from typing import Any

from mirror.cache.sight import Sight
from mirror.oci.names import Repository
from mirror.operations.status import Status
from mirror.server.api.endpoint import Asked, Endpoint


def endpoints(status: Status, sight: Sight) -> list[Endpoint]:
    """The routes of this resource."""

    async def report(asked: Asked) -> dict[str, Any]:
        async def knows(repository: Repository) -> bool:
            return await sight.knows(asked.principal, repository)

        return await status.report(knows)

    return [Endpoint("GET", "/status", "How the mirror is doing", report, dict[str, Any])]

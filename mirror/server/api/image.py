"""`GET /api/v1/image`: everything about one image."""

from dataclasses import dataclass

from mirror.operations.image import ImageDetail, Inspection
from mirror.server.api.endpoint import Asked, Endpoint


@dataclass(frozen=True, slots=True)
class ImageQuery:
    """`ref`: a reference, a digest, an ID or the beginning of one. `platform`: as in linux/arm64."""

    ref: str
    platform: str | None = None


def endpoints(inspection: Inspection) -> list[Endpoint]:
    """The routes of this resource."""

    async def image(asked: Asked) -> ImageDetail:
        query: ImageQuery = asked.query
        return await inspection.image(asked.principal, query.ref, query.platform)

    return [Endpoint("GET", "/image", "One image, whole", image, ImageDetail, query=ImageQuery)]

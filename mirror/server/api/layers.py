"""`GET /api/v1/layers`: an image's layers, and who shares them."""

from mirror.operations.layers import LayerList, Layers
from mirror.server.api.endpoint import Asked, Endpoint
from mirror.server.api.image import ImageQuery


def endpoints(layers: Layers) -> list[Endpoint]:
    """The routes of this resource."""

    async def of(asked: Asked) -> LayerList:
        query: ImageQuery = asked.query
        return await layers.of(asked.principal, query.ref, query.platform)

    return [Endpoint("GET", "/layers", "An image's layers, and who shares them", of, LayerList, query=ImageQuery)]

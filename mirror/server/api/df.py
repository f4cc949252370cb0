"""`GET /api/v1/df`: what the disk holds."""

from dataclasses import dataclass

from mirror.operations.df import Df, DiskUsage
from mirror.server.api.endpoint import Asked, Endpoint


@dataclass(frozen=True, slots=True)
class DfQuery:
    """`verbose`: with all images."""

    verbose: bool = False


def endpoints(df: Df) -> list[Endpoint]:
    """The routes of this resource."""

    async def report(asked: Asked) -> DiskUsage:
        query: DfQuery = asked.query
        return await df.report(asked.principal, verbose=query.verbose)

    return [Endpoint("GET", "/df", "What the disk holds, and what sharing saves", report, DiskUsage, query=DfQuery)]

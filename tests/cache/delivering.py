"""One blob that is to be sent, for the tests of deliveries."""

from collections.abc import Callable

from mirror.cache.delivery import Delivered
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from tests.cache.receiving import Office

THERE = Repository("ghcr.io", "me/app")
OTHER = Repository("ghcr.io", "me/other")
DATA = bytes(range(256)) * 10_000  # 2.56 MB: three pieces


def nothing(done: int, size: int) -> None:
    """Somebody who does not listen."""


async def deliver(
    office: Office, digest: Digest, tell: Callable[[int, int], None] = nothing, there: Repository = THERE
) -> tuple[Delivered, bool]:
    return await office.deliveries.deliver(office.ghcr, there, digest, tell)

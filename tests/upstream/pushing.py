"""What the tests of pushing share: a blob that is long enough to break, and its way up."""

from collections.abc import AsyncGenerator

from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.upstream.protocols import Destination, Session
from tests.support.fake_registry.content import random_bytes
from tests.upstream.support import NAME, REPOSITORY

DATA = random_bytes("pushed", 5_000_000)
DIGEST = Digest.of(DATA)
OTHER = Repository(NAME, "team/base")
UPLOADS = "*/blobs/uploads/*"


async def chunks(data: bytes, size: int = 300_000) -> AsyncGenerator[bytes, None]:
    """As a file would be read."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def begun(target: Destination) -> Session:
    """An upload of `DATA`."""
    session = await target.begin(REPOSITORY, DIGEST)
    assert session is not None
    return session


async def push(target: Destination, data: bytes = DATA) -> None:
    """A whole blob."""
    session = await begun(target)
    session = await target.send(REPOSITORY, session, chunks(data), len(data))
    await target.finish(REPOSITORY, session, Digest.of(data))

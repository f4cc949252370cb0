"""When what was last pulled: noted in memory as it happens, written down in batches (design.md §6, "Room").

A request costs a comparison, and the first one of a name in each round an entry in a dictionary: no request waits for
the disk because of it. What was noted since the last round is lost with a kill: it makes an image look a little older
than it is, nothing else.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mirror.clock import Clock
from mirror.errors import MirrorError
from mirror.oci.digest import Digest
from mirror.oci.names import Repository

log = logging.getLogger(__name__)

_Image = tuple[Repository, str | Digest]

ROUND = 30.0  # seconds between writes
_TOGETHER = 0.1  # seconds: what was used so closely together counts as used at once
_MOST = 100_000  # names noted in a round; beyond, images look older than they are


class Catalog(Protocol):
    """What of the catalog is written."""

    async def touch(self, used: Sequence[_Image], blobs: Sequence[Digest], at: float, /) -> None: ...


@dataclass(slots=True)
class _Batch:
    """What is written at once."""

    images: list[_Image] = field(default_factory=list)
    blobs: list[Digest] = field(default_factory=list)
    at: float = 0.0

    def add_image(self, used: _Image, at: float) -> None:
        self.images.append(used)
        self.at = max(self.at, at)

    def add_blob(self, digest: Digest, at: float) -> None:
        self.blobs.append(digest)
        self.at = max(self.at, at)


class Uses:
    """Of one mirror. `round` is another one after every `flush`: whoever remembers the round in which he noted a name
    need not note it again."""

    def __init__(self, *, catalog: Catalog, clock: Clock) -> None:
        self.round = 1
        self._catalog = catalog
        self._clock = clock
        self._images: dict[_Image, float] = {}
        self._blobs: dict[Digest, float] = {}

    def image(self, repository: Repository, reference: str | Digest) -> None:
        """This tag or manifest was just pulled."""
        if len(self._images) < _MOST:
            self._images[repository, reference] = self._clock.wall()

    def blob(self, digest: Digest) -> None:
        """This blob was just pulled."""
        if len(self._blobs) < _MOST:
            self._blobs[digest] = self._clock.wall()

    async def flush(self) -> None:
        """Write down what was noted. What is used meanwhile is noted anew."""
        if not self._images and not self._blobs:
            return
        images, blobs = self._images, self._blobs
        self._images, self._blobs = {}, {}
        self.round += 1
        batches: defaultdict[int, _Batch] = defaultdict(_Batch)
        for used, at in images.items():
            batches[int(at / _TOGETHER)].add_image(used, at)
        for digest, at in blobs.items():
            batches[int(at / _TOGETHER)].add_blob(digest, at)
        writes = [self._catalog.touch(batch.images, batch.blobs, batch.at) for batch in batches.values()]
        for outcome in await asyncio.gather(*writes, return_exceptions=True):
            if isinstance(outcome, MirrorError):
                log.warning("when images were last pulled is not written down: %s", outcome.message)
            elif outcome is not None:
                raise outcome

    async def keep_flushing(self) -> None:
        """`flush` every `ROUND` seconds, until it is cancelled."""
        while True:
            await asyncio.sleep(ROUND)
            await self.flush()

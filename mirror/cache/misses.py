"""Misses: what was asked for and could not be given, because its registry could not be asked.

A registry's own "no" is none. What is missing under a tag is called `registry/path:tag`, else `registry/path@digest`.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mirror.clock import Clock
from mirror.errors import Offline, StoreFailed, UpstreamNoAnswer
from mirror.store.protocols import Misses

log = logging.getLogger(__name__)


@asynccontextmanager
async def noting(catalog: Misses, name: str, clock: Clock) -> AsyncIterator[None]:
    """Write down that `name` was asked for in vain, where what stands inside gets no answer for it."""
    try:
        yield
    except (UpstreamNoAnswer, Offline):
        try:
            await catalog.missed(name, clock.wall())
        except StoreFailed as error:
            log.warning("not written down: %s", error.message)
        raise

"""A line per image pulled: hit or miss, blobs, bytes from upstream, seconds.

The protocol knows no pulls, only requests: those of one client for one repository that follow each other closely are
one. The line is written when nothing has come for a while and nothing is being sent.
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import Protocol

from mirror.cache.content import Cache
from mirror.logs import human
from mirror.oci.names import Repository

log = logging.getLogger("mirror.pulls")

QUIET = 2.0  # seconds without a request after which a pull is over
_MOST = 10_000
_MISS = Cache.MISS  # before Python 3.12, an enum's member takes long to reach through its class


class Now(Protocol):
    def monotonic(self) -> float: ...


@dataclass(slots=True)
class Pull:
    """One client's requests for one repository, so far."""

    repository: Repository
    client: str
    reference: str
    began: float
    last: float
    cache: Cache
    active: int = 0
    blobs: int = 0
    served: int = 0
    fetched: int = 0
    cut: bool = False  # the client left, or upstream failed, before all was sent


class PullLog:
    """Pulls under way."""

    def __init__(self, clock: Now) -> None:
        self._clock = clock
        self._pulls: dict[tuple[str, Repository], Pull] = {}
        self._timer: asyncio.TimerHandle | None = None

    def manifest(self, client: str, repository: Repository, reference: str, cache: Cache, size: int) -> None:
        """A manifest was asked for: the pull begins, or goes on. A tag after blobs that were sent begins another."""
        pull = self._pull(client, repository, reference, cache)
        if pull is not None and cache is _MISS:
            pull.cache = cache
            pull.fetched += size

    def begin(self, client: str, repository: Repository, cache: Cache) -> Pull | None:
        """A blob is about to be sent. Give what comes back to `end`."""
        pull = self._pull(client, repository, "", cache)
        if pull is not None:
            pull.active += 1
        return pull

    def end(self, pull: Pull | None, cache: Cache, served: int, *, joined: bool = False, cut: bool = False) -> None:
        """A blob was sent, all of it or, `cut`, as far as it went; `served` in bytes. `joined`: of somebody else's
        download."""
        if pull is None:
            return
        pull.active -= 1
        pull.last = self._clock.monotonic()
        pull.blobs += 1
        pull.served += served
        pull.cut = pull.cut or cut
        if cache is _MISS:
            pull.cache = cache
            pull.fetched += 0 if joined else served

    def _pull(self, client: str, repository: Repository, reference: str, cache: Cache) -> Pull | None:
        now = self._clock.monotonic()
        key = (client, repository)
        pull = self._pulls.get(key)
        if pull is not None and pull.blobs and not pull.active and reference and ":" not in reference:
            self._tell(self._pulls.pop(key))
            pull = None
        if pull is None:
            if len(self._pulls) >= _MOST:
                return None
            pull = self._pulls[key] = Pull(repository, client, reference, now, now, cache)
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(QUIET, self._look)
        pull.last = now
        if not pull.reference:
            pull.reference = reference
        return pull

    def _look(self) -> None:
        now = self._clock.monotonic()
        over = [key for key, pull in self._pulls.items() if not pull.active and now - pull.last >= QUIET]
        for key in over:
            self._tell(self._pulls.pop(key))
        self._timer = asyncio.get_running_loop().call_later(QUIET, self._look) if self._pulls else None

    def close(self) -> None:
        """Tell of every pull that is still open."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for pull in self._pulls.values():
            self._tell(pull)
        self._pulls.clear()

    def _tell(self, pull: Pull) -> None:
        name = str(pull.repository)
        if pull.reference:
            name += ("@" if ":" in pull.reference else ":") + pull.reference
        seconds = pull.last - pull.began
        cache = Cache.HIT if pull.cache is Cache.REVALIDATED else pull.cache  # nothing had to be fetched
        log.info(
            "%s  %s  %d blob%s, %s served, %s from upstream, %.1f s, to %s%s",
            name,
            cache,
            pull.blobs,
            "" if pull.blobs == 1 else "s",
            human(pull.served),
            human(pull.fetched),
            seconds,
            pull.client,
            ", cut off" if pull.cut else "",
            extra={
                "fields": {
                    "image": name,
                    "cache": str(cache),
                    "blobs": pull.blobs,
                    "served_bytes": pull.served,
                    "fetched_bytes": pull.fetched,
                    "seconds": round(seconds, 3),
                    "client": pull.client,
                    "cut_off": pull.cut,
                }
            },
        )

"""Who is at a digest just now, in memory (design.md §6: publish and delete of one digest exclude each other).

The catalog cannot see a rename that precedes its `hold`: whoever publishes holds a lease from before the rename until
after the `hold`, and whoever opens a blob from before he looks it up until it is open. (A reader that has the file open
needs none: on POSIX what is unlinked under it stays readable.) A deletion takes the digest for itself, and only where
nobody is at it; whoever comes then waits for the few milliseconds that it takes.

There is no disk in this: it is all forgotten at a stop, and what was half done then is found at a start (`sweep`).
"""

import asyncio
from collections.abc import Iterable
from types import TracebackType

from mirror.oci.digest import Digest


class Leases:
    """For the event loop only."""

    def __init__(self) -> None:
        self._held: dict[Digest, int] = {}
        self._taken: dict[Digest, asyncio.Event] = {}

    def hold(self, digest: Digest) -> "Lease":
        """`async with leases.hold(digest)`: it is not deleted meanwhile. Waits while it is being deleted."""
        return Lease(self, digest)

    def take(self, digests: Iterable[Digest]) -> list[Digest]:
        """Take those of them that nobody is at, for deletion. Give them back with `give_back`."""
        taken = [digest for digest in digests if digest not in self._held and digest not in self._taken]
        for digest in taken:
            self._taken[digest] = asyncio.Event()
        return taken

    def give_back(self, digests: Iterable[Digest]) -> None:
        """The deletion is over, or was given up: whoever waits goes on."""
        for digest in digests:
            self._taken.pop(digest).set()

    async def enter(self, digest: Digest) -> None:
        """Begin to hold."""
        while (taken := self._taken.get(digest)) is not None:
            await taken.wait()
        self._held[digest] = self._held.get(digest, 0) + 1

    def leave(self, digest: Digest) -> None:
        """Cease to hold."""
        left = self._held[digest] - 1
        if left:
            self._held[digest] = left
        else:
            del self._held[digest]


class Lease:
    """One holder's, as a context."""

    __slots__ = ("_digest", "_leases")

    def __init__(self, leases: Leases, digest: Digest) -> None:
        self._leases = leases
        self._digest = digest

    async def __aenter__(self) -> None:
        await self._leases.enter(self._digest)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leases.leave(self._digest)

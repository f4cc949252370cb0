"""All flights of the mirror: who may join which, and what becomes of those that nobody waits for.

Flights are keyed by (digest, source): a half-finished download goes on only from the source that began it, and
feeds another repository only after that source answered 2xx for it (design.md §4).
"""

import asyncio
import logging

from mirror.cache.flight import Flight
from mirror.cache.landing import Catalog
from mirror.cache.leases import Leases
from mirror.cache.memory import Recent
from mirror.cache.partial import Known
from mirror.cache.room import Room
from mirror.clock import Clock
from mirror.errors import UpstreamGone
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.store.protocols import BlobStore
from mirror.tasks import Tasks
from mirror.upstream.loops import via
from mirror.upstream.protocols import Source

log = logging.getLogger(__name__)

UNATTENDED = 16  # flights without a reader that one client may leave behind …
UNATTENDED_BYTES = 32 * 1024**3  # … and how many bytes these may still have to fetch
_LANDINGS = 10_000  # that are remembered
LEAST_RATE = 16 * 1024  # bytes a second that a flight without a reader must make, …
WATCH_EVERY = 30.0  # … looked at this often, in seconds


class Flights:
    """Flights under way. `shared` counts readers that joined a flight somebody else had begun."""

    def __init__(
        self, *, store: BlobStore, room: Room, catalog: Catalog, leases: Leases, tasks: Tasks, clock: Clock
    ) -> None:
        self.shared = 0
        self._store = store
        self._room = room
        self._catalog = catalog
        self._leases = leases
        self._tasks = tasks
        self._clock = clock
        self._known = Known()
        self._flights: dict[tuple[Digest, tuple[str, bool]], Flight] = {}
        self._landings = 0
        self._landed: Recent[Digest, int] = Recent(_LANDINGS)

    async def recall(self) -> None:
        """Learn what an earlier process left to be resumed. Called once, before the first `join`."""
        await self._known.recall(self._catalog)

    def __len__(self) -> int:
        return len(self._flights)

    def digests(self) -> frozenset[Digest]:
        """What is just being downloaded."""
        return frozenset(digest for digest, _ in self._flights)

    def flying(self, digest: Digest, source: Source) -> Flight | None:
        """The flight of this digest from this source, if there is one."""
        return self._flights.get((digest, source.key))

    def landing(self, digest: Digest) -> int:
        """Which landing of all was the last one of this digest; 0 where it is none of the latest."""
        return self._landed.get(digest) or 0

    async def join(self, digest: Digest, source: Source, repository: Repository, client: str) -> Flight | None:
        """A flight that may feed `repository`, started: its size is known. `client` answers for it if it is new.

        None if it landed while the right was being asked for: the repository is linked then, look again.
        Raises upstream's refusal, or why there is no answer.
        """
        while True:
            flight = self._flights.get((digest, source.key))
            if flight is None:
                flight = self._launch(digest, source, repository, client)
            else:
                self.shared += 1
                if _unproven(flight, repository) and not await self._prove(flight, repository):
                    if flight.landed and await self._link(flight, repository):
                        return None
                    continue  # it failed, or the disk did not take it
            try:
                await flight.start()
            except UpstreamGone:
                if flight.proven[0] == repository:
                    raise
                continue  # that was said of another repository: whoever asks under a wrong name stops nobody
            return flight

    async def watch(self) -> None:
        """Stop flights without a reader that make no way. Runs until it is cancelled."""
        reached: dict[Flight, int] = {}
        while True:
            await asyncio.sleep(WATCH_EVERY)
            now = {flight: flight.reached for flight in self._flights.values() if _unattended(flight)}
            for flight, there in now.items():
                if flight in reached and there - reached[flight] < LEAST_RATE * WATCH_EVERY:
                    flight.stop("nobody waits for it and it makes no way")
            reached = now

    async def _prove(self, flight: Flight, repository: Repository) -> bool:
        """Ask the flight's own source about another repository; False if it ended meanwhile."""
        await flight.source.size(repository, flight.digest)
        if flight.joinable:
            if repository not in flight.proven:
                flight.proven.append(repository)
            return True
        return False

    async def _link(self, flight: Flight, repository: Repository) -> bool:
        return await self._catalog.link(repository, flight.digest, flight.proof, self._clock.wall(), is_manifest=False)

    def _launch(self, digest: Digest, source: Source, repository: Repository, client: str) -> Flight:
        flight = Flight(
            digest,
            source,
            repository,
            client,
            known=self._known,
            store=self._store,
            room=self._room,
            catalog=self._catalog,
            leases=self._leases,
            clock=self._clock,
            owner=self,
        )
        self._flights[digest, source.key] = flight
        flight.task = self._tasks.spawn(f"flight {digest.short}", flight.fly())
        return flight

    # --- what a flight tells its owner -----------------------------------------------------------------------

    def ended(self, flight: Flight) -> None:
        """It can be joined no more."""
        if flight.landed:
            self._landings += 1
            self._landed.put(flight.digest, self._landings)
        key = (flight.digest, flight.source.key)
        if self._flights.get(key) is flight:
            del self._flights[key]

    def unattended(self, flight: Flight) -> None:
        """Its last reader left. It goes on, unless its client has left too much behind already."""
        left = [each for each in self._flights.values() if _unattended(each) and each.client == flight.client]
        missing = sum((each.size or 0) - each.available for each in left)
        if len(left) > UNATTENDED or missing > UNATTENDED_BYTES:
            flight.stop("its client left too many downloads behind")


def _unproven(flight: Flight, repository: Repository) -> bool:
    """Whether its source is to be asked first: for a repository that is new to it, and for a mirror that may be what
    this flight waits for (it is told that at once, and does not wait in turn)."""
    return repository not in flight.proven or (flight.size is None and bool(via.get()))


def _unattended(flight: Flight) -> bool:
    """Whether it downloads what nobody waits for."""
    return flight.downloading and not flight.readers

"""How often one address may be wrong about a password: a few times a minute, one question after the other."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mirror.clock import Clock
from mirror.errors import TooManyRequests

FAILURES = 10
WITHIN = 60.0  # seconds
_REMEMBERED = 10_000  # addresses


class Attempts:
    """Failures by address; of IPv6 a whole /64 is one, since who has one address there has them all."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: dict[str, list[float]] = {}
        self._turns: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """This address's turn to have a password checked: a thousand guesses at once are a thousand in a row.

        Raises `TooManyRequests` where it was wrong too often.
        """
        key = _key(client)
        lock, waiting = self._turns.get(key, (asyncio.Lock(), 0))
        self._turns[key] = lock, waiting + 1
        try:
            async with lock:
                self._check(key)
                yield
        finally:
            lock, waiting = self._turns[key]
            if waiting > 1:
                self._turns[key] = lock, waiting - 1
            else:
                del self._turns[key]

    def count(self, client: str) -> float:
        """A password from this address is about to be checked, and wrong until it was found right: who hangs up has
        guessed, too. Returns what `forgive` takes."""
        key, now = _key(client), self._clock.monotonic()
        if key not in self._failures and len(self._failures) >= _REMEMBERED:
            self._forget(now)
        self._failures.setdefault(key, []).append(now)
        return now

    def forgive(self, client: str, counted: float) -> None:
        """It was right, or was not checked at all."""
        times = self._failures.get(_key(client), [])
        if counted in times:
            times.remove(counted)
        if not times:
            self._failures.pop(_key(client), None)

    def _check(self, key: str) -> None:
        now = self._clock.monotonic()
        recent = [at for at in self._failures.get(key, ()) if at > now - WITHIN]
        if not recent:
            self._failures.pop(key, None)
            return
        self._failures[key] = recent
        if len(recent) >= FAILURES:
            raise TooManyRequests(
                f"{len(recent)} wrong passwords came from this address within a minute; try again later",
                retry_after=recent[0] + WITHIN - now,
            )

    def _forget(self, now: float) -> None:
        """Make room: those whose time is over, else whoever failed first."""
        self._failures = {key: times for key, times in self._failures.items() if times[-1] > now - WITHIN}
        while len(self._failures) >= _REMEMBERED:
            del self._failures[next(iter(self._failures))]


def _key(client: str) -> str:
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return client
    if isinstance(address, ipaddress.IPv4Address):
        return client
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))

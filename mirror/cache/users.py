"""The mirror's users: whether a name and a password belong together.

bcrypt takes a good part of a second of a core on purpose. It runs in a few threads of its own, a password that was
right is remembered for a short time under a keyed hash, and a name that nobody has costs as much as one that is known.
"""

import asyncio
import hashlib
import hmac
import logging
import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bcrypt

from mirror.cache import htpasswd
from mirror.cache.htpasswd import Passwords
from mirror.clock import Clock
from mirror.errors import RequestInvalid, StoreFailed, TooManyRequests

log = logging.getLogger(__name__)

LONGEST_PASSWORD = 72  # bytes; bcrypt reads no more of it
COST = 10  # of hashes made here: 2^10 rounds
REMEMBERED_SECONDS = 300.0
LOOK_EVERY = 1.0  # seconds between looks at the file
_REMEMBERED = 4096
_THREADS = 2
_WAITING = 64  # checks under way and waiting, of all clients together


class Users:
    """The users of one htpasswd file, read again when it changes. While it cannot be read, they stay who they were."""

    def __init__(self, file: Path, *, clock: Clock) -> None:
        self.file = file
        self._clock = clock
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="bcrypt")
        self._passwords = Passwords({})
        self._dummy = b""
        self._signature: htpasswd.Signature | None = None
        self._looked = float("-inf")
        self._unreadable = ""
        self._reading = asyncio.Lock()
        self._writing = asyncio.Lock()
        self._key = secrets.token_bytes(32)
        self._remembered: dict[bytes, float] = {}
        self.checking = 0  # checks under way and waiting

    async def start(self) -> None:
        """Read the file."""
        await self._look()

    async def close(self) -> None:
        """Wait for the checks under way."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)

    # --- checking --------------------------------------------------------------------------------------------

    async def remembers(self, name: str, password: bytes) -> bool:
        """Whether this password was found right a short time ago."""
        await self._look()
        until = self._remembered.get(self._mark(name, password))
        return until is not None and until > self._clock.monotonic()

    async def verify(self, name: str, password: bytes) -> bool:
        """Whether the password is this user's. Raises `TooManyRequests` where too many wait for an answer already.

        One longer than bcrypt reads is nobody's: its end would not count.
        """
        if await self.remembers(name, password):
            return True
        mark = self._mark(name, password)
        known = self._passwords.hashes.get(name)
        checked = password if len(password) <= LONGEST_PASSWORD and b"\0" not in password else b""
        right = await self._matches(checked, known or self._dummy) and known is not None and checked == password
        if right and mark == self._mark(name, password):  # the file may have changed meanwhile
            self._remember(mark)
        return right

    async def _matches(self, password: bytes, password_hash: bytes) -> bool:
        if self.checking >= _WAITING:
            raise TooManyRequests("too many passwords are being checked; try again in a moment", retry_after=2.0)
        self.checking += 1
        check = asyncio.get_running_loop().run_in_executor(self._threads, _check, password, password_hash)
        check.add_done_callback(self._checked)
        return await asyncio.shield(check)  # who hangs up leaves a thread at work, and it counts until it is done

    def _checked(self, check: "asyncio.Future[bool]") -> None:
        self.checking -= 1

    def _mark(self, name: str, password: bytes) -> bytes:
        """What is remembered of a password: nothing that outlives the process, or a change of the user's hash."""
        parts = (self._passwords.hashes.get(name, b""), name.encode(errors="surrogatepass"), password)
        text = b"".join(len(part).to_bytes(4) + part for part in parts)
        return hmac.digest(self._key, text, hashlib.sha256)

    def _remember(self, mark: bytes) -> None:
        now = self._clock.monotonic()
        if len(self._remembered) >= _REMEMBERED:
            self._remembered = {each: until for each, until in self._remembered.items() if until > now}
        if len(self._remembered) >= _REMEMBERED:
            self._remembered.clear()
        self._remembered[mark] = now + REMEMBERED_SECONDS

    # --- the file --------------------------------------------------------------------------------------------

    async def names(self) -> list[str]:
        """Everybody whose password counts, in order."""
        await self._look(at_once=True)
        return sorted(self._passwords.hashes)

    async def add(self, name: str, password: str) -> bool:
        """Give `name` this password; True if he is new. Raises `RequestInvalid` for a password that cannot be kept,
        `StoreFailed` where the file cannot be written."""
        raw = password.encode(errors="surrogatepass")
        if not 0 < len(raw) <= LONGEST_PASSWORD or b"\0" in raw:
            raise RequestInvalid(
                f"a password has 1 to {LONGEST_PASSWORD} bytes, and no zero among them: bcrypt reads no more of it"
            )
        loop = asyncio.get_running_loop()
        password_hash = await loop.run_in_executor(self._threads, bcrypt.hashpw, raw, bcrypt.gensalt(COST))
        async with self._writing:
            text = await self._text()
            await self._write(htpasswd.with_user(text, name, password_hash))
        return name not in htpasswd.parse(text).hashes

    async def remove(self, name: str) -> bool:
        """Take this user away; False if there is none. Raises `StoreFailed` where the file cannot be written."""
        async with self._writing:
            text = htpasswd.without_user(await self._text(), name)
            if text is None:
                return False
            await self._write(text)
        return True

    async def _text(self) -> str:
        try:
            return await asyncio.to_thread(htpasswd.read, self.file)
        except OSError as error:
            raise StoreFailed(f"{self.file} cannot be read: {error.strerror or error}") from error

    async def _write(self, text: str) -> None:
        try:
            await asyncio.to_thread(htpasswd.write, self.file, text)
        except OSError as error:
            raise StoreFailed(
                f"{self.file} cannot be written: {error.strerror or error}; the mirror's own user has to be able to"
                " write in its folder"
            ) from error
        await self._look(at_once=True)

    async def _look(self, *, at_once: bool = False) -> None:
        """Read the file again if it has changed, asking the disk at most once a second."""
        now = self._clock.monotonic()
        if now < self._looked + LOOK_EVERY and not at_once:
            return
        self._looked = now
        async with self._reading:
            try:
                found = await asyncio.to_thread(htpasswd.signature, self.file)
                if found == self._signature and self._dummy:
                    return
                text = await asyncio.to_thread(htpasswd.read, self.file)
            except OSError as error:
                self._say_unreadable(error.strerror or str(error))
                return
            self._unreadable = ""
            await self._take(text)
            self._signature = found

    def _say_unreadable(self, why: str) -> None:
        if why != self._unreadable:  # once, not with every look
            log.error("%s cannot be read, its users stay who they were: %s", self.file, why)
        self._unreadable = why

    async def _take(self, text: str) -> None:
        passwords = htpasswd.parse(text)
        for line in passwords.refused:
            log.warning("%s: %s", self.file, line)
        costs = [int(each[4:6]) for each in passwords.hashes.values()] or [COST]
        if not self._dummy or int(self._dummy[4:6]) != max(costs):
            self._dummy = await asyncio.to_thread(_dummy, max(costs))
        self._passwords = passwords
        self._remembered.clear()


def _dummy(cost: int) -> bytes:
    """A hash that no password has: what is compared for names that nobody has."""
    salt = bcrypt.gensalt(cost)
    return salt + b"." * 31


def _check(password: bytes, password_hash: bytes) -> bool:
    try:
        return bcrypt.checkpw(password, password_hash)
    except ValueError:  # a salt that is none
        return False

"""Our credentials for one registry: from the settings, a password file, or docker's `config.json` and its helpers.

What the settings say goes to every URL of the registry. What docker's configuration says goes to the host it is
stored for and to no other, even where the registry of that name is configured to be elsewhere. Files are read again
when they change. A secret stands in no `repr`.
"""

import asyncio
import base64
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mirror.clock import Clock
from mirror.config.model import RegistrySettings
from mirror.errors import UpstreamCredentialsRefused
from mirror.upstream.docker_config import IDENTITY_TOKEN, Login

_SECRET_LIMIT = 1 << 16
_CHECK_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Credential:
    """A user and a password; or a token that the token service changes for others (`identity_token`)."""

    username: str
    secret: str = field(repr=False)
    identity_token: bool = False
    source: str = "the settings"  # where it comes from, for people

    @property
    def basic(self) -> str:
        """`Authorization: Basic …` (RFC 7617)."""
        return f"Basic {base64.b64encode(f'{self.username}:{self.secret}'.encode()).decode()}"


class Credentials(Protocol):
    """The credentials of one registry."""

    @property
    def configured(self) -> bool:
        """Whether there are any, as far as is known without running a program."""
        ...

    async def get(self, host: str) -> Credential | None:
        """What to show to the registry at `host`; None where there is nothing for it.

        Raises `UpstreamCredentialsRefused` where there should be something and it cannot be had.
        """
        ...

    async def renew(self, host: str, refused: Credential) -> Credential | None:
        """What to show instead of `refused`; None where it would be the same again."""
        ...


class SettingsCredentials:
    """`username` with `password` or `password_file` of a registry's settings."""

    def __init__(self, registry: str, settings: RegistrySettings, clock: Clock) -> None:
        self._registry = registry
        self._clock = clock
        self._username = settings.username or ""
        self._password = settings.password.get_secret_value() if settings.password else ""
        self._file = settings.password_file
        self._read: tuple[tuple[int, int, int], str] | None = None
        self._checked_at: float | None = None

    @property
    def configured(self) -> bool:
        return True

    async def get(self, host: str) -> Credential | None:
        if self._file is None:
            return Credential(self._username, self._password)
        now = self._clock.monotonic()
        if self._read is None or self._checked_at is None or now - self._checked_at >= _CHECK_SECONDS:
            self._read = await asyncio.to_thread(self._from_file, self._file)
            self._checked_at = now
        return Credential(self._username, self._read[1], source=f"password_file {self._file}")

    async def renew(self, host: str, refused: Credential) -> Credential | None:
        self._checked_at = None
        found = await self.get(host)
        return found if found != refused else None

    def _from_file(self, file: Path) -> tuple[tuple[int, int, int], str]:
        """The file's stamp and content; what was read before where the stamp is the same."""
        try:
            status = os.stat(file)
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if self._read is not None and self._read[0] == stamp:
                return self._read
            with file.open("rb") as opened:
                return stamp, opened.read(_SECRET_LIMIT).decode().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise UpstreamCredentialsRefused(
                f"{self._registry}: password_file {file} cannot be read: {reason}", registry=self._registry
            ) from None


class Configured(Protocol):
    """Logins by host: docker's `config.json`, or several of them."""

    def mentions(self, host: str) -> bool:
        """Whether something is said of `host`, as far as is known without running a program."""
        ...

    def forget(self, host: str) -> None:
        """What was known of `host` was refused."""
        ...

    async def lookup(self, host: str, *, registry: str) -> Login | None:
        """The login for `host`. Raises `UpstreamCredentialsRefused` where its helper fails."""
        ...


class DockerCredentials:
    """What `docker login`, or `mirror login`, left for the hosts of a registry's URLs."""

    def __init__(self, registry: str, hosts: frozenset[str], config: Configured) -> None:
        self._registry = registry
        self._hosts = hosts
        self._config = config

    @property
    def configured(self) -> bool:
        return any(self._config.mentions(host) for host in self._hosts)

    async def get(self, host: str) -> Credential | None:
        if host not in self._hosts:
            return None
        login = await self._config.lookup(host, registry=self._registry)
        if login is None:
            return None
        return Credential(login.username, login.secret, login.username == IDENTITY_TOKEN, login.source)

    async def renew(self, host: str, refused: Credential) -> Credential | None:
        self._config.forget(host)
        found = await self.get(host)
        return found if found != refused else None

"""`login` and `logout`: this mirror's own accounts at registries, tried before they are kept, used at once."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from mirror.errors import (
    Denied,
    MirrorError,
    Offline,
    RequestInvalid,
    Unavailable,
    UpstreamCredentialsRefused,
    UpstreamError,
)
from mirror.oci.names import canonical_registry
from mirror.upstream.protocols import LoginStore

log = logging.getLogger(__name__)

_LONGEST = 65536
_TOKEN_USER = "<token>"  # noqa: S105 - what credential helpers call a user whose secret is no password


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """A login as it is kept: in a file, or by a program. The password is told to nobody."""

    registry: str
    username: str
    stored_in: str


@dataclass(frozen=True, slots=True)
class LoggedOut:
    """`removed`: there was a login."""

    registry: str
    removed: bool


class Logins:
    """The mirror's accounts. `used` is told of a registry whose login is another one from now on."""

    def __init__(self, store: LoginStore, used: Callable[[str], Awaitable[None]]) -> None:
        self._store = store
        self._used = used

    async def log_in(self, registry: str, username: str, password: str) -> LoggedIn:
        """Have the registry say that this is right, keep it, and use it.

        Raises `NameInvalid`, `NameUnknown` for a registry that is not configured, `RequestInvalid` for what cannot be
        a login and where the settings have one, `Denied` where the registry refuses it, `Offline` or `Unavailable`
        where it cannot be asked, `MirrorError` where it cannot be kept. Nothing is kept then.
        """
        name = self._registry(registry)
        _check(username, password)
        try:
            stored_in = await self._store.log_in(name, username, password)
        except UpstreamCredentialsRefused:
            raise Denied(f"{name} refused this user name and password; nothing was stored") from None
        except UpstreamError as error:
            raise Unavailable(f"{error.message}; the login could not be tried, nothing was stored") from None
        except Offline as error:
            raise Offline(f"{error.message}, so the login cannot be tried; nothing was stored") from None
        except MirrorError as error:
            raise type(error)(f"{error.message}; the login is good, but was not stored") from None
        log.info("logged in to %s as %s, kept in %s", name, username, stored_in)
        await self._used(name)
        return LoggedIn(name, username, stored_in)

    async def log_out(self, registry: str) -> LoggedOut:
        """Forget a login. Raises as `log_in`, as far as no registry is asked."""
        name = self._registry(registry)
        removed = await self._store.log_out(name)
        if removed:
            log.info("logged out of %s", name)
        return LoggedOut(name, removed)

    def _registry(self, text: str) -> str:
        """The registry meant, if its login is ours to change. A scheme and a path are overlooked, as docker does."""
        name = canonical_registry((text.partition("://")[2] or text).partition("/")[0])
        if self._store.set_by_settings(name):
            raise RequestInvalid(
                f'the settings say user and password for {name}, and nothing else is used: change [registries."{name}"]'
                " there, or take username and password out to log in"
            )
        return name


def _check(username: str, password: str) -> None:
    """RFC 7617, 2: no colon in the user's name, no control characters anywhere."""
    if not username or not password:
        raise RequestInvalid("a user name and a password are required")
    if ":" in username or username == _TOKEN_USER:
        raise RequestInvalid("this cannot be a user name: a colon ends it (RFC 7617)")
    if any(ord(character) < 32 or ord(character) == 127 for character in username + password):
        raise RequestInvalid("user name and password cannot hold control characters (RFC 7617)")
    if len(username) + len(password) > _LONGEST:
        raise RequestInvalid(f"user name and password are longer than {_LONGEST} characters")

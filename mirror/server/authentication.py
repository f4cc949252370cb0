"""Who asks (design.md §4, "Loopback"; RFC 7617, "Basic").

Loopback is a request whose peer and local address are loopback, whose `Host` is a loopback literal, `localhost` or a
configured registry, and which shows no sign of a reverse proxy or of a page in a browser.

Where there are users, credentials that come with a request are right, or the request is refused: who believes to be
somebody is never served as a stranger. Where there are none, what a proxy in front has checked is no business of ours.
"""

import base64
import binascii
import ipaddress
from collections.abc import Callable

from multidict import CIMultiDictProxy, istr

from mirror.cache.rights import Role
from mirror.cache.users import Users
from mirror.clock import Clock
from mirror.errors import TooManyRequests, Unauthorized
from mirror.server.attempts import Attempts

#: Signs of a proxy or a browser: who is behind the connection is not on this machine, or not a person's own choice.
FOREIGN = tuple(
    istr(name)
    for name in (
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Forwarded-Port",
        "X-Forwarded-Server",
        "X-Real-IP",
        "Via",
        "Origin",
        "Sec-Fetch-Site",
    )
)

_REMEMBERED = 4096
_HOST = istr("Host")
AUTHORIZATION = istr("Authorization")
_LONGEST_HEADER = 4096
_STRANGER, _LOOPBACK = Role.STRANGER, Role.LOOPBACK  # before Python 3.12, members take long to reach


class Authentication:
    """Roles and users of requests on TCP. `is_registry` says whether a `Host` is a configured registry's own name."""

    def __init__(
        self, is_registry: Callable[[str], bool], users: Users | None = None, attempts: Attempts | None = None
    ) -> None:
        self._is_registry = is_registry
        self._users = users
        self._attempts = attempts or Attempts(Clock())
        self._hosts: dict[str, bool] = {}

    def role(self, headers: CIMultiDictProxy[str], *, local: bool) -> Role:
        """The role of a request, as far as it can be believed. `local`: both ends of its connection are loopback."""
        if not local or not self._local_host(headers.get(_HOST, "")):
            return _STRANGER
        for name in FOREIGN:
            if name in headers:
                return _STRANGER
        for said in headers:  # X-Forwarded-Prefix, -Ssl, -User: proxies invent more than anybody can list
            if said[:12].lower() == "x-forwarded-":
                return _STRANGER
        return _LOOPBACK

    async def user(self, headers: CIMultiDictProxy[str], client: str) -> str | None:
        """Whose password came with the request; None where none came, or where there are no users.

        Raises `Unauthorized` for credentials that are wrong or of another kind, `TooManyRequests` for an address from
        which too many were wrong.
        """
        users = self._users
        header = headers.get(AUTHORIZATION)
        if header is None or users is None:
            return None
        name, password = read_basic(header)
        if await users.remembers(name, password):
            return name
        async with self._attempts.turn(client):
            counted = self._attempts.count(client)
            try:
                right = await users.verify(name, password)
            except TooManyRequests:
                self._attempts.forgive(client, counted)
                raise
            if right:
                self._attempts.forgive(client, counted)
                return name
        raise Unauthorized("this user is not known here, or the password is wrong")

    def _local_host(self, host: str) -> bool:
        known = self._hosts.get(host)
        if known is None:
            known = _names_loopback(host) or self._is_registry(host)
            if len(self._hosts) >= _REMEMBERED:
                self._hosts.clear()
            self._hosts[host] = known
        return known


def read_basic(header: str) -> tuple[str, bytes]:
    """User and password of `Authorization: Basic …` (RFC 7617). Raises `Unauthorized` for anything else."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic" or len(header) > _LONGEST_HEADER:
        raise Unauthorized("this mirror knows users and passwords (Authorization: Basic) and nothing else")
    try:
        name, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        if colon:
            return name.decode(), password
    except (binascii.Error, UnicodeDecodeError, ValueError):
        pass
    raise Unauthorized("the Authorization header cannot be read")


def is_loopback(address: object) -> bool:
    """Whether a socket address, as `getpeername` gives it, is of 127.0.0.0/8 or ::1."""
    if not isinstance(address, tuple):
        return False
    host = address[0]
    return isinstance(host, str) and (host.startswith("127.") or host in ("::1", "::ffff:127.0.0.1"))


def _names_loopback(host: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and not host.endswith("]") else host
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False

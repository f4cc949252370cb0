"""Who asks, and what he may do: one deny-by-default table, route × method × role (design.md §4).

A route without a row is refused; a test walks every route and every method.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from mirror.errors import Denied, Unsupported
from mirror.oci import routes
from mirror.oci.names import Repository


class Role(StrEnum):
    """Where a request comes from, as far as it can be believed."""

    STRANGER = "stranger"
    LOOPBACK = "loopback"  # this machine, and not through a proxy or a web page
    SOCKET = "socket"  # the mirror's own Unix socket


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks."""

    role: Role


STRANGER = Principal(Role.STRANGER)
LOOPBACK = Principal(Role.LOOPBACK)
SOCKET = Principal(Role.SOCKET)


class Action(StrEnum):
    """What a request wants."""

    PING = "ping"
    PULL = "pull"
    STATUS = "status"


@dataclass(frozen=True, slots=True)
class StatusRoute:
    """`/api/v1/status`"""


_READ = ("GET", "HEAD")

#: What each route asks for. A route and method that are not here are answered 405.
ACTIONS: Mapping[tuple[type, str], Action] = {
    **{(routes.Base, method): Action.PING for method in _READ},
    **{(routes.ManifestRoute, method): Action.PULL for method in _READ},
    **{(routes.BlobRoute, method): Action.PULL for method in _READ},
    **{(routes.TagsRoute, method): Action.PULL for method in _READ},
    **{(routes.ReferrersRoute, method): Action.PULL for method in _READ},
    **{(StatusRoute, method): Action.STATUS for method in _READ},
}

#: What each role may do. Loopback's row depends on `[access] loopback`.
ALLOWED: Mapping[Role, frozenset[Action]] = {
    Role.STRANGER: frozenset({Action.PING, Action.PULL}),
    Role.LOOPBACK: frozenset({Action.PING, Action.PULL, Action.STATUS}),
    Role.SOCKET: frozenset(Action),
}


_WILDCARD = re.compile(r"(\*\*|\*|\?)")
_WILDCARDS = {"**": ".*", "*": "[^/]*", "?": "[^/]"}


class Rights:
    """The table, with what the configuration makes of it.

    `loopback` False takes every privilege from loopback: it is a stranger then. `shared` says of a repository
    whether its private content is open to strangers (`private = "share"` or a matching glob).
    """

    def __init__(self, *, loopback: bool, shared: Callable[[Repository], bool]) -> None:
        self._loopback = loopback
        self._shared = shared

    def principal(self, role: Role) -> Principal:
        """The principal that a request of this role is treated as."""
        if role is Role.SOCKET:
            return SOCKET
        return LOOPBACK if role is Role.LOOPBACK and self._loopback else STRANGER

    def check(self, principal: Principal, route: type, method: str) -> Action:
        """Raises `Unsupported` for a method that this route does not have, `Denied` for one he may not use."""
        action = ACTIONS.get((route, method))
        if action is None:
            allow = ", ".join(known for where, known in ACTIONS if where is route)
            raise Unsupported(
                f"{method} is not supported here: this mirror is read-only", detail={"method": method, "allow": allow}
            )
        if action not in ALLOWED[principal.role]:
            raise Denied(f"{method} here needs the mirror's own socket or this machine", detail={"action": str(action)})
        return action

    def trusted(self, principal: Principal, repository: Repository) -> bool:
        """Whether he may read what this registry serves only with the mirror's credentials."""
        return principal.role is not Role.STRANGER or self._shared(repository)


def sharing(private: Mapping[str, str | tuple[str, ...]]) -> Callable[[Repository], bool]:
    """From each registry's `private` setting ("deny", "share" or globs of paths), what strangers may read.

    A `*` in a glob stops at `/`, `**` does not; a `?` is one character that is no `/`.
    """
    patterns = {
        registry: [_glob(glob) for glob in setting]
        for registry, setting in private.items()
        if isinstance(setting, tuple)
    }
    open_registries = frozenset(registry for registry, setting in private.items() if setting == "share")

    def shared(repository: Repository) -> bool:
        if repository.registry in open_registries:
            return True
        return any(matches(repository.path) for matches in patterns.get(repository.registry, ()))

    return shared


def _glob(glob: str) -> Callable[[str], object]:
    # Not fnmatch: there a `?` or a set crosses `/` too, which would share more than is written.
    parts = _WILDCARD.split(glob)
    return re.compile("".join(_WILDCARDS.get(part) or re.escape(part) for part in parts)).fullmatch

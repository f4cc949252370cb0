"""Who asks, and what he may do: one deny-by-default table, route × method × role (design.md §4).

A route without a row is refused; a test walks every route and every method. Where a request comes from gives a base
(`rows`); what a user's rules add to it holds in the repositories that they name.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from mirror.config.usernames import ANY_USER
from mirror.errors import Denied, NameUnknown, Unauthorized, Unsupported
from mirror.oci import routes
from mirror.oci.names import Repository


class Role(StrEnum):
    """Where a request comes from, as far as it can be believed."""

    STRANGER = "stranger"
    USER = "user"  # a known user from anywhere
    LOOPBACK = "loopback"  # this machine, and not through a proxy or a web page
    SOCKET = "socket"  # the mirror's own Unix socket


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. `user`: whose password came with the request, from elsewhere (USER) or from this machine (LOOPBACK)."""

    role: Role
    user: str | None = None

    @property
    def actor(self) -> str:
        """How he stands in the history of what he does: by his name, else by where he comes from."""
        return self.user or str(self.role)


STRANGER = Principal(Role.STRANGER)
LOOPBACK = Principal(Role.LOOPBACK)
SOCKET = Principal(Role.SOCKET)


class Action(StrEnum):
    """What a request wants."""

    PING = "ping"
    PULL = "pull"
    PUSH = "push"  # also: move a tag here by hand
    DELETE = "delete"  # untag, delete
    READ = "read"  # the reading part of /api/v1/: lists name only what he may read
    WRITE = "write"  # the writing part, where each repository's own right decides: PULL, PUSH or DELETE
    ADMIN = "admin"  # the rest of /api/v1/


_READ = ("GET", "HEAD")

#: What each route asks for: routes of the registry by their type, those of `/api/v1` by their path. A route and method
#: that are not here are answered 405.
ACTIONS: Mapping[tuple[type | str, str], Action] = {
    **{(routes.Base, method): Action.PING for method in _READ},
    **{(routes.ManifestRoute, method): Action.PULL for method in _READ},
    **{(routes.BlobRoute, method): Action.PULL for method in _READ},
    **{(routes.TagsRoute, method): Action.PULL for method in _READ},
    **{(routes.CatalogRoute, method): Action.PULL for method in _READ},
    **{(routes.ReferrersRoute, method): Action.PULL for method in _READ},
    (routes.UploadsRoute, "POST"): Action.PUSH,
    **{(routes.UploadRoute, method): Action.PUSH for method in ("GET", "PATCH", "PUT", "DELETE")},
    (routes.ManifestRoute, "PUT"): Action.PUSH,
    (routes.ManifestRoute, "DELETE"): Action.DELETE,
    (routes.BlobRoute, "DELETE"): Action.DELETE,
    **{(routes.OldPing, method): Action.PING for method in _READ},
    **{(routes.SearchRoute, method): Action.PULL for method in _READ},
    ("/status", "GET"): Action.READ,
    ("/openapi.json", "GET"): Action.PING,
    ("/images", "GET"): Action.READ,
    ("/image", "GET"): Action.READ,
    ("/layers", "GET"): Action.READ,
    ("/tags", "GET"): Action.READ,
    ("/search", "GET"): Action.READ,
    ("/df", "GET"): Action.READ,
    ("/pins", "GET"): Action.READ,
    ("/misses", "GET"): Action.READ,
    ("/offline", "GET"): Action.READ,
    ("/queue", "GET"): Action.READ,
    ("/pull", "POST"): Action.WRITE,
    ("/push", "POST"): Action.WRITE,
    ("/tag", "POST"): Action.WRITE,
    ("/remove", "POST"): Action.WRITE,
    ("/pins", "POST"): Action.ADMIN,
    ("/pins", "DELETE"): Action.ADMIN,
    ("/prune", "POST"): Action.ADMIN,
    ("/verify", "POST"): Action.ADMIN,
    ("/login", "POST"): Action.ADMIN,
    ("/logout", "POST"): Action.ADMIN,
    ("/users", "GET"): Action.ADMIN,
    ("/users", "POST"): Action.ADMIN,
    ("/users", "DELETE"): Action.ADMIN,
    ("/offline", "PUT"): Action.ADMIN,
    ("/misses", "DELETE"): Action.ADMIN,
    ("/queue", "POST"): Action.ADMIN,
    ("/queue", "DELETE"): Action.ADMIN,
}

_EVERYTHING = frozenset(Action)

#: `[access] anonymous`: what strangers may do.
_ANONYMOUS: Mapping[str, frozenset[Action]] = {
    "pull": frozenset({Action.PING, Action.PULL}),
    "none": frozenset(),
}
#: `[access] loopback`: what requests of this machine may do; with "none" they are strangers.
_LOOPBACK: Mapping[str, frozenset[Action]] = {
    "all": _EVERYTHING,
    "push": frozenset({Action.PING, Action.PULL, Action.PUSH, Action.READ}),
    "pull": frozenset({Action.PING, Action.PULL, Action.READ}),
    "none": frozenset(),
}


def rows(anonymous: str, loopback: str) -> Mapping[Role, frozenset[Action]]:
    """What each role may do by itself, in every repository that needs no rule."""
    strangers = _ANONYMOUS[anonymous]
    return {
        Role.STRANGER: strangers,
        Role.USER: strangers | {Action.PING, Action.READ},
        Role.LOOPBACK: _LOOPBACK[loopback],
        Role.SOCKET: _EVERYTHING,
    }


@dataclass(frozen=True, slots=True)
class Rule:
    """What some users ("*": every known one) may do in the repositories that one of these globs of canonical names
    matches. A glob without a registry means own names."""

    users: frozenset[str]
    repositories: tuple[str, ...]
    allow: frozenset[Action]


@dataclass(frozen=True, slots=True)
class _Grant:
    allow: frozenset[Action]
    matches: Callable[[Repository], bool]


_HERE = frozenset({Role.LOOPBACK, Role.SOCKET})
_REMEMBERED = 4096  # users whose rules are at hand
_NEEDS_RULE = "a user with a rule that allows it, or the mirror's own socket"
_NEEDS: Mapping[Action, str] = {
    Action.PING: "a user of this mirror",
    Action.PULL: "a user with a rule that allows it",
    Action.READ: "a user of this mirror, this machine, or the mirror's own socket",
}
_WILDCARD = re.compile(r"(\*\*|\*|\?)")
_WILDCARDS = {"**": ".*", "*": "[^/]*", "?": "[^/]"}


class Rights:
    """The table, with what the configuration makes of it.

    `shared` says of a repository whether its private content is open to strangers (`private = "share"` or a matching
    glob); `users` whether there can be any; `private` are globs of own names that need a rule.
    """

    def __init__(
        self,
        *,
        shared: Callable[[Repository], bool],
        anonymous: str = "pull",
        loopback: str = "push",
        users: bool = False,
        private: Iterable[str] = (),
        rules: Iterable[Rule] = (),
    ) -> None:
        self._rows = rows(anonymous, loopback)
        self._loopback = loopback != "none"
        self._shared = shared
        self._users = users
        self._named = naming(private)
        self._rules = tuple((rule.users, _Grant(rule.allow, naming(rule.repositories))) for rule in rules)
        self._grants: dict[str, tuple[_Grant, ...]] = {}

    def principal(self, role: Role, user: str | None = None) -> Principal:
        """The principal that a request of this role, with this user's password, is treated as."""
        if role is Role.SOCKET:
            return SOCKET
        if role is Role.LOOPBACK and self._loopback:
            return LOOPBACK if user is None else Principal(Role.LOOPBACK, user)
        return STRANGER if user is None else Principal(Role.USER, user)

    def check(self, principal: Principal, route: type | str, method: str) -> Action:
        """What this request wants, if he may want it at all; where it concerns a repository, `require` says more.

        Raises `Unsupported` for a method that this route does not have, `Denied` for one that he may not use,
        `Unauthorized` where a user could.
        """
        action = ACTIONS.get((route, method))
        if action is None:
            allow = ", ".join(known for where, known in ACTIONS if where == route)
            raise Unsupported(f"{method} is not supported here", detail={"method": method, "allow": allow})
        if action not in self._rows[principal.role] and not self._somewhere(principal, action):
            raise self._refusal(principal, action, f"this needs {_NEEDS.get(action, _NEEDS_RULE)}")
        return action

    def allows(self, principal: Principal, action: Action, repository: Repository) -> bool:
        """Whether he may do this in this repository."""
        if action in self._rows[principal.role] and not self._closed(principal, repository):
            return True
        return principal.user is not None and self._granted(principal.user, action, repository)

    def require(self, principal: Principal, action: Action, repository: Repository) -> None:
        """Raises `Denied`, `Unauthorized` where a user could, `NameUnknown` where he may not even know of it."""
        if self.allows(principal, action, repository):
            return
        if not self.allows(principal, Action.PULL, repository):
            raise NameUnknown(f"{repository} is not known", detail={"name": str(repository)})
        raise self._refusal(principal, action, f"you may not {action} in {repository}")

    def trusted(self, principal: Principal, repository: Repository) -> bool:
        """Whether he may read what this registry serves only with the mirror's credentials."""
        if principal.role in _HERE or self._shared(repository):
            return True
        return principal.user is not None and self._granted(principal.user, Action.PULL, repository)

    def private(self, own: Repository) -> bool:
        """Whether `[access] private` names this one of the mirror's own."""
        return self._named(own)

    def _closed(self, principal: Principal, repository: Repository) -> bool:
        """Whether only a rule opens this to him: the mirror's own that `[access] private` names."""
        return repository.is_own and principal.role not in _HERE and self.private(repository)

    def _somewhere(self, principal: Principal, action: Action) -> bool:
        """Whether one of his rules allows this in some repository, or by itself."""
        if principal.user is None:
            return False
        grants = self._of(principal.user)
        return any(action is Action.WRITE or action in grant.allow for grant in grants)

    def _granted(self, user: str, action: Action, repository: Repository) -> bool:
        return any(action in grant.allow and grant.matches(repository) for grant in self._of(user))

    def _of(self, user: str) -> tuple[_Grant, ...]:
        grants = self._grants.get(user)
        if grants is None:
            if len(self._grants) >= _REMEMBERED:
                self._grants.clear()
            grants = tuple(grant for users, grant in self._rules if user in users or ANY_USER in users)
            self._grants[user] = grants
        return grants

    def _refusal(self, principal: Principal, action: Action, text: str) -> Denied | Unauthorized:
        kind = Unauthorized if self._users and principal.user is None else Denied
        return kind(text, detail={"action": str(action)})


def naming(globs: Iterable[str]) -> Callable[[Repository], bool]:
    """Whether one of these globs of canonical names matches. One without a registry matches own names only."""
    own: list[Callable[[str], object]] = []
    others: list[Callable[[str], object]] = []
    for glob in globs:
        first, slash, _ = glob.partition("/")
        registry = slash and ("." in first or ":" in first or first == "localhost")
        (others if registry else own).append(_glob(glob))

    def matches(repository: Repository) -> bool:
        if repository.is_own:
            return any(match(repository.path) for match in own)
        return any(match(f"{repository.registry}/{repository.path}") for match in others)

    return matches


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

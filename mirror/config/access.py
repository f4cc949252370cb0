"""`[access]`: the users of this mirror, and who may do what (design.md §4)."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from mirror.config.usernames import ANY_USER, check_username
from mirror.config.values import Allowed, File, check_host

_ACTIONS = ("pull", "push", "delete", "admin")
_PATH = re.compile(r"[a-z0-9._*?-]+(/[a-z0-9._*?-]+)*")
_HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_WILDCARDS = "*?"


@dataclass(frozen=True, slots=True)
class AccessRule:
    """What `users` (names, or "*" for every known one) may do in the repositories that match a glob."""

    users: tuple[str, ...]
    repositories: tuple[str, ...]
    allow: tuple[str, ...]


# --- globs ------------------------------------------------------------------------------------------------


def split_glob(glob: str) -> tuple[str | None, str]:
    """A glob of canonical names as (registry or None for own names, path)."""
    first, slash, rest = glob.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first, rest
    return None, glob


def check_glob(glob: str) -> str:
    """A glob of canonical names, its registry in its one form. Raises ValueError."""
    registry, path = split_glob(glob)
    if registry is not None and not any(wildcard in registry for wildcard in _WILDCARDS):
        registry = check_host(registry)
    if _PATH.fullmatch(path) is None:
        raise ValueError(
            f'{glob!r} is no glob of repository names, such as "team/*" or "ghcr.io/me/**": names are lower case, '
            "without a tag"
        )
    if registry == "docker.io" and "/" not in path and "**" not in path:
        raise ValueError(f'{glob!r} matches nothing: write "docker.io/library/{path}", or "docker.io/**" for all of it')
    return path if registry is None else f"{registry}/{path}"


def check_own_glob(glob: str) -> str:
    """A glob of the mirror's own names. Raises ValueError."""
    checked = check_glob(glob)
    registry, path = split_glob(checked)
    if registry is not None:
        raise ValueError(f'{glob!r} names a registry; only own names stand here, such as "team/*"')
    return path


def _check_own(globs: tuple[str, ...]) -> tuple[str, ...]:
    for glob in globs:
        if glob.partition("/")[0] == "library":
            raise ValueError(f"{glob!r}: library/ is Docker Hub's own, and never a name of this mirror")
    return _check_private(globs)


def _check_private(globs: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(check_own_glob(glob) for glob in globs)


# --- rules ------------------------------------------------------------------------------------------------


def _check_rules(value: object) -> tuple[AccessRule, ...]:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"found {_kind(value)}, allowed: tables, [[access.rules]] each")
    return tuple(
        entry if isinstance(entry, AccessRule) else _check_rule(entry, f"rule {number}")
        for number, entry in enumerate(value, 1)
    )


def _check_rule(entry: object, where: str) -> AccessRule:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{where}: found {_kind(entry)}, allowed: a table, [[access.rules]]")
    known = [field.name for field in fields(AccessRule)]
    for key in entry:
        if key not in known:
            nearest = difflib.get_close_matches(str(key), known, n=1)
            hint = f'did you mean "{nearest[0]}"?' if nearest else f"allowed: {', '.join(known)}"
            raise ValueError(f"{where}: {str(key)[:50]}: no such key; {hint}")
    users = _texts(entry, "users", where, '["ci"], or ["*"] for every known user')
    repositories = _texts(entry, "repositories", where, '["ghcr.io/me/*", "team/*"]')
    allow = _texts(entry, "allow", where, '["pull", "push"]')
    for user in users:
        if user != ANY_USER:
            _check_user(user, where)
    for action in allow:
        if action not in _ACTIONS:
            raise ValueError(f'{where}: allow: found "{action[:50]}", allowed: {", ".join(_ACTIONS)}')
    try:
        checked = tuple(check_glob(glob) for glob in repositories)
    except ValueError as error:
        raise ValueError(f"{where}: repositories: {error}") from None
    return AccessRule(users, checked, allow)


def _check_user(name: str, where: str) -> None:
    try:
        check_username(name)
    except ValueError as error:
        raise ValueError(f"{where}: users: {error}") from None


def _texts(entry: Mapping[str, Any], key: str, where: str, example: str) -> tuple[str, ...]:
    value = entry.get(key)
    if not isinstance(value, (list, tuple)) or not value or not all(isinstance(each, str) for each in value):
        found = "missing" if value is None else f"found {_kind(value)}"
        raise ValueError(f"{where}: {key}: {found}; write a list such as {example}")
    return tuple(value)


def _kind(value: object) -> str:
    match value:
        case bool():
            return "a switch"
        case str():
            return "a text"
        case int() | float():
            return "a number"
        case Mapping():
            return "a table"
        case list() | tuple():
            return "another list" if value else "an empty list"
        case _:
            return "another value"


# --- names of this mirror ---------------------------------------------------------------------------------


def _check_hosts(hosts: tuple[str, ...]) -> tuple[str, ...]:
    checked = []
    for host in hosts:
        name = host.lower().removesuffix(".")
        if _HOST_NAME.fullmatch(name) is None or len(name) > 253:
            raise ValueError(f'{host!r} is no host name, such as "mirror.example.com"; the port is left out')
        checked.append(name)
    return tuple(checked)


OwnGlobs = Annotated[
    tuple[str, ...], AfterValidator(_check_own), Allowed('a list of globs of own names, such as ["team/*"]')
]
_PrivateGlobs = Annotated[
    tuple[str, ...], AfterValidator(_check_private), Allowed('a list of globs of own names, such as ["team/secret-*"]')
]
_HostNames = Annotated[
    tuple[str, ...], AfterValidator(_check_hosts), Allowed('a list of host names, such as ["mirror.example.com"]')
]
_Rules = Annotated[tuple[AccessRule, ...], BeforeValidator(_check_rules), Allowed("tables, [[access.rules]] each")]


class AccessSettings(BaseModel):
    """Who may do what."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    htpasswd: File | None = None  # the users and their passwords, bcrypt only; read again when it changes
    anonymous: Annotated[Literal["pull", "none"], Allowed('"pull" or "none"')] = "pull"
    loopback: Annotated[Literal["all", "push", "pull", "none"], Allowed('"all", "push", "pull" or "none"')] = "push"
    private: _PrivateGlobs = ()  # own repositories that need a rule
    hosts: _HostNames = ()  # names of this mirror by which /api/v1/ may be asked, beside addresses and its own
    rules: _Rules = ()

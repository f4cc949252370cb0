"""What only the whole of the settings shows, and this machine: contradictions, and files that cannot be read."""

import grp
import json
import os
from collections.abc import Iterator
from pathlib import Path

from mirror.config.access import split_glob
from mirror.config.layers import Problem
from mirror.config.model import KeyPath, Settings
from mirror.config.toml import toml_key
from mirror.config.values import parse_listen

_DEFAULT = "default"


def cross_checks(settings: Settings) -> Iterator[Problem]:
    """Everything that is wrong about settings whose values are right each by itself."""
    yield from _default_registry(settings)
    yield from _group(settings)
    yield from _certificate(settings)
    yield from _login_addresses(settings)
    yield from _users(settings)
    yield from _rules(settings)
    for name, registry in settings.registries.items():
        for key in ("ca_file", "password_file"):
            file = getattr(registry, key)
            if file is not None:
                yield from _readable(settings, ("registries", name, key), file)


def _problem(settings: Settings, path: KeyPath, text: str) -> Problem:
    return Problem(settings.origins.get(path, _DEFAULT), toml_key(*path), text)


def _default_registry(settings: Settings) -> Iterator[Problem]:
    name, path = settings.default_registry, ("default_registry",)
    entry = settings.registries.get(name)
    if entry is None:
        text = f'"{name}" is no configured registry; write [registries."{name}"] with its url'
        yield _problem(settings, path, text)
    elif not entry.enabled:
        yield _problem(settings, path, f'"{name}" is not enabled; enable it, or name another registry')


def _group(settings: Settings) -> Iterator[Problem]:
    if settings.socket_group is not None:
        try:
            grp.getgrnam(settings.socket_group)
        except KeyError:
            text = f"this machine has no group {json.dumps(settings.socket_group)}; create it, or name another"
            yield _problem(settings, ("socket_group",), text)


def _certificate(settings: Settings) -> Iterator[Problem]:
    files = {"tls_cert": settings.tls_cert, "tls_key": settings.tls_key}
    given = [key for key, file in files.items() if file is not None]
    if len(given) == 1:
        (missing,) = set(files) - set(given)
        yield _problem(settings, (given[0],), f"is set without {missing}; write both, or neither")
    for key in given:
        file = files[key]
        if file is not None:
            yield from _readable(settings, (key,), file)


def _login_addresses(settings: Settings) -> Iterator[Problem]:
    """`listen_login` on a port of `listen` could not be told from it."""
    plain = [parse_listen(entry) for entry in settings.listen]
    for entry in settings.listen_login:
        host, port = parse_listen(entry)
        for other, other_port in plain:
            if port == other_port != 0 and (host == other or {host, other} & {"0.0.0.0", "::"}):  # noqa: S104 - compared
                text = f'"{entry}" and an address of listen share a port; give it another, such as port {port + 1}'
                yield _problem(settings, ("listen_login",), text)
                break


def _users(settings: Settings) -> Iterator[Problem]:
    """What needs users needs their file; the file itself may be missing still (`mirror user add` makes it)."""
    file, path = settings.access.htpasswd, ("access", "htpasswd")
    if file is None:
        write = 'write htpasswd = "/etc/mirror/htpasswd" below [access]'
        if settings.access.rules:
            yield _problem(settings, ("access", "rules"), f"there are no users to have rights; {write}")
        if settings.access.anonymous == "none":
            yield _problem(settings, ("access", "anonymous"), f'"none" shuts everybody out without users; {write}')
        if settings.listen_login:
            yield _problem(settings, ("listen_login",), f"nobody can log in without users; {write}")
    elif file.exists() or not _may_make(file):
        yield from _readable(settings, path, file)


def _may_make(file: Path) -> bool:
    return file.parent.is_dir() and os.access(file.parent, os.X_OK)


def _rules(settings: Settings) -> Iterator[Problem]:
    """A registry that a rule names is a configured one, else the rule is a slip and grants nothing."""
    for number, rule in enumerate(settings.access.rules, 1):
        for glob in rule.repositories:
            registry, _ = split_glob(glob)
            if registry is None or "*" in registry or "?" in registry or registry in settings.registries:
                continue
            text = f'rule {number}: repositories: "{registry}" in "{glob}" is no configured registry'
            yield _problem(settings, ("access", "rules"), text)


def _readable(settings: Settings, path: KeyPath, file: Path) -> Iterator[Problem]:
    try:
        with file.open("rb"):
            return
    except OSError as error:
        yield _problem(settings, path, f"{json.dumps(str(file))} cannot be read: {error.strerror or error}")

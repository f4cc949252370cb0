"""Docker's own client configuration: `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`.

`auths` holds user and password in base64, or an `identitytoken`; `credHelpers` and `credsStore` name programs
`docker-credential-<name>` that are asked with `get` (github.com/docker/docker-credential-helpers). A program may
hang, fail or talk without end: it has 10 s and 64 KiB. Nothing it prints is logged.
"""

import asyncio
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mirror.clock import Clock
from mirror.docker_config import (
    NOT_FOUND,
    HelperCall,
    canonical,
    decoded,
    helper_program,
    is_helper,
    is_host,
    key_of,
)
from mirror.errors import UpstreamCredentialsRefused

log = logging.getLogger(__name__)
IDENTITY_TOKEN = "<token>"  # noqa: S105 — the user name by which helpers say that the secret is a refresh token

HELPER_SECONDS = 10.0
_CONFIG_LIMIT = 1 << 22
_CHECK_SECONDS = 2.0
_KEEP_SECONDS = 900.0
_FRESH_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Login:
    """What is stored for one host. `username` is `IDENTITY_TOKEN` where the secret is a refresh token."""

    username: str
    secret: str = field(repr=False)
    source: str


@dataclass(slots=True)
class _Content:
    """The file as read; hosts without scheme and path, Docker Hub under one name."""

    logins: dict[str, Login] = field(default_factory=dict)
    named: frozenset[str] = frozenset()  # every host in `auths`, also where the secret is in the store
    helpers: dict[str, str] = field(default_factory=dict)
    store: str | None = None


class DockerConfig:
    """The file, read again when it changes, and what helpers said, for 15 minutes or until it is refused."""

    def __init__(self, environment: Mapping[str, str], clock: Clock, file: Path | None = None) -> None:
        self._file = file or docker_file(environment)
        self._environment = dict(environment)
        self._clock = clock
        self._content = _Content()
        self._stamp: tuple[int, int, int] | None = None
        self._checked_at: float | None = None
        self._complained = False
        self._asked: dict[str, tuple[float, Login | None]] = {}  # when, and what was said
        self._asking: dict[str, asyncio.Lock] = {}

    @property
    def file(self) -> Path | None:
        """Where it is; None where there is no place for one."""
        return self._file

    @property
    def due(self) -> bool:
        """Whether it is time to look at the file again."""
        now = self._clock.monotonic()
        return self._file is not None and (self._checked_at is None or now - self._checked_at >= _CHECK_SECONDS)

    def mentions(self, host: str) -> bool:
        """Whether the file, as last read, says how to log in at `host`."""
        key = canonical(host)
        return key in self._content.logins or key in self._content.named or key in self._content.helpers

    def forget(self, host: str) -> None:
        """What was known of `host` was refused: read the file, and ask its helper again unless it just said so."""
        self._checked_at = None
        asked = self._asked.get(canonical(host))
        if asked is not None and self._clock.monotonic() - asked[0] >= _FRESH_SECONDS:
            del self._asked[canonical(host)]

    def changed(self) -> None:
        """The file was just written: nothing that was known before counts, nor what helpers said."""
        self._checked_at = self._stamp = None
        self._asked.clear()

    async def load(self) -> None:
        """Read the file if it changed; looks at it every 2 s at most."""
        if self._file is None or not self.due:
            return
        self._checked_at = self._clock.monotonic()
        changed = await asyncio.to_thread(self._read, self._file)
        if changed is not None:
            self._stamp, self._content = changed
            self._asked.clear()

    async def lookup(self, host: str, *, registry: str) -> Login | None:
        """The login for `host`. Raises `UpstreamCredentialsRefused` where its helper fails."""
        await self.load()
        key = canonical(host)
        helper = self._content.helpers.get(key) or (self._content.store if key in self._content.named else None)
        if helper is None:
            return self._content.logins.get(key)
        async with self._asking.setdefault(key, asyncio.Lock()):
            known = self._asked.get(key)
            if known is not None and self._clock.monotonic() - known[0] < _KEEP_SECONDS:
                return known[1]
            login = await self._ask(helper, key, registry)
            self._asked[key] = (self._clock.monotonic(), login)
            return login

    def _read(self, file: Path) -> tuple[tuple[int, int, int], _Content] | None:
        """Another file's stamp and content; None where it is the same."""
        try:
            status = os.stat(file)
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp == self._stamp:
                return None
            with file.open("rb") as opened:
                data = opened.read(_CONFIG_LIMIT)
        except FileNotFoundError:
            return None if self._stamp is None else ((0, 0, 0), _Content())
        except OSError as error:
            if not self._complained:
                log.warning("docker's configuration %s cannot be read: %s", file, error.strerror)
            self._complained = True
            return None
        try:
            return stamp, _parse(json.loads(data), file)
        except (ValueError, RecursionError):
            log.warning("docker's configuration %s is not JSON; its logins are not used", file)
            return stamp, _Content()

    async def _ask(self, helper: str, key: str, registry: str) -> Login | None:
        program = helper_program(helper)
        try:
            code, output = await self._run(program, key_of(key))
        except TimeoutError:
            raise _failed(registry, program, f"did not answer within {HELPER_SECONDS:.0f} s") from None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "its answer is too long"
            raise _failed(registry, program, f"cannot be run: {reason}") from None
        if code != 0:
            if NOT_FOUND in output.lower():
                return None
            raise _failed(registry, program, f"ended with code {code}")
        login = _parse_answer(output, program)
        if login is None:
            raise _failed(registry, program, "gave an answer that cannot be read")
        return login

    async def _run(self, program: str, server: str) -> tuple[int, bytes]:
        call = HelperCall(program, "get", server, self._environment)
        try:
            return await asyncio.to_thread(call.run, HELPER_SECONDS)
        except asyncio.CancelledError:
            await asyncio.to_thread(call.end)
            raise


def docker_file(environment: Mapping[str, str]) -> Path | None:
    """Where docker keeps it for this environment; None where it has no home."""
    folder, home = environment.get("DOCKER_CONFIG"), environment.get("HOME")
    return Path(folder) / "config.json" if folder else Path(home) / ".docker/config.json" if home else None


def _failed(registry: str, program: str, how: str) -> UpstreamCredentialsRefused:
    return UpstreamCredentialsRefused(
        f"{registry}: the credential helper {program} {how}; run `{program} get` by hand, or set username and "
        f"password_file for the registry",
        registry=registry,
    )


def _parse(value: Any, file: Path) -> _Content:
    if not isinstance(value, dict):
        raise ValueError(file)
    auths = value.get("auths")
    entries = {canonical(key): entry for key, entry in auths.items() if is_host(key)} if isinstance(auths, dict) else {}
    logins = {}
    for key, entry in entries.items():
        login = _parse_entry(entry, str(file)) if isinstance(entry, dict) else None
        if login is not None:
            logins[key] = login
    helpers = value.get("credHelpers")
    store = value.get("credsStore")
    return _Content(
        logins=logins,
        named=frozenset(entries),
        helpers={canonical(str(k)): h for k, h in helpers.items() if is_helper(h)} if isinstance(helpers, dict) else {},
        store=store if is_helper(store) else None,
    )


def _parse_entry(entry: Mapping[str, Any], source: str) -> Login | None:
    token = entry.get("identitytoken")
    if isinstance(token, str) and token:
        return Login(IDENTITY_TOKEN, token, source)
    if entry.get("auth"):
        login = decoded(entry)
        return Login(*login, source) if login is not None else None
    username, secret = entry.get("username"), entry.get("password")
    if isinstance(username, str) and isinstance(secret, str) and username:
        return Login(username, secret, source)
    return None


def _parse_answer(output: bytes, program: str) -> Login | None:
    try:
        value = json.loads(output)
        username, secret = value["Username"], value["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return Login(username, secret, program) if isinstance(username, str) and isinstance(secret, str) else None

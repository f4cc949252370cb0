"""Docker's own client configuration: `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`.

`auths` holds user and password in base64, or an `identitytoken`; `credHelpers` and `credsStore` name programs
`docker-credential-<name>` that are asked with `get` (github.com/docker/docker-credential-helpers). A program may
hang, fail or talk without end: it has 10 s and 64 KiB. Nothing it prints is logged.
"""

import asyncio
import base64
import binascii
import contextlib
import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mirror.clock import Clock
from mirror.errors import UpstreamCredentialsRefused

log = logging.getLogger(__name__)
IDENTITY_TOKEN = "<token>"  # noqa: S105 — the user name by which helpers say that the secret is a refresh token

HELPER_SECONDS = 10.0
_HELPER_LIMIT = 1 << 16
_CONFIG_LIMIT = 1 << 22
_CHECK_SECONDS = 2.0
_KEEP_SECONDS = 900.0
_FRESH_SECONDS = 30.0
_HELPER_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NOT_FOUND = b"credentials not found"
_HUB_KEY = "https://index.docker.io/v1/"
_HUB_HOSTS = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})


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

    def __init__(self, environment: Mapping[str, str], clock: Clock) -> None:
        folder = environment.get("DOCKER_CONFIG")
        home = environment.get("HOME")
        self._file = Path(folder) / "config.json" if folder else Path(home) / ".docker/config.json" if home else None
        self._environment = dict(environment)
        self._clock = clock
        self._content = _Content()
        self._stamp: tuple[int, int, int] | None = None
        self._checked_at: float | None = None
        self._complained = False
        self._asked: dict[str, tuple[float, Login | None]] = {}  # when, and what was said
        self._asking: dict[str, asyncio.Lock] = {}

    @property
    def due(self) -> bool:
        """Whether it is time to look at the file again."""
        now = self._clock.monotonic()
        return self._file is not None and (self._checked_at is None or now - self._checked_at >= _CHECK_SECONDS)

    def mentions(self, host: str) -> bool:
        """Whether the file, as last read, says how to log in at `host`."""
        key = _canonical(host)
        return key in self._content.logins or key in self._content.named or key in self._content.helpers

    def forget(self, host: str) -> None:
        """What was known of `host` was refused: read the file, and ask its helper again unless it just said so."""
        self._checked_at = None
        asked = self._asked.get(_canonical(host))
        if asked is not None and self._clock.monotonic() - asked[0] >= _FRESH_SECONDS:
            del self._asked[_canonical(host)]

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
        key = _canonical(host)
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
        program = f"docker-credential-{helper}"
        server = _HUB_KEY if key == "docker.io" else key
        try:
            code, output = await asyncio.wait_for(self._run(program, server), HELPER_SECONDS)
        except TimeoutError:
            raise _failed(registry, program, f"did not answer within {HELPER_SECONDS:.0f} s") from None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "its answer is too long"
            raise _failed(registry, program, f"cannot be run: {reason}") from None
        if code != 0:
            if _NOT_FOUND in output.lower():
                return None
            raise _failed(registry, program, f"ended with code {code}")
        login = _parse_answer(output, program)
        if login is None:
            raise _failed(registry, program, "gave an answer that cannot be read")
        return login

    async def _run(self, program: str, server: str) -> tuple[int, bytes]:
        process = await asyncio.create_subprocess_exec(
            program,
            "get",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=self._environment,
            start_new_session=True,
        )
        assert process.stdin is not None  # noqa: S101 — both were asked for
        assert process.stdout is not None  # noqa: S101
        try:
            with contextlib.suppress(ConnectionError):  # it need not read
                process.stdin.write(server.encode())
                await process.stdin.drain()
                process.stdin.close()
            output = b""
            while chunk := await process.stdout.read(_HELPER_LIMIT):
                output += chunk
                if len(output) > _HELPER_LIMIT:
                    raise ValueError(program)
            return await process.wait(), output
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()


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
    entries = (
        {_canonical(key): entry for key, entry in auths.items() if _is_host(key)} if isinstance(auths, dict) else {}
    )
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
        helpers={_canonical(str(k)): h for k, h in helpers.items() if _is_helper(h)}
        if isinstance(helpers, dict)
        else {},
        store=store if _is_helper(store) else None,
    )


def _parse_entry(entry: Mapping[str, Any], source: str) -> Login | None:
    token = entry.get("identitytoken")
    if isinstance(token, str) and token:
        return Login(IDENTITY_TOKEN, token, source)
    username, secret = entry.get("username"), entry.get("password")
    if isinstance(encoded := entry.get("auth"), str) and encoded:
        try:
            username, _, secret = base64.b64decode(encoded).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        secret = secret.rstrip("\0")
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


def _is_helper(name: object) -> bool:
    return isinstance(name, str) and _HELPER_NAME.fullmatch(name) is not None


def _is_host(key: str) -> bool:
    """Whether a key means a whole registry. podman's keys may go on with a repository: those are not for all of it."""
    return (key.partition("://")[2] or key).partition("/")[2].strip("/") in ("", "v1", "v2")


def _canonical(key: str) -> str:
    """`https://index.docker.io/v1/`, `docker.io` and `registry-1.docker.io` are one; paths and schemes drop."""
    host = key.partition("://")[2] or key
    host = host.partition("/")[0].lower().removesuffix(":443")
    return "docker.io" if host in _HUB_HOSTS else host

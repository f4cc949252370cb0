"""Docker's own client configuration: `config.json` in `$DOCKER_CONFIG`, else in `~/.docker`. Logins are kept there.

The command line keeps this user's logins at mirrors in it, a mirror its own at registries.

`auths` holds user and password in base64; where `credHelpers` (for this host) or `credsStore` (for all) names a
program `docker-credential-<name>`, that keeps them instead (github.com/docker/docker-credential-helpers: `store`,
`get`, `erase`), and `auths` only says that it does. Keys that are not ours stay as they are, in their order. The file
is written whole beside its place and renamed into it, readable by its owner alone.
"""

import base64
import binascii
import contextlib
import json
import os
import re
import selectors
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from mirror.errors import ConfigInvalid, MirrorError

_HELPER_S = 10.0
_HELPER_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HELPER_LIMIT = 1 << 16
_LOOK_S = 0.1
NOT_FOUND = b"credentials not found"
"""What a helper prints that knows nothing of a host."""
_LIMIT = 4 << 20
_SECRETS = ("auth", "identitytoken", "registrytoken", "username", "password")  # of an entry in `auths`

HUB_KEY = "https://index.docker.io/v1/"
"""How docker itself calls Docker Hub here and to helpers."""
_HUB = "docker.io"
_HUB_HOSTS = frozenset({_HUB, "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})


class DockerConfig:
    """The file. Every method reads it anew, and raises `ConfigInvalid` where it is none of docker's, `MirrorError`
    where it cannot be read or written, or where a credential helper fails. They all block.

    `path` instead of where docker has it; `environ` is also that of the helpers.
    """

    def __init__(self, environ: Mapping[str, str], path: Path | None = None) -> None:
        folder = environ.get("DOCKER_CONFIG")
        where = Path(folder or Path(environ.get("HOME") or Path.home()) / ".docker") / "config.json"
        self.path = path or where
        self._environ = dict(environ)

    def get(self, host: str) -> tuple[str, str] | None:
        """User and password for `host`, if any are stored."""
        content = self._read()
        entries = [entry for key, entry in _section(content, "auths").items() if same(key, host)]
        helper = _helper(content, host, asked_of_all=bool(entries))
        if helper is not None:
            return self._ask(helper, host)
        return next((login for login in map(decoded, entries) if login is not None), None)

    def store(self, host: str, username: str, password: str) -> str:
        """Keep them, and say where: the file's path, or the program."""
        content = self._read()
        auths = _section(content, "auths")
        helper = _helper(content, host, asked_of_all=True)
        own = key_of(host)
        entry = {}
        if helper is not None:
            secret = {"ServerURL": own, "Username": username, "Secret": password}
            self._run(helper, "store", json.dumps(secret))
        else:
            kept = {name: value for name, value in _section(auths, own).items() if name not in _SECRETS}
            entry = {**kept, "auth": base64.b64encode(f"{username}:{password}".encode()).decode()}
        for key in [key for key in auths if same(key, host) and key != own]:
            del auths[key]
        auths[own] = entry
        self._write({**content, "auths": auths})
        return str(self.path) if helper is None else helper_program(helper)

    def erase(self, host: str) -> bool:
        """Forget them. Whether there was anything to forget."""
        content = self._read()
        auths = _section(content, "auths")
        keys = [key for key in auths if same(key, host)]
        helper = _helper(content, host, asked_of_all=bool(keys))
        if helper is not None and self._ask(helper, host) is not None:
            self._run(helper, "erase", key_of(host))
        elif not keys:
            return False
        for key in keys:
            del auths[key]
        self._write({**content, "auths": auths})
        return True

    # --- the file -------------------------------------------------------------------------------------------

    def _read(self) -> dict[str, Any]:
        try:
            with self.path.open("rb") as file:
                data = file.read(_LIMIT + 1)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise MirrorError(f"{self.path} cannot be read: {error.strerror}") from error
        try:
            content = json.loads(data) if data.strip() else {}
        except (ValueError, RecursionError) as error:
            raise ConfigInvalid(f"{self.path} is not JSON ({error}); mend it or move it away") from error
        if not isinstance(content, dict) or len(data) > _LIMIT:
            raise ConfigInvalid(f"{self.path} is not a configuration of docker's; mend it or move it away")
        return content

    def _write(self, content: Mapping[str, Any]) -> None:
        path = Path(os.path.realpath(self.path))  # a link stays one
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=".config.json-", dir=path.parent)  # 0600
            try:
                with open(descriptor, "w", encoding="utf-8") as file:
                    json.dump(content, file, indent="\t", ensure_ascii=False)
                    file.flush()
                    _keep_owner(path, descriptor)
                    os.fsync(descriptor)
                os.replace(name, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(name)
                raise
        except OSError as error:
            raise MirrorError(f"{path} cannot be written: {error.strerror}") from error

    # --- helpers --------------------------------------------------------------------------------------------

    def _ask(self, helper: str, host: str) -> tuple[str, str] | None:
        answer = self._run(helper, "get", key_of(host))
        if answer is None:
            return None
        try:
            value = json.loads(answer)
            return str(value["Username"]), str(value["Secret"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise MirrorError(f"{helper_program(helper)}: its answer cannot be read") from None

    def _run(self, helper: str, action: str, given: str) -> str | None:
        """What it printed; None where it knows nothing of the host. Its words may hold secrets: none is repeated."""
        program = helper_program(helper)
        try:
            code, output = HelperCall(program, action, given, self._environ).run(_HELPER_S)
            text = output.decode()
        except TimeoutError:
            raise MirrorError(f"{program} did not answer within {_HELPER_S:.0f} s") from None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "its answer is no text, or too long"
            raise MirrorError(f"{program} cannot be used: {reason}; {self.path} names it") from None
        if code == 0:
            return text
        if NOT_FOUND in output.lower():
            return None
        raise MirrorError(f"{program} {action} ended with code {code}; {self.path} names it")


class HelperCall:
    """One call of a credential helper. It may hang, fail or talk without end; `end` may come from any thread."""

    def __init__(self, program: str, action: str, given: str, environ: Mapping[str, str]) -> None:
        self._words = [program, action]
        self._given = given
        self._environ = dict(environ)
        self._ended = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, seconds: float) -> tuple[int, bytes]:
        """Its exit code, and what it printed. Raises `TimeoutError`, `ValueError` for too much, `OSError`."""
        deadline = time.monotonic() + seconds
        with open(os.memfd_create("given"), "w+b") as stdin:  # no pipe: nobody waits for it to read
            stdin.write(self._given.encode())
            stdin.seek(0)
            self._process = process = subprocess.Popen(  # noqa: S603 - a plain word from the user's own file
                self._words,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=self._environ,
                start_new_session=True,
            )
        with process:
            try:
                output = self._output(process, deadline)
                return process.wait(max(0.0, deadline - time.monotonic())), output
            except subprocess.TimeoutExpired:
                raise TimeoutError from None
            finally:
                self._kill()

    def end(self) -> None:
        """Kill it, and whatever it started."""
        self._ended.set()
        self._kill()

    def _output(self, process: "subprocess.Popen[bytes]", deadline: float) -> bytes:
        if process.stdout is None:
            raise RuntimeError("it has a pipe")
        output = b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                left = deadline - time.monotonic()
                if left <= 0 or self._ended.is_set():
                    raise TimeoutError
                if not selector.select(min(left, _LOOK_S)):
                    continue
                chunk = os.read(process.stdout.fileno(), _HELPER_LIMIT)
                output += chunk
                if len(output) > _HELPER_LIMIT:
                    raise ValueError("too long")
                if not chunk:
                    return output

    def _kill(self) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _keep_owner(path: Path, descriptor: int) -> None:
    """Under sudo the file stays the user's own."""
    with contextlib.suppress(OSError):
        there = path.stat()
        os.fchown(descriptor, there.st_uid, there.st_gid)


def helper_program(helper: str) -> str:
    return f"docker-credential-{helper}"


def _helper(content: Mapping[str, Any], host: str, *, asked_of_all: bool) -> str | None:
    """The helper that keeps `host`; the one for all hosts only with `asked_of_all`."""
    helpers = _section(content, "credHelpers")
    named = next((name for key, name in helpers.items() if same(key, host)), None)
    if named is None and asked_of_all:
        named = content.get("credsStore")
    return named if is_helper(named) else None


def _section(content: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = content.get(key)
    return dict(value) if isinstance(value, Mapping) else {}


# --- what stands in it ------------------------------------------------------------------------------------


def is_helper(name: object) -> TypeGuard[str]:
    """Whether this names a helper: a plain word, which no path and no option can be."""
    return isinstance(name, str) and _HELPER_NAME.fullmatch(name) is not None


def canonical(key: str) -> str:
    """The host that a key means: without scheme, path and `:443`; Docker Hub's hosts as `docker.io`."""
    host = key.partition("://")[2] or key
    host = host.partition("/")[0].lower().removesuffix(":443")
    return _HUB if host in _HUB_HOSTS else host


def key_of(host: str) -> str:
    """The key that docker writes for a host, and calls it to helpers by."""
    return HUB_KEY if canonical(host) == _HUB else host


def is_host(key: str) -> bool:
    """Whether a key means a whole registry. podman's keys may go on with a repository: those are not for all of it."""
    return (key.partition("://")[2] or key).partition("/")[2].strip("/") in ("", "v1", "v2")


def same(key: str, host: str) -> bool:
    """Whether a key means this host: with a scheme or a path, as old ones have them, too."""
    return is_host(key) and canonical(key) == canonical(host)


def decoded(entry: object) -> tuple[str, str] | None:
    """User and password in an entry's `auth`, if they are there."""
    if not isinstance(entry, Mapping):
        return None
    encoded = entry.get("auth")
    if not isinstance(encoded, str):
        return None
    try:
        username, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    return (username, password.rstrip("\0")) if colon and username else None

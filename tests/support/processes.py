"""Child processes of the tests: started in a session of their own, waited for, and ended by their pid.

Whatever is started here carries this test session's mark in its environment and keeps its files below one folder,
so that what outlives it (a shim, a monitor) is recognised and ended, and nothing of another session ever is.
"""

from __future__ import annotations

import atexit
import contextlib
import http.client
import itertools
import os
import re
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

SESSION = secrets.token_hex(4)
"""This test session's mark: part of every folder, interface and control group that the support makes."""

SCRATCH = Path(tempfile.gettempdir()) / f"mt-{SESSION}"
"""Where the support keeps its files. Short, since a socket's path ends at 108 bytes."""

_MARK_NAME = "MIRROR_TESTS_SESSION"
_POLL_S = 0.02
_numbers = itertools.count(1)
_ports_given: set[int] = set()
_ports_lock = threading.Lock()


class CommandError(Exception):
    """A command ended with a failure; the message carries what it wrote."""

    def __init__(self, arguments: Sequence[str], code: int, stdout: str, stderr: str) -> None:
        super().__init__(f"exit {code}: {' '.join(arguments)}\n{stderr}{stdout}")
        self.code = code
        self.stdout = stdout
        self.stderr = stderr


class NotReadyError(Exception):
    """Something awaited did not happen before its deadline, or a daemon died while it was awaited."""


def scratch_folder(name: str) -> Path:
    """A new, empty folder of this session, removed by `remove_scratch` or at our end."""
    folder = SCRATCH / f"{name}{next(_numbers)}"
    folder.mkdir(mode=0o700, parents=True)
    return folder


def remove_scratch() -> None:
    """Remove every folder that `scratch_folder` gave out. Nothing may be mounted below any more."""
    shutil.rmtree(SCRATCH, ignore_errors=True)


atexit.register(remove_scratch)


def free_port() -> int:
    """A TCP port that nobody listens on now and that this session has not been given before."""
    with _ports_lock:
        for _ in range(100):
            with socket.socket() as probe:
                probe.bind(("", 0))
                port = int(probe.getsockname()[1])
            if port not in _ports_given:
                _ports_given.add(port)
                return port
    raise NotReadyError("no free port")


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Poll `condition` until it holds. Raises `NotReadyError` naming `what` after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise NotReadyError(f"{what}: not within {seconds} s")
        time.sleep(_POLL_S)


def answers_tcp(host: str, port: int) -> Callable[[], bool]:
    """A condition: somebody accepts connections there."""

    def condition() -> bool:
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
            return True
        return False

    return condition


def answers_unix(path: Path) -> Callable[[], bool]:
    """A condition: somebody accepts connections on that socket."""

    def condition() -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            probe.connect(str(path))
            return True
        return False

    return condition


def answers_http(
    host: str, port: int, path: str = "/v2/", statuses: Sequence[int] = (200, 401), *, https: bool = False
) -> Callable[[], bool]:
    """A condition: a GET there is answered with one of `statuses`; with `https`, whoever signed its certificate."""

    def condition() -> bool:
        connection = http.client.HTTPConnection(host, port, timeout=2)
        if https:
            trusting = ssl._create_unverified_context()
            connection = http.client.HTTPSConnection(host, port, timeout=2, context=trusting)
        try:
            connection.request("GET", path)
            return connection.getresponse().status in statuses
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return condition


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our environment for a child: without proxies, with this session's mark, and with `extra` over it."""
    plain = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return {**plain, "LC_ALL": "C.UTF-8", _MARK_NAME: SESSION, **(extra or {})}


def run(
    arguments: Sequence[str],
    *,
    extra_environment: Mapping[str, str] | None = None,
    stdin: str | None = None,
    timeout: float = 120.0,
) -> str:
    """Run a command to its end and return its stdout.

    Raises `CommandError` with its stderr when it fails. After `timeout` seconds its whole process group is killed
    and that too is a `CommandError` (code -9).
    """
    process = subprocess.Popen(
        arguments,
        env=environment(extra_environment),
        stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        stdout, stderr = process.communicate(stdin, timeout=timeout)
    except subprocess.TimeoutExpired:
        _kill_group(process.pid)
        stdout, stderr = process.communicate()
        stderr += f"[killed after {timeout} s]\n"
    except BaseException:
        _kill_group(process.pid)
        process.communicate()
        raise
    if process.returncode != 0:
        raise CommandError(arguments, process.returncode, stdout, stderr)
    return stdout


class Daemon:
    """A child that stays: started with `start`, ready when `ready` says so, ended with `stop`.

    stdout goes to `<folder>/<name>.out`, stderr to `<folder>/<name>.log`; both are appended to over restarts.
    As a context manager it starts and stops.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        folder: Path,
        ready: Callable[[], bool],
        extra_environment: Mapping[str, str] | None = None,
        start_seconds: float = 30.0,
        stop_seconds: float = 15.0,
    ) -> None:
        self.name = name
        self.arguments = list(arguments)
        self.output = folder / f"{name}.out"
        self.log = folder / f"{name}.log"
        self._ready = ready
        self._environment = dict(extra_environment or {})
        self._start_seconds = start_seconds
        self._stop_seconds = stop_seconds
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The child's process id. It must have been started."""
        if self._process is None:
            raise NotReadyError(f"{self.name} was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the child was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start and return once ready. Raises `NotReadyError` with the log's end; then nothing is left running."""
        if self.running:
            return self
        with self.output.open("ab") as output, self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.arguments,
                env=environment(self._environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_until(lambda: not self.running or self._ready(), self._start_seconds, self.name)
            if not self.running:
                raise NotReadyError(f"{self.name} ended with code {self._process.returncode}")
        except NotReadyError as error:
            self.stop()
            raise NotReadyError(f"{error}\n{self.log_tail()}") from error
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """SIGTERM, then SIGKILL once its time is up; whatever stays of its process group is killed."""
        if self._process is None:
            return
        process, self._process = self._process, None
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.terminate()
            process.wait(self._stop_seconds)
        _kill_group(process.pid)
        process.wait()

    def kill(self) -> None:
        """SIGKILL without warning, as a crash would end it (its process group too)."""
        if self._process is not None:
            process, self._process = self._process, None
            _kill_group(process.pid)
            process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send one signal to the child alone."""
        os.kill(self.pid, number)

    def wait(self, seconds: float) -> int:
        """Its exit code, once it ends by itself (negative: the signal that ended it). Raises `NotReadyError`."""
        if self._process is None:
            raise NotReadyError(f"{self.name} was not started")
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise NotReadyError(f"{self.name} did not end within {seconds} s\n{self.log_tail()}") from None

    def log_tail(self, characters: int = 4000) -> str:
        """The end of what it wrote to stderr."""
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else ""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def session_processes() -> dict[int, str]:
    """Every living process of this session but ourselves: those with our mark, and those whose command line names
    our folder. pid → command line."""
    mark = f"{_MARK_NAME}={SESSION}".encode()
    found = processes_naming(SCRATCH)
    for pid in _pids():
        if pid != os.getpid() and mark in _words_of(pid, "environ"):
            found[pid] = _command_line(pid)
    return {pid: line for pid, line in found.items() if line}  # what just ended has no command line


def processes_naming(folder: Path) -> dict[int, str]:
    """Living processes but ourselves whose command line names `folder` or what is in it. pid → command line."""
    lines = {pid: _command_line(pid) for pid in _pids() if pid != os.getpid()}
    return {pid: line for pid, line in lines.items() if re.search(rf"{re.escape(str(folder))}(?![\w-])", line)}


def end_processes(find: Callable[[], Iterable[int]], seconds: float = 10.0) -> None:
    """SIGKILL what `find` lists until it lists nothing. Raises `NotReadyError` after `seconds`."""

    def none_left() -> bool:
        pids = list(find())
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not pids

    wait_until(none_left, seconds, "the end of leftover processes")


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _words_of(pid: int, name: str) -> list[bytes]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_bytes().split(b"\0")
    return []


def _command_line(pid: int) -> str:
    """Empty for a process that has ended, be it awaited or not."""
    return b" ".join(_words_of(pid, "cmdline")).decode(errors="replace").strip()


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)

"""The command as a person runs it: on a pseudo-terminal, with what is on the screen."""

import contextlib
import fcntl
import os
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.cli.screen import Screen

ROOT = Path(__file__).parents[2]


class Session:
    """`mirror WORDS…`, or another `command`, on a terminal of its own. `stdout` may be a file in place of it."""

    def __init__(
        self,
        *words: str,
        environ: Mapping[str, str] | None = None,
        columns: int = 80,
        rows: int = 24,
        stdout: Path | None = None,
        command: Sequence[str] = (sys.executable, "-m", "mirror"),
    ) -> None:
        self.screen = Screen(columns, rows)
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        plain = {key: value for key, value in os.environ.items() if key not in ("CI", "NO_COLOR", "COLUMNS", "LINES")}
        with contextlib.ExitStack() as stack:
            out = stack.enter_context(stdout.open("wb")) if stdout else slave
            self._process = subprocess.Popen(
                ["setsid", "--ctty", *command, *words],
                cwd=ROOT,
                env={**plain, "TERM": "xterm", "LC_ALL": "C.UTF-8", **(environ or {})},
                stdin=slave,
                stdout=out,
                stderr=slave,
            )
        os.close(slave)
        self.raw = ""

    @property
    def pid(self) -> int:
        return self._process.pid

    def write(self, text: str) -> None:
        """What a person types; `\\x03` is Ctrl-C."""
        os.write(self._master, text.encode())

    def until(self, text: str, seconds: float = 20.0) -> None:
        """Read on until this is on the screen."""
        end = time.monotonic() + seconds
        while not any(text in line for line in self.screen.lines()):
            if not self._read(end):
                raise AssertionError(f"{text!r} never came; there was: {self.screen.everything()}")

    def end(self, seconds: float = 20.0) -> int:
        """Read on until the command ends; its exit code."""
        end = time.monotonic() + seconds
        while self._read(end):
            pass
        try:
            return self._process.wait(max(0.1, end - time.monotonic()))
        finally:
            self.close()

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        with contextlib.suppress(OSError):
            os.close(self._master)

    def _read(self, end: float) -> bool:
        """Whether there was something more to read before `end`."""
        ready, _, _ = select.select([self._master], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            return False
        try:
            data = os.read(self._master, 1 << 16).decode()
        except OSError:  # the other side is closed
            return False
        self.raw += data
        self.screen.feed(data)
        return bool(data)

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

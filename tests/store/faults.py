"""Faults of the disk, and what was asked of it."""

import errno
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


def path_of(argument: object) -> str:
    """The path that a file call was given, as a path or as a descriptor."""
    return os.readlink(f"/proc/self/fd/{argument}") if isinstance(argument, int) else os.fsdecode(str(argument))


class Disk:
    """Watches the calls of `os` that change files, and lets chosen ones fail."""

    def __init__(self, patch: pytest.MonkeyPatch, root: Path) -> None:
        self._patch = patch
        self._root = root
        self.calls: list[tuple[str, str]] = []

    def watch(self, *names: str) -> None:
        """Note each call of these functions of `os` below the root: (name, relative path)."""
        for name in names:
            self._wrap(name, lambda call, path: None)

    def fail(self, name: str, code: int, when: Callable[[str], bool] = lambda path: True) -> None:
        """Let `os.<name>` fail with this errno wherever `when(relative path)` says so. Calls are noted."""

        def fault(call: str, path: str) -> None:
            if when(path):
                raise OSError(code, os.strerror(code))

        self._wrap(name, fault)

    def _wrap(self, name: str, fault: Callable[[str, str], None]) -> None:
        real = getattr(os, name)

        def call(first: object, *rest: Any, **named: Any) -> Any:
            path = path_of(first)
            if path.startswith(f"{self._root}/"):
                path = path.removeprefix(f"{self._root}/")
                self.calls.append((name, path))
                fault(name, path)
            return real(first, *rest, **named)

        self._patch.setattr(os, name, call)

    def count(self, name: str) -> int:
        """How often a function was called."""
        return sum(called == name for called, _ in self.calls)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system of `size` bytes, mounted at `folder`. Skips the test where it cannot be had."""
    folder.mkdir(exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small tmpfs needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def open_files() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


FULL = errno.ENOSPC
BROKEN = errno.EIO


@contextmanager
def small_folder() -> Iterator[Path]:
    """A folder in memory where there is such a place: for tests that make very many."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        yield Path(folder)

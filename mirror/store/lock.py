"""The data directory and its one owner.

The owner holds an exclusive `flock` on `<data>/lock` for as long as it lives; the kernel takes it back however the
process ends, so a lock file that merely lies there means nothing. In it stand the owner's pid and, on a second line,
the path of its socket: that is how a command finds the server of a data directory. The file is never removed, for a
lock on a removed file excludes nobody.
"""

import contextlib
import errno
import fcntl
import os
import re
import stat
from pathlib import Path
from typing import Self

from mirror.errors import DataBusy, DataInvalid

_LOCK = "lock"
_READ_AT_MOST = 64
_LOCK_BYTES = 4096
_MARKS = frozenset({"oci-layout", "mirror.db"})  # what a mirror's data has from its first start on
_BEGUN = frozenset({_LOCK, "oci-layout", "blobs", "ingest", "mirror.db", "mirror.db-wal", "mirror.db-shm"})


class DataDirectory:
    """An acquired data directory. `release`, or the end of the process, lets the next one in."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor: int | None = descriptor

    @classmethod
    def acquire(cls, path: Path, socket: Path | None = None) -> Self:
        """Make `path` where it is missing (mode 0700), and own it. Blocks for a few file calls.

        Raises `DataBusy`, naming the owner, where another process has it, and `DataInvalid` where it cannot be used:
        no directory, another user's, not writable. Nothing is changed then.
        """
        path = path.absolute()
        try:
            with contextlib.suppress(FileExistsError):
                path.mkdir(mode=0o700, parents=True)
            _check_owner(path)
            _check_ours(path)
            descriptor = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise DataInvalid(
                f"the data directory {path} cannot be used: {_reason(error)}; give another with --data DIR"
            ) from error
        try:
            _lock(path, descriptor)
            path.chmod(0o700)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n{socket or ''}\n".encode(), 0)
        except OSError as error:
            os.close(descriptor)
            raise DataInvalid(
                f"the data directory {path} cannot be used: {_reason(error)}; give another with --data DIR"
            ) from error
        except BaseException:
            os.close(descriptor)
            raise
        return cls(path, descriptor)

    def release(self) -> None:
        """Let go of it. Harmless when repeated."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            try:
                os.ftruncate(descriptor, 0)
            finally:
                os.close(descriptor)


def _lock(path: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DataBusy(
            f"the data directory {path} is in use by {_holder(descriptor)}; "
            "stop that one, or give another directory with --data DIR"
        ) from None


def _holder(descriptor: int) -> str:
    """Who has the lock, as far as it has written that already."""
    pid = os.pread(descriptor, _READ_AT_MOST, 0).partition(b"\n")[0]
    return f"process {pid.decode()}" if pid.isdigit() else "another process"


def _check_owner(path: Path) -> None:
    found = os.stat(path)
    if not stat.S_ISDIR(found.st_mode):
        raise DataInvalid(f"the data directory {path} is not a directory")
    if found.st_uid != os.geteuid():
        raise DataInvalid(
            f"the data directory {path} belongs to the user with id {found.st_uid}, not to you (id {os.geteuid()}): "
            "run the mirror as that user, or give another directory"
        )


def _check_ours(path: Path) -> None:
    """A folder that holds other things is left alone: making it 0700 could break whoever needs it."""
    names = set(os.listdir(path)) - {"lost+found"}
    if names >= _MARKS or not names or (names <= _BEGUN and _is_our_lock(path / _LOCK)):
        return
    raise DataInvalid(
        f"the data directory {path} holds other things ({sorted(names - _BEGUN or names)[0]}, …) and no mirror's data; "
        "give an empty or a new one with --data DIR"
    )


def _is_our_lock(path: Path) -> bool:
    """Whether a first start that was cut short may have left this file; what somebody else calls `lock` is not cut."""
    try:
        content = path.read_bytes()[:_LOCK_BYTES]
    except FileNotFoundError:
        return True
    return re.fullmatch(rb"(\d+\n[^\n]*\n)?", content) is not None


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP):
        return "its file system has no locks"
    return error.strerror or str(error)

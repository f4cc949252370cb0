"""What a machine has lying about, before and after: nothing of the tests may stay.

A `Snapshot` lists mounts, network interfaces, network namespaces, routes, packet filter rules, control groups and
our processes. What another test session on the same machine makes is told apart by its mark and left out.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

from tests.support.packages import program
from tests.support.processes import (
    SESSION,
    CommandError,
    NotReadyError,
    end_processes,
    run,
    session_processes,
    wait_until,
)

_MARK = re.compile(r"\bmt-?([0-9a-f]{8})")
_CONTROL_GROUPS = Path("/sys/fs/cgroup")
_NOBODYS = {"tracefs", "debugfs"}  # mounted by whoever traces this machine meanwhile, or by the kernel for him


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of the machine at one moment; each item is readable text."""

    mounts: frozenset[str]
    interfaces: frozenset[str]
    namespaces: frozenset[str]
    routes: frozenset[str]
    rules: frozenset[str]
    control_groups: frozenset[str]
    processes: frozenset[str]

    @classmethod
    def take(cls) -> Self:
        """Look at the machine now."""
        return cls(
            mounts=_ours(_mounts()),
            interfaces=_ours(os.listdir("/sys/class/net")),
            namespaces=_ours(_names_in(Path("/run/netns"))),
            routes=_ours(_lines("ip", "route", "show", "table", "all")),
            rules=_ours(_rules()),
            control_groups=_ours(_control_groups()),
            processes=frozenset(session_processes().values()),
        )

    def added_since(self, before: Snapshot) -> list[str]:
        """What is here and was not there, as lines "kind: item"."""
        return [
            f"{kind.name}: {item}"
            for kind in fields(self)
            for item in sorted(getattr(self, kind.name) - getattr(before, kind.name))
        ]


def left_since(before: Snapshot, seconds: float = 5.0) -> list[str]:
    """What is left that came since `before`, once it had `seconds` to go away."""
    with contextlib.suppress(NotReadyError):
        wait_until(lambda: not Snapshot.take().added_since(before), seconds, "a clean machine")
    return Snapshot.take().added_since(before)


def unmount_below(folder: Path) -> list[str]:
    """Detach whatever is mounted at or below `folder`, the deepest first; return what that was."""
    inside = [point for point in _mount_points() if point == str(folder) or point.startswith(f"{folder}/")]
    for point in reversed(inside):  # the kernel lists them in the order of mounting
        with contextlib.suppress(CommandError):
            run(["umount", "--lazy", point])
    return inside


def remove_control_groups(name: str) -> None:
    """Remove the control groups at and below `/<name>` of every hierarchy, and first kill whatever runs in them."""
    end_processes(lambda: _members(name))
    for root in _hierarchies():
        for folder, _, _ in os.walk(root / name, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)


def _members(name: str) -> Iterator[int]:
    for root in _hierarchies():
        for folder, _, _ in os.walk(root / name):
            with contextlib.suppress(OSError):
                yield from map(int, Path(folder, "cgroup.procs").read_text().split())


def _ours(items: Iterator[str] | list[str]) -> frozenset[str]:
    """Without what carries only another session's mark."""
    return frozenset(item for item in items if set(_MARK.findall(item)) <= {SESSION})


def _mounts() -> Iterator[str]:
    with open("/proc/self/mounts") as table:
        for line in table:
            device, point, kind, *_ = line.split()
            if kind not in _NOBODYS:
                yield f"{kind} {device} on {_plain(point)}"


def _mount_points() -> list[str]:
    with open("/proc/self/mounts") as table:
        return [_plain(line.split()[1]) for line in table]


def _plain(point: str) -> str:
    """A mount point without the table's octal escapes."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), point)


def _names_in(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []


def _lines(name: str, *arguments: str) -> list[str]:
    path = program(name)
    if path is None:
        return []
    try:
        return run([path, *arguments]).splitlines()
    except CommandError:  # not root, or no support in this kernel: then nothing of ours is there either
        return []


def _rules() -> Iterator[str]:
    for name in ("iptables-save", "ip6tables-save"):
        for line in _lines(name):
            if line and not line.startswith("#"):
                yield f"{name} {re.sub(r' *.[0-9]+:[0-9]+.$', '', line)}"  # chains count packets


def _control_groups() -> Iterator[str]:
    for root in _hierarchies():
        for folder, _, _ in os.walk(root):
            yield folder


def _hierarchies() -> list[Path]:
    """The roots of all control group hierarchies: one (version 2), or one per controller (version 1)."""
    if (_CONTROL_GROUPS / "cgroup.controllers").exists():
        return [_CONTROL_GROUPS]
    return [path for path in map(_CONTROL_GROUPS.joinpath, _names_in(_CONTROL_GROUPS)) if path.is_dir()]

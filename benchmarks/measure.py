"""What a server costs: CPU and memory of a process and all its children, as Linux counts them in `/proc`."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_QUIET_S = 0.25
_LONGEST_S = 120.0
_RESET_PEAK = "5"  # proc(5), /proc/<pid>/clear_refs


@dataclass(slots=True)
class Spent:
    """Seconds of CPU (user and system, all threads and children) and of wall time."""

    cpu: float = 0.0
    wall: float = 0.0


@contextmanager
def spending(pid: int) -> Iterator[Spent]:
    """What the process spends while the block runs, and until it has come to rest afterwards: what a server does
    after its answer (storing, say) counts too. `wall` is the block's alone."""
    spent = Spent()
    rest(pid)
    cpu, began = cpu_seconds(pid), time.monotonic()
    yield spent
    spent.wall = time.monotonic() - began
    rest(pid)
    spent.cpu = cpu_seconds(pid) - cpu


def rest(pid: int) -> None:
    """Wait until the process has used no CPU for a moment."""
    end = time.monotonic() + _LONGEST_S
    last, since = cpu_seconds(pid), time.monotonic()
    while time.monotonic() - since < _QUIET_S and time.monotonic() < end:
        time.sleep(_QUIET_S / 5)
        now = cpu_seconds(pid)
        if now - last > _TICK_S / 2:
            last, since = now, time.monotonic()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its children, those that have ended and were waited for too."""
    return sum(sum(_stat(each)[11:15]) for each in _tree(pid)) * _TICK_S


def resident_bytes(pid: int) -> int:
    """Memory of a process and its children that is in RAM now."""
    return sum(_status(each, "VmRSS") for each in _tree(pid))


def peak_bytes(pid: int) -> int:
    """The most that was in RAM at once since the start or the last `forget_peak`, summed over the processes."""
    return sum(_status(each, "VmHWM") for each in _tree(pid))


def forget_peak(pid: int) -> None:
    """Let `peak_bytes` begin here."""
    for each in _tree(pid):
        Path(f"/proc/{each}/clear_refs").write_text(_RESET_PEAK)


def wait_for(condition: Callable[[], bool], seconds: float = _LONGEST_S) -> float:
    """Poll every millisecond until it holds; the seconds that took. Raises `TimeoutError`."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"not within {seconds:.0f} s")
        time.sleep(0.001)
    return time.monotonic() - began


def _tree(pid: int) -> list[int]:
    """A process and all its living descendants."""
    found = [pid]
    for each in found:
        try:
            threads = os.listdir(f"/proc/{each}/task")
            for thread in threads:
                found += map(int, Path(f"/proc/{each}/task/{thread}/children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _stat(pid: int) -> list[int]:
    """The numbers of `/proc/<pid>/stat` from the parent's pid on: 11 to 14 are the times; zeros where it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return [0] * 15
    return [0, *map(int, text.rpartition(")")[2].split()[1:])]


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) << 10
    return 0

"""A second host on this machine: a network namespace joined to ours by a pair of virtual interfaces.

The namespace lives as long as a process that holds it, which ends with us: even a killed test run leaves nothing.
Needs root.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import subprocess
from ipaddress import ip_network
from types import TracebackType
from typing import Self

from tests.support.packages import program
from tests.support.processes import SESSION, CommandError, environment, run, wait_until

_numbers = itertools.count(1)
_ATTEMPTS = 50


class NamespaceError(Exception):
    """The namespace could not be made."""


class Namespace:
    """A network namespace with one way out: to us. A context manager; `start` and `stop` do the same.

    `host_address` is ours, where a server must listen to be reached from inside; `address` is the one inside.
    `prefix` before a command runs it inside (only its network is another one: files and mounts stay ours, unlike
    under `ip netns exec`, which hides the control groups that dockerd wants).
    """

    def __init__(self) -> None:
        number = next(_numbers)
        self.host_interface = f"mt-{SESSION}h{number}"
        self.interface = f"mt-{SESSION}p{number}"
        self.host_address = ""
        self.address = ""
        self._holder: subprocess.Popen[bytes] | None = None

    @property
    def prefix(self) -> list[str]:
        """The words that put a command inside. The namespace must have been started."""
        if self._holder is None:
            raise NamespaceError("the namespace was not started")
        return ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net", "--"]

    def start(self) -> Self:
        """Make namespace, interfaces and addresses. On an error nothing stays."""
        ours = _namespace_of("self")
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--", "cat"],  # cat ends when our end of its stdin closes
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        pid = self._holder.pid
        try:
            wait_until(lambda: _namespace_of(str(pid)) not in ("", ours), 10, "a new network namespace")
            self._join(pid)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Remove everything. Whatever still runs inside loses its network."""
        if self._holder is None:
            return
        holder, self._holder = self._holder, None
        if self._has_interface():
            _ip("link", "delete", self.host_interface)
        holder.kill()
        holder.communicate()

    def run(self, *arguments: str, timeout: float = 60.0) -> str:
        """Run a command inside; see `processes.run`."""
        return run([*self.prefix, *arguments], timeout=timeout)

    def shape(self, rate: str, *, latency: str = "200ms", burst: str = "64kb") -> None:
        """Let at most `rate` (as tc writes it: "20mbit") pass from us to the namespace, its downloads."""
        tbf = ["tbf", "rate", rate, "burst", burst, "latency", latency]
        run([_tool("tc"), "qdisc", "replace", "dev", self.host_interface, "root", *tbf])

    def unshape(self) -> None:
        """Take the limit away, if there is one."""
        if "tbf" in run([_tool("tc"), "qdisc", "show", "dev", self.host_interface]):
            run([_tool("tc"), "qdisc", "delete", "dev", self.host_interface, "root"])

    def cut(self) -> None:
        """Pull the cable: packets are lost in both directions until `mend`."""
        _ip("link", "set", self.host_interface, "down")

    def mend(self) -> None:
        """Plug the cable in again."""
        _ip("link", "set", self.host_interface, "up")

    def _join(self, pid: int) -> None:
        network = _unused_network()
        self.host_address, self.address = f"{network}.1", f"{network}.2"
        peer = ["peer", "name", self.interface, "netns", str(pid)]
        _ip("link", "add", self.host_interface, "type", "veth", *peer)
        _ip("address", "add", f"{self.host_address}/24", "dev", self.host_interface)
        _ip("link", "set", self.host_interface, "up")
        self.run(_tool("ip"), "address", "add", f"{self.address}/24", "dev", self.interface)
        self.run(_tool("ip"), "link", "set", self.interface, "up")
        self.run(_tool("ip"), "link", "set", "lo", "up")

    def _has_interface(self) -> bool:
        try:
            _ip("link", "show", "dev", self.host_interface)
        except CommandError:
            return False
        return True

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _tool(name: str) -> str:
    path = program(name)
    if path is None:
        raise NamespaceError(f"{name} is not installed (package iproute2)")
    return path


def _ip(*arguments: str) -> str:
    return run([_tool("ip"), *arguments])


def _namespace_of(pid: str) -> str:
    """What tells one network namespace from another; empty when the process is gone."""
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/ns/net")
    return ""


def _unused_network() -> str:
    """The first three bytes of a 10.x.y.0/24 that overlaps no address and no route of this machine."""
    known = _ip("-4", "-o", "address", "show") + _ip("-4", "route", "show", "table", "all")
    taken = [ip_network(text, strict=False) for text in re.findall(r"\d+\.\d+\.\d+\.\d+(?:/\d+)?", known)]
    chooser = random.Random()
    for _ in range(_ATTEMPTS):
        network = f"10.{chooser.randint(1, 254)}.{chooser.randint(1, 254)}"
        if not any(ip_network(f"{network}.0/24").overlaps(other) for other in taken):
            return network
    raise NamespaceError("no unused 10.x.y.0/24 was found")

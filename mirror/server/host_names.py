"""By which names `/api/v1/` may be asked, beside addresses.

Nobody else's DNS can make the name of a web page one of these (DNS rebinding).
"""

import socket
from collections.abc import Iterable
from pathlib import Path

_HOSTS_FILE = Path("/etc/hosts")


class HostNames:
    """The names of this mirror: those of the settings, and this machine's own."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(_plain(name) for name in names)

    def __call__(self, host: str) -> bool:
        """Whether a `Host` header, with its port or without, is one of them."""
        name, colon, port = host.rpartition(":")
        return _plain(name if colon and port.isascii() and port.isdigit() else host) in self._names


def own_names(hosts_file: Path = _HOSTS_FILE) -> set[str]:
    """This machine's host name, and what the hosts file calls it beside that (its full name, mostly). Asks no DNS,
    which could be slow or somebody else's. Blocks for a moment."""
    name = _plain(socket.gethostname())
    found = {name}
    try:
        text = hosts_file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return found
    for line in text.splitlines():
        _, *names = line.partition("#")[0].split() or [""]
        plain = {_plain(each) for each in names}
        if name in plain:
            found |= plain
    return found


def _plain(name: str) -> str:
    return name.lower().removesuffix(".")

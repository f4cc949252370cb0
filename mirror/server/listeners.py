"""The listeners: TCP addresses and the mirror's own Unix socket.

Calls that worked: the low-level `web.Server` under a `ServerRunner`, its clean-up with a deadline of our own.
"""

import asyncio
import contextlib
import errno
import grp
import logging
import os
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

from mirror.config.values import parse_listen
from mirror.errors import ConfigInvalid
from mirror.server.http import Connection, Handler, Heads

log = logging.getLogger(__name__)

_BACKLOG = 4096
_ACCEPTED_WITHIN = 0.05  # seconds: several turns of the loop


class Server(web.Server):
    """aiohttp's low-level server, with connections of ours."""

    def __init__(self, handler: Handler) -> None:
        super().__init__(handler, handler_cancellation=True)
        self._handler = handler
        self._heads = Heads()

    def __call__(self) -> web.RequestHandler:
        return Connection(self, self._handler, self._heads)


class Listeners:
    """Everything this process listens on. With a TLS context every TCP address speaks https, and nothing else."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.addresses: list[tuple[str, int]] = []
        self._context = context
        self._runners: list[web.ServerRunner] = []
        self._sites: list[tuple[web.ServerRunner, socket.socket, web.SockSite]] = []
        self.socket: Path | None = None
        self._on_socket: web.ServerRunner | None = None

    def bound(self) -> set[tuple[str, int]]:
        """(address, port) of every TCP listener; an address of all zeros stands for every one of this machine."""
        return set(self.addresses)

    async def listen(
        self, addresses: Sequence[str], handler: Handler, *, setting: str = "listen"
    ) -> list[tuple[str, int]]:
        """Listen on each `HOST:PORT` of `setting`; the (address, port) of each. Raises `ConfigInvalid`, saying what to
        do, where one cannot be had."""
        runner = await self._run(handler)
        bound = []
        for text in addresses:
            for sock in _bind(*parse_listen(text), text, setting):
                bound.append((sock.getsockname()[0], sock.getsockname()[1]))
                await self._serve(runner, sock)
        self.addresses += bound
        return bound

    async def renew(self, context: ssl.SSLContext) -> None:
        """From now on handshakes get this context; connections that are there stay as they are.

        A context of its own each time: into one that is in use, OpenSSL would take a new certificate beside the old one
        where their keys are of different kinds. The new servers accept from the same sockets, so nobody is refused.
        """
        self._context = context
        before, self._sites = self._sites, []
        loop = asyncio.get_running_loop()
        for runner, sock, site in before:
            await self._serve(runner, sock.dup())
            loop.remove_reader(sock.fileno())
            await asyncio.sleep(0)  # a server that closes drops what it has accepted and not yet begun with
            await asyncio.sleep(0)
            await site.stop()

    async def _serve(self, runner: web.ServerRunner, sock: socket.socket) -> None:
        site = web.SockSite(runner, sock, backlog=_BACKLOG, ssl_context=self._context)
        await site.start()
        self._sites.append((runner, sock, site))

    def socket_connections(self) -> int:
        """How many clients are connected to the mirror's own socket."""
        server = self._on_socket.server if self._on_socket is not None else None
        return len(server.connections) if server is not None else 0

    async def seal_socket(self) -> None:
        """Let nobody new find the mirror's own socket; whoever connected before is accepted when this returns."""
        if self.socket is not None:
            await asyncio.to_thread(self.socket.unlink, missing_ok=True)
            await asyncio.sleep(_ACCEPTED_WITHIN)

    async def listen_on_socket(self, path: Path, group: str | None, handler: Handler) -> None:
        """Listen on the mirror's own socket: mode 0600, or 0660 and `group`'s. Raises `ConfigInvalid`."""
        runner = await self._run(handler)
        sock = await asyncio.to_thread(_bind_unix, path, group)
        self.socket = path
        self._on_socket = runner
        await web.SockSite(runner, sock, backlog=_BACKLOG).start()

    async def close(self, seconds: float) -> None:
        """Accept nothing more, give requests under way `seconds`, then cut them."""
        await asyncio.gather(*(_end(runner, seconds) for runner in self._runners))
        self._runners.clear()
        self._sites.clear()
        if self.socket is not None:
            await asyncio.to_thread(self.socket.unlink, missing_ok=True)
            self.socket = None

    async def _run(self, handler: Handler) -> web.ServerRunner:
        runner = web.ServerRunner(Server(handler), handle_signals=False)
        self._runners.append(runner)
        await runner.setup()
        return runner


async def _end(runner: web.ServerRunner, seconds: float) -> None:
    # aiohttp waits for requests this long, then this long again until it cancels them. It takes the time only before
    # it knows when it ends, and takes 0 for no limit at all.
    runner._shutdown_timeout = max(seconds / 2, 0.001)  # noqa: SLF001 — see above
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(runner.cleanup(), seconds + 1)


def _bind(host: str, port: int, text: str, setting: str) -> list[socket.socket]:
    """Sockets for every address that `host` is (`localhost` may be two)."""
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigInvalid(f"{setting}: {text}: {host} is no address of this machine ({error.strerror})") from error
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in found:
            sock = socket.socket(family, kind, protocol)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
            sock.listen(_BACKLOG)  # only now is it known whether the port is free
            sock.settimeout(0)
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise ConfigInvalid(_why(error, host, port, text, setting)) from error
    return sockets


def _bind_unix(path: Path, group: str | None) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _make_folder(path.parent, 0o700 if group is None else 0o755)
        if path.is_socket():
            _check_left(path)
            path.unlink()
        sock.bind(str(path))
        path.chmod(0o600 if group is None else 0o660)
        if group is not None:
            os.chown(path, -1, grp.getgrnam(group).gr_gid)
    except (OSError, KeyError) as error:
        sock.close()
        raise ConfigInvalid(
            f"socket: {path} cannot be made: {error}; set `socket` to a path that you can write"
        ) from error
    sock.settimeout(0)
    return sock


def _check_left(path: Path) -> None:
    """Raises `OSError` where somebody answers there: another mirror, on other data, with the same `socket`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            return
    raise OSError(errno.EADDRINUSE, "another mirror listens there")


def _make_folder(folder: Path, mode: int) -> None:
    """Make it where it is missing, with this mode whatever the umask. Somebody else's is not used: he could put a
    socket of his own there."""
    if not folder.exists():
        folder.mkdir(parents=True)
        folder.chmod(mode)
    if folder.stat().st_uid not in (0, os.geteuid()):
        raise PermissionError(f"{folder} belongs to somebody else")


def _why(error: OSError, host: str, port: int, text: str, setting: str) -> str:
    if error.errno == errno.EADDRINUSE:
        other = f"{host}:{port + 1}"
        other = f"--listen {other}" if setting == "listen" else other
        return f"{setting}: {text} is in use by another program; choose another address, such as {other}"
    if error.errno == errno.EACCES:
        return f"{setting}: {text}: you may not use this port; choose one above 1023"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{setting}: {text}: {host} is no address of this machine; 0.0.0.0:{port} listens on all of them"
    return f"{setting}: {text}: {error.strerror}"

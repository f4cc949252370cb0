"""The mirror as a process: its settings, its signals, its limits, what it tells systemd."""

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import resource
import signal
import socket
from collections.abc import Mapping
from pathlib import Path

import aiofastnet
import uvloop

from mirror import logs
from mirror.application.building import DRAIN_SECONDS, running
from mirror.config.load import load
from mirror.config.model import Settings
from mirror.config.show import describe

log = logging.getLogger(__name__)

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # mallopt(3)


def load_settings(config: Path | None, flags: Mapping[str, object]) -> Settings:
    """The settings of this process: flags, environment, file, defaults. Raises `ConfigInvalid`."""
    return load(config, os.environ, flags)


def describe_settings(settings: Settings) -> str:
    """The settings in effect as TOML, secrets masked."""
    return describe(settings)


def serve(settings: Settings) -> int:
    """Run the mirror until it is told to end; the exit code. Raises a `MirrorError` where it cannot start."""
    logs.set_up(as_json=settings.log_format == "json")
    os.umask(0o077)
    _raise_open_files()
    _steady_allocator()
    with asyncio.Runner(loop_factory=aiofastnet.loop_factory(uvloop.new_event_loop)) as runner:
        return runner.run(_serve(settings))


def _raise_open_files() -> None:
    """As many open files as this process may have: thousands of clients, each with a connection and a blob."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _steady_allocator() -> None:
    """Let glibc keep what a download frees. By default it gives each buffer of some 100 KiB back to the kernel, to
    have the next one faulted in page by page: 6 % of a download's CPU."""
    with contextlib.suppress(AttributeError, OSError):  # another C library: as it likes
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 4 << 20)
        mallopt(_M_TRIM_THRESHOLD, 16 << 20)


async def _serve(settings: Settings) -> int:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def end() -> None:
        if ended.is_set():
            log.warning("stopped at once")
            os._exit(1)
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    async with running(settings) as app:
        await app.announce()
        gc.freeze()  # what is there now stays: the collector need not walk through it again and again
        await asyncio.to_thread(_tell_systemd, "READY=1")
        await ended.wait()
        await asyncio.to_thread(_tell_systemd, "STOPPING=1")
        log.info("ending: requests under way have %.0f s", DRAIN_SECONDS)
    return 0


def _tell_systemd(state: str) -> None:
    """What systemd waits for where the unit says `Type=notify`: sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address.startswith(("/", "@")):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifying:
            notifying.sendto(state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)

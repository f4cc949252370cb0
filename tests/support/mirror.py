"""A mirror to test against: in this process (with its parts at hand), or as people run it, in a process of its own."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiofastnet
import aiohttp

from mirror.application import Application, running
from mirror.clock import Clock
from mirror.config.load import load
from mirror.config.model import Settings
from tests.support.processes import Daemon, answers_http, free_port, run, wait_until

ROOT = Path(__file__).parents[2]


def settings_for(data: Path, registries: Mapping[str, Mapping[str, object] | str], **more: Any) -> Settings:
    """Settings as the loader gives them. `registries`: each a URL, or a section; the well-known ones are disabled, so
    that nothing ever leaves this machine. Listens on a port of its own choice unless `listen` says otherwise."""
    sections = {name: {"url": value} if isinstance(value, str) else dict(value) for name, value in registries.items()}
    known = load(None, {}, {}).registries
    everything = {name: {"enabled": False} for name in known if name not in sections} | sections
    flags: dict[str, object] = {
        "data": data,
        "listen": ["127.0.0.1:0"],
        "default_registry": next(iter(sections)),
        "socket": data.parent / f"{data.name}.sock",
        "min_free": 0,  # however full this machine's disk is
        **more,
    }
    return load(None, {"MIRROR_REGISTRIES": json.dumps(everything)}, flags)


@dataclass(slots=True)
class Reply:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The first error code."""
        return str(json.loads(self.body)["errors"][0]["code"])


class Running:
    """A mirror in this process. `clock` moves its time."""

    def __init__(self, app: Application, clock: Clock, session: aiohttp.ClientSession) -> None:
        self.app = app
        self.clock = clock
        self.session = session
        host, port = app.listeners.addresses[0]
        self.authority = f"{host}:{port}"
        self.url = f"http://{self.authority}"

    async def get(self, path: str, method: str = "GET", **headers: str) -> Reply:
        """One request and its whole answer; a broken connection raises what aiohttp raises. Underscores in header
        names stand for dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.request(method, self.url + path, headers=named) as response:
            return Reply(response.status, response.headers.copy(), await response.read())

    async def idle(self) -> None:
        """Wait until no download is under way (background tasks of the application's own go on)."""
        for _ in range(1000):
            names = {task.get_name().partition(" ")[0] for task in asyncio.all_tasks()}
            if not names & {"flight", "tag", "manifest"}:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("a download goes on and on")


@asynccontextmanager
async def mirror_in_process(
    data: Path, registries: Mapping[str, Mapping[str, object] | str], *, clock: Clock | None = None, **more: Any
) -> AsyncIterator[Running]:
    """A mirror on a free port of 127.0.0.1, with real sockets and sendfile. The first registry is the default one."""
    aiofastnet.patch_loop()
    clock = clock or Clock()
    settings = await asyncio.to_thread(settings_for, data, registries, **more)
    async with running(settings, clock=clock) as app, aiohttp.ClientSession(auto_decompress=False) as session:
        yield Running(app, clock, session)


class MirrorProcess:
    """`mirror serve` as people run it. The first registry is the default one; others are disabled."""

    def __init__(
        self,
        folder: Path,
        registries: Mapping[str, Mapping[str, object] | str],
        *,
        host: str = "127.0.0.1",
        port: int | None = None,
        prefix: tuple[str, ...] = (),
        arguments: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.data = folder / "data"
        self.folder = folder
        self.host = "127.0.0.1" if host == "0.0.0.0" else host
        self.port = port or free_port()
        self.url = f"http://{self.host}:{self.port}"
        self.authority = f"{self.host}:{self.port}"
        settings = settings_for(self.data, registries)
        sections = {
            name: {"enabled": False} if not registry.enabled else _section(registries[name])
            for name, registry in settings.registries.items()
        }
        self._environment = {
            "MIRROR_REGISTRIES": json.dumps(sections),
            "MIRROR_DEFAULT_REGISTRY": settings.default_registry,
            **(environment or {}),
        }
        self._args = [
            *prefix,
            sys.executable,
            "-m",
            "mirror",
            "serve",
            "--data",
            str(self.data),
            "--listen",
            f"{host}:{self.port}",
            *arguments,
        ]
        self.daemon = self._daemon()

    def _daemon(self) -> Daemon:
        ready = answers_http(self.host, self.port, https="MIRROR_TLS_CERT" in self._environment)
        return Daemon("mirror", self._args, folder=self.folder, ready=ready, extra_environment=self._environment)

    def start(self) -> "MirrorProcess":
        self.folder.mkdir(parents=True, exist_ok=True)
        self.daemon = self._daemon()
        self.daemon.start()
        return self

    def stop(self) -> None:
        self.daemon.stop()

    def kill(self) -> None:
        """SIGKILL."""
        self.daemon.kill()

    def __enter__(self) -> "MirrorProcess":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def log(self) -> str:
        """What it said on standard error so far."""
        return self.daemon.log.read_text()

    def daemon_json(self) -> dict[str, list[str]]:
        """The `daemon.json` that it printed: said just after the first request can be answered."""
        pattern = re.compile(r"\{\"registry-mirrors\".*\}")
        wait_until(lambda: pattern.search(self.log) is not None, 10, "what to write into daemon.json")
        found = pattern.search(self.log)
        assert found is not None, self.log
        loaded: dict[str, list[str]] = json.loads(found[0])
        return loaded

    def command(self, *arguments: str) -> str:
        """`mirror …` against this mirror; standard output."""
        return run(
            [sys.executable, "-m", "mirror", *arguments],
            extra_environment={**os.environ, "MIRROR_DATA": str(self.data)},
        )


def _section(value: Mapping[str, object] | str) -> dict[str, object]:
    return {"url": value} if isinstance(value, str) else dict(value)

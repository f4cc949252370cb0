"""Where this mirror's logins at registries lie: docker's own configuration, or one in the data directory.

A service may have no home, or one that it may not write to. Then new logins go to `<data>/docker/config.json`, and
docker's file, where there is one, is still read: what the mirror was told itself comes first.
"""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from mirror import docker_config
from mirror.clock import Clock
from mirror.upstream.docker_config import DockerConfig, Login, docker_file


class Logins:
    """The configurations, the one that is written to first. `load` before use."""

    def __init__(self, environment: Mapping[str, str], data: Path, clock: Clock) -> None:
        self._environment = environment
        self._data = data
        self._clock = clock
        self._configs: list[DockerConfig] = []
        self._writing = asyncio.Lock()

    @property
    def due(self) -> bool:
        """Whether it is time to look at the files again."""
        return any(config.due for config in self._configs)

    async def load(self) -> None:
        """Read what changed."""
        if not self._configs:
            files = await asyncio.to_thread(files_of, self._environment, self._data)
            self._configs = [DockerConfig(self._environment, self._clock, file) for file in files]
        for config in self._configs:
            await config.load()

    def mentions(self, host: str) -> bool:
        """Whether some file, as last read, says how to log in at `host`."""
        return any(config.mentions(host) for config in self._configs)

    def forget(self, host: str) -> None:
        """What was known of `host` was refused."""
        for config in self._configs:
            config.forget(host)

    async def lookup(self, host: str, *, registry: str) -> Login | None:
        """The login for `host`. Raises `UpstreamCredentialsRefused` where its helper fails."""
        for config in self._configs:
            login = await config.lookup(host, registry=registry)
            if login is not None:
                return login
        return None

    async def store(self, host: str, username: str, password: str) -> str:
        """Keep a login, and say where: the file's path, or the helper that has it now.

        Raises `ConfigInvalid` where the file is none of docker's, `MirrorError` where it, or a helper, fails.
        """
        async with self._writing:
            where = await asyncio.to_thread(self._written(0).store, host, username, password)
        await self._changed()
        return where

    async def erase(self, host: str) -> bool:
        """Forget a login, wherever it is kept; whether there was one. Raises as `store`."""
        removed = False
        async with self._writing:
            for place in range(len(self._configs)):
                removed |= await asyncio.to_thread(self._written(place).erase, host)
        await self._changed()
        return removed

    def _written(self, place: int) -> docker_config.DockerConfig:
        return docker_config.DockerConfig(self._environment, self._configs[place].file)

    async def _changed(self) -> None:
        for config in self._configs:
            config.changed()
            await config.load()


def files_of(environment: Mapping[str, str], data: Path) -> tuple[Path, ...]:
    """The files to read, the one to write to first. Looks at the disk."""
    own, docker = data / "docker" / "config.json", docker_file(environment)
    if docker is None:
        return (own,)
    return (docker,) if _can_be_written(docker) else (own, docker)


def _can_be_written(file: Path) -> bool:
    """Whether a file can be put there, its folder made if need be."""
    folder = file.parent
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)

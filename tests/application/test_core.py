"""The parts, built from settings and taken down again."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from mirror.application.core import built
from mirror.clock import Clock
from mirror.errors import StoreFailed
from mirror.oci.digest import Digest
from mirror.store.disk import DiskStore
from mirror.store.lock import DataDirectory
from mirror.store.sqlite import SqliteCatalog
from tests.support.mirror import settings_for

NOBODY = "http://127.0.0.1:9"


async def test_settings_reach_the_parts(tmp_path: Path) -> None:
    settings = await asyncio.to_thread(
        settings_for, tmp_path / "d", {"docker.io": NOBODY}, max_size="1GB", own=["team/*"], offline=True
    )
    async with AsyncExitStack() as stack:
        directory = await asyncio.to_thread(DataDirectory.acquire, settings.data, tmp_path / "socket")
        stack.push_async_callback(asyncio.to_thread, directory.release)
        core = await built(settings, stack, clock=Clock(), listening=set, drain=lambda: 1.0)
        assert core.room.max_size == 10**9
        assert core.policy.offline
        assert core.ownership.declares("team/app")
        assert not core.ownership.declares("app")
        assert core.users is None
    assert not len(core.tasks)


async def test_a_file_that_does_not_go_keeps_nobody_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if a deletion that a crash interrupted, and that fails now, ends the start."""
    settings = await asyncio.to_thread(settings_for, tmp_path / "d", {"docker.io": NOBODY})
    digest = Digest.of(b"x")
    async with AsyncExitStack() as stack:
        directory = await asyncio.to_thread(DataDirectory.acquire, settings.data, tmp_path / "socket")
        stack.push_async_callback(asyncio.to_thread, directory.release)
        catalog = await SqliteCatalog.start(settings.data / "mirror.db")
        await catalog.hold(digest, 1, "sha256/nowhere", [], 1.0)
        assert await catalog.begin_delete(digest, None, now=1e12)
        await catalog.close()

        async def refuse(*_: object) -> int:
            raise StoreFailed("Operation not permitted")

        monkeypatch.setattr(DiskStore, "delete", refuse)
        core = await built(settings, stack, clock=Clock(), listening=set, drain=lambda: 1.0)
        assert [each for each, _ in await core.catalog.deleting()] == [digest]

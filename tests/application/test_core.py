"""The parts, built from settings and taken down again."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from mirror.application.core import built
from mirror.clock import Clock
from mirror.store.lock import DataDirectory
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

"""Killed at every step of an eviction, nothing is lost that must stay, and the next one finishes it.

Broken on purpose, these fail: unlinking before `begin_delete`, forgetting to finish deletions at start, `deleted`
before the unlink.
"""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.oci.digest import Digest
from mirror.store.disk import DiskStore
from mirror.store.lock import DataDirectory
from mirror.store.sqlite import SqliteCatalog
from tests.cache import evicting
from tests.store.faults import small_folder
from tests.store.samples import ALPINE, CONFIG
from tests.store.test_crashes import ROOT, Crasher, steps

STAYS = {evicting.PINNED.descriptor.digest, Digest.of(CONFIG), Digest.of(evicting.BASE.encode())}


@pytest.fixture
def crasher() -> Iterator[Crasher]:
    command = [sys.executable, "-m", "tests.cache.evicting"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Crasher(process)
        assert process.stdin
        process.stdin.close()


async def on_disk(store: DiskStore) -> set[Digest]:
    found = set()
    async for digest, location, size in store.walk():
        assert Digest.of(await store.read(digest, location, size)) == digest
        found.add(digest)
    return found


async def check(data: Path, said: list[str]) -> None:
    """Start anew, as the application does; then evict once more."""
    directory = await asyncio.to_thread(DataDirectory.acquire, data)
    store = await DiskStore.start(data)
    catalog = await SqliteCatalog.start(data / "mirror.db")
    try:
        for digest, location in await catalog.deleting():
            await store.delete(location)
            await catalog.deleted(digest)
        held = {digest for digest, _, _ in await catalog.unverified(None, 1000)}
        assert held == await on_disk(store)  # nothing is promised that is not there, nothing lies there unknown
        assert held >= STAYS
        holding = await catalog.holding(ALPINE, evicting.PINNED.descriptor.digest, is_manifest=True)
        assert holding is not None
        assert await catalog.tags(ALPINE) == ["3"]
        gone = {line.removeprefix("evicted ") for line in said if line.startswith("evicted ")}
        assert gone.isdisjoint(str(each.repository) for each in await catalog.candidates(10))
        if "collected" in said:
            assert held == STAYS
    finally:
        await catalog.close()
        await store.close()
        await asyncio.to_thread(directory.release)


async def finish(data: Path) -> set[Digest]:
    """What is left once everything that can go went."""
    store = await DiskStore.start(data)
    catalog = await SqliteCatalog.start(data / "mirror.db")
    sweep = evicting.sweep_of(store, catalog)
    for candidate in await catalog.candidates(10):
        assert await catalog.evict(candidate.repository, candidate.manifest, 1e18, 2)
    await sweep.collect_loose()
    left = await on_disk(store)
    await catalog.close()
    await store.close()
    return left


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_step_it_is_sound_afterwards(crasher: Crasher, when: str) -> None:
    with small_folder() as folder:
        asyncio.run(evicting.fill(folder / "data"))
        shutil.copytree(folder / "data", folder / "whole")
        total = steps(crasher.crash(folder / "whole", 0, when))
        assert total > 40
        for last in range(1, total + 1):
            data = folder / f"data{last}"
            shutil.copytree(folder / "data", data)
            said = crasher.crash(data, last, when)
            try:
                asyncio.run(check(data, said))
                assert asyncio.run(finish(data)) == STAYS
            except BaseException as error:
                error.add_note(f"killed {when} step {last} of {total}, said: {said}")
                raise
            shutil.rmtree(data)

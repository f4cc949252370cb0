"""Killed at every step of storing an image, the store is sound afterwards (faults.md): whatever was acknowledged is
there byte for byte, no published file differs from its name, and staging holds only what can be resumed.

Broken on purpose, these fail: acknowledging before COMMIT, renaming before the hash is checked, forgetting to finish
deletions or to clean staging at start.
"""

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mirror.oci.digest import Digest
from mirror.store.disk import DiskStore
from mirror.store.lock import DataDirectory
from mirror.store.sqlite import SqliteCatalog
from mirror.store.staging import clean_staging
from tests.store.crashing import PASSING
from tests.store.faults import small_folder
from tests.store.samples import OWN, digest_of
from tests.store.suites import ignore, written

ROOT = Path(__file__).parents[2]


def crash(data: Path, last: int, when: str) -> list[str]:
    """Run the process until it dies at step `last` (0: never); what it acknowledged."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.store.crashing", str(data), str(last), when],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    # How commands fall into batches varies a little, and with it the count of steps.
    ended = done.returncode == 0 and (last == 0 or int(lines[-1].removeprefix("steps ")) < last)
    assert ended or done.returncode == -9, done.stderr
    return lines


async def check(data: Path, acknowledged: list[str]) -> None:
    """Start anew, as the application does, and look at everything."""
    directory = DataDirectory.acquire(data)
    store = await DiskStore.start(data)
    catalog = await SqliteCatalog.start(data / "mirror.db")
    for digest, location in await catalog.deleting():
        await store.delete(location)
        await catalog.deleted(digest)
    await clean_staging(store, catalog, now=1)

    on_disk = {}
    async for digest, location, size in store.walk():
        assert Digest.of(await store.read(digest, location, size), digest.algorithm) == digest
        on_disk[digest] = location
    promised = {Digest.parse(line) for line in acknowledged if line.startswith("sha256:")}
    if "deleting" in acknowledged:
        promised.discard(Digest.of(PASSING.encode()))
    for digest in promised:
        holding = [await catalog.holding(OWN, digest, is_manifest=kind) for kind in (False, True)]
        found = [each for each in holding if each and each.link and each.link.pushed_at]
        assert found, f"{digest} was acknowledged"
        assert on_disk[digest] == found[0].location
    if "tag" in acknowledged:
        tag = await catalog.tag(OWN, "v1")
        assert tag is not None
        assert tag.manifest in promised
    if "deleted" in acknowledged:
        assert Digest.of(PASSING.encode()) not in on_disk
    assert await catalog.deleting() == []

    rows = {row.id for row in await catalog.partials()}
    assert set(await store.staged()) == rows  # all of it can be resumed, and nothing else lies there
    for ingest_id in rows:
        half = await store.resume(ingest_id, ignore)
        assert half is not None
        await half.abort()
    again = await written(await store.begin(ignore), b"works")
    await store.publish(again, digest_of("works"))
    await catalog.close()
    await store.close()
    directory.release()


def steps() -> int:
    """How many steps there are."""
    with small_folder() as folder:
        last = crash(folder / "data", 0, "before")[-1]
        return int(last.removeprefix("steps "))


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.may_block  # starting over is a matter of this test alone: nothing else is on its loop
def test_killed_at_any_step_it_is_sound_afterwards(when: str) -> None:
    total = steps()
    assert total > 40

    def one(last: int) -> None:
        with small_folder() as folder:
            acknowledged = crash(folder / "data", last, when)
            try:
                asyncio.run(check(folder / "data", acknowledged))
            except BaseException as error:
                error.add_note(f"killed {when} step {last} of {total}, acknowledged: {acknowledged}")
                raise

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(1, total + 1)))

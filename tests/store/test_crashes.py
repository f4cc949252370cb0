"""Killed at every step of storing an image, the store is sound afterwards (faults.md): whatever was acknowledged is
there byte for byte, no published file differs from its name, and staging holds only what can be resumed.

Broken on purpose, these fail: acknowledging before COMMIT, renaming before the hash is checked, forgetting to finish
deletions or to clean staging at start.
"""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from mirror.oci.digest import Digest
from mirror.store.cleaning import clean_staging
from mirror.store.disk import DiskStore
from mirror.store.lock import DataDirectory
from mirror.store.sqlite import SqliteCatalog
from tests.store import crashing
from tests.store.crashing import PASSING
from tests.store.faults import small_folder
from tests.store.samples import OWN, digest_of
from tests.store.suites import ignore, written

ROOT = Path(__file__).parents[2]


class Crasher:
    """Runs the process of `crashing` until it dies at a step."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def crash(self, data: Path, last: int, when: str) -> list[str]:
        """Let it die at step `last` (0: never). What it acknowledged, and if it did not die, the number of steps."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{data} {last} {when}\n")
        self._process.stdin.flush()
        status = int(self._process.stdout.readline())
        lines = Path(f"{data}.said").read_text().splitlines()
        # How commands fall into batches varies a little, and with it the count of steps.
        ended = status == 0 and (last == 0 or steps(lines) < last)
        assert ended or status == -9
        return lines


def steps(acknowledged: list[str]) -> int:
    """How many steps a whole run had."""
    return int(acknowledged[-1].removeprefix("steps "))


@pytest.fixture
def crasher() -> Iterator[Crasher]:
    command = [sys.executable, "-m", "tests.store.crashing"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Crasher(process)
        assert process.stdin
        process.stdin.close()


async def check(data: Path, acknowledged: list[str]) -> None:
    """Start anew, as the application does, and look at everything."""
    directory = await asyncio.to_thread(DataDirectory.acquire, data)
    store = await DiskStore.start(data)
    catalog = await SqliteCatalog.start(data / "mirror.db")
    try:
        for digest, location in await catalog.deleting():
            await store.delete(location)
            await catalog.deleted(digest)
        await clean_staging(store, catalog, now=1)
        await check_facts(store, catalog, acknowledged)
        await check_staging(store, catalog)
    finally:
        await catalog.close()
        await store.close()
        await asyncio.to_thread(directory.release)


async def check_facts(store: DiskStore, catalog: SqliteCatalog, acknowledged: list[str]) -> None:
    """What was acknowledged is there, and what is there is what its name says."""
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


async def check_staging(store: DiskStore, catalog: SqliteCatalog) -> None:
    """All that lies in staging can be resumed, and the store works."""
    rows = {row.id for row in await catalog.partials()}
    assert set(await store.staged()) == rows
    for ingest_id in rows:
        half = await store.resume(ingest_id, ignore)
        assert half is not None
        await half.abort()
    again = await written(await store.begin(ignore), b"works")
    await store.publish(again, digest_of("works"))


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_step_it_is_sound_afterwards(crasher: Crasher, when: str) -> None:
    with small_folder() as folder:
        total = steps(crasher.crash(folder / "data", 0, when))
    assert total > 40
    for last in range(1, total + 1):
        with small_folder() as folder:
            acknowledged = crasher.crash(folder / "data", last, when)
            try:
                asyncio.run(check(folder / "data", acknowledged))
            except BaseException as error:
                error.add_note(f"killed {when} step {last} of {total}, acknowledged: {acknowledged}")
                raise


def run(*command: str | Path) -> None:
    """A program of the system; skips the test where it cannot do that here."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{command[0]} needs root and loop devices: {done.stderr.strip()}")


@contextmanager
def mounted(image: Path, folder: Path) -> Iterator[Path]:
    folder.mkdir()
    run("mount", "-o", "loop", image, folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


class PowerCuts:
    """A disk whose state, without what the kernel has not written to it yet, can be looked at again later."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._image = folder / "disk"
        with self._image.open("wb") as file:
            file.truncate(24 << 20)
        run("mkfs.ext4", "-q", self._image)
        self.marks: list[str] = []

    def running(self) -> AbstractContextManager[Path]:
        """The disk in use."""
        return mounted(self._image, self._folder / "running")

    def cut(self, mark: object) -> None:
        """Keep the disk as it is now."""
        self.marks.append(str(mark))
        run("cp", "--sparse=always", self._image, self._folder / f"cut-{len(self.marks)}")

    def states(self) -> Iterator[tuple[Path, list[str]]]:
        """The disk at each cut, and the marks up to it."""
        for number in range(1, len(self.marks) + 1):
            with mounted(self._folder / f"cut-{number}", self._folder / f"after-{number}") as folder:
                yield folder, self.marks[:number]


def test_what_was_acknowledged_survives_a_power_cut(tmp_path: Path) -> None:
    """Fails without the fsync of the ingest, and with `synchronous = NORMAL` for own facts."""
    disk = PowerCuts(tmp_path)
    with disk.running() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(crashing, "acknowledge", disk.cut)
        asyncio.run(crashing.store_an_image(folder / "data"))
    assert len(disk.marks) >= 6
    for folder, acknowledged in disk.states():
        asyncio.run(check(folder / "data", acknowledged))


def test_what_was_published_survives_a_power_cut(tmp_path: Path) -> None:
    """Without a catalog, whose own fsync would write the directory too. Fails without any of the three fsyncs."""
    disk = PowerCuts(tmp_path)

    async def publish(folder: Path) -> None:
        store = await DiskStore.start(folder)
        for number in range(3):
            data = b"%d " % number * 100_000
            disk.cut(await store.put(data, Digest.of(data)))
            ingest = await written(await store.begin(ignore), data)
            disk.cut(await store.publish(ingest, Digest.of(data, "sha512")))
        await store.close()

    with disk.running() as folder:
        asyncio.run(publish(folder))
    for folder, locations in disk.states():
        for location in locations:
            algorithm, encoded = location.split("/")[1:]
            assert Digest.of((folder / location).read_bytes(), algorithm).hex == encoded

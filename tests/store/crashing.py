"""A process whose children store an image and die at the Nth step. Run as `python -m tests.store.crashing`.

Each line `DATA N WHEN` on its standard input forks one child and is answered with its exit status: a fork costs a
tenth of a new interpreter. A step is a call that changes what lies on disk: file calls of `os`, and statements of the
writing connection. `WHEN` is `before` or `after` the call. What was acknowledged stands in `DATA.said`, a line each; at
the end, the number of steps.
"""

import asyncio
import os
import signal
import sqlite3
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from mirror.oci.digest import Digest
from mirror.store import opening
from mirror.store.cleaning import clean_staging
from mirror.store.disk import DiskStore
from mirror.store.lock import DataDirectory
from mirror.store.protocols import Origin, Partial, Proof
from mirror.store.sqlite import SqliteCatalog
from tests.store.samples import CONFIG, OWN, digest_of, image

FILE_CALLS = ("mkdir", "open", "pwrite", "fsync", "rename", "unlink", "close")
LAYER = "layer " * 100_000
PASSING = "passing"
SAID = 100  # a descriptor that nobody else has


class Steps:
    """Counts the steps below one folder, and kills the process at one of them."""

    def __init__(self, root: Path, last: int, when: str) -> None:
        self._root = str(root)
        self._last = last
        self._when = when
        self._lock = threading.Lock()
        self.count = 0

    def take(self, name: str, call: Any) -> Any:
        with self._lock:
            self.count += 1
            at_last = self.count == self._last
        if at_last and self._when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return call()
        finally:
            if at_last:
                os.kill(os.getpid(), signal.SIGKILL)

    def wrap_files(self) -> None:
        for name in FILE_CALLS:
            self._wrap(name, getattr(os, name))

    def _wrap(self, name: str, real: Any) -> None:
        def call(first: Any, *rest: Any, **named: Any) -> Any:
            if self._concerns(name, first, rest):
                return self.take(name, lambda: real(first, *rest, **named))
            return real(first, *rest, **named)

        setattr(os, name, call)

    def _concerns(self, name: str, first: Any, rest: Any) -> bool:
        if name == "open" and not (rest and rest[0] & os.O_CREAT):
            return False
        try:
            path = os.readlink(f"/proc/self/fd/{first}") if isinstance(first, int) else os.fsdecode(first)
        except OSError:
            return False
        return path.startswith(self._root)

    def wrap_database(self) -> None:
        steps, real = self, sqlite3.connect

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
                if sql.lstrip().startswith(("SELECT", "SAVEPOINT", "RELEASE")):
                    return super().execute(sql, *parameters)
                found: sqlite3.Cursor = steps.take(sql, lambda: super(Connection, self).execute(sql, *parameters))
                return found

        def connect(*arguments: Any, **named: Any) -> sqlite3.Connection:
            made: sqlite3.Connection = real(*arguments, **named, factory=Connection)
            return made

        opening.sqlite3.connect = connect  # type: ignore[attr-defined]


def acknowledge(what: object) -> None:
    os.write(SAID, f"{what}\n".encode())


async def store_an_image(data: Path) -> None:
    """What a push does, beside a download that stays half done and a blob that is deleted."""
    directory = await asyncio.to_thread(DataDirectory.acquire, data)
    store = await DiskStore.start(data)
    catalog = await SqliteCatalog.start(data / "mirror.db")
    half = await store.begin(lambda written: None)
    await half.write(b"half of it")
    await catalog.begin_partial(Partial(half.id, digest_of("whole"), "docker.io", anonymous=True, started_at=1))

    layer = LAYER.encode()
    ingest = await store.begin(lambda written: None)
    await ingest.write(layer)
    location = await store.publish(ingest, Digest.of(layer))
    await catalog.hold(Digest.of(layer), len(layer), location, [(OWN, Proof.PUSHED)], 1)
    acknowledge(Digest.of(layer))

    passing = PASSING.encode()
    for data_ in (CONFIG, passing):
        location = await store.put(data_, Digest.of(data_))
        await catalog.hold(Digest.of(data_), len(data_), location, [(OWN, Proof.PUSHED)], 1)
        acknowledge(Digest.of(data_))

    manifest = image(LAYER)
    location = await store.put(manifest.raw, manifest.descriptor.digest)
    await catalog.hold_manifest(OWN, manifest, location, Proof.PUSHED, 1)
    acknowledge(manifest.descriptor.digest)
    await catalog.move_tag(OWN, "v1", None, manifest.descriptor.digest, Origin.LOCAL, 1, "me")
    acknowledge("tag")

    acknowledge("deleting")
    gone = await catalog.begin_delete(Digest.of(passing))
    if gone:
        await store.delete(gone)
        await catalog.deleted(Digest.of(passing))
    acknowledge("deleted")
    await half.suspend()
    await clean_staging(store, catalog, now=1)
    await catalog.close()
    await store.close()
    await asyncio.to_thread(directory.release)


def child(data: str, last: str, when: str) -> None:
    """One run, to its end or its death."""
    said = os.open(f"{data}.said", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(said, SAID)
    steps = Steps(Path(data), int(last), when)
    steps.wrap_files()
    steps.wrap_database()
    asyncio.run(store_an_image(Path(data)))
    acknowledge(f"steps {steps.count}")


def main() -> None:
    os.dup2(2, SAID)  # reserves the number
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                child(*line.split())
                status = 0
            finally:
                if status:
                    traceback.print_exc()
                os._exit(status)
        os.write(1, f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n".encode())


if __name__ == "__main__":
    main()

"""Catalogs of many tags, and how long they take to read: `python -m tests.store.generated 10000 100000`.

Every tag is an image of a config and four layers, two of them its own and two from a common stock (half of all layers
are shared); every tenth tag is an index of two such images. A hundredth as many blobs as tags are garbage.
"""

import asyncio
import random
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import Connection
from typing import TypeVar

from mirror.oci.digest import Digest
from mirror.oci.manifest import OCI_CONFIG, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST
from mirror.oci.names import Reference
from mirror.store.inventory import ConfigFacts, View
from mirror.store.opening import open_catalog
from mirror.store.sqlite import SqliteCatalog

T = TypeVar("T")

TAGS_PER_REPOSITORY = 100
NOW = 1_000_000.0
REGISTRIES = ("docker.io", "ghcr.io", "quay.io")


class Filler:
    """Writes rows as the commands would, without their checks."""

    def __init__(self, db: Connection, tags: int) -> None:
        self._db = db
        self._tags = tags
        self._ids: dict[str, int] = {}
        self._random = random.Random(1)

    def fill(self) -> None:
        for number in range(self._tags):
            home = number // TAGS_PER_REPOSITORY + 1
            if number % TAGS_PER_REPOSITORY == 0:
                name = (home, REGISTRIES[home % 3], f"team{home % 50}/app{home}")
                self._db.execute("INSERT INTO repositories VALUES (?, ?, ?, 'public', 1)", name)
            at = self._random.uniform(0, NOW)
            top = self._index(home, number, at) if number % 10 == 0 else self._image(home, str(number), at)
            tag = (home, f"v{number}", top)
            self._db.execute("INSERT INTO tags VALUES (?, ?, ?, 'upstream', ?, ?, NULL, ?)", (*tag, at, at, at))
            self._db.execute("INSERT INTO tag_history VALUES (NULL, ?, ?, ?, ?, 'test')", (home, tag[1], at, top))
        for number in range(self._tags // 100):
            self._blob(f"garbage {number}", 5_000_000, self._random.uniform(0, NOW))

    def _index(self, home: int, number: int, at: float) -> int:
        top = self._blob(f"index {number}", 1_500, at)
        self._link(home, top, 1, at)
        self._db.execute("INSERT INTO manifests VALUES (?, ?, NULL, NULL, NULL)", (top, OCI_INDEX))
        for position in range(2):
            child = self._image(home, f"{number}/{position}", at)
            edge = (top, position, child, "manifest", OCI_MANIFEST, 1_000, f"linux/a{position}")
            self._db.execute("INSERT INTO edges VALUES (?, ?, ?, ?, ?, ?, ?)", edge)
        return top

    def _image(self, home: int, name: str, at: float) -> int:
        manifest = self._blob(f"manifest {name}", 1_000, at)
        self._link(home, manifest, 1, at)
        self._db.execute("INSERT INTO manifests VALUES (?, ?, NULL, ?, NULL)", (manifest, OCI_MANIFEST, OCI_CONFIG))
        children = [("config", OCI_CONFIG, self._blob(f"config {name}", 2_000, at), 2_000)]
        self._db.execute("INSERT INTO configs VALUES (?, '2026-01-01T00:00:00Z', 'linux/a0')", (children[0][2],))
        for number in range(4):
            shared = f"stock {self._random.randrange(max(1, self._tags // 50))}"
            layer = self._blob(shared if number < 2 else f"layer {name} {number}", 10_000_000, at)
            children.append(("layer", OCI_LAYER_GZIP, layer, 10_000_000))
        for position, (role, media_type, child, size) in enumerate(children):
            edge = (manifest, position, child, role, media_type, size)
            self._db.execute("INSERT INTO edges VALUES (?, ?, ?, ?, ?, ?, NULL)", edge)
            self._link(home, child, 0, at)
        return manifest

    def _blob(self, name: str, size: int, at: float) -> int:
        if name not in self._ids:
            self._ids[name] = len(self._ids) + 1
            digest = Digest.of(name.encode())
            row = (self._ids[name], digest.to_bytes(), size, f"blobs/sha256/{digest.hex}", at, at, at)
            self._db.execute("INSERT INTO blobs VALUES (?, ?, ?, 'held', ?, ?, ?, ?)", row)
        return self._ids[name]

    def _link(self, home: int, blob: int, is_manifest: int, at: float) -> None:
        self._db.execute(
            "INSERT OR IGNORE INTO links (repository, blob, is_manifest, linked_at, anonymous_at)"
            " VALUES (?, ?, ?, ?, ?)",
            (home, blob, is_manifest, at, at),
        )


def fill(path: Path, tags: int) -> None:
    """Make a catalog of so many tags."""
    db = open_catalog(path)
    db.execute("PRAGMA synchronous = OFF")
    db.execute("PRAGMA cache_size = -500000")
    db.execute("BEGIN")
    Filler(db, tags).fill()
    db.execute("COMMIT")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


def digest_of_image(name: str) -> Digest:
    """The manifest of an image: its number."""
    return Digest.of(f"manifest {name}".encode())


# --- measuring ------------------------------------------------------------------------------------------------------


@contextmanager
def timed(what: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    print(f"  {what:<58}{(time.perf_counter() - started) * 1000:10.1f} ms")  # noqa: T201


async def measure(path: Path) -> None:
    async def each(what: str, call: Awaitable[T]) -> T:
        with timed(what):
            return await call

    with timed("start, and totals"):
        catalog = await SqliteCatalog.start(path)
        await catalog.totals()
    await each("totals again", catalog.totals())
    await each("held_bytes", catalog.held_bytes())
    rows, cursor = await each(
        "images, first page of 1,000", catalog.images(repository=None, registry=None, cursor=None, limit=1000)
    )
    with timed("images, all pages"):
        every = list(rows)
        while cursor:
            rows, cursor = await catalog.images(repository=None, registry=None, cursor=cursor, limit=1000)
            every += rows
    page = [row.manifest for row in every[:1000]]
    await each("images of one repository", catalog.images(
        repository=every[0].repository, registry=None, cursor=None, limit=1000
    ))  # fmt: skip
    await each("edges of 500", catalog.edges(page[:500]))
    seen = [(View(row.repository, trusted=False), row.manifest) for row in every[:500]]
    await each("edges_seen of 500", catalog.edges_seen(seen))
    await each("configs of 1,000", catalog.configs(page))
    await each("weigh 1,000", catalog.weigh(page))
    await each("weigh_together 1,000", catalog.weigh_together(page))
    await each("weigh_together all", catalog.weigh_together([row.manifest for row in every]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sizes = await each("sizes", catalog.sizes())
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"  {'memory that sizes took':<58}{grown:10.1f} MiB for {len(sizes)} images")  # noqa: T201
    del sizes
    await each("find by 12 digits of a manifest", catalog.find(every[1].manifest.short, 10))
    config = Digest.of(f"config {every[1].tag[1:] if every[1].tag else ''}".encode())
    await each("find by 12 digits of a config", catalog.find(config.short, 10))
    await each("sharing, own layer", catalog.sharing(Digest.of(b"layer 1 2"), 10))
    await each("sharing, common layer", catalog.sharing(Digest.of(b"stock 1"), 10))
    await each("search", catalog.search("app7", 25))
    await each("repositories, all", catalog.repositories(None, 10_000))
    await each("candidates, 100", catalog.candidates(100))
    await each("candidates, 10,000", catalog.candidates(10_000))
    garbage = await each("unreferenced, 100,000", catalog.unreferenced(2 * NOW, 100_000))
    await each("unverified, 1,000", catalog.unverified(None, 1000))
    with timed("touch 100 tags and 500 blobs"):
        await catalog.touch([(row.repository, row.tag or row.manifest) for row in every[:100]], page[:500], NOW)
    await each("pin", catalog.pin(Reference(every[5].repository, "x", None), "me", NOW))
    await each("set_tag", catalog.set_tag(every[5].repository, "y", every[5].manifest, NOW, "me"))
    await each("note_config", catalog.note_config(page[1], ConfigFacts(config, None, "linux/amd64")))
    with timed(f"collect {len(garbage)} blobs"):
        for digest, _ in garbage:
            if await catalog.begin_delete(digest, 2 * NOW):
                await catalog.deleted(digest)
    with timed("evict a tenth, and collect it"):
        taken = await catalog.candidates(len(every) // 10)
        await asyncio.gather(*(catalog.evict(each.repository, each.manifest, 2 * NOW, NOW) for each in taken))
        count = 0
        while found := await catalog.unreferenced(2 * NOW, 100_000):
            count += len(found)
            await asyncio.gather(*(catalog.begin_delete(digest, 2 * NOW) for digest, _ in found))
            await asyncio.gather(*(catalog.deleted(digest) for digest, _ in found))
    print(f"  {'':<58}{count:10} blobs")  # noqa: T201
    await catalog.close()


def main() -> None:
    for text in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "mirror.db"
            fill(path, int(text))
            print(f"{text} tags, {path.stat().st_size >> 20} MiB")  # noqa: T201
            asyncio.run(measure(path))


if __name__ == "__main__":
    main()

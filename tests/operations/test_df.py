"""`df`: what each line counts. That it is what lies on the disk, and what `prune` frees, is seen in `test_prune` and in
`tests/server/api`."""

from collections.abc import AsyncIterator

import pytest

from mirror.cache.rights import SOCKET, Principal
from mirror.oci.digest import Digest
from mirror.oci.names import Reference
from mirror.operations import df as module
from mirror.operations.df import Df, Type
from mirror.operations.images import Image, Page, Totals, Wanted
from mirror.store.catalog import Catalog
from mirror.store.protocols import Proof
from tests.operations.living import Life
from tests.store.samples import ALPINE, CONFIG, NGINX, OWN, TOOL, image

A, B = image("a" * 100, "base" * 100), image("base" * 100, "b" * 50)
WHOLE_A = A.descriptor.size + 100 + 400 + len(CONFIG)
WHOLE_B = B.descriptor.size + 50 + 400 + len(CONFIG)
SHARED = 400 + len(CONFIG)


class Pages:
    """A list of images, two a page."""

    def __init__(self, images: list[Image]) -> None:
        self.images = images

    async def page(self, principal: Principal, wanted: Wanted, *, limit: int, cursor: str | None) -> Page:
        assert (principal, wanted) == (SOCKET, Wanted())
        start = int(cursor or 0)
        last = start + 2 >= len(self.images)
        return Page(tuple(self.images[start : start + 2]), None if last else str(start + 2), Totals(0, 0))


@pytest.fixture
async def life(catalog: Catalog) -> AsyncIterator[Life]:
    made = Life(catalog)
    yield made
    await made.tasks.drain(0)


def df(life: Life, images: list[Image] | None = None) -> Df:
    async def catalog_size() -> int:
        return 4096

    return Df(
        catalog=life.catalog, store=life.roomy, images=Pages(images or []), catalog_size=catalog_size, clock=life.clock
    )


async def types(life: Life) -> dict[str, Type]:
    report = await df(life).report(SOCKET, verbose=False)
    assert report.images == ()
    found = {each.type: each for each in report.types}
    stored = sum(map(len, life.store.blobs.values()))
    assert found["Images"].on_disk + found["Loose layers"].on_disk == stored
    return found


async def test_nothing(life: Life) -> None:
    found = await types(life)
    assert list(found) == ["Images", "Loose layers", "Staging", "Catalog"]
    assert found["Images"] == Type("Images", 0, 0, 0, 0, 0, 0)
    assert found["Catalog"] == Type("Catalog", 1, 1, 4096, 4096, 0, 0)


async def test_each_name_is_an_image_and_each_blob_lies_there_once(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAGE", 2)
    await life.hold(ALPINE, "3", "a" * 100, "base" * 100)
    await life.hold(ALPINE, "latest", "a" * 100, "base" * 100)
    await life.hold(NGINX, "1", "base" * 100, "b" * 50)
    on_disk = WHOLE_A + WHOLE_B - SHARED
    logical = 2 * WHOLE_A + WHOLE_B
    assert (await types(life))["Images"] == Type("Images", 3, 0, logical, on_disk, logical - on_disk, on_disk)
    await life.catalog.pin(Reference(ALPINE, "3", None), "me", 1)
    kept = (await types(life))["Images"]
    assert (kept.active, kept.reclaimable) == (2, WHOLE_B - SHARED)  # both tags name the manifest that is kept


async def test_an_index_counts_what_is_below_it_once(life: Life) -> None:
    await life.hold_index(ALPINE, "3", ["a" * 100, "base" * 100], ["base" * 100, "b" * 50])
    found = (await types(life))["Images"]
    assert (found.total, found.logical, found.saved) == (1, found.on_disk, 0)


async def test_what_belongs_to_no_image(life: Life) -> None:
    await life.hold(TOOL, "2", "tool")
    for text, proof in (("pulled", Proof.ANONYMOUS), ("upload", Proof.PUSHED), ("bad", Proof.ANONYMOUS)):
        data = text.encode()
        location = await life.roomy.put(data, Digest.of(data))
        await life.catalog.hold(Digest.of(data), len(data), location, [(OWN, proof)], life.clock.wall())
    await life.catalog.quarantine(Digest.of(b"bad"))
    loose = (await types(life))["Loose layers"]
    assert loose == Type("Loose layers", 3, 1, 15, 15, 0, 9)  # the upload waits for its manifest


async def test_staging(life: Life) -> None:
    ingests = [await life.roomy.begin(lambda _: None) for _ in range(3)]
    for ingest in ingests:
        await ingest.write(b"half")
    await ingests[0].suspend()
    assert (await types(life))["Staging"] == Type("Staging", 3, 2, 12, 12, 0, 4)
    for ingest in ingests:
        await ingest.abort()


async def test_all_images_whatever_the_page(life: Life) -> None:
    images = [
        Image(
            name=f"image{number}",
            repository=f"docker.io/library/image{number}",
            tag="1",
            digest="sha256:" + "a" * 64,
            id=None,
            created=None,
            size=1,
            unique=1,
            last_pulled=None,
            pinned=False,
            origin="upstream",
            gone=False,
            complete=True,
            platforms=(),
        )
        for number in range(5)
    ]
    assert (await df(life, images).report(SOCKET, verbose=True)).images == tuple(images)

"""The bound: every byte asks first, staging counts, what does not fit is refused, and the count is never too low."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mirror.cache import room as module
from mirror.cache.room import Room, RoomyStore
from mirror.errors import DigestInvalid, NoRoom, StoreFailed
from mirror.oci.digest import Digest
from mirror.store.memory import MemoryBlobStore, MemoryCatalog
from mirror.store.protocols import Proof
from tests.cache.support import StillClock, settled
from tests.store.samples import ALPINE

KIB = 1024


def ignore(_: int) -> None:
    """Nobody follows this write."""


class Maker:
    """Frees as much as it has, in pieces of `piece` bytes."""

    def __init__(self, room: Room, has: int, piece: int = 1) -> None:
        self.room = room
        self.has = has
        self.piece = piece
        self.asked: list[tuple[int, str]] = []

    async def make(self, wanted: int, why: str, /) -> int:
        self.asked.append((wanted, why))
        await asyncio.sleep(0)
        freed = min(self.has, -(-wanted // self.piece) * self.piece)
        self.has -= freed
        self.room.give_back(freed)
        return freed


class Small:
    """A room for 1000 bytes."""

    def __init__(self, max_size: int | None = 1000, limit: int = 1 << 40, slack: int = 0) -> None:
        self.clock = StillClock()
        self.inner = MemoryBlobStore(limit=limit)
        self.offline = False
        self.room = Room(self.inner, max_size=max_size, slack=slack, clock=self.clock, offline=lambda: self.offline)
        self.store = RoomyStore(self.inner, self.room)
        self.catalog = MemoryCatalog()

    def maker(self, has: int, piece: int = 1) -> Maker:
        """Somebody who can free so much of what is there already."""
        made = Maker(self.room, has, piece)
        self.room.used += has
        self.room.made_by(made)
        return made


async def test_writes_count_from_the_first_byte() -> None:
    small = Small()
    ingest = await small.store.begin(ignore)
    await ingest.write(b"x" * 400)
    assert small.room.used == 400
    await small.store.put(b"y" * 100, Digest.of(b"y" * 100))
    assert small.room.used == 500
    await small.store.publish(ingest, Digest.of(b"x" * 400))
    assert small.room.used == 500
    await ingest.abort()  # harmless after a publish
    assert small.room.used == 500
    assert await small.store.delete(f"memory/{Digest.of(b'y' * 100)}") == 100
    assert small.room.used == 400


@pytest.mark.parametrize("how", ["abort", "wrong digest", "discard"])
async def test_what_goes_counts_no_more(how: str) -> None:
    small = Small()
    ingest = await small.store.begin(ignore)
    await ingest.write(b"x" * 400)
    if how == "abort":
        await ingest.abort()
        await ingest.abort()
    elif how == "wrong digest":
        with pytest.raises(DigestInvalid):
            await small.store.publish(ingest, Digest.of(b"other"))
    else:
        await ingest.suspend()
        assert small.room.used == 400
        assert await small.store.discard(ingest.id) == 400
    assert (small.room.used, small.room.ingests) == (0, set())


async def test_a_suspended_write_counts_and_goes_on() -> None:
    small = Small()
    ingest = await small.store.begin(ignore)
    await ingest.write(b"x" * 400)
    await ingest.suspend()
    resumed = await small.store.resume(ingest.id, ignore)
    assert resumed is not None
    await resumed.write(b"x" * 400)
    assert (small.room.used, resumed.offset) == (800, 800)
    await resumed.abort()
    assert small.room.used == 0
    assert await small.store.resume(ingest.id, ignore) is None


async def test_a_refused_write_counts_nothing_and_the_ingest_goes_on() -> None:
    """Breaks if the refused bytes are counted, or the accepted ones are lost: readers have them."""
    small = Small()
    ingest = await small.store.begin(ignore)
    await ingest.write(b"x" * 900)
    with pytest.raises(NoRoom):
        await ingest.write(b"x" * 101)
    assert (small.room.used, ingest.offset) == (900, 900)
    await settled(lambda: ingest.written == 900)
    hash_ = await ingest.hash_state()
    hash_.update(b"x" * 100)
    await ingest.write(b"x" * 100)
    assert hash_.hexdigest() == Digest.of(b"x" * 1000).hex
    with pytest.raises(NoRoom):
        await small.store.put(b"y", Digest.of(b"y"))
    assert small.inner.blobs == {}


async def test_a_disk_that_refuses_counts_nothing() -> None:
    small = Small(limit=500)
    ingest = await small.store.begin(ignore)
    small.inner.limit = 300  # somebody else filled it after it was looked at
    small.room._granted = 1 << 20
    with pytest.raises(NoRoom):
        await ingest.write(b"x" * 400)
    assert small.room.used == 0


async def test_room_is_made_as_bytes_arrive_and_a_little_more() -> None:
    small = Small()
    maker = small.maker(900)
    await small.store.put(b"x" * 100, Digest.of(b"x" * 100))
    assert maker.asked == []
    await small.store.put(b"y" * 100, Digest.of(b"y" * 100))
    assert maker.asked == [(100 + 1000 // 20, "max_size is reached")]
    await small.store.put(b"z" * 50, Digest.of(b"z" * 50))
    assert len(maker.asked) == 1
    assert small.room.used == 1000


async def test_many_at_once_never_pass_the_bound() -> None:
    small = Small()
    maker = small.maker(1000, piece=70)
    seen: list[int] = []

    async def write(number: int) -> None:
        ingest = await small.store.begin(ignore)
        for _ in range(3):
            try:
                await ingest.write(bytes([number]) * 30)
            except NoRoom:
                break
            seen.append(small.room.used)
            await asyncio.sleep(0)

    await asyncio.gather(*(write(number) for number in range(40)))
    assert max(seen) <= 1000
    assert maker.has == 0


async def test_where_nothing_can_be_made_it_is_not_tried_at_every_write() -> None:
    small = Small()
    maker = small.maker(0)
    small.room.used = 1000
    for _ in range(5):
        with pytest.raises(NoRoom):
            await small.store.put(b"x", Digest.of(b"x"))
    assert len(maker.asked) == 1
    small.clock.advance(60)
    maker.has = 500
    await small.store.put(b"x", Digest.of(b"x"))
    assert len(maker.asked) == 2


async def test_what_could_never_fit_evicts_nothing() -> None:
    small = Small()
    maker = small.maker(900)
    assert (small.room.fits(1000), small.room.fits(1001)) == (True, False)
    with pytest.raises(NoRoom):
        await small.store.put(b"x" * 1001, Digest.of(b"x" * 1001))
    assert (maker.asked, maker.has) == ([], 900)
    assert Small(max_size=None).room.fits(1 << 50)


# --- the disk -------------------------------------------------------------------------------------------------------


async def test_a_disk_that_gets_full_has_room_made() -> None:
    small = Small(max_size=None, limit=100 * KIB, slack=8 * KIB)

    class Deleting(Maker):
        async def make(self, wanted: int, why: str, /) -> int:
            self.asked.append((wanted, why))
            freed = 0
            while freed < wanted and small.inner.blobs:
                freed += await small.store.delete(next(iter(small.inner.blobs)))
            return freed

    maker = Deleting(small.room, 0)
    small.room.made_by(maker)
    for number in range(40):
        data = bytes([number]) * 8 * KIB
        await small.store.put(data, Digest.of(data))
        assert await small.inner.free() >= 0
    assert {why for _, why in maker.asked} == {"the disk is nearly full"}
    assert len(small.inner.blobs) >= 8


async def test_a_disk_that_is_nearly_full_is_used_to_the_end_where_nothing_can_go() -> None:
    """Breaks if what is had in hand is refused, or if every write tries to make room in vain."""
    small = Small(max_size=None, limit=100 * KIB, slack=30 * KIB)
    maker = small.maker(0)
    for number in range(12):
        data = bytes([number]) * 8 * KIB
        await small.store.put(data, Digest.of(data))
    with pytest.raises(NoRoom, match="the disk is nearly full"):
        await small.store.put(b"x" * 8 * KIB, Digest.of(b"x" * 8 * KIB))
    assert len(maker.asked) == 1


async def test_small_files_count_as_blocks() -> None:
    """Breaks if a million small files are believed to take no more than their bytes."""
    small = Small(max_size=None)
    await small.store.put(b"x", Digest.of(b"x"))
    granted = small.room._granted
    await small.store.put(b"y", Digest.of(b"y"))
    assert granted - small.room._granted == 4096


# --- now and then ---------------------------------------------------------------------------------------------------


async def test_it_is_counted_anew_where_nothing_moves() -> None:
    small = Small()
    await small.store.put(b"x" * 10, Digest.of(b"x" * 10))
    await small.store.put(b"x" * 10, Digest.of(b"x" * 10))  # the same: counted twice
    await small.catalog.hold(Digest.of(b"x" * 10), 10, "here", [(ALPINE, Proof.ANONYMOUS)], 1)
    await small.catalog.hold(Digest.of(b"bad"), 3, "here", [], 1)
    await small.catalog.quarantine(Digest.of(b"bad"))
    ingest = await small.store.begin(ignore)
    await ingest.write(b"half")
    await small.room.count(small.catalog)
    assert small.room.used == 24  # something was just published, perhaps: the catalog may not know of it yet
    await settled(lambda: ingest.written == 4)
    small.clock.advance(6)
    await small.room.count(small.catalog)
    assert small.room.used == 17


async def test_a_count_that_was_overtaken_is_thrown_away(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Small()

    async def meanwhile() -> int:
        small.clock.advance(1)
        await small.store.put(b"x" * 10, Digest.of(b"x" * 10))
        return 0

    monkeypatch.setattr(small.catalog, "stored_bytes", meanwhile)
    await small.room.count(small.catalog)
    assert small.room.used == 10


async def test_too_much_is_shrunk_and_too_little_free_is_made() -> None:
    small = Small()
    maker = small.maker(5000, piece=3000)
    await small.room.shrink()
    assert (small.room.used, maker.asked) == (0, [(4000 + 50, "max_size is exceeded")])
    await small.room.shrink()
    assert len(maker.asked) == 1
    full = Small(max_size=None, limit=0, slack=10)
    endless = full.maker(1000)
    await full.room.shrink()  # the files are still read by somebody: no end of evicting because of it
    assert (len(endless.asked), endless.asked[0]) == (5, (10, "the disk has less than min_free free"))
    nobody = Small()
    nobody.room.used = 5000
    await nobody.room.shrink()


async def test_nothing_goes_for_nothing() -> None:
    """Others filled the disk. Breaks if all that is held goes although that would not do, or goes while offline: it
    could not come back."""
    small = Small(max_size=None, limit=-1001, slack=10)
    maker = small.maker(1000)
    await small.room.shrink()
    with pytest.raises(NoRoom):
        await small.store.put(b"x", Digest.of(b"x"))
    assert maker.asked == []
    small.inner.limit = -1000  # all that is here would just do
    small.offline = True
    await small.room.shrink()
    assert maker.asked == []
    small.offline = False
    await small.room.shrink()
    assert maker.asked


async def test_it_looks_by_itself(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY", 0.001)
    small = Small()
    maker = small.maker(5000)
    await small.catalog.hold(Digest.of(b"x"), 5000, "here", [], 1)
    shrink = small.room.shrink
    failures = [StoreFailed("not now")]

    async def sometimes() -> None:
        if failures:
            raise failures.pop()
        await shrink()

    monkeypatch.setattr(small.room, "shrink", sometimes)
    watching = asyncio.get_running_loop().create_task(small.room.watch(small.catalog))
    while not maker.asked:
        await asyncio.sleep(0.001)
    assert "room is made later: not now" in caplog.text
    watching.cancel()
    await asyncio.wait([watching])


# --- the wrapper is the store ---------------------------------------------------------------------------------------


async def test_all_else_is_the_inner_stores() -> None:
    small = Small()
    data = b"data"
    location = await small.store.put(data, Digest.of(data))
    async with small.store.open(Digest.of(data), location, 4) as reader:
        assert await reader.read(0, 4) == data
    assert await small.store.read(Digest.of(data), location, 4) == data
    assert [each async for each in small.store.walk()] == [(Digest.of(data), location, 4)]
    ingest = await small.store.begin(ignore, algorithm="sha512")
    assert small.store.active() == {ingest.id}
    await ingest.write(b"")
    await ingest.write(data)
    await ingest.verify(Digest.of(data, "sha512"))
    await ingest.suspend()
    assert (await small.store.staged(), await small.store.staging()) == ([ingest.id], {ingest.id: 4})
    assert await small.store.free() > 0
    with pytest.raises(TypeError):
        await small.store.publish(await small.inner.begin(ignore), Digest.of(data))


class Counting(RuleBasedStateMachine):
    """Whatever is done, the count is what is there, and it is never more than the bound."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.small: Small = self.run(self.start)
        self.open: list[module.RoomyIngest] = []
        self.suspended: list[str] = []
        self.number = 0

    def run(self, work: Callable[[], object]) -> "Small":
        async def call() -> object:
            found = work()
            return await found if asyncio.iscoroutine(found) else found

        return self.runner.run(call())  # type: ignore[return-value]

    def start(self) -> Small:
        small = Small()

        class Deleting:
            async def make(self, wanted: int, why: str, /) -> int:
                freed = 0
                while freed < wanted and small.inner.blobs:
                    freed += await small.store.delete(next(iter(small.inner.blobs)))
                return freed

        small.room.made_by(Deleting())
        return small

    def unique(self, size: int) -> bytes:
        self.number += 1
        return self.number.to_bytes(4, "big") + bytes(size)

    @rule(size=st.integers(0, 1200))
    def put(self, size: int) -> None:
        data = self.unique(size)

        async def work() -> None:
            try:
                await self.small.store.put(data, Digest.of(data))
            except NoRoom:
                assert len(data) > 1000 - sum(self.staged().values())

        self.run(work)
        self.run(lambda: self.small.clock.advance(20))

    @rule(size=st.integers(1, 400))
    def write(self, size: int) -> None:
        async def work() -> None:
            ingest = await self.small.store.begin(ignore)
            self.open.append(ingest)
            try:
                await ingest.write(self.unique(size))
            except NoRoom:
                assert size + 4 > 1000 - sum(self.staged().values())

        self.run(work)
        self.run(lambda: self.small.clock.advance(20))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), how=st.sampled_from(["publish", "abort", "suspend", "write"]))
    def end(self, data: st.DataObject, how: str) -> None:
        ingest = data.draw(st.sampled_from(self.open))

        async def work() -> None:
            if how == "write":
                try:
                    await ingest.write(b"more")
                except NoRoom:
                    return
                return
            self.open.remove(ingest)
            if how == "publish":
                await self.small.store.publish(ingest, Digest.of(ingest.inner.data))  # type: ignore[attr-defined]
            elif how == "abort":
                await ingest.abort()
            else:
                await ingest.suspend()
                self.suspended.append(ingest.id)

        self.run(work)

    @precondition(lambda self: self.suspended)
    @rule(resume=st.booleans())
    def go_on(self, *, resume: bool) -> None:
        ingest_id = self.suspended.pop()

        async def work() -> None:
            if not resume:
                await self.small.store.discard(ingest_id)
            elif (ingest := await self.small.store.resume(ingest_id, ignore)) is not None:
                self.open.append(ingest)

        self.run(work)

    def staged(self) -> dict[str, int]:
        inner = self.small.inner
        open_ = {key: len(ingest.data) for key, ingest in inner._active.items()}
        return open_ | {key: len(data) for key, data in inner._suspended.items()}

    @invariant()
    def the_count_is_what_is_there(self) -> None:
        there = sum(map(len, self.small.inner.blobs.values())) + sum(self.staged().values())
        assert self.small.room.used == there <= 1000
        assert len(self.small.room.ingests) == len(self.open)

    def teardown(self) -> None:
        self.run(lambda: asyncio.gather(*(ingest.abort() for ingest in self.open)))
        self.runner.close()


Counting.TestCase.settings = settings(max_examples=max(5, settings().max_examples // 4), stateful_step_count=30)
TestCounting = Counting.TestCase

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from mirror.cache.leases import Leases
from mirror.oci.digest import Digest
from tests.cache.support import settled

ONE, TWO = Digest.of(b"one"), Digest.of(b"two")


async def test_what_somebody_is_at_is_not_taken() -> None:
    leases = Leases()
    async with leases.hold(ONE), leases.hold(ONE):
        assert leases.take([ONE, TWO]) == [TWO]
        leases.give_back([TWO])
    assert leases.take([ONE]) == [ONE]


async def test_what_is_taken_is_taken_once() -> None:
    leases = Leases()
    assert leases.take([ONE]) == [ONE]
    assert leases.take([ONE, TWO]) == [TWO]
    leases.give_back([ONE])
    assert leases.take([ONE]) == [ONE]


async def test_whoever_comes_to_a_deletion_waits_until_it_is_over() -> None:
    leases = Leases()
    entered: list[int] = []

    async def publish(number: int) -> None:
        async with leases.hold(ONE):
            entered.append(number)
            await asyncio.sleep(0)

    leases.take([ONE])
    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(publish(number))
        for _ in range(10):
            await asyncio.sleep(0)
        assert entered == []
        leases.give_back([ONE])
        await settled(lambda: bool(entered))
        assert leases.take([ONE]) == []
    assert sorted(entered) == [0, 1, 2]
    assert leases.take([ONE]) == [ONE]


async def test_a_holder_that_is_cancelled_leaves() -> None:
    leases = Leases()

    async def hold() -> None:
        async with leases.hold(ONE):
            await asyncio.Event().wait()

    holding = asyncio.get_running_loop().create_task(hold())
    await asyncio.sleep(0)
    assert leases.take([ONE]) == []
    holding.cancel()
    await asyncio.wait([holding])
    assert leases.take([ONE]) == [ONE]
    waiting = asyncio.get_running_loop().create_task(hold())
    await asyncio.sleep(0)
    waiting.cancel()  # while it waits for a deletion
    await asyncio.wait([waiting])
    leases.give_back([ONE])
    assert leases.take([ONE]) == [ONE]


@given(st.lists(st.tuples(st.sampled_from("hd"), st.integers(0, 2), st.integers(1, 4)), max_size=30))
def test_nobody_holds_what_is_being_deleted(steps: list[tuple[str, int, int]]) -> None:
    async def run() -> None:
        leases = Leases()
        digests = [Digest.of(bytes([number])) for number in range(3)]
        inside, deleting = [0, 0, 0], [False, False, False]

        async def hold(which: int, turns: int) -> None:
            async with leases.hold(digests[which]):
                inside[which] += 1
                for _ in range(turns):
                    assert not deleting[which]
                    await asyncio.sleep(0)
                inside[which] -= 1

        async def delete(which: int, turns: int) -> None:
            taken = leases.take([digests[which]])
            if not taken:
                return
            deleting[which] = True
            for _ in range(turns):
                assert inside[which] == 0
                await asyncio.sleep(0)
            deleting[which] = False
            leases.give_back(taken)

        async with asyncio.TaskGroup() as group:
            for kind, which, turns in steps:
                group.create_task(hold(which, turns) if kind == "h" else delete(which, turns))
                if turns % 2:
                    await asyncio.sleep(0)

    asyncio.run(run())

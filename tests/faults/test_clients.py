"""faults.md, "client leaves, slow client, 10,000 clients": the flight goes on, nobody waits for the slowest."""

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from mirror.cache import flight, flights
from mirror.server import send
from mirror.server.registry import blobs
from mirror.store import disk
from tests.faults.support import HUB, KIB, MIB, Client, begin, cached, client, hub, staged, stored, until
from tests.support.fake_registry import FakeRegistry, Gate
from tests.support.fake_registry.behaviours import hang, hang_after
from tests.support.fake_registry.content import random_bytes
from tests.support.mirror import mirror_in_process

SIZE = 4 * MIB


@pytest.mark.parametrize("size", [SIZE, 20 * KIB], ids=["large", "small"])
async def test_sixteen_cold_readers_cost_one_download(size: int, tmp_path: Path) -> None:
    """Breaks if a flight belongs to a request (distribution's `proxyblobstore.go`), or is keyed by client."""
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("sixteen", size)
        digest = registry.add_blob("library/x", layer)
        gate = Gate()
        registry.script("GET */blobs/*", hang_after(size // 2, gate))
        pulls = [begin(mirror.get(f"/v2/library/x/blobs/{digest}")) for _ in range(16)]
        await until(lambda: mirror.app.upstreams.states()[0].fetched_bytes >= size // 2)
        gate.release()
        assert [reply.body == layer for reply in await asyncio.gather(*pulls)] == [True] * 16
        assert registry.count("GET */blobs/*") == 2  # the second asks for the other half
        assert registry.sent("*/blobs/*") <= 1.01 * size


async def test_many_clients_share_what_is_there(tmp_path: Path) -> None:
    """Breaks if clients cost a download, a thread or a descriptor that is not given back."""
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("many", MIB)
        image = registry.add_image("library/x", "1", layers=[layer])
        paths = ["/v2/library/x/manifests/1", f"/v2/library/x/blobs/{image.layers[0][0]}"]
        connections = [await Client.connect(mirror) for _ in range(300)]
        descriptors = len(os.listdir("/proc/self/fd"))

        async def pull(connection: Client) -> bool:
            bodies = []
            for path in paths:
                await connection.ask(path)
                bodies.append(await connection.rest())
            return bodies[-1] == layer

        assert all(await asyncio.gather(*map(pull, connections)))
        assert registry.count("GET */blobs/*") == 1
        await mirror.idle()
        assert all(await asyncio.gather(*map(pull, connections)))
        await until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors + 5)
        for connection in connections:
            await connection.close()


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_reader_that_leaves_cancels_nothing(how: str, tmp_path: Path) -> None:
    """Breaks if the request's end cancels the flight's task: the others would be cut, and the next one begin anew."""
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("leaves", SIZE)
        digest = registry.add_blob("library/x", layer)
        path = f"/v2/library/x/blobs/{digest}"
        gate = Gate()
        registry.script("GET */blobs/*", hang_after(MIB, gate))
        first = await (await Client.connect(mirror)).ask(path)
        await first.read(100_000)
        async with client(mirror, path) as second:
            await second.read(100_000)
            if how == "reset":
                first.reset()
            else:
                await first.close()
            gate.release()
            assert await second.read(SIZE - 100_000) == layer[100_000:]
        assert registry.sent("*/blobs/*") == SIZE


async def test_the_only_reader_leaves_and_the_download_is_finished(tmp_path: Path) -> None:
    """Breaks if a flight without a reader stops: an interrupted pull would begin anew each time."""
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("only", SIZE)
        digest = registry.add_blob("library/x", layer)
        gate = Gate()
        registry.script("GET */blobs/*", hang_after(MIB, gate))
        async with client(mirror, f"/v2/library/x/blobs/{digest}") as reader:
            await reader.read(100_000)
        gate.release()
        await mirror.idle()
        assert stored(tmp_path / "data") == {digest.partition(":")[2]: SIZE}
        assert registry.sent("*/blobs/*") == SIZE
        assert cached(await mirror.get(f"/v2/library/x/blobs/{digest}")) == "hit"


async def test_what_one_client_leaves_behind_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if a client can make the mirror download without end by asking and leaving. What is stopped can be
    resumed."""
    monkeypatch.setattr(flights, "UNATTENDED", 2)
    async with hub(tmp_path) as (registry, mirror):
        gate = Gate()
        registry.script("GET */blobs/*", hang_after(MIB, gate), times=4)
        digests = [registry.add_blob("library/x", random_bytes(str(number), SIZE)) for number in range(4)]
        for digest in digests:
            async with client(mirror, f"/v2/library/x/blobs/{digest}") as reader:
                await reader.read(MIB - 64 * KIB)
        await until(lambda: sum(t.get_name().startswith("flight ") for t in asyncio.all_tasks()) == 2)
        gate.release()
        await mirror.idle()
        assert set(stored(tmp_path / "data")) == {digest.partition(":")[2] for digest in digests[:2]}
        for digest in digests:
            await mirror.get(f"/v2/library/x/blobs/{digest}")
        assert registry.sent("*/blobs/*") <= 1.2 * 4 * SIZE


async def test_nobody_waits_for_the_slowest(tmp_path: Path) -> None:
    """Breaks if readers are fed from one loop over them all, or if a slow one holds the flight back: it reads nothing
    at all until everybody else is done, and still gets every byte."""
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("slowest", 16 * MIB)
        digest = registry.add_blob("library/x", layer)
        path = f"/v2/library/x/blobs/{digest}"
        async with client(mirror, path, buffer=4 * KIB) as slow:
            replies = await asyncio.gather(*(mirror.get(path) for _ in range(4)))
            assert all(reply.body == layer for reply in replies)
            await mirror.idle()
            assert len(stored(tmp_path / "data")) == 1
            assert await slow.read(len(layer)) == layer
        assert registry.count("GET */blobs/*") == 1


async def test_a_slow_reader_does_not_hold_the_loop(tmp_path: Path) -> None:
    """Breaks if `sendfile` of a hot blob never yields (design.md §7, pitfall 2): others have their turn after every
    slice. Counted in turns of the loop, not in time."""
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("turns", 32 * MIB)
        digest = registry.add_blob("library/x", layer)
        path = f"/v2/library/x/blobs/{digest}"
        await mirror.get(path)
        await mirror.idle()
        turns = 0
        pull = begin(mirror.get(path))
        while not pull.done():
            turns += 1
            await asyncio.sleep(0)
        assert pull.result().body == layer
        assert turns > 32


async def test_head_on_a_cold_blob_downloads_nothing(tmp_path: Path) -> None:
    """Breaks if a HEAD begins a flight: a push's existence checks would download what they ask about."""
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("head", SIZE)
        digest = registry.add_blob("library/x", layer)
        head = await mirror.get(f"/v2/library/x/blobs/{digest}", "HEAD")
        assert head.status == 200
        assert head.headers["Content-Length"] == str(SIZE)
        assert head.headers["Docker-Content-Digest"] == digest
        await mirror.idle()
        assert registry.sent() == 0
        assert staged(tmp_path / "data") == []
        # also where upstream answers no HEAD: one byte of a range tells
        registry.head_blobs = False
        other = registry.add_blob("library/x", random_bytes("other", SIZE))
        head = await mirror.get(f"/v2/library/x/blobs/{other}", "HEAD")
        assert head.headers["Content-Length"] == str(SIZE)
        assert registry.sent() <= 1


async def test_a_client_that_hangs_up_in_mid_sendfile_never_gets_another_files_bytes(tmp_path: Path) -> None:
    """Breaks if the reader closes before the transport is aborted (design.md §7, pitfall 1): the descriptor's number
    is the next file's by then, and a queued sendfile sends that one's bytes.

    Every blob consists of one repeated byte, so that a foreign byte is recognised; clients stop reading, so that
    sendfile queues, are cut from the inside or leave, and others open their own blobs at once.
    """
    async with hub(tmp_path) as (registry, mirror):
        blobs = {bytes([65 + n]): registry.add_blob("library/x", bytes([65 + n]) * SIZE) for n in range(6)}
        for digest in blobs.values():
            await mirror.get(f"/v2/library/x/blobs/{digest}")
        await mirror.idle()

        async def stop_in_the_middle(letter: bytes, number: int) -> bytes:
            """Reads little, waits until the server's side is stuck, then ends in one of three ways."""
            async with client(mirror, f"/v2/library/x/blobs/{blobs[letter]}", buffer=4 * KIB) as reader:
                seen = await reader.read(1000)
                if number % 3 == 0:
                    reader.reset()
                    return seen
                if number % 3 == 1:
                    reader.writer.write_eof()  # half closed: the server sees the end of its client
                await asyncio.sleep(0)
                with contextlib.suppress(ConnectionError):
                    async with asyncio.timeout(20):
                        return seen + await reader.reader.read(SIZE - 1000)
                return seen

        async def whole(letter: bytes) -> bytes:
            return (await mirror.get(f"/v2/library/x/blobs/{blobs[letter]}")).body

        for round_ in range(6):
            letters = list(blobs)
            work = [stop_in_the_middle(letter, number + round_) for number, letter in enumerate(letters)]
            work += [whole(letter) for letter in reversed(letters)]
            results = await asyncio.gather(*work)
            owners = [*letters, *reversed(letters)]
            for letter, body in zip(owners, results, strict=True):
                assert set(body) <= set(letter)


async def test_a_transport_is_aborted_before_its_reader_closes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order behind the last test, without luck: breaks if `send` lets any exception pass without aborting first.
    Its task is cancelled while a sendfile waits for the client."""
    sending: list[tuple[asyncio.Task[object], asyncio.Transport]] = []
    was_closing: list[bool] = []
    closing = disk._FileReader.close

    async def watched(response: web.StreamResponse, request: web.BaseRequest, *rest: Any, **more: Any) -> None:
        task, transport = asyncio.current_task(), request.transport
        assert task is not None
        assert transport is not None
        sending.append((task, transport))
        await send.send(response, request, *rest, **more)

    def close(reader: disk._FileReader) -> None:
        was_closing.append(sending[-1][1].is_closing())
        closing(reader)

    async with hub(tmp_path) as (registry, mirror):
        digest = registry.add_blob("library/x", random_bytes("order", 32 * MIB))
        path = f"/v2/library/x/blobs/{digest}"
        await mirror.get(path)
        await mirror.idle()
        monkeypatch.setattr(blobs, "send", watched)
        monkeypatch.setattr(disk._FileReader, "close", close)
        async with client(mirror, path, buffer=4 * KIB) as reader:
            await reader.read(1000)
            sending[-1][0].cancel()
            await until(lambda: was_closing)
            assert was_closing == [True]
            assert len(await reader.rest()) < 32 * MIB - 1000


async def test_a_stranger_cannot_hold_a_flight_for_another_repository(tmp_path: Path) -> None:
    """Breaks if a flight that ends with its first repository's "no" is that of others too (faults.md, "a stranger's
    miss … blocks others"): whoever asks for it under a wrong name, again and again, would make it unknown."""
    async with FakeRegistry() as registry:
        layer = random_bytes("others", SIZE)
        digest = registry.add_blob("library/x", layer)
        registry.add_blob("library/wrong", b"something else")
        async with mirror_in_process(tmp_path / "data", {HUB: registry.url}) as mirror:
            gate = Gate()
            registry.script("GET */library/wrong/blobs/*", hang(gate))
            wrong = begin(mirror.get(f"/v2/library/wrong/blobs/{digest}"))
            await until(gate.reached.is_set)
            right = begin(mirror.get(f"/v2/library/x/blobs/{digest}"))
            await until(lambda: registry.count("HEAD */library/x/blobs/*"))
            gate.release()
            assert (await wrong).status == 404
            assert (await right).body == layer


async def test_one_background_task_that_fails_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Breaks if background tasks share a fate (an application-wide TaskGroup), or if one fails in silence."""

    async def broken(*_: object, **__: object) -> int:
        raise RuntimeError("injected: the clean-up has a mistake")

    monkeypatch.setattr("mirror.application.building.clean_staging", broken)
    async with hub(tmp_path) as (registry, mirror):
        await until(lambda: "the clean-up has a mistake" in caplog.text)
        digest = registry.add_blob("library/x", random_bytes("task", SIZE))
        assert (await mirror.get(f"/v2/library/x/blobs/{digest}")).status == 200


async def test_a_mistake_of_ours_in_a_flight_is_told_to_its_readers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Breaks if a flight that ends in an unexpected way leaves its readers waiting, or itself in the table."""
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("mistake", SIZE)
        digest = registry.add_blob("library/x", layer)
        path = f"/v2/library/x/blobs/{digest}"
        gate = Gate()
        registry.script("GET */blobs/*", hang_after(MIB, gate))
        async with client(mirror, path) as first, client(mirror, path) as second:
            await asyncio.gather(first.read(MIB // 2), second.read(MIB // 2))
            with monkeypatch.context() as patch:
                patch.setattr(flight.Flight, "_pump", _mistaken)
                gate.release()
                bodies = await asyncio.gather(first.rest(), second.rest())
                assert all(len(body) < SIZE - MIB // 2 for body in bodies)
        assert "injected: a mistake" in caplog.text
        assert (await mirror.get(path)).body == layer


async def _mistaken(*_: object) -> bool:
    raise RuntimeError("injected: a mistake")

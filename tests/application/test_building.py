"""The whole mirror: started, used, stopped; what it refuses; what it leaves behind."""

import asyncio
import gc
import logging
import os
import signal
import stat
import threading
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from mirror.application import building, running
from mirror.application.building import DRAIN_SECONDS, Ending
from mirror.clock import Clock
from mirror.config.model import Settings
from mirror.errors import ConfigInvalid, DataBusy, MirrorError, StoreFailed
from mirror.oci.digest import Digest
from mirror.store.disk import DiskStore
from mirror.store.sqlite import SqliteCatalog
from tests.cache.support import StillClock
from tests.support.fake_registry import FakeRegistry, Gate, behaviours
from tests.support.mirror import MirrorProcess, Running, mirror_in_process, settings_for
from tests.support.processes import NotReadyError, answers_tcp, wait_until

NOBODY = "http://127.0.0.1:9"


async def settings_in_thread(*args: Any, **more: Any) -> Settings:
    """`settings_for` looks at files, which blocks."""
    return await asyncio.to_thread(settings_for, *args, **more)


async def pull(mirror: Running, hub: FakeRegistry) -> None:
    """A whole image."""
    image = hub.add_image("library/alpine", "3", layers=[1000, 400_000])
    for target in ("manifests/3", *(f"blobs/{digest}" for digest, _ in image.layers)):
        assert (await mirror.get(f"/v2/library/alpine/{target}")).status == 200


# --- again and again --------------------------------------------------------------------------------------


def held_now() -> tuple[int, int, int]:
    """Open descriptors, threads, tasks."""
    gc.collect()
    threads = [thread for thread in threading.enumerate() if not thread.name.startswith("asyncio_")]  # the loop's pool
    return len(os.listdir("/proc/self/fd")), len(threads), len(asyncio.all_tasks())


async def test_twenty_starts_and_stops_leave_nothing_open(tmp_path: Path) -> None:
    async with FakeRegistry() as hub:
        before = (0, 0, 0)
        for number in range(20):
            async with mirror_in_process(
                tmp_path / "data", {"docker.io": hub.url}, access_log=tmp_path / "log"
            ) as mirror:
                await pull(mirror, hub)
            while hub.connections and any(not task.done() for task in hub._handlers):
                await asyncio.sleep(0.001)  # the upstream's side of closed connections
            if number == 4:
                before = held_now()  # pools of threads have their size now
        assert held_now() == before
        assert hub.count("GET */blobs/*") == 2  # and everything was kept


async def test_a_start_that_fails_leaves_nothing_open(tmp_path: Path) -> None:
    async with mirror_in_process(tmp_path / "one", {"docker.io": NOBODY}) as mirror:
        settings = await settings_in_thread(tmp_path / "two", {"docker.io": NOBODY}, listen=[mirror.authority])
        before = (0, 0, 0)
        for number in range(6):
            with pytest.raises(ConfigInvalid, match="is in use by another program"):
                async with running(settings):
                    pass
            if number == 1:
                before = held_now()
        assert held_now() == before
    async with mirror_in_process(tmp_path / "two", {"docker.io": NOBODY}):  # its data directory is free
        pass


# --- what it refuses --------------------------------------------------------------------------------------


async def test_a_second_owner_of_a_data_directory_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    async with mirror_in_process(tmp_path / "data", {"docker.io": NOBODY}) as mirror:
        before = {path: path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()}
        other = tmp_path / "other.sock"
        settings = await settings_in_thread(tmp_path / "data", {"docker.io": NOBODY}, socket=other)
        with pytest.raises(DataBusy, match=f"in use by process {os.getpid()}"):
            async with running(settings):
                pass
        after = {path: path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()}
        assert after == before
        assert (await mirror.get("/v2/")).status == 200
        assert not other.exists()


def ended(mirror: MirrorProcess) -> str:
    """Start what cannot start; what it said."""
    with pytest.raises(NotReadyError):
        mirror.start()
    return mirror.log


def test_the_command_says_why_and_exits_with_its_code(tmp_path: Path) -> None:
    registries = {"docker.io": NOBODY}
    with MirrorProcess(tmp_path / "one", registries) as first:
        (tmp_path / "two").mkdir()
        same_data = MirrorProcess(tmp_path / "two", registries, arguments=("--data", str(first.data)))
        said = ended(same_data)
        assert f"is in use by process {first.daemon.pid}" in said
        assert "Traceback" not in said
        (tmp_path / "three").mkdir()
        same_port = MirrorProcess(tmp_path / "three", registries, port=first.port)
        # the first mirror answers on that port, so the second seems ready until it ends
        same_port.daemon.start()
        assert same_port.daemon.wait(20) == 2
        assert f"listen: 127.0.0.1:{first.port} is in use by another program" in same_port.log
        assert f"--listen 127.0.0.1:{first.port + 1}" in same_port.log
        assert "Traceback" not in same_port.log


# --- modes ------------------------------------------------------------------------------------------------


def test_what_lies_on_disk_is_nobody_elses(tmp_path: Path) -> None:
    with FakeRegistry().in_thread() as hub:
        image = hub.add_image("library/alpine", "3", layers=[1000, 400_000])
        umask = os.umask(0o000)  # whatever the one who starts it has
        try:
            arguments = ("--access-log", str(tmp_path / "access.log"))
            mirror = MirrorProcess(tmp_path / "m", {"docker.io": hub.url}, arguments=arguments).start()
        finally:
            os.umask(umask)
        try:
            connection = HTTPConnection(mirror.host, mirror.port, timeout=20)
            for target in ("manifests/3", *(f"blobs/{digest}" for digest, _ in image.layers)):
                connection.request("GET", f"/v2/library/alpine/{target}")
                response = connection.getresponse()
                assert response.status == 200
                response.read()
            connection.close()
            socket_path = Path((mirror.data / "lock").read_text().splitlines()[1])
            assert stat.S_IMODE(socket_path.stat().st_mode) == 0o600
            found = {path: stat.S_IMODE(path.stat().st_mode) for path in [mirror.data, *mirror.data.rglob("*")]}
        finally:
            mirror.stop()
    assert found[mirror.data] == 0o700
    assert stat.S_IMODE((tmp_path / "access.log").stat().st_mode) == 0o600  # what is made without saying so, too
    assert len(found) > 8
    assert {path.name: oct(mode) for path, mode in found.items() if mode & 0o077} == {}


async def test_the_sockets_group(tmp_path: Path) -> None:
    async with mirror_in_process(tmp_path / "d", {"docker.io": NOBODY}, socket_group="root") as mirror:
        path = mirror.app.listeners.socket
        assert path is not None
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert not path.exists()


# --- the end ----------------------------------------------------------------------------------------------


class Download:
    """A client in a thread that has the head of a large blob, and waits for its body."""

    def __init__(self, mirror: MirrorProcess, path: str) -> None:
        self.connection = HTTPConnection(mirror.host, mirror.port, timeout=30)
        self.connection.request("GET", path)
        self.response = self.connection.getresponse()
        assert self.response.status == 200

    def body(self) -> bytes:
        try:
            return self.response.read()
        finally:
            self.connection.close()


def test_sigterm_lets_what_is_under_way_end(tmp_path: Path) -> None:
    gate = Gate()
    with FakeRegistry().in_thread() as hub:
        [(digest, data)] = hub.add_image("library/alpine", "3", layers=[400_000]).layers
        hub.script("GET */blobs/*", behaviours.hang_after(100_000, gate))
        mirror = MirrorProcess(tmp_path / "m", {"docker.io": hub.url}).start()
        try:
            download = Download(mirror, f"/v2/library/alpine/blobs/{digest}")
            assert gate.reached.wait(20)
            mirror.daemon.signal(signal.SIGTERM)
            _until_closed(mirror)
            gate.release()  # the upstream breaks, is resumed, and answers to the end
            assert download.body() == data
            assert mirror.daemon.wait(DRAIN_SECONDS * 2) == 0
        finally:
            gate.release()
            mirror.stop()
        assert "ending: requests under way have 10 s" in mirror.log
        assert "Traceback" not in mirror.log
        with mirror:  # and it was kept
            again = Download(mirror, f"/v2/library/alpine/blobs/{digest}")
            assert (again.response.headers["Mirror-Cache"], again.body()) == ("hit", data)


def _until_closed(mirror: MirrorProcess) -> None:
    """Until nobody listens any more."""
    listens = answers_tcp(mirror.host, mirror.port)
    wait_until(lambda: not listens(), 20, "the end of listening")


def test_a_second_sigterm_ends_it_at_once(tmp_path: Path) -> None:
    gate = Gate()
    with FakeRegistry().in_thread() as hub:
        [(digest, _)] = hub.add_image("library/alpine", "3", layers=[400_000]).layers
        hub.script("GET */blobs/*", behaviours.hang_after(100_000, gate))
        mirror = MirrorProcess(tmp_path / "m", {"docker.io": hub.url}).start()
        try:
            download = Download(mirror, f"/v2/library/alpine/blobs/{digest}")
            mirror.daemon.signal(signal.SIGTERM)
            _until_closed(mirror)
            mirror.daemon.signal(signal.SIGINT)
            assert mirror.daemon.wait(20) == 1
            download.connection.close()
        finally:
            gate.release()
            mirror.stop()
        assert "stopped at once" in mirror.log


def test_requests_and_downloads_share_the_time_of_an_ending() -> None:
    clock = StillClock()
    ending = Ending(clock)
    clock.advance(1000)  # however long it ran: the time begins with the first question
    assert ending.left() == DRAIN_SECONDS
    clock.advance(4)
    assert ending.left() == DRAIN_SECONDS - 4
    clock.advance(100)
    assert ending.left() == 0


def test_an_ending_can_be_hurried() -> None:
    clock = StillClock()
    ending = Ending(clock)
    ending.hurry(1)
    assert ending.left() == 1
    ending.hurry(5)  # no more time than there was
    assert ending.left() == 1


# --- starting ---------------------------------------------------------------------------------------------


async def test_it_starts_with_every_upstream_dead(tmp_path: Path) -> None:
    async with mirror_in_process(tmp_path / "d", {"docker.io": NOBODY, "ghcr.io": NOBODY}) as mirror:
        assert (await mirror.get("/v2/")).status == 200
        assert (await mirror.get("/v2/library/alpine/manifests/3")).code == "MANIFEST_UNKNOWN"


async def test_a_deletion_that_a_crash_interrupted_is_finished_first(tmp_path: Path) -> None:
    data, digest = tmp_path / "data", Digest.of(b"bytes")
    async with mirror_in_process(data, {"docker.io": NOBODY}):
        pass
    store, catalog = await DiskStore.start(data), await SqliteCatalog.start(data / "mirror.db")
    location = await store.put(b"bytes", digest)
    await catalog.hold(digest, 5, location, [], 1.0)
    assert await catalog.begin_delete(digest) == location
    await catalog.close()
    await store.close()
    assert [path.name for path in (data / "blobs" / "sha256").iterdir()] == [digest.hex]
    async with mirror_in_process(data, {"docker.io": NOBODY}):
        assert list((data / "blobs" / "sha256").iterdir()) == []
    catalog = await SqliteCatalog.start(data / "mirror.db")
    assert await catalog.deleting() == []
    await catalog.close()


async def test_the_announcement(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with FakeRegistry() as hub, mirror_in_process(tmp_path / "d", {"docker.io": hub.url}) as mirror:
            await mirror.app.announce()
            while not any("docker.io ok" in message for message in caplog.messages):
                await asyncio.sleep(0.001)
            text = "\n".join(caplog.messages)
            assert f"http://{mirror.authority}" in text
            assert f'{{"registry-mirrors": ["http://{mirror.authority}"]}}' in text
            assert str(tmp_path / "d.sock") in text


async def test_offline_asks_nobody_even_at_the_start(tmp_path: Path) -> None:
    async with FakeRegistry() as hub, mirror_in_process(tmp_path / "d", {"docker.io": hub.url}, offline=True) as mirror:
        await mirror.app.announce()
        assert (await mirror.get("/v2/library/alpine/manifests/3")).status == 404
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("first look")]
    assert hub.requests == []


async def test_staging_is_cleaned_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[int | MirrorError] = [StoreFailed("EIO"), 3]
    asked = asyncio.Event()

    async def clean(*_: object, now: float) -> int:
        assert now > 0
        if not answers:
            asked.set()
            return 0
        answer = answers.pop(0)
        if isinstance(answer, MirrorError):
            raise answer
        return answer

    monkeypatch.setattr(building, "clean_staging", clean)
    monkeypatch.setattr(building, "CLEAN_EVERY", 0.0)
    with caplog.at_level(logging.INFO):
        async with mirror_in_process(tmp_path / "d", {"docker.io": NOBODY}):
            await asked.wait()
    assert "staging could not be cleaned: EIO" in caplog.messages
    assert "staging cleaned: 3 leftovers" in caplog.messages


# --- time -------------------------------------------------------------------------------------------------


async def test_the_clock_can_be_moved(tmp_path: Path) -> None:
    clock = Clock(shift=1000.0)
    async with mirror_in_process(tmp_path / "d", {"docker.io": NOBODY}, clock=clock) as mirror:
        clock.shift += 500
        uptime = (await mirror.app.status.report())["uptime_seconds"]
        assert isinstance(uptime, float)
        assert 500 <= uptime < 600

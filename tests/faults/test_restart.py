"""faults.md, "SIGKILL or power cut anywhere", "second process on one data directory"; restarts and leaks."""

import asyncio
import gc
import hashlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.support import HUB, KIB, MIB, client, hub, staged, stored, until
from tests.support.fake_registry import FakeRegistry, Gate
from tests.support.fake_registry.behaviours import both, hang_after, status, wrong_bytes
from tests.support.fake_registry.content import random_bytes
from tests.support.mirror import MirrorProcess, mirror_in_process
from tests.support.processes import environment, wait_until

SIZE = 8 * MIB


@contextmanager
def get(mirror: MirrorProcess, path: str) -> Iterator[http.client.HTTPResponse]:
    """An answer whose body is yet to be read."""
    connection = http.client.HTTPConnection(mirror.host, mirror.port, timeout=20)
    try:
        connection.request("GET", path)
        yield connection.getresponse()
    finally:
        connection.close()


def whole(mirror: MirrorProcess, path: str) -> bytes:
    with get(mirror, path) as answer:
        assert answer.status == 200, answer.read()
        return answer.read()


def lie_still(mirror: MirrorProcess) -> None:
    """Wait until nothing is staged any more."""
    wait_until(lambda: staged(mirror.data) == [], 60, "empty staging")


def sound(mirror: MirrorProcess) -> None:
    """No published blob differs from its name."""
    for name in stored(mirror.data):
        assert hashlib.sha256((mirror.data / "blobs" / "sha256" / name).read_bytes()).hexdigest() == name


def test_killed_in_mid_download_it_resumes_where_it_was(tmp_path: Path) -> None:
    """Breaks if a partial download is not written down, is lost at start, or is not asked to be continued: upstream
    bytes are counted."""
    layer = random_bytes("killed", SIZE)
    with FakeRegistry().in_thread() as registry:
        image = registry.add_image("library/x", "1", layers=[layer])
        digest = image.layers[0][0]
        path = f"/v2/library/x/blobs/{digest}"
        with MirrorProcess(tmp_path, {HUB: registry.url}) as mirror:
            whole(mirror, "/v2/library/x/manifests/1")
            registry.script("GET */blobs/*", hang_after(SIZE // 2))
            with get(mirror, path) as answer:
                assert answer.read(SIZE // 2 - 64 * KIB) == layer[: SIZE // 2 - 64 * KIB]
                wait_until(lambda: _staged_bytes(mirror.data) == SIZE // 2, 20, "half of it")
                mirror.kill()
                with pytest.raises((http.client.IncompleteRead, ConnectionError)):
                    answer.read()
            assert stored(mirror.data) == {image.digest.partition(":")[2]: len(image.manifest.raw)}
            mirror.start()
            assert whole(mirror, path) == layer
            resumed = registry.seen("GET */blobs/*")[-1].headers.get("Range")
            assert resumed == f"bytes={SIZE // 2}-"
            assert registry.sent("*/blobs/*") <= 1.2 * SIZE
            lie_still(mirror)
            sound(mirror)
            registry.forget()
            assert whole(mirror, path) == layer
            assert registry.count("*/blobs/*") == 0


def test_killed_again_and_again_it_comes_to_an_end(tmp_path: Path) -> None:
    """Breaks if progress is lost by a second kill (the resumed ingest is no longer written down), or if anything lies
    about in staging at the end."""
    layer = random_bytes("again", SIZE)
    with FakeRegistry().in_thread() as registry:
        digest = registry.add_blob("library/x", layer)
        path = f"/v2/library/x/blobs/{digest}"
        with MirrorProcess(tmp_path, {HUB: registry.url}) as mirror:
            for step in range(1, 4):
                registry.script("GET */blobs/*", hang_after(SIZE // 4))
                with get(mirror, path) as answer:
                    assert answer.status == 200
                    reached = step * SIZE // 4
                    wait_until(lambda: _staged_bytes(mirror.data) == reached, 20, "a quarter more")  # noqa: B023
                    mirror.kill()
                mirror.start()
            assert whole(mirror, path) == layer
            assert registry.sent("*/blobs/*") <= 1.2 * SIZE
            lie_still(mirror)


def test_killed_between_the_last_byte_and_the_commit(tmp_path: Path) -> None:
    """Breaks if a partial that is whole already is asked to be continued at its end: upstream answers 416, and the
    blob stayed unknown until the clean-up a day later."""
    layer = random_bytes("commit", SIZE)
    with FakeRegistry().in_thread() as registry:
        digest = registry.add_blob("library/x", layer)
        path = f"/v2/library/x/blobs/{digest}"
        with MirrorProcess(tmp_path, {HUB: registry.url}) as mirror:
            registry.script("GET */blobs/*", hang_after(SIZE // 2))
            with get(mirror, path):
                wait_until(lambda: _staged_bytes(mirror.data) == SIZE // 2, 20, "half of it")
                mirror.kill()
            (partial,) = staged(mirror.data)
            with (mirror.data / "ingest" / partial).open("ab") as file:  # the rest arrived in the last moment
                file.write(layer[SIZE // 2 :])
            mirror.start()
            registry.forget()
            assert whole(mirror, path) == layer
            assert registry.sent("*/blobs/*") == 0
            lie_still(mirror)


@pytest.mark.parametrize("more", [0, 1000], ids=["zeros", "longer than the blob"])
def test_a_partial_that_a_power_cut_spoilt_is_found_out(more: int, tmp_path: Path) -> None:
    """Breaks if staged bytes are believed after a restart: the hash decides, nothing wrong is kept, and what cannot
    be continued does not stand in the way."""
    layer = random_bytes("spoilt", SIZE)
    with FakeRegistry().in_thread() as registry:
        digest = registry.add_blob("library/x", layer)
        path = f"/v2/library/x/blobs/{digest}"
        with MirrorProcess(tmp_path, {HUB: registry.url}) as mirror:
            registry.script("GET */blobs/*", hang_after(SIZE // 2))
            with get(mirror, path):
                wait_until(lambda: _staged_bytes(mirror.data) == SIZE // 2, 20, "half of it")
                mirror.kill()
            (partial,) = staged(mirror.data)
            with (mirror.data / "ingest" / partial).open("r+b") as file:
                file.seek(MIB)
                file.write(bytes(MIB))
                if more:
                    file.truncate(SIZE + more)
            mirror.start()
            with get(mirror, path) as answer:
                try:
                    body = answer.read()
                except http.client.IncompleteRead as error:
                    body = error.partial
                assert body == layer or len(body) < SIZE
            assert whole(mirror, path) == layer
            lie_still(mirror)
            sound(mirror)


def test_a_partial_whose_blob_is_gone_upstream(tmp_path: Path) -> None:
    """Breaks if a partial makes the mirror serve, or wait for, what its registry no longer has. It stays until it is
    stale: the "no" may be said of another repository than the one that began it."""
    layer = random_bytes("gone", SIZE)
    with FakeRegistry().in_thread() as registry:
        digest = registry.add_blob("library/x", layer)
        path = f"/v2/library/x/blobs/{digest}"
        with MirrorProcess(tmp_path, {HUB: registry.url}) as mirror:
            registry.script("GET */blobs/*", hang_after(SIZE // 2))
            with get(mirror, path):
                wait_until(lambda: _staged_bytes(mirror.data) == SIZE // 2, 20, "half of it")
                mirror.kill()
            del registry.repository("library/x").blobs[digest]
            mirror.start()
            with get(mirror, path) as answer:
                assert answer.status == 404
            assert _staged_bytes(mirror.data) == SIZE // 2


def _staged_bytes(data: Path) -> int:
    return sum((data / "ingest" / name).stat().st_size for name in staged(data))


async def test_a_partial_is_continued_by_its_own_source_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if staging is keyed by digest alone (design.md §4): a hostile registry would finish somebody's
    half-downloaded private blob, and earn a link to it; or spoil it."""
    monkeypatch.setattr("mirror.application.building.DRAIN_SECONDS", 0.1)
    async with FakeRegistry() as good, FakeRegistry() as evil:
        layer = random_bytes("source", SIZE)
        digest = good.add_blob("library/x", layer)
        evil.add_blob("x/x", layer[:-1] + b"!", digest=digest)
        registries: dict[str, dict[str, object] | str] = {
            HUB: {"url": good.url, "idle_timeout": "0.2s"},
            "evil.example": evil.url,
        }
        gate = Gate()
        async with mirror_in_process(tmp_path / "data", registries) as mirror:
            good.script("GET */blobs/*", hang_after(SIZE // 2, gate))
            good.script("GET */blobs/*", status(404), times=None)
            async with client(mirror, f"/v2/library/x/blobs/{digest}") as reader:
                await reader.read(SIZE // 2 - 64 * KIB)
                await until(lambda: _staged_bytes(tmp_path / "data") == SIZE // 2)
        assert len(staged(tmp_path / "data")) == 1  # suspended
        gate.release()
        good.unscript()
        async with mirror_in_process(tmp_path / "data", registries) as mirror:
            async with client(mirror, f"/v2/x/x/blobs/{digest}?ns=evil.example") as reader:
                assert len(await reader.rest()) < SIZE
            assert [request.headers.get("Range") for request in evil.seen("GET */blobs/*")] == [None]
            assert (await mirror.get(f"/v2/library/x/blobs/{digest}")).body == layer
            assert good.seen("GET */blobs/*")[-1].headers.get("Range") == f"bytes={SIZE // 2}-"


async def test_a_stop_in_mid_download_leaves_what_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if SIGTERM throws away what is half there, or if the readers' bodies end cleanly."""
    monkeypatch.setattr("mirror.application.building.DRAIN_SECONDS", 0.1)
    registry = FakeRegistry()
    layer = random_bytes("stop", SIZE)
    digest = registry.add_blob("library/x", layer)
    path = f"/v2/library/x/blobs/{digest}"
    async with registry:
        async with mirror_in_process(tmp_path / "data", {HUB: registry.url}) as mirror:
            registry.script("GET */blobs/*", hang_after(SIZE // 2))
            async with client(mirror, path) as reader:
                await reader.read(SIZE // 2 - 64 * KIB)
                await until(lambda: _staged_bytes(tmp_path / "data") == SIZE // 2)
                stopping = asyncio.get_running_loop().create_task(mirror.app.listeners.close(0.1))
                assert len(await reader.rest()) < SIZE
                await stopping
        async with mirror_in_process(tmp_path / "data", {HUB: registry.url}) as mirror:
            assert (await mirror.get(path)).body == layer
        assert registry.sent("*/blobs/*") <= 1.2 * SIZE
        assert staged(tmp_path / "data") == []


async def test_wrong_bytes_that_were_half_there_are_not_resumed(tmp_path: Path) -> None:
    """Breaks if what failed its digest stays in staging: it would fail again and again."""
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("half", SIZE)
        digest = registry.add_blob("library/x", layer)
        registry.script("GET */blobs/*", both(wrong_bytes(), hang_after(SIZE // 2, _open())))
        registry.script("GET */blobs/*", wrong_bytes())
        async with client(mirror, f"/v2/library/x/blobs/{digest}") as reader:
            assert len(await reader.rest()) < SIZE
        await mirror.idle()
        assert staged(tmp_path / "data") == []
        assert (await mirror.get(f"/v2/library/x/blobs/{digest}")).body == layer


def _open() -> Gate:
    gate = Gate()
    gate.release()
    return gate


def test_a_second_process_on_one_data_directory_changes_nothing(tmp_path: Path) -> None:
    """Breaks if the lock is taken after anything was touched, or not at all."""
    with FakeRegistry().in_thread() as registry:
        registry.add_image("library/x", "1")
        with MirrorProcess(tmp_path, {HUB: registry.url}) as mirror:
            whole(mirror, "/v2/library/x/manifests/1")
            before = _fingerprint(mirror.data)
            second = subprocess.run(
                [sys.executable, "-m", "mirror", "serve", "--data", str(mirror.data), "--listen", "127.0.0.1:0"],
                env=environment({}),
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            assert second.returncode == 8
            assert f"in use by process {mirror.daemon.pid}" in second.stderr
            assert "Traceback" not in second.stderr
            assert _fingerprint(mirror.data) == before
            assert mirror.command("status")  # the socket is still the first one's
            whole(mirror, "/v2/library/x/manifests/1")


def _fingerprint(data: Path) -> dict[str, tuple[int, int]]:
    found = [path for path in data.rglob("*") if path.is_file() and not path.name.endswith("-shm")]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


def test_it_serves_again_after_a_kill_with_many_blobs(tmp_path: Path) -> None:
    """Breaks if a start walks, hashes or counts every blob before it listens."""
    with FakeRegistry().in_thread() as registry:
        image = registry.add_image("library/x", "1")
        with MirrorProcess(tmp_path, {HUB: registry.url}) as mirror:
            whole(mirror, "/v2/library/x/manifests/1")
            mirror.kill()
            folder = mirror.data / "blobs" / "sha256"
            for number in range(10_000):
                (folder / hashlib.sha256(str(number).encode()).hexdigest()).write_bytes(b"")
            mirror.start()
            assert whole(mirror, f"/v2/library/x/manifests/{image.digest}") == image.manifest.raw
            lie_still(mirror)


async def test_starts_and_stops_leave_nothing_behind(tmp_path: Path) -> None:
    """Breaks if a start opens what the stop does not close: descriptors, threads, tasks."""
    async with FakeRegistry() as registry:
        image = registry.add_image("library/x", "1", layers=[1000, MIB])

        async def once() -> None:
            async with mirror_in_process(tmp_path / "data", {HUB: registry.url}) as mirror:
                await mirror.get("/v2/library/x/manifests/1")
                for digest, _ in image.layers:
                    await mirror.get(f"/v2/library/x/blobs/{digest}")
                await mirror.app.announce()

        def counted() -> tuple[int, int, int]:
            gc.collect()
            sockets = [name for name in os.listdir("/proc/self/fd") if _is_open(name)]
            threads = [t for t in threading.enumerate() if not t.name.startswith("asyncio_")]
            # the fake registry's own connections and handlers end a moment after ours
            handlers = {task.get_name() for task in asyncio.all_tasks() if "_serve" not in repr(task.get_coro())}
            return len(sockets), len(threads), len(handlers)

        for _ in range(3):
            await once()
        await until(lambda: len(registry._handlers) == 0)
        before = counted()
        for _ in range(25):
            await once()
        await until(lambda: len(registry._handlers) == 0)
        await until(lambda: counted() <= before)
        assert counted() <= before


def _is_open(descriptor: str) -> bool:
    try:
        os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return False
    return True


async def test_tags_and_proofs_survive_a_restart(tmp_path: Path) -> None:
    """Breaks if anything that decides an answer lives in memory only."""
    async with FakeRegistry() as registry:
        image = registry.add_image("library/x", "1", layers=[1000])
        async with mirror_in_process(tmp_path / "data", {HUB: registry.url}) as mirror:
            await mirror.get("/v2/library/x/manifests/1")
            await mirror.get(f"/v2/library/x/blobs/{image.layers[0][0]}")
            await mirror.idle()
        registry.forget()
        async with mirror_in_process(tmp_path / "data", {HUB: registry.url}) as mirror:
            for path in ("manifests/1", f"manifests/{image.digest}", f"blobs/{image.layers[0][0]}"):
                reply = await mirror.get(f"/v2/library/x/{path}")
                assert (reply.status, reply.headers["Mirror-Cache"]) == (200, "hit")
            report = json.loads((await mirror.get("/api/v1/status")).body)
            assert report["data"]["tags"] == 1
        assert registry.count() == 0


def test_nothing_listens_before_the_data_is_ready(tmp_path: Path) -> None:
    """Breaks if the port is opened before the store: a client's first request would meet an error."""
    with FakeRegistry().in_thread() as registry:
        image = registry.add_image("library/x", "1")
        mirror = MirrorProcess(tmp_path, {HUB: registry.url})
        tmp_path.mkdir(exist_ok=True)
        mirror.daemon._ready = lambda: _accepts(mirror.host, mirror.port)  # not one request before ours
        mirror.daemon.start()
        try:
            assert whole(mirror, f"/v2/library/x/manifests/{image.digest}") == image.manifest.raw
        finally:
            mirror.stop()


def _accepts(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0

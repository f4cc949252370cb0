"""faults.md, "disk full, read-only, EIO" by injection: cached reads go on, uncached pulls stream through."""

import asyncio
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mirror.errors import StoreFailed
from mirror.store.sqlite import SqliteCatalog
from tests.faults.support import HUB, KIB, MIB, begin, cached, hub, staged, stored, until
from tests.support.fake_registry import FakeRegistry, Gate
from tests.support.fake_registry.behaviours import hang_after
from tests.support.fake_registry.content import random_bytes
from tests.support.mirror import mirror_in_process


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, call: str, code: int, when: Any) -> Iterator[list[object]]:
    """Let `os.<call>` fail with `code` where `when(*arguments)` holds; yields the first arguments of those calls."""
    real = getattr(os, call)
    failed: list[object] = []

    def injected(*arguments: Any, **named: Any) -> Any:
        if when(*arguments):
            failed.append(arguments[0])
            raise OSError(code, f"injected {errno.errorcode[code]}")
        return real(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, injected)
        yield failed


async def test_a_read_only_disk_serves_what_it_holds_and_streams_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if a pull fails because it cannot be kept."""
    async with hub(tmp_path) as (registry, mirror):
        held = registry.add_image("library/held", "1", layers=[random_bytes("held", MIB)])
        await mirror.get("/v2/library/held/manifests/1")
        await mirror.get(f"/v2/library/held/blobs/{held.layers[0][0]}")
        await mirror.idle()
        before = stored(tmp_path / "data")
        layers = [random_bytes("small", 10 * KIB), random_bytes("large", 3 * MIB)]
        image = registry.add_image("library/x", "1", layers=layers)
        data = str(tmp_path / "data")
        creating = lambda path, flags, *_: bool(flags & os.O_CREAT) and str(path).startswith(data)  # noqa: E731
        with failing(monkeypatch, "open", errno.EROFS, creating) as failed:
            assert cached(await mirror.get(f"/v2/library/held/blobs/{held.layers[0][0]}")) == "hit"
            for _ in range(2):
                assert (await mirror.get("/v2/library/x/manifests/1")).body == image.manifest.raw
                for digest, layer in image.layers:
                    assert (await mirror.get(f"/v2/library/x/blobs/{digest}")).body == layer
            await mirror.idle()
            assert failed
        assert stored(tmp_path / "data") == before
        for digest, layer in image.layers:  # and without a restart it is well again
            assert (await mirror.get(f"/v2/library/x/blobs/{digest}")).body == layer
        await mirror.idle()
        assert cached(await mirror.get(f"/v2/library/x/blobs/{image.layers[1][0]}")) == "hit"


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
async def test_a_write_that_fails_in_mid_flight_cuts_nobody(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if readers of a flight end with its ingest, get a byte twice or not at all, or an unverified tail; late
    ones too."""
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("write", 4 * MIB)
        digest = registry.add_blob("library/x", layer)
        path = f"/v2/library/x/blobs/{digest}"
        gate = Gate()
        registry.script("GET */blobs/*", hang_after(2 * MIB, gate))
        early = [begin(mirror.get(path)) for _ in range(3)]
        await until(lambda: mirror.app.upstreams.states()[0].fetched_bytes == 2 * MIB)
        with failing(monkeypatch, "pwrite", code, lambda *_: True) as failed:
            late = begin(mirror.get(path, Range="bytes=1000-"))
            gate.release()
            replies = await asyncio.gather(*early)
            assert failed
            assert all(reply.body == layer for reply in replies)
            assert (await late).body == layer[1000:]
            await mirror.idle()
        assert stored(tmp_path / "data") == {}
        assert staged(tmp_path / "data") == []


async def test_a_held_blob_that_the_disk_does_not_give_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if an EIO on what is held is the client's end of the line: podman has no other endpoint for a blob."""
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("eio", MIB)
        image = registry.add_image("library/x", "1", layers=[layer])
        digest = image.layers[0][0]
        await mirror.get("/v2/library/x/manifests/1")
        await mirror.get(f"/v2/library/x/blobs/{digest}")
        await mirror.idle()
        names = tuple(stored(tmp_path / "data"))
        with failing(monkeypatch, "open", errno.EIO, lambda path, *_: str(path).endswith(names)) as failed:
            assert (await mirror.get(f"/v2/library/x/blobs/{digest}")).body == layer
            assert failed
            await mirror.idle()
        registry.forget()
        assert (await mirror.get(f"/v2/library/x/blobs/{digest}")).body == layer
        assert registry.count("GET */blobs/*") == 0


async def test_a_held_manifest_that_the_disk_does_not_give_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks as the last one does, after a start with nothing in memory."""
    async with FakeRegistry() as registry:
        image = registry.add_image("library/x", "1")
        paths = ("manifests/1", f"manifests/{image.digest}")
        async with mirror_in_process(tmp_path / "data", {HUB: registry.url}) as mirror:
            assert (await mirror.get("/v2/library/x/manifests/1")).status == 200
        (name,) = stored(tmp_path / "data")
        for path in paths:
            async with mirror_in_process(tmp_path / "data", {HUB: registry.url}) as mirror:
                with failing(monkeypatch, "open", errno.EIO, lambda path, *_: str(path).endswith(name)) as failed:
                    assert (await mirror.get(f"/v2/library/x/{path}")).body == image.manifest.raw
                    assert failed
        registry.forget()
        async with mirror_in_process(tmp_path / "data", {HUB: registry.url}) as mirror:
            assert cached(await mirror.get(f"/v2/library/x/manifests/{image.digest}")) == "hit"
        assert registry.count() == 0


async def test_a_catalog_that_cannot_be_written_stops_no_pull(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if an answer waits for, or fails with, what is written down about it."""
    async with hub(tmp_path) as (registry, mirror):
        layers = [random_bytes("small", 10 * KIB), random_bytes("large", 2 * MIB)]
        image = registry.add_image("library/x", "1", layers=layers)

        async def refuse(*_: object, **__: object) -> None:
            raise StoreFailed("injected: the catalog cannot be written")

        with monkeypatch.context() as patch:
            for method in (
                "hold", "hold_manifest", "link", "move_tag", "confirm_tag", "tag_gone", "drop_tag", "missed",
                "begin_partial", "end_partial", "set_visibility", "quarantine",
            ):  # fmt: skip
                patch.setattr(SqliteCatalog, method, refuse)
            for _ in range(2):
                assert (await mirror.get("/v2/library/x/manifests/1")).body == image.manifest.raw
                assert (await mirror.get(f"/v2/library/x/manifests/{image.digest}")).body == image.manifest.raw
                for digest, layer in image.layers:
                    assert (await mirror.get(f"/v2/library/x/blobs/{digest}")).body == layer
                assert (await mirror.get("/v2/library/x/manifests/2")).status == 404
            await mirror.idle()
        assert (await mirror.get("/v2/library/x/manifests/1")).status == 200


async def test_a_failed_fsync_of_the_directory_claims_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if a blob counts as held whose name may not survive a power cut."""
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("directory", 2 * MIB)
        digest = registry.add_blob("library/x", layer)
        directory = lambda fd: os.path.isdir(f"/proc/self/fd/{fd}")  # noqa: E731
        with failing(monkeypatch, "fsync", errno.EIO, directory) as failed:
            assert (await mirror.get(f"/v2/library/x/blobs/{digest}")).body == layer
            await mirror.idle()
            assert failed
        again = await mirror.get(f"/v2/library/x/blobs/{digest}")
        assert (cached(again), again.body == layer) == ("miss", True)

"""A line per request: its form, what it makes of hostile text, batches, rotation, a file that cannot be written."""

import asyncio
import json
import logging
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mirror.server import access_log as module
from mirror.server.access_log import AccessLog
from tests.server import calls

NOW = 1_700_000_000.9
STAMP = "2023-11-14T22:13:20Z"


class Counting(ThreadPoolExecutor):
    """The log's one thread; counts what it is given."""

    batches = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.batches += 1
        return super().submit(fn, *args, **kwargs)


@pytest.fixture
def executor() -> Iterator[Counting]:
    with Counting(1) as made:
        yield made


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_EVERY", 0.0)


def add(log: AccessLog, path: str = "/v2/", **changed: Any) -> None:
    request: dict[str, Any] = {
        "now": NOW, "client": "192.0.2.7", "method": "GET", "path": path, "status": 200, "size": 2, "took": 0.0012345,
        "cache": "hit", **changed,
    }  # fmt: skip
    log.add(**request)


async def flushed(log: AccessLog) -> None:
    """Until all lines are written."""
    while log._timer is not None:
        await asyncio.sleep(0)
    await asyncio.wrap_future(log._executor.submit(bool))


async def written(log: AccessLog, path: Path) -> list[str]:
    await flushed(log)
    return path.read_text(encoding="utf-8").splitlines()


async def test_text(tmp_path: Path, executor: Counting) -> None:
    log = AccessLog(tmp_path / "log", as_json=False, executor=executor)
    add(log)
    add(log, cache="", status=404, size=0, now=NOW + 60)
    assert await written(log, tmp_path / "log") == [
        f"{STAMP} 192.0.2.7 GET /v2/ 200 2 1.234ms hit",
        "2023-11-14T22:14:20Z 192.0.2.7 GET /v2/ 404 0 1.234ms -",
    ]


async def test_json(tmp_path: Path, executor: Counting) -> None:
    log = AccessLog(tmp_path / "log", as_json=True, executor=executor)
    add(log, '/v2/"x\\\n\x1b')
    [line] = await written(log, tmp_path / "log")
    assert json.loads(line) == {
        "time": STAMP, "client": "192.0.2.7", "method": "GET", "path": '/v2/"x\\\n\x1b', "status": 200, "bytes": 2,
        "ms": 1.234, "cache": "hit",
    }  # fmt: skip


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    "path", ["/v2/\x1b[2J", "/\r\n2023 fake line", "/\u202eoppo", "/\udcff", "/\x00", "/" + "x" * 9999]
)
async def test_hostile_paths_stay_one_plain_line(tmp_path: Path, executor: Counting, path: str, as_json: bool) -> None:
    log = AccessLog(tmp_path / "log", as_json=as_json, executor=executor)
    add(log, path)
    [line] = await written(log, tmp_path / "log")
    assert line.isprintable()
    assert line.isascii()
    assert len(line) < 1000


async def test_lines_are_written_in_batches_and_the_file_may_be_rotated(tmp_path: Path, executor: Counting) -> None:
    path = tmp_path / "log"
    log = AccessLog(path, as_json=False, executor=executor)
    for number in range(5):
        add(log, f"/{number}")
    assert len(await written(log, path)) == 5
    assert executor.batches == 2  # the lines, and the question of this test whether they are written
    path.rename(tmp_path / "log.1")
    add(log, "/new")
    assert [line.split()[3] for line in await written(log, path)] == ["/new"]


async def test_what_is_too_much_is_dropped_and_counted(
    tmp_path: Path, executor: Counting, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_MOST", 3)
    log = AccessLog(tmp_path / "log", as_json=False, executor=executor)
    for _ in range(5):
        add(log)
    with caplog.at_level(logging.WARNING):
        assert len(await written(log, tmp_path / "log")) == 3
    assert "2 lines dropped" in caplog.text
    add(log)
    assert len(await written(log, tmp_path / "log")) == 4


async def test_a_file_that_cannot_be_written_stops_nobody(
    tmp_path: Path, executor: Counting, caplog: pytest.LogCaptureFixture
) -> None:
    log = AccessLog(tmp_path / "no" / "log", as_json=False, executor=executor)
    add(log)
    with caplog.at_level(logging.WARNING):
        await flushed(log)
    assert "cannot be written" in caplog.text
    (tmp_path / "no").mkdir()
    add(log, "/later")
    assert len(await written(log, tmp_path / "no" / "log")) == 1


async def test_standard_error(executor: Counting, capsys: pytest.CaptureFixture[str]) -> None:
    log = AccessLog(Path("-"), as_json=False, executor=executor)
    add(log)
    await flushed(log)
    assert capsys.readouterr().err == f"{STAMP} 192.0.2.7 GET /v2/ 200 2 1.234ms hit\n"


async def test_closing_writes_what_waits_after_what_was_handed_over(
    tmp_path: Path, executor: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AccessLog(tmp_path / "log", as_json=False, executor=executor)
    for number in range(3):
        add(log, f"/{number}")
        while log._timer is not None:
            await asyncio.sleep(0)
    monkeypatch.setattr(module, "_EVERY", 60.0)
    add(log, "/last")
    for _ in range(2):
        await log.close()
    assert [line.split()[3] for line in (tmp_path / "log").read_text().splitlines()] == ["/0", "/1", "/2", "/last"]


async def test_over_http_every_answer_has_its_line(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    async with calls.wire(tmp_path / "d", access_log=path) as wire:
        size = len(wire.content.image.manifest.raw)
        for target in ("manifests/3", "manifests/3", "blobs/{small}", "blobs/sha256:abc"):
            await wire.mirror.get(wire.content.filled(f"/v2/library/alpine/{target}"))
        await wire.mirror.idle()
        await wire.mirror.get("/v2/library/alpine/manifests/3", "HEAD")
        await wire.mirror.get(wire.content.filled("/v2/library/alpine/blobs/{small}"), Range="bytes=0-9")
        digest = wire.content.small[0]
    lines = [line.split() for line in path.read_text().splitlines()]
    assert [[*line[1:6], line[7]] for line in lines] == [
        ["127.0.0.1", "GET", "/v2/library/alpine/manifests/3", "200", str(size), "miss"],
        ["127.0.0.1", "GET", "/v2/library/alpine/manifests/3", "200", str(size), "hit"],
        ["127.0.0.1", "GET", f"/v2/library/alpine/blobs/{digest}", "200", "1000", "miss"],
        ["127.0.0.1", "GET", "/v2/library/alpine/blobs/sha256:abc", "400", "0", "-"],
        ["127.0.0.1", "HEAD", "/v2/library/alpine/manifests/3", "200", "0", "hit"],
        ["127.0.0.1", "GET", f"/v2/library/alpine/blobs/{digest}", "206", "10", "hit"],
    ]

"""issue 8, "One test counts `sendfile` calls: held blobs go by nothing else"."""

import os
import re
import shutil
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import pytest

from mirror.server import send
from mirror.store import disk
from tests.faults.support import MIB, cached, hub
from tests.support.fake_registry import FakeRegistry
from tests.support.fake_registry.content import random_bytes
from tests.support.mirror import MirrorProcess
from tests.support.processes import wait_until

SIZE = 9 * MIB + 123


@dataclass(slots=True)
class Count:
    """What was sent how."""

    slices: int = 0  # handed to `sendfile`
    reads: int = 0  # of files at rest, through Python


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Count:
    """Sees every slice on its way to `sendfile`, and every read of a file at rest."""
    seen = Count()
    reading = disk._FileReader.read

    class Counted(send._Descriptor):
        """Made for nothing but to be handed to a transport's `sendfile`."""

        def __init__(self, fd: int) -> None:
            super().__init__(fd)
            seen.slices += 1

    async def read(reader: disk._FileReader, offset: int, length: int) -> bytes:
        seen.reads += 1
        return await reading(reader, offset, length)

    monkeypatch.setattr(send, "_Descriptor", Counted)
    monkeypatch.setattr(disk._FileReader, "read", read)
    return seen


async def test_held_blobs_go_by_sendfile_and_nothing_else(count: Count, tmp_path: Path) -> None:
    """Breaks if a byte at rest passes through Python: with uvloop's or asyncio's own transport, for a range, or for
    the last odd bytes."""
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("sendfile", SIZE)
        digest = registry.add_blob("library/x", layer)
        path = f"/v2/library/x/blobs/{digest}"
        await mirror.get(path)
        await mirror.idle()
        count.slices = 0
        reply = await mirror.get(path)
        assert (cached(reply), reply.body == layer) == ("hit", True)
        assert count.slices == 2  # slices of 8 MiB
        part = await mirror.get(path, Range="bytes=1000-3000000")
        assert part.body == layer[1000:3000001]
        assert count.slices == 3
        assert count.reads == 0


async def test_a_flight_is_followed_by_sendfile(count: Count, tmp_path: Path) -> None:
    """Breaks if readers of a flight are handed chunks from memory: 200 of them would cost 200 copies."""
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("followed", SIZE)
        digest = registry.add_blob("library/x", layer)
        reply = await mirror.get(f"/v2/library/x/blobs/{digest}")
        assert (cached(reply), reply.body == layer) == ("miss", True)
        assert count.slices
        assert count.reads == 0


async def test_a_small_blob_at_rest_too(count: Count, tmp_path: Path) -> None:
    """Breaks if small blobs are read once they are at rest."""
    async with hub(tmp_path) as (registry, mirror):
        digest = registry.add_blob("library/x", b"small")
        path = f"/v2/library/x/blobs/{digest}"
        assert (await mirror.get(path)).body == b"small"
        await mirror.idle()
        count.slices = 0
        assert (await mirror.get(path)).body == b"small"
        assert (count.slices, count.reads) == (1, 0)


async def test_a_file_that_shrank_is_never_padded(tmp_path: Path) -> None:
    """Breaks if a short sendfile is taken for a whole one: aiofastnet clamps to the file's size without a word. Cut on
    the disk between open and send, the connection is aborted; the next request fetches it anew."""
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("shrank", SIZE)
        digest = registry.add_blob("library/x", layer)
        path = f"/v2/library/x/blobs/{digest}"
        await mirror.get(path)
        await mirror.idle()
        file = tmp_path / "data" / "blobs" / "sha256" / digest.partition(":")[2]
        os.truncate(file, SIZE // 2)
        reply = await mirror.get(path)
        assert (cached(reply), reply.body == layer) == ("miss", True)
        await mirror.idle()
        assert file.stat().st_size == SIZE


def test_the_kernel_counts_the_same(tmp_path: Path) -> None:
    """The real process, its real loop (uvloop under aiofastnet), the real system call: breaks if `serve` runs on a
    loop whose transport has no sendfile, which the tests above would not notice."""
    strace = shutil.which("strace")
    if strace is None:
        assert not os.environ.get("CI"), "CI must run this test: install strace"
        pytest.skip("needs strace")
    trace = tmp_path / "trace"
    prefix = (strace, "-f", "-qq", "--seccomp-bpf", "-e", "trace=sendfile", "-o", str(trace))
    layer = random_bytes("kernel", SIZE)
    with FakeRegistry().in_thread() as registry:
        digest = registry.add_blob("library/x", layer)
        with MirrorProcess(tmp_path / "mirror", {"docker.io": registry.url}, prefix=prefix) as mirror:

            def pull() -> str:
                connection = HTTPConnection(mirror.host, mirror.port, timeout=20)
                connection.request("GET", f"/v2/library/x/blobs/{digest}")
                answer = connection.getresponse()
                assert answer.read() == layer
                connection.close()
                return answer.headers["Mirror-Cache"]

            def sent() -> int:
                return sum(map(int, re.findall(r"= ([0-9]+)$", trace.read_text(), re.MULTILINE)))

            pull()
            wait_until(lambda: (mirror.data / "blobs" / "sha256" / digest.partition(":")[2]).exists(), 10, "stored")
            wait_until(lambda: pull() == "hit", 10, "held")
            before = sent()
            assert pull() == "hit"
            wait_until(lambda: sent() - before >= SIZE, 10, "every byte by sendfile")
            assert sent() - before == SIZE
            mirror.kill()  # strace would wait for a SIGTERM of its own

"""faults.md, "upstream hangs": the idle limit, then resume; never one overall limit on a layer."""

import asyncio
import contextlib
import functools
import socket
from pathlib import Path

import pytest

from mirror.cache import flights, proofs, tags
from mirror.server import http
from tests.faults.support import HUB, KIB, MIB, SECONDS, begin, cached, client, hub, until, warned
from tests.support.fake_registry import FakeRegistry, Gate
from tests.support.fake_registry.behaviours import both, chunked, hang, hang_after, pace
from tests.support.fake_registry.content import random_bytes
from tests.support.mirror import mirror_in_process

SIZE = 2 * MIB
IDLE = {"idle_timeout": "0.3s"}


async def test_a_silent_download_is_resumed_where_it_stopped(tmp_path: Path) -> None:
    """Breaks if nothing limits silence (no `sock_read`), or if what came before it is fetched again."""
    async with hub(tmp_path, section=IDLE) as (registry, mirror):
        layer = random_bytes("silent", SIZE)
        digest = registry.add_blob("library/x", layer)
        registry.script("GET */blobs/*", hang_after(MIB))
        replies = await asyncio.gather(*(mirror.get(f"/v2/library/x/blobs/{digest}") for _ in range(4)))
        assert all(reply.body == layer for reply in replies)
        assert [request.headers.get("Range") for request in registry.seen("GET */blobs/*")] == [None, f"bytes={MIB}-"]
        assert registry.sent("*/blobs/*") <= 1.2 * SIZE


async def test_a_registry_that_says_nothing_is_asked_again(tmp_path: Path) -> None:
    """Breaks if the idle limit does not hold before the headers of a resumption."""
    async with hub(tmp_path, section=IDLE) as (registry, mirror):
        layer = random_bytes("nothing", SIZE)
        digest = registry.add_blob("library/x", layer)
        registry.script("GET */blobs/*", hang_after(MIB))
        registry.script("GET */blobs/*", hang())
        assert (await mirror.get(f"/v2/library/x/blobs/{digest}")).body == layer


async def test_slow_is_not_silent(tmp_path: Path) -> None:
    """Breaks if one overall limit is put on a layer (`ClientTimeout(total=…)`): this one takes many idle limits."""
    async with hub(tmp_path, section=IDLE) as (registry, mirror):
        layer = random_bytes("slow", SIZE)
        digest = registry.add_blob("library/x", layer)
        registry.script("GET */blobs/*", pace(MIB))  # 64 KiB each 62 ms, 2 s in all
        assert (await mirror.get(f"/v2/library/x/blobs/{digest}")).body == layer
        assert registry.count("GET */blobs/*") == 1


async def test_what_is_there_is_sent_while_upstream_hangs(tmp_path: Path) -> None:
    """Breaks if a cold blob is answered only once it is whole: headers and first bytes go out at once (containerd
    ≥ 2.3 gives up after 30 s without headers)."""
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("at once", SIZE)
        digest = registry.add_blob("library/x", layer)
        gate = Gate()
        registry.script("GET */blobs/*", hang_after(MIB, gate))
        async with client(mirror, f"/v2/library/x/blobs/{digest}") as reader:
            assert reader.headers["content-length"] == str(SIZE)
            assert await reader.read(MIB - 64 * KIB) == layer[: MIB - 64 * KIB]
            gate.release()
            assert await reader.read(MIB + 64 * KIB) == layer[MIB - 64 * KIB :]


async def test_the_tail_is_withheld_until_the_digest_is_verified(tmp_path: Path) -> None:
    """Breaks if `WITHHELD` is 0 or bytes are released as they are written: upstream hangs one byte before the end, so
    the digest cannot be known, and the last 64 KiB may not be out."""
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("tail", SIZE)
        digest = registry.add_blob("library/x", layer)
        gate = Gate()
        registry.script("GET */blobs/*", hang_after(SIZE - 1, gate))
        async with client(mirror, f"/v2/library/x/blobs/{digest}") as reader:
            assert await reader.read(SIZE - 64 * KIB) == layer[: -64 * KIB]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.reader.read(1), 0.2)  # what must not come cannot be waited for longer
            gate.release()
            assert await reader.read(64 * KIB) == layer[-64 * KIB :]


async def test_a_held_tag_does_not_wait_for_a_slow_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if a revalidation is waited for without limit where the manifest is held (`HURRY`)."""
    monkeypatch.setattr(tags, "HURRY", 0.1)
    async with hub(tmp_path) as (registry, mirror):
        old = registry.add_image("library/x", "1")
        assert cached(await mirror.get("/v2/library/x/manifests/1")) == "miss"
        new = registry.add_image("library/x", "1", seed="new")
        mirror.clock.shift += 3600
        mirror.clock.wall_shift += 3600
        gate = Gate()
        registry.script("HEAD */manifests/*", hang(gate))
        stale = await mirror.get("/v2/library/x/manifests/1")
        assert (stale.body, cached(stale)) == (old.manifest.raw, "stale")
        assert warned(stale).startswith("299 ")
        gate.release()
        await mirror.idle()  # the revalidation went on, for everybody who comes later
        assert (await mirror.get("/v2/library/x/manifests/1")).body == new.manifest.raw


# --- before any header ------------------------------------------------------------------------------------

HANGING = [
    pytest.param("manifests", "GET", id="manifest by digest"),
    pytest.param("blobs", "GET", id="blob"),
    pytest.param("blobs", "HEAD", id="HEAD of a blob"),
]


@pytest.mark.parametrize(("kind", "method"), HANGING)
async def test_several_urls_and_views_share_one_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, method: str
) -> None:
    """Breaks if each URL and each view of a registry has its own limit and nothing limits their sum: 30 s after the
    request containerd is gone. Here each single limit is longer than the test may take."""
    monkeypatch.setattr(proofs, "ANSWER_WITHIN", 0.3)
    gate = Gate()
    login = {"username": "u", "password": "p"}
    async with FakeRegistry() as other, FakeRegistry() as first:
        image = first.add_image("library/x", "1", layers=[b"layer"])
        for registry in (first, other):
            registry.access.scheme, registry.access.users = "basic", {"u": "p"}
            registry.script("* */manifests/sha256*", hang(gate), times=None)
            registry.script("* */blobs/*", hang(gate), times=None)
        section = {"url": [first.url, other.url], "idle_timeout": "60s", **login}
        async with mirror_in_process(tmp_path / "data", {HUB: section}) as mirror, asyncio.timeout(SECONDS):
            digest = image.digest if kind == "manifests" else image.layers[0][0]
            reply = await mirror.get(f"/v2/library/x/{kind}/{digest}", method)
            assert reply.status == 404
            gate.release()  # nothing to wait for at the end


async def test_a_download_under_a_waiting_client_is_attended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if whoever waits for a size that upstream does not say counts as nobody: the watch then ends the download
    beneath him."""
    monkeypatch.setattr(flights, "WATCH_EVERY", 0.005)
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("chunked", SIZE)
        digest = registry.add_blob("library/x", layer)
        registry.script("GET */blobs/*", both(chunked(), pace(4 * MIB)))  # between two pieces there is time for looks
        assert (await mirror.get(f"/v2/library/x/blobs/{digest}")).body == layer
        assert registry.count("GET */blobs/*") == 1


async def test_leaving_before_the_headers_is_leaving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if only readers that got headers are counted: a client could leave any number of downloads behind."""
    monkeypatch.setattr(flights, "UNATTENDED", 3)
    async with hub(tmp_path) as (registry, mirror):
        gate, later = Gate(), Gate()
        registry.script("GET */blobs/*", both(hang(gate), hang_after(100 * KIB, later)), times=None)
        for number in range(8):
            digest = registry.add_blob("library/x", random_bytes(f"left {number}", 300 * KIB))
            waiting = begin(mirror.get(f"/v2/library/x/blobs/{digest}"))
            await until(functools.partial(asked, registry, number + 1))
            waiting.cancel()
        await until(lambda: len(mirror.app.flights) == 3)
        gate.release()
        assert len(mirror.app.flights) == 3
        later.release()


async def test_a_client_that_reads_nothing_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if nothing limits how long a client may take none of what is sent to it (`TCP_USER_TIMEOUT`)."""
    monkeypatch.setattr(http, "STALLED", 0.5)
    async with hub(tmp_path) as (registry, mirror):
        digest = registry.add_blob("library/x", random_bytes("unread", 16 * MIB))
        await mirror.get(f"/v2/library/x/blobs/{digest}")
        await mirror.idle()
        host, _, port = mirror.authority.rpartition(":")
        with socket.socket() as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lazy.connect((host, int(port)))
            lazy.sendall(f"GET /v2/library/x/blobs/{digest} HTTP/1.1\r\nHost: {mirror.authority}\r\n\r\n".encode())
            await until(lambda: open_blobs(tmp_path) == 1)
            await until(lambda: open_blobs(tmp_path) == 0)


def asked(registry: FakeRegistry, times: int) -> bool:
    return registry.count("GET */blobs/*") == times


def open_blobs(tmp_path: Path) -> int:
    """How many descriptors this process has on blobs of the mirror's."""
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found += str(descriptor.readlink()).startswith(f"{tmp_path}/data/blobs/sha256/")
    return found

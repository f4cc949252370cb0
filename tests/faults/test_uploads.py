"""Uploads that go wrong (faults.md: "client leaves", "disk full", "SIGKILL anywhere", "slow and exhausting
clients")."""

import asyncio
import errno
import hashlib
import http.client
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.support import HUB, KIB, MIB, SECONDS, Client, later, staged, stored, tmpfs, until
from tests.server.calls import head
from tests.server.pushing import CONFIG, NAME, Scene, digest_of, image, scene
from tests.support.fake_registry import FakeRegistry
from tests.support.fake_registry.content import random_bytes
from tests.support.mirror import ROOT, MirrorProcess
from tests.support.processes import wait_until

UPLOADS = f"/v2/{NAME}/blobs/uploads/"
LAYER = random_bytes("upload", 3 * MIB)
DIGEST = digest_of(LAYER)


# --- clients that leave, meet, lie and dawdle ----------------------------------------------------------------


@pytest.mark.parametrize("leaves", ["close", "reset"])
async def test_a_client_leaves_in_mid_patch_and_resumes(tmp_path: Path, leaves: str) -> None:
    """Breaks if what came before is thrown away (`_take` writes it also where the client leaves), or if the upload
    stays locked by the request that nobody waits for."""
    async with scene(tmp_path / "data") as running:
        location = await running.begin()
        leaver = await Client.connect(running.wire.mirror)
        leaver.writer.write(head("PATCH", location, {"Host": "localhost", "Content-Length": str(len(LAYER))}))
        leaver.writer.write(LAYER[: MIB + 1000])
        await leaver.writer.drain()
        await _settled(running, location)
        if leaves == "reset":
            leaver.reset()
        else:
            await leaver.close()
        reached = await _settled(running, location)
        answer = await running.patch(location, LAYER[reached:], reached)
        assert answer.status == 202
        assert (await running.put(location, DIGEST)).status == 201
        assert await running.got(f"{NAME}/blobs/{DIGEST}") == LAYER
        assert staged(running.data) == []


async def _settled(running: Scene, location: str) -> int:
    """How many bytes were accepted, once no more come."""
    before = -1
    while True:
        async with asyncio.timeout(20):
            said = int((await running.offset(location)).partition("-")[2])
        if said == before and said > 0:
            return said + 1
        before = said
        await asyncio.sleep(0.05)


async def test_two_clients_push_the_same_blob_at_once(tmp_path: Path) -> None:
    """Breaks if staging is keyed by digest, or if the second to publish fails: each is answered 201, one is kept."""
    async with scene(tmp_path / "data") as running:
        names = [NAME, "team/other", NAME, "team/third"]
        locations = [await running.begin(name) for name in names]
        first, second = LAYER[:MIB], LAYER[MIB:]
        for part in (first, second):
            answers = await asyncio.gather(*(running.patch(each, part) for each in locations))
            assert [each.status for each in answers] == [202] * 4
        answers = await asyncio.gather(*(running.put(each, DIGEST) for each in locations))
        assert [each.status for each in answers] == [201] * 4
        for name in names:
            assert await running.got(f"{name}/blobs/{DIGEST}") == LAYER
        assert stored(running.data) == {DIGEST.partition(":")[2]: len(LAYER)}
        assert staged(running.data) == []


async def test_wrong_bytes_leave_nothing_and_the_honest_retry_succeeds(tmp_path: Path) -> None:
    """Breaks if a blob is published before it is verified, or if what failed stays in staging."""
    async with scene(tmp_path / "data") as running:
        wrong = LAYER[:-1] + bytes([LAYER[-1] ^ 1])
        for data in (wrong, LAYER[:-1], LAYER + b"x", b""):
            location = await running.begin()
            await running.patch(location, data)
            answer = await running.put(location, DIGEST)
            assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
            answer = await running.ask(f"POST {UPLOADS}?digest={DIGEST}", data)
            assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
            assert (staged(running.data), stored(running.data)) == ([], {})
            assert await running.got(f"{NAME}/blobs/{DIGEST}") == 404
        await running.blob(LAYER)
        assert await running.got(f"{NAME}/blobs/{DIGEST}") == LAYER


async def test_a_slow_client_slows_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if an upload holds a thread, a lock or a turn that others need while its client dawdles; or if it is
    given up although something comes."""
    monkeypatch.setattr("mirror.server.bodies.SILENCE", 1.0)
    async with scene(tmp_path / "data") as running:
        async with running.wire.connection() as raw:
            location = await running.begin()
            raw.write_bytes(head("PATCH", location, {"Host": "localhost", "Content-Length": "6"}))
            for byte in b"slowly":
                raw.write_bytes(bytes([byte]))
                began = time.monotonic()
                await running.blob(os.urandom(100 * KIB))
                assert time.monotonic() - began < 2
                await asyncio.sleep(0.3)
            assert (await raw.answer("PATCH")).status == 202
        assert (await running.put(location, digest_of(b"slowly"))).status == 201


async def test_a_silent_client_is_given_up_and_may_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if silence has no limit: a connection and an open file for ever."""
    monkeypatch.setattr("mirror.server.bodies.SILENCE", 0.2)
    async with scene(tmp_path / "data") as running:
        location = await running.begin()
        async with running.wire.connection() as raw:
            raw.write_bytes(head("PATCH", location, {"Host": "localhost", "Content-Length": "100"}) + b"hello")
            async with asyncio.timeout(SECONDS):
                answer = await raw.answer("PATCH")
            assert (answer.status, answer.code) == (400, "BLOB_UPLOAD_INVALID")
        assert (await running.put(location, digest_of(b"hello"))).status == 201


async def test_abandoned_uploads_cost_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if a session keeps its file open for as long as it lives, or its bytes for ever."""
    monkeypatch.setattr("mirror.cache.uploads.MOST_OPEN", 10)
    monkeypatch.setattr("mirror.cache.uploads.LOOK_EVERY", 0.05)
    async with scene(tmp_path / "data") as running:
        await running.blob(b"warm")
        await running.wire.mirror.idle()
        before = _descriptors()
        locations = [await running.begin() for _ in range(100)]
        for location in locations:
            await running.patch(location, b"left behind")
        await until(lambda: _descriptors() <= before + 12)
        assert len(staged(running.data)) == 100
        for location in locations[::7]:
            assert (await running.put(location, digest_of(b"left behind"))).status == 201
        later(running.wire.mirror, 3600)
        await until(lambda: _descriptors() <= before)
        later(running.wire.mirror, 25 * 3600)
        await until(lambda: staged(running.data) == [])
        assert (await running.ask(f"GET {locations[1]}")).status == 404


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# --- a disk that does not take it ----------------------------------------------------------------------------

DISK = 48 * MIB


async def test_a_full_disk(tmp_path: Path) -> None:
    """507 and `UNAVAILABLE`, and no 201 that is not kept; it recovers by itself. Breaks if a refused write is passed
    over (`Uploads._write`)."""
    with tmpfs(tmp_path / "disk", DISK) as disk:
        async with scene(disk / "data") as running:
            kept = await running.blob(LAYER)
            first, second = await running.begin(), await running.begin()
            await running.patch(first, LAYER[:1000])
            ballast = disk / "ballast"
            with pytest.raises(OSError, match="No space"):
                await asyncio.to_thread(ballast.write_bytes, bytes(DISK))
            for request, data in (
                (f"POST {UPLOADS}?digest={digest_of(LAYER[:100_000])}", LAYER[:100_000]),  # a small one
                (f"POST {UPLOADS}?digest={digest_of(LAYER[1:])}", LAYER[1:]),
            ):
                answer = await running.ask(request, data)
                assert (answer.status, answer.code) == (507, "UNAVAILABLE"), answer
            answer = await running.manifest(image(LAYER, config=LAYER), "1")
            assert (answer.status, answer.code) == (507, "UNAVAILABLE"), answer
            for answer in (await running.patch(first, LAYER[1000:]), await running.put(second, DIGEST, LAYER)):
                assert (answer.status, answer.code) == (507, "UNAVAILABLE"), answer
            for location in (first, second):
                assert (await running.put(location, DIGEST)).status == 404  # it is over: nothing goes on with a hole
            assert staged(running.data) == []
            assert await running.got(f"{NAME}/blobs/{kept}") == LAYER
            assert await running.got(f"{NAME}/manifests/1") == 404
            ballast.unlink()
            await running.blob(CONFIG)
            raw = image(LAYER)
            assert (await running.manifest(raw, "1")).status == 201
            assert await running.got(f"{NAME}/manifests/1") == raw


async def test_a_blob_larger_than_the_disk(tmp_path: Path) -> None:
    """Breaks if a push that cannot fit takes the room of what was pushed before, or leaves its bytes behind."""
    with tmpfs(tmp_path / "disk", DISK) as disk:
        async with scene(disk / "data") as running:
            kept = await running.blob(LAYER)
            location = await running.begin()
            large = random_bytes("large", 8 * MIB)
            statuses = [(await running.patch(location, large)).status for _ in range(8)]
            assert statuses[0] == 202
            assert statuses[-1] in (404, 507)
            assert 507 in statuses
            assert staged(running.data) == []
            assert await running.got(f"{NAME}/blobs/{kept}") == LAYER
            await running.blob(large)


async def test_a_failed_fsync_is_no_201(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if a failed fsync is tried again on the same file, or passed over."""
    async with scene(tmp_path / "data") as running:
        location = await running.begin()
        await running.patch(location, LAYER)

        def refuse(_: int) -> None:
            raise OSError(errno.EIO, "injected")

        monkeypatch.setattr("mirror.store.staging.os.fsync", refuse)
        answer = await running.put(location, DIGEST)
        assert (answer.status, answer.code) == (503, "UNAVAILABLE")
        monkeypatch.undo()
        assert await running.got(f"{NAME}/blobs/{DIGEST}") == 404
        assert (staged(running.data), stored(running.data)) == ([], {})
        assert (await running.put(location, DIGEST)).status == 404
        await running.blob(LAYER)


# --- killed --------------------------------------------------------------------------------------------------


class Pusher:
    """A client of a mirror in its own process. It pushes step by step, and knows what it was told."""

    def __init__(self, mirror: MirrorProcess) -> None:
        self.mirror = mirror
        self.location = ""

    def ask(self, method: str, path: str, data: bytes = b"", **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(self.mirror.host, self.mirror.port, timeout=20)
        try:
            connection.request(method, path, data, {name.replace("_", "-"): text for name, text in headers.items()})
            answer = connection.getresponse()
            answer.body = answer.read()  # type: ignore[attr-defined]
            return answer
        finally:
            connection.close()

    def got(self, path: str) -> bytes | int:
        answer = self.ask("GET", f"/v2/{NAME}/{path}")
        return answer.body if answer.status == 200 else answer.status  # type: ignore[attr-defined]

    def begin(self) -> None:
        answer = self.ask("POST", UPLOADS)
        assert answer.status == 202
        self.location = answer.headers["Location"]

    def patch(self, data: bytes) -> None:
        assert self.ask("PATCH", self.location, data).status == 202

    def put(self, digest: str) -> None:
        assert self.ask("PUT", f"{self.location}?digest={digest}").status == 201

    def at_once(self, data: bytes) -> None:
        assert self.ask("POST", f"{UPLOADS}?digest={digest_of(data)}", data).status == 201

    def manifest(self, raw: bytes, tag: str) -> None:
        kind = json.loads(raw)["mediaType"]
        assert self.ask("PUT", f"/v2/{NAME}/manifests/{tag}", raw, Content_Type=kind).status == 201

    def delete(self, path: str) -> None:
        assert self.ask("DELETE", f"/v2/{NAME}/{path}").status == 202


RAW, SECOND = image(LAYER), image(LAYER, annotations={"number": "2"})
GONE = digest_of(RAW)

#: The steps of two pushes of one image, and of what is taken away; and what must hold once a step was answered.
STEPS: list[tuple[str, Callable[[Pusher], None], Callable[[Pusher], bool]]] = [
    ("POST", Pusher.begin, lambda p: p.ask("GET", p.location).status == 204),
    ("PATCH", lambda p: p.patch(LAYER[:MIB]), lambda p: _reached(p) <= MIB),
    ("PATCH again", lambda p: _go_on(p), lambda p: _reached(p) <= len(LAYER)),
    ("PUT", lambda p: _close(p), lambda p: p.got(f"blobs/{DIGEST}") == LAYER),
    ("single POST", lambda p: p.at_once(CONFIG), lambda p: p.got(f"blobs/{digest_of(CONFIG)}") == CONFIG),
    ("manifest", lambda p: p.manifest(RAW, "1"), lambda p: p.got("manifests/1") == RAW),
    ("second tag", lambda p: p.manifest(RAW, "2"), lambda p: p.got("manifests/2") == RAW),
    ("tag moves", lambda p: p.manifest(SECOND, "1"), lambda p: p.got("manifests/1") == SECOND),
    ("untag", lambda p: p.delete("manifests/2"), lambda p: p.got("manifests/2") == 404),
    ("delete", lambda p: p.delete(f"manifests/{GONE}"), lambda p: p.got(f"manifests/{GONE}") == 404),
]  # fmt: skip


LASTING = {"PUT", "single POST", "tag moves"}
"""What holds to the end, whatever follows."""


def _end(pusher: Pusher) -> None:
    pusher.put(DIGEST)
    pusher.manifest(RAW, "1")


def _reached(pusher: Pusher) -> int:
    """Bytes that the upload has; -1 where it is over."""
    answer = pusher.ask("GET", pusher.location)
    if answer.status == 404:
        return -1
    return int(answer.headers["Range"].partition("-")[2]) + 1


def _go_on(pusher: Pusher) -> None:
    """The rest, from where the mirror says that it goes on."""
    reached = max(_reached(pusher), 0)
    reached = 0 if reached == 1 else reached  # 0-0: nothing, or one byte
    pusher.patch(LAYER[reached:])


def _close(pusher: Pusher) -> None:
    if _reached(pusher) < len(LAYER):
        _go_on(pusher)
    pusher.put(DIGEST)


def test_killed_between_any_two_steps(tmp_path: Path) -> None:
    """Breaks if anything that was answered lives in memory only, or is written down after the answer (a command that
    does not go through `_write_own`, or an answer before the command); or if a start takes away what a client has
    sent so far (`clean_staging` that knows of downloads only)."""
    with FakeRegistry().in_thread() as registry:
        environment = {"MIRROR_ACCESS": json.dumps({"loopback": "all"})}
        with MirrorProcess(tmp_path, {HUB: registry.url}, environment=environment) as mirror:
            pusher = Pusher(mirror)
            for number, (name, step, holds) in enumerate(STEPS):
                step(pusher)
                mirror.kill()
                mirror.start()
                assert holds(pusher), name
                for earlier, _, held in STEPS[:number]:
                    assert earlier not in LASTING or held(pusher), (name, earlier)
            assert pusher.got("manifests/1") == SECOND
            assert pusher.got(f"blobs/{DIGEST}") == LAYER
            assert json.loads(pusher.got("tags/list"))["tags"] == ["1"]  # type: ignore[arg-type]
            wait_until(lambda: staged(mirror.data) == [], 60, "empty staging")
            _sound(mirror)


KILLER = """
import os, signal
from mirror.store.sqlite import SqliteCatalog

def kill(name, when):
    try:
        armed = open({armed!r}).read()
    except FileNotFoundError:
        return
    if armed == f"{{name}} {{when}}":
        os.kill(os.getpid(), signal.SIGKILL)

def watched(owner, name, *, later):
    real = getattr(owner, name)
    def call(*arguments):
        kill(name, "before")
        done = real(*arguments)
        kill(name, "after")
        return done
    async def call_later(*arguments):
        kill(name, "before")
        done = await real(*arguments)
        kill(name, "after")
        return done
    setattr(owner, name, call_later if later else call)

for name in ("fsync", "rename"):
    watched(os, name, later=False)
for name in ("finish_upload", "push_manifest"):
    watched(SqliteCatalog, name, later=True)
"""
"""A `sitecustomize`: it kills its process before or after a call, once a file says which."""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", ["fsync", "rename", "finish_upload", "push_manifest"])
def test_killed_within_a_step(tmp_path: Path, call: str, when: str) -> None:
    """The step that was under way was not answered: it happened, or it did not, and can be done again. Breaks if the
    catalog is told before the bytes are where it says (a blob that is served and not there), or if what is half done
    stands in the way of the retry."""
    with FakeRegistry().in_thread() as registry:
        armed = tmp_path / "armed"
        (tmp_path / "sitecustomize.py").write_text(KILLER.format(armed=str(armed)))
        with MirrorProcess(tmp_path, {HUB: registry.url}, environment={"PYTHONPATH": f"{tmp_path}:{ROOT}"}) as mirror:
            pusher = Pusher(mirror)
            pusher.at_once(CONFIG)
            pusher.begin()
            pusher.patch(LAYER)
            armed.write_text(f"{call} {when}")
            with pytest.raises((http.client.HTTPException, OSError)):
                _end(pusher)
            assert mirror.daemon.wait(10) == -signal.SIGKILL
            armed.unlink()
            mirror.start()
            assert pusher.got(f"blobs/{DIGEST}") in (404, LAYER)
            assert pusher.got("manifests/1") in (404, RAW)
            _sound(mirror)
            if pusher.got(f"blobs/{DIGEST}") == 404:
                if _reached(pusher) < 0:
                    pusher.begin()
                _close(pusher)
            pusher.manifest(RAW, "1")
            assert (pusher.got("manifests/1"), pusher.got(f"blobs/{DIGEST}")) == (RAW, LAYER)
            wait_until(lambda: staged(mirror.data) == [], 60, "empty staging")
            _sound(mirror)


def _sound(mirror: MirrorProcess) -> None:
    """Everything is what its name says, and nothing is missing (`mirror verify` exits 0)."""
    mirror.command("verify")


# --- memory --------------------------------------------------------------------------------------------------


def test_memory_does_not_grow_with_a_blob(tmp_path: Path) -> None:
    """300 MiB in one PATCH and as much in one POST. Breaks if a body is collected before it is written, or if the
    client is read faster than the disk takes it."""
    size = 300 * MIB
    with (
        FakeRegistry().in_thread() as registry,
        MirrorProcess(tmp_path, {HUB: registry.url}) as mirror,
    ):
        pusher = Pusher(mirror)
        pusher.at_once(LAYER)
        before = _peak(mirror)
        digest = "sha256:" + _zeros(size)
        pusher.begin()
        _stream(mirror, "PATCH", pusher.location, size, 202)
        pusher.put(digest)
        _stream(mirror, "POST", f"{UPLOADS}?digest={digest}", size, 201)
        assert _peak(mirror) - before < 64 * MIB
        assert stored(mirror.data)[digest.partition(":")[2]] == size


def _zeros(size: int) -> str:
    hasher = hashlib.sha256()
    for _ in range(size // MIB):
        hasher.update(bytes(MIB))
    return hasher.hexdigest()


def _stream(mirror: MirrorProcess, method: str, path: str, size: int, expected: int) -> None:
    connection = http.client.HTTPConnection(mirror.host, mirror.port, timeout=60)
    try:
        connection.putrequest(method, path)
        connection.putheader("Content-Length", str(size))
        connection.endheaders()
        for _ in range(size // MIB):
            connection.send(bytes(MIB))
        assert connection.getresponse().status == expected
    finally:
        connection.close()


def _peak(mirror: MirrorProcess) -> int:
    """The most memory that the process ever had, in bytes."""
    text = Path(f"/proc/{mirror.daemon.pid}/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmHWM")) * KIB
